use std::io::Write as _;

use crate::archives::{self as tar, Member as TarMember, dir, file};
use bkstate::{Class, Classified as _};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;
use crate::layout::{BlobError, Layout, LayoutError};
use crate::manifest::{
    Document, IMAGE_NAME, REF_NAME, SelectError, other_manifests, select, tagged,
};
use crate::source::{Reference, Source};

fn config_of(layers: &[&[u8]]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(Digest::of).collect();
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
}

fn listed(names: &[&str], config: &str, layers: &[&str]) -> Value {
    json!({"Config": config, "RepoTags": names, "Layers": layers})
}

fn manifest(images: &[Value]) -> TarMember {
    file(MANIFEST, Value::from(images).to_string())
}

fn written(members: &[TarMember]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&tar::archive(members)).unwrap();
    file
}

fn opened_within(members: &[TarMember], limits: &Limits) -> Result<Layout, ArchiveError> {
    match Layout::open(written(members).path(), limits) {
        Err(LayoutError::Archive { source, .. }) => Err(source),
        result => Ok(result.unwrap()),
    }
}

fn opened(members: &[TarMember]) -> Layout {
    opened_within(members, &Limits::default()).unwrap()
}

fn refused_within(members: &[TarMember], limits: &Limits) -> DockerError {
    match opened_within(members, limits).unwrap_err() {
        ArchiveError::Docker(error) => error,
        error => panic!("{error:?}"),
    }
}

fn refused(members: &[TarMember]) -> DockerError {
    refused_within(members, &Limits::default())
}

/// Returns the contents of the layers of the only image, and their media types.
fn layers(layout: &Layout) -> Vec<(Vec<u8>, String)> {
    let [image] = &other_manifests(layout).unwrap()[..] else { panic!() };
    let Document::Manifest(manifest) = Document::read(layout, image).unwrap() else { panic!() };
    let config = manifest.config.unwrap();
    let content = layout.read_blob(&config, layout.limits().of_config()).unwrap();
    assert!(content.starts_with(b"{\"architecture\""), "it is the config as it was");
    let content = |layer: &crate::layout::Descriptor| {
        let mut content = Vec::new();
        let collect = |piece: &[u8]| {
            content.extend_from_slice(piece);
            Ok::<_, BlobError>(())
        };
        layout.stream_blob(layer, collect).unwrap();
        (content, layer.media_type.clone())
    };
    manifest.layers.iter().map(content).collect()
}

fn plain(content: &[u8]) -> (Vec<u8>, String) {
    (content.to_owned(), "application/vnd.oci.image.layer.v1.tar".to_owned())
}

/// Returns an archive as Docker Engine before v25 saves it: a directory for each layer, and a link for two
/// equal ones.
fn legacy() -> Vec<TarMember> {
    vec![
        dir("one"),
        file("one/VERSION", "1.0"),
        file("one/json", "{}"),
        file("one/layer.tar", "first"),
        tar::symlink("two/layer.tar", "../one/layer.tar"),
        file("abc.json", config_of(&[b"first", b"first", b"third"])),
        file("three/layer.tar", "third"),
        manifest(&[listed(
            &["alpine:3.20", "registry.example/team/base:v1"],
            "abc.json",
            &["one/layer.tar", "two/layer.tar", "three/layer.tar"],
        )]),
        file("repositories", "{}"),
    ]
}

#[test]
fn an_image_of_an_older_docker_is_one_of_a_layout() {
    let layout = opened(&legacy());
    assert_eq!(layers(&layout), [plain(b"first"), plain(b"first"), plain(b"third")]);
    let names: Vec<_> = layout.entries().iter().map(|entry| &entry.annotations).collect();
    let name = |image: &str, tag: &str| {
        [(IMAGE_NAME, image), (REF_NAME, tag)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    };
    assert_eq!(
        names,
        [
            &name("docker.io/library/alpine:3.20", "3.20"),
            &name("registry.example/team/base:v1", "v1")
        ]
    );
    // In the form of the command line.
    for (word, found) in [("alpine:3.20", 1), ("registry.example/team/base:v1", 1), ("alpine", 0)] {
        let source: Source = format!("docker-archive:x.tar:{word}").parse().unwrap();
        let Reference::Tag(tag) = source.reference else { panic!() };
        assert_eq!(tagged(&layout, &tag).len(), found, "{word}");
    }
    // It is an image, and not a cache.
    let error = select(&layout, &Reference::Default).unwrap_err();
    assert!(matches!(error, SelectError::NoCache { manifests: 1, .. }), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 1 manifests looked at"),
        "{error}"
    );
    // The same each time.
    assert_eq!(opened(&legacy()).entries(), layout.entries());
}

#[test]
fn an_image_of_skopeo_is_one_of_a_layout() {
    let hex = Digest::of("layer").hex();
    let layout = opened(&[
        file(format!("{hex}.tar"), "layer"),
        tar::symlink("id/layer.tar", format!("../{hex}.tar")),
        file("config.json", config_of(&[b"layer"])),
        manifest(&[listed(&[], "config.json", &[&format!("{hex}.tar")])]),
    ]);
    assert_eq!(layers(&layout), [plain(b"layer")]);
    assert!(layout.entries()[0].annotations.is_empty());
}

#[test]
fn compressed_layers_are_named_by_their_bytes() {
    // As written by crane and others.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"first").unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&b"second"[..], 1).unwrap();
    let layout = opened(&[
        file("config.json", config_of(&[b"first", b"second", b"first"])),
        file("a.tar.gz", &gzip),
        file("b.tar.zst", &zstd),
        manifest(&[listed(&[], "config.json", &["a.tar.gz", "b.tar.zst", "a.tar.gz"])]),
    ]);
    let type_of = |ending: &str| format!("application/vnd.oci.image.layer.v1.tar+{ending}");
    let first = (gzip, type_of("gzip"));
    assert_eq!(layers(&layout), [first.clone(), (zstd, type_of("zstd")), first]);
}

#[test]
fn a_plain_layer_is_not_what_the_config_says() {
    let layout = opened(&[
        file("config.json", config_of(&[b"another"])),
        file("layer.tar", "changed"),
        manifest(&[listed(&[], "config.json", &["layer.tar"])]),
    ]);
    let layer = layout.describe_blob(Digest::of("another")).unwrap();
    let error = layout.verify_blob(&layer).unwrap_err();
    assert!(matches!(error, BlobError::Digest { .. }), "{error}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
}

#[test]
fn an_index_counts_before_what_docker_writes_beside_it() {
    // As written by Docker Engine from v25 on, and BuildKit's `type=docker`.
    let mut members = legacy();
    members.push(file("index.json", r#"{"manifests":[]}"#));
    assert!(opened(&members).entries().is_empty());
}

#[test]
fn several_images_share_layers() {
    let layout = opened(&[
        file("a.json", config_of(&[b"base"])),
        file("b.json", config_of(&[b"base", b"top"])),
        file("base.tar", "base"),
        file("./top.tar", "top"),
        manifest(&[
            listed(&["a:1", "not a name", "a@sha256:0"], "a.json", &["base.tar"]),
            listed(&["b:1"], "b.json", &["./base.tar", "top.tar"]),
        ]),
    ]);
    assert_eq!(layout.entries().len(), 2);
    assert_eq!(other_manifests(&layout).unwrap().len(), 2);
    for entry in layout.entries() {
        Document::read(&layout, entry).unwrap();
    }
}

/// Returns the members of an archive with one layer, which is `layer`.
fn with_layer(listed_as: &str, layer: &[TarMember]) -> Vec<TarMember> {
    let config = file("config.json", config_of(&[b"layer"]));
    let manifest = manifest(&[listed(&[], "config.json", &[listed_as])]);
    [&[config, manifest][..], layer].concat()
}

#[test]
fn links_are_followed_within_the_archive_only() {
    let target = file("a/b.tar", "layer");
    for (name, to) in [
        ("link.tar", "a/b.tar"),
        ("link.tar", "./a//b.tar"),
        ("x/y/link.tar", "../../a/b.tar"),
        ("a/link.tar", "../z/../a/b.tar"),
    ] {
        let layout = opened(&with_layer(name, &[target.clone(), tar::symlink(name, to)]));
        assert_eq!(layers(&layout), [plain(b"layer")], "{to}");
    }
    for to in ["/etc/shadow", "../b.tar", "../../a/b.tar", "a/../../a/b.tar", "/a/b.tar"] {
        let error =
            refused(&with_layer("link.tar", &[target.clone(), tar::symlink("link.tar", to)]));
        assert!(
            matches!(&error, DockerError::LinkOut { member, target } if member == "link.tar" && target == to),
            "{error}"
        );
        assert!(
            error.to_string().ends_with(", which is not in the archive; save the image again"),
            "{error}"
        );
    }
    // Names never refer to files on disk.
    for to in ["etc/shadow", "", "."] {
        let error = refused(&with_layer("link.tar", &[tar::symlink("link.tar", to)]));
        assert!(
            matches!(&error, DockerError::Missing { member } if member == "link.tar"),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "link.tar is listed in manifest.json, but not in the archive; save the image \
             again"
        );
    }
}

#[test]
fn links_in_circles_are_refused() {
    let circle = [tar::symlink("a", "b"), tar::symlink("b", "a")];
    let error = refused(&with_layer("a", &circle));
    assert!(matches!(&error, DockerError::Links { member } if member == "a"), "{error}");
    let error = refused(&with_layer("a", &[tar::symlink("a", "a")]));
    assert!(error.to_string().contains("over more than 8 links"), "{error}");
    let chain = |length: usize| {
        let link = |n: usize| tar::symlink(n.to_string(), (n + 1).to_string());
        let links: Vec<_> = (0..length).map(link).collect();
        [links, vec![file(length.to_string(), "layer")]].concat()
    };
    opened(&with_layer("0", &chain(LINKS)));
    let error = refused(&with_layer("0", &chain(LINKS + 1)));
    assert!(matches!(error, DockerError::Links { .. }), "{error}");
    assert_eq!(error.to_string(), "0 leads over more than 8 links; save the image again");
}

#[test]
fn what_is_listed_has_to_be_there_once_and_a_file() {
    let error = refused(&with_layer("layer.tar", &[]));
    assert_eq!(
        error.to_string(),
        "layer.tar is listed in manifest.json, but not in the archive; save the image again"
    );
    let layer = file("layer.tar", "layer");
    let twice = with_layer("layer.tar", &[layer.clone(), file("./layer.tar", "other")]);
    let error = opened_within(&twice, &Limits::default()).unwrap_err();
    assert!(matches!(&error, ArchiveError::Duplicate { name } if name == "layer.tar"), "{error}");
    assert_eq!(error.to_string(), "it has two members layer.tar");
    let twice = [with_layer("layer.tar", &[layer]), vec![manifest(&[])]].concat();
    let error = opened_within(&twice, &Limits::default()).unwrap_err();
    assert!(matches!(&error, ArchiveError::Duplicate { name } if name == MANIFEST), "{error}");
    assert_eq!(error.to_string(), "it has two members manifest.json");
    for (member, kind) in [
        (tar::hard_link("layer.tar", "config.json"), FileKind::HardLink),
        (dir("layer.tar"), FileKind::Directory),
        (tar::member(b'6', "layer.tar"), FileKind::Fifo),
        (tar::member(b'3', "layer.tar"), FileKind::Device),
    ] {
        let error = refused(&with_layer("layer.tar", &[member]));
        assert!(matches!(error, DockerError::NotAFile { kind: k, .. } if k == kind), "{error}");
        assert!(
            error.to_string().ends_with(", and only regular files are read; save the image again"),
            "{error}"
        );
    }
}

#[test]
fn documents_that_are_not_those_of_an_image_are_named() {
    for text in ["", "{}", "[{}]", r#"[["config.json",[],[]]]"#, "[{\"Config\":"] {
        let error = refused(&[file(MANIFEST, text)]);
        assert!(
            matches!(&error, DockerError::Json { member, .. } if member == MANIFEST),
            "{error}"
        );
        assert_eq!(error.to_string(), "manifest.json is malformed; save the image again");
    }
    for text in ["", "{}", "[[]]", r#"{"rootfs":{"diff_ids":["sha256:../.."]}}"#] {
        let manifest = manifest(&[listed(&[], "config.json", &[])]);
        let error = refused(&[manifest, file("config.json", text)]);
        assert!(
            matches!(&error, DockerError::Json { member, .. } if member == "config.json"),
            "{error}"
        );
        assert_eq!(error.to_string(), "config.json is malformed; save the image again");
    }
    let error = refused(&[
        manifest(&[listed(&[], "config.json", &["a"])]),
        file("config.json", config_of(&[b"a", b"b"])),
        file("a", "a"),
    ]);
    assert!(matches!(error, DockerError::DiffIds { layers: 1, diff_ids: 2, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "config.json has 2 diffIDs, but manifest.json lists 1 layers for it; save the \
         image again"
    );
    let error = refused(&with_layer("layer", &[file("layer", b"\xfd7zXZ\0")]));
    assert!(matches!(error, DockerError::Compressed { program: "xz", .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "layer is compressed with xz, which is not read; save the image again"
    );
}

#[test]
fn more_than_the_limits_allow_is_refused_by_name() {
    let members = legacy();
    let default = Limits::default();
    let config = config_of(&[b"first", b"first", b"third"]).len() as u64;
    for (limits, name) in [
        (Limits { manifest: 10, ..default }, "manifest"),
        (Limits { config: config - 1, ..default }, "config"),
        (Limits { manifests_size: 10, ..default }, "manifests-size"),
        (Limits { manifests: 0, ..default }, "manifests"),
        (Limits { cache_layers: 2, ..default }, "cache-layers"),
    ] {
        let error = refused_within(&members, &limits);
        assert_eq!((error.class(), error.limit_name()), (Class::Limit, Some(name)), "{error}");
    }
    let error = refused_within(&members, &Limits { json_objects: 0, ..default });
    assert!(matches!(error, DockerError::TooComplex { .. }), "{error}");
    assert_eq!(error.to_string(), "manifest.json is not a document of an image");
    let error = opened_within(&members, &Limits { archive_members: 3, ..default }).unwrap_err();
    assert!(matches!(error, ArchiveError::TooManyMembers { limit: 3 }), "{error}");
    assert!(error.to_string().starts_with("it has more than 3 members"), "{error}");
}

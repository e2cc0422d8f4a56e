use std::fs;
use std::os::unix::fs::symlink;

use bkstate::Classified as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::export::{CacheExport, ExportError};
use crate::layout::{BlobError, Layout, LayoutError, WriteError};
use crate::manifest::{SelectError, Selected, Style, select};
use crate::source::Source;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

struct TestMirror {
    dir: TempDir,
}

/// Returns a manifest's annotations for a layer with this content.
fn annotations(content: &str) -> Value {
    json!({
        "mediaType": TAR,
        "diffID": Digest::of(content),
        "size": content.len(),
        "createdAt": "2026-11-21T20:27:19.5Z",
    })
}

/// Returns the manifest of a cache of one step, whose result is the layer with this content.
fn manifest(layer: &str) -> Value {
    json!({
        "layers": [{"blob": Digest::of(layer), "parent": -1, "annotations": annotations(layer)}],
        "records": [{"digest": Digest::of("step"), "layers": [
            {"layer": 0, "createdAt": "2026-11-21T20:27:19Z"}
        ]}],
    })
}

impl TestMirror {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Creates the objects of an exporter with these prefixes.
    fn with(keys: &[(&str, &str, &str)]) -> Self {
        let mirror = Self::new();
        for (blobs, manifest, layer) in keys {
            mirror.blob(blobs, layer);
            mirror.manifest(manifest, layer);
        }
        mirror
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, key: &str, content: &str) {
        let path = self.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn blob(&self, prefix: &str, content: &str) {
        self.write(&format!("{prefix}{}", Digest::of(content)), content);
    }

    fn manifest(&self, key: &str, layer: &str) {
        self.write(key, &manifest(layer).to_string());
    }

    fn source(&self, name: &str) -> Source {
        format!("s3dir:{}{name}", self.path().display()).parse().unwrap()
    }

    /// Returns the content of the only layer of the cache that `name` selects.
    fn layer(&self, name: &str) -> Result<String, ExportError> {
        let export = CacheExport::read_all(&self.source(name), &Limits::default())?.remove(0);
        let [layer] = &export.manifest.layers.values().collect::<Vec<_>>()[..] else {
            panic!("{:?}", export.manifest)
        };
        let mut content = Vec::new();
        export
            .layout
            .stream_blob(&layer.descriptor, |piece| {
                content.extend_from_slice(piece);
                Ok::<_, BlobError>(())
            })
            .unwrap();
        assert_eq!(layer.diff_id, Digest::of(&content));
        assert_eq!(layer.created_at.unwrap().to_string(), "2026-11-21T20:27:19.5Z");
        Ok(String::from_utf8(content).unwrap())
    }

    fn refused(&self, name: &str) -> MirrorError {
        self.refused_within(name, &Limits::default())
    }

    fn refused_within(&self, name: &str, limits: &Limits) -> MirrorError {
        match CacheExport::read_all(&self.source(name), limits).unwrap_err() {
            ExportError::Layout(LayoutError::Mirror { path, source }) => {
                assert_eq!(path, self.path());
                source
            }
            error => panic!("{error:?}"),
        }
    }
}

#[test]
fn the_objects_of_an_s3_cache_are_a_cache_in_image_style() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/buildkit", "a")]);
    let layout = Layout::open(mirror.path(), &Limits::default()).unwrap();
    let Selected::Cache { manifest: cache, .. } = select(&layout, &Reference::Default).unwrap()
    else {
        panic!()
    };
    assert_eq!(cache.style, Style::ImageManifest);
    // The object itself is the config.
    let config = layout.read_blob(&cache.config, layout.limits().of_config()).unwrap();
    assert_eq!(config, manifest("a").to_string().as_bytes());
    let layer = &cache.layers[&Digest::of("a")].descriptor;
    assert_eq!(layer.annotations.keys().collect::<Vec<_>>(), [CREATED_AT, DIFF_ID]);
    // In a separate file, which can be linked.
    assert!(layout.open_blob(layer).unwrap().whole().is_some());
    // Generated documents are the same each time, and not in a file.
    let [entry] = layout.entries() else { panic!() };
    assert!(layout.open_blob(entry).unwrap().whole().is_none());
    layout.verify_blob(entry).unwrap();
    let again = Layout::open(mirror.path(), &Limits::default()).unwrap();
    assert_eq!(again.entries(), layout.entries());
}

#[test]
fn a_cache_of_azure_has_the_same_objects() {
    // BuildKit v0.34.2 `cache/remotecache/azblob/utils.go` joins prefix, `manifests_prefix` (`manifests`) and
    // name as a path; so does v0.16.0.
    let mirror = TestMirror::with(&[("team/app/blobs/", "team/app/manifests/buildkit", "a")]);
    assert_eq!(mirror.layer("").unwrap(), "a");
}

#[test]
fn prefixes_are_found() {
    for (blobs, manifest, name) in [
        ("blobs/", "manifests/main", ""),
        ("ci/blobs/", "ci/manifests/main", ""),
        ("a/b/c/blobs/", "a/b/c/manifests/team/main", ":team/main"),
        // A prefix without a slash.
        ("ci-blobs/", "ci-manifests/main", ":main"),
        ("ci-blobs/", "ci-manifests/main", ":ci-manifests/main"),
        // blobs_prefix and manifests_prefix.
        ("layers/", "caches/main", ":caches/main"),
        ("layers/", "caches/main", ""),
        ("layer-", "cache-main", ""),
        ("", "main", ":main"),
    ] {
        let mirror = TestMirror::with(&[(blobs, manifest, "a")]);
        assert_eq!(mirror.layer(name).unwrap(), "a", "{blobs} {manifest}");
    }
}

#[test]
fn one_of_several_caches_is_chosen_by_name() {
    let mirror = TestMirror::with(&[
        ("blobs/", "manifests/buildkit", "a"),
        ("blobs/", "manifests/main", "b"),
        ("blobs/", "manifests/team/app", "c"),
    ]);
    for (name, layer) in [(":main", "b"), (":team/app", "c"), (":buildkit", "a"), ("", "a")] {
        assert_eq!(mirror.layer(name).unwrap(), layer);
    }
    let error = mirror.refused(":other");
    assert_eq!(
        error.to_string(),
        r#"it has no cache "other"; it has "buildkit", "main", "team/app""#
    );
    // Without BuildKit's default one.
    fs::remove_file(mirror.path().join("manifests/buildkit")).unwrap();
    let error = mirror.layer("").unwrap_err();
    let ExportError::Select(error) = error else { panic!("{error:?}") };
    let SelectError::SeveralCaches { caches, .. } = *error else { panic!("{error:?}") };
    let tags: BTreeSet<_> = caches.iter().flat_map(|cache| &cache.tags).map(|tag| &**tag).collect();
    assert_eq!(tags, ["main", "team/app"].into());
    // Each can be selected by the listed digest.
    let layers = caches.iter().map(|cache| mirror.layer(&format!("@{}", cache.digest)).unwrap());
    assert_eq!(layers.collect::<BTreeSet<_>>(), ["b".to_owned(), "c".to_owned()].into());
}

#[test]
fn several_names_of_one_export_are_one_cache() {
    // `name=main;pr-7` writes the same object twice.
    let mirror =
        TestMirror::with(&[("blobs/", "manifests/main", "a"), ("blobs/", "manifests/pr-7", "a")]);
    for name in ["", ":main", ":pr-7"] {
        assert_eq!(mirror.layer(name).unwrap(), "a");
    }
}

#[test]
fn caches_of_one_name_below_several_prefixes_are_chosen_by_their_paths() {
    let mirror = TestMirror::with(&[
        ("a/blobs/", "a/manifests/buildkit", "a"),
        ("b/blobs/", "b/manifests/buildkit", "b"),
    ]);
    let error = mirror.refused(":buildkit");
    assert_eq!(
        error.to_string(),
        "it has several caches \"buildkit\"; choose one by its path: \"a/manifests/buildkit\", \
         \"b/manifests/buildkit\""
    );
    assert!(mirror.layer("").unwrap_err().to_string().contains("\"b/manifests/buildkit\""));
    assert_eq!(mirror.layer(":b/manifests/buildkit").unwrap(), "b");
    assert_eq!(mirror.layer("/a:buildkit").unwrap(), "a");
}

#[test]
fn a_torn_manifest_is_named_if_it_is_the_one_that_is_meant() {
    let mirror =
        TestMirror::with(&[("blobs/", "manifests/main", "a"), ("blobs/", "manifests/torn", "b")]);
    let path = mirror.path().join("manifests/torn");
    let content = fs::read_to_string(&path).unwrap();
    for length in [0, 1, content.len() / 2, content.len() - 1] {
        fs::write(&path, &content[..length]).unwrap();
        for name in ["", ":torn"] {
            let error = mirror.refused(name);
            let said = format!("{} is not the whole manifest of a cache; fetch it", path.display());
            assert!(error.to_string().starts_with(&said), "{error}");
            assert!(matches!(error, MirrorError::Json { .. }), "{error}");
        }
        assert_eq!(mirror.layer(":main").unwrap(), "a");
    }
}

#[test]
fn results_whose_blobs_are_missing_are_dropped() {
    for has_other in [true, false] {
        let mirror = TestMirror::with(&[("blobs/", "manifests/main", "a")]);
        fs::remove_file(mirror.path().join(format!("blobs/{}", Digest::of("a")))).unwrap();
        if has_other {
            mirror.blob("blobs/", "of another cache");
        }
        let export =
            CacheExport::read_all(&mirror.source(""), &Limits::default()).unwrap().remove(0);
        assert_eq!(export.config.dropped.len(), 1);
        assert_eq!(export.config.dropped[0].missing, Digest::of("a"));
    }
}

#[test]
fn blobs_of_another_size_or_kind_are_refused() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/main", "abc")]);
    let digest = Digest::of("abc");
    let path = mirror.path().join(format!("blobs/{digest}"));
    fs::write(&path, "ab").unwrap();
    let error = mirror.layer("").unwrap_err();
    let ExportError::LayerBlob { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, BlobError::Size { expected: 3, actual: 2, .. }), "{source:?}");
    assert!(
        source
            .to_string()
            .ends_with(" has 2 bytes, but its descriptor says 3; copy or export the cache again"),
        "{source}"
    );
    fs::remove_file(&path).unwrap();
    fs::write(mirror.path().join("elsewhere"), "abc").unwrap();
    symlink(mirror.path().join("elsewhere"), &path).unwrap();
    let error = mirror.layer("").unwrap_err();
    let ExportError::LayerBlob { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, BlobError::NotAFile { kind: FileKind::Symlink, .. }), "{source:?}");
    assert!(
        source.to_string().ends_with(
            " is a symbolic link, and only regular files are read; replace it by the file"
        ),
        "{source}"
    );
}

#[test]
fn links_are_not_followed() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/main", "a")]);
    let outside = TestMirror::with(&[("blobs/", "manifests/secret", "b")]);
    let link = mirror.path().join("manifests/link");
    symlink(outside.path().join("manifests/secret"), &link).unwrap();
    let error = mirror.refused(":link");
    assert!(
        matches!(&error, MirrorError::NotAFile { path, kind: FileKind::Symlink } if *path == link),
        "{error}"
    );
    assert!(
        error.to_string().ends_with(" is a symbolic link, and only regular files are read"),
        "{error}"
    );
    fs::remove_file(&link).unwrap();
    symlink(outside.path(), mirror.path().join("more")).unwrap();
    let error = mirror.refused(":secret");
    assert!(matches!(error, MirrorError::NoName { .. }), "{error}");
    assert_eq!(error.to_string(), "it has no cache \"secret\"; it has \"main\"");
    for part in ["manifests", "blobs"] {
        let linked = TestMirror::new();
        symlink(outside.path().join(part), linked.path().join(part)).unwrap();
        let error = Layout::open(linked.path(), &Limits::default()).unwrap_err();
        assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
        assert!(
            error.to_string().contains(" has no index.json, so it is not an OCI layout"),
            "{error}"
        );
    }
    // The mirror itself may be a link.
    symlink(mirror.path(), outside.path().join("mirror")).unwrap();
    assert_eq!(outside.layer("/mirror:main").unwrap(), "a");
}

#[test]
fn what_is_not_said_of_a_layer_is_named() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/main", "a")]);
    let with = |annotations: &Value| {
        let layer = json!({"blob": Digest::of("a"), "parent": -1, "annotations": annotations});
        mirror.write("manifests/main", &json!({"layers": [layer], "records": []}).to_string());
    };
    with(&Value::Null);
    let error = mirror.refused("");
    assert!(
        matches!(error, MirrorError::NoAnnotations { layer, .. } if layer == Digest::of("a")),
        "{error}"
    );
    assert!(
        error.to_string().ends_with(
            ", so it is not the manifest of a cache in S3 or Azure; export the cache \
             again"
        ),
        "{error}"
    );
    for wrong in
        [json!({}), json!({"diffID": "sha256:../../etc"}), json!({"diffID": "x", "size": -1})]
    {
        with(&wrong);
        let error = mirror.refused("");
        assert!(matches!(error, MirrorError::Json { .. }), "{error}");
        assert!(
            error.to_string().ends_with(
                " is not the whole manifest of a cache; fetch it again, or choose \
                 another with :NAME"
            ),
            "{error}"
        );
    }
    // Go's zero time means unknown.
    with(
        &json!({"mediaType": TAR, "diffID": Digest::of("a"), "createdAt": "0001-01-01T00:00:00Z"}),
    );
    let layout = Layout::open(mirror.path(), &Limits::default()).unwrap();
    let Selected::Cache { manifest: cache, .. } = select(&layout, &Reference::Default).unwrap()
    else {
        panic!()
    };
    assert_eq!(cache.layers[&Digest::of("a")].created_at, None);
}

#[test]
fn one_blob_in_several_layers_is_listed_once() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/main", "a")]);
    let layer = |parent: i64| json!({"blob": Digest::of("a"), "parent": parent, "annotations": annotations("a")});
    let config = json!({"layers": [layer(-1), layer(0)], "records": [{"digest": Digest::of("s")}]});
    mirror.write("manifests/main", &config.to_string());
    assert_eq!(mirror.layer("").unwrap(), "a");
}

#[test]
fn a_directory_of_something_else_is_not_a_mirror() {
    let mirror = TestMirror::new();
    let refused = || Layout::open(mirror.path(), &Limits::default()).unwrap_err();
    let error = refused();
    assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
    assert!(
        error.to_string().contains(" has no index.json, so it is not an OCI layout"),
        "{error}"
    );
    mirror.write("main.rs", "fn main() {}");
    mirror.write("sha256:abc", "");
    mirror.write("manifests/service.yaml", "kind: Service");
    let error = refused();
    assert!(matches!(error, LayoutError::NoIndex { .. }), "{error}");
    assert!(
        error.to_string().contains(" has no index.json, so it is not an OCI layout"),
        "{error}"
    );
    // A layout is a layout, whatever else it contains.
    mirror.manifest("manifests/main", "a");
    mirror.write("index.json", r#"{"manifests":[]}"#);
    assert!(Layout::open(mirror.path(), &Limits::default()).unwrap().entries().is_empty());
}

#[test]
fn blobs_without_a_manifest_are_not_enough() {
    let mirror = TestMirror::new();
    mirror.blob("blobs/", "a");
    for name in ["", ":main"] {
        let error = mirror.refused(name);
        assert!(matches!(error, MirrorError::NoManifest), "{error}");
        assert!(error.to_string().contains("below manifests/"), "{error}");
    }
}

#[test]
fn more_than_the_limits_allow_is_refused_by_name() {
    let mirror = TestMirror::with(&[
        ("blobs/", "manifests/a", "a"),
        ("blobs/", "manifests/b", "b"),
        ("blobs/", "manifests/c", "c"),
    ]);
    let default = Limits::default();
    let refused = |name: &str, limits: Limits| mirror.refused_within(name, &limits);
    let error = refused("", Limits { mirror_files: 6, ..default });
    assert!(matches!(error, MirrorError::TooManyFiles { limit: 6 }), "{error}");
    assert_eq!(error.limit_name(), Some("mirror-files"));
    let few = Limits { manifests: 1, ..default };
    for name in ["", ":d"] {
        let error = refused(name, few);
        assert!(matches!(error, MirrorError::TooManyManifests { limit: 1 }), "{error}");
    }
    // A named one is found.
    for name in ["a", "b", "c"] {
        let name = Reference::Tag(name.to_owned());
        assert!(Layout::open_for(mirror.path(), &name, &few).is_ok());
    }
    let size = manifest("a").to_string().len() as u64;
    for (limits, name) in [
        (Limits { config: size - 1, ..default }, "config"),
        (Limits { manifests_size: size, ..default }, "manifests-size"),
    ] {
        let error = refused("", limits);
        assert!(
            matches!(error, MirrorError::TooLarge { limit, .. } if limit.name == name),
            "{error}"
        );
        assert!(error.to_string().contains(" has more bytes than "), "{error}");
    }
    let error = refused("", Limits { json_objects: 3, ..default });
    assert!(matches!(error, MirrorError::TooComplex { .. }), "{error}");
    assert!(error.to_string().ends_with(" is not the manifest of a cache"), "{error}");
    let error = refused("", Limits { cache_layers: 0, ..default });
    assert!(matches!(error, MirrorError::TooManyLayers { limit: 0, .. }), "{error}");
    assert!(error.to_string().contains(" lists more than 0 layers"), "{error}");
    for n in 0..=PREFIXES {
        mirror.blob(&format!("{n}/"), "a");
    }
    let error = refused(":a", default);
    assert!(matches!(error, MirrorError::TooManyPrefixes), "{error}");
    assert_eq!(
        error.to_string(),
        "it has blobs below more than 100 prefixes; give the directory of one of them"
    );
}

#[test]
fn a_mirror_is_not_written_to() {
    let mirror = TestMirror::with(&[("blobs/", "manifests/main", "a")]);
    let layout = Layout::open(mirror.path(), &Limits::default()).unwrap();
    let error = layout.writer().unwrap_err();
    assert!(matches!(error, WriteError::Mirror { .. }), "{error}");
    assert!(error.to_string().ends_with(", which is only read"), "{error}");
    assert_eq!(fs::read_dir(mirror.path()).unwrap().count(), 2);
}

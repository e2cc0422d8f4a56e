use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::layout::NewDirectoryError;
use crate::layout::testing::{TestLayout, annotated, digest_of, inline_cache, layer};
use crate::manifest::Style;
use crate::plan::{Plan, PlanError};
use crate::{Keyring, keys};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Creates a layout with a cache of one layer, the result of the record `name`.
fn cache(style: Style, name: &str, tags: &[&str]) -> TestLayout {
    let layout = TestLayout::new();
    layout.blob(GZIP, name);
    let digest = Digest::of(format!("record {name}"));
    let config = json!({
        "layers": [{"blob": Digest::of(name), "parent": -1}],
        "records": [{"digest": digest, "layers": [{"layer": 0}]}],
    });
    layout.cache(style, &[layer(name, GZIP)], &config);
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let top: Value = serde_json::from_slice(&index).unwrap();
    let mut top = top["manifests"][0].clone();
    top["annotations"] = json!({});
    let tagged = tags.iter().map(|tag| annotated(top.clone(), REF_NAME, tag));
    let entries: Vec<_> = tagged.collect();
    layout.index(if tags.is_empty() { std::slice::from_ref(&top) } else { &entries });
    layout
}

fn exports(words: &[String]) -> Vec<CacheExport> {
    let sources: Vec<_> = words.iter().map(|word| word.parse().unwrap()).collect();
    CacheExport::read_sources(&sources, &Limits::default()).unwrap()
}

fn word(layout: &TestLayout) -> String {
    layout.path().to_str().unwrap().to_owned()
}

fn written(exports: &[CacheExport], path: &Path) -> Sparse {
    write(exports, path, &Limits::default()).unwrap()
}

fn references(sparse: &Sparse) -> Vec<Reference> {
    sparse.caches.iter().map(|cache| cache.source.reference.clone()).collect()
}

fn blobs(path: &Path) -> BTreeSet<PathBuf> {
    let blobs = fs::read_dir(path.join("blobs/sha256")).unwrap();
    blobs.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn both_styles_have_their_index_and_config_and_are_refused_by_a_plan() {
    for style in [Style::Index, Style::ImageManifest] {
        let (layout, place) = (cache(style, "a", &["latest"]), tempfile::tempdir().unwrap());
        let path = place.path().join("sparse");
        let sparse = written(&exports(&[word(&layout)]), &path);
        assert_eq!(references(&sparse), [Reference::Default]);
        assert_eq!(blobs(&path).len(), 2, "{style:?}");
        let sizes = blobs(&path).iter().map(|blob| blob.metadata().unwrap().len()).sum::<u64>();
        assert_eq!(sparse.bytes, sizes);

        let copies = exports(&[path.to_str().unwrap().to_owned()]);
        assert_eq!(copies[0].manifest.digest, sparse.caches[0].digest);
        assert!(copies[0].is_sparse() && copies[0].config.records.len() == 1);
        let error = Plan::new(&copies, &Keyring::for_exports(&copies)).unwrap_err();
        let PlanError::Sparse { cache, .. } = &error else { panic!("{error}") };
        assert_eq!(*cache, sparse.caches[0].digest);
        assert!(error.to_string().contains("is a sparse layout"), "{error}");
    }
}

#[test]
fn a_cache_whose_layers_are_in_another_layout_is_not_sparse() {
    let (layout, place) = (cache(Style::Index, "a", &["latest"]), tempfile::tempdir().unwrap());
    let path = place.path().join("sparse");
    written(&exports(&[word(&layout)]), &path);
    let both = exports(&[path.to_str().unwrap().to_owned(), word(&layout)]);
    assert!(both.iter().all(|export| !export.is_sparse()));
}

#[test]
fn the_first_of_several_keeps_a_tag_and_the_others_are_named_by_digest() {
    let first = cache(Style::ImageManifest, "a", &["latest", "main"]);
    let second = cache(Style::ImageManifest, "b", &["latest"]);
    let third = cache(Style::ImageManifest, "c", &["latest", "release"]);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sparse");
    let words = [word(&first), word(&second), format!("oci:{}:release", word(&third))];
    let all = exports(&words);
    let sparse = written(&all, &path);
    let expected = [
        Reference::Default,
        Reference::Digest(all[1].found.digest),
        Reference::Tag("release".to_owned()),
    ];
    assert_eq!(references(&sparse), expected);
    for cache in &sparse.caches {
        let copies = CacheExport::read_all(&cache.source, &Limits::default()).unwrap();
        assert_eq!(copies[0].found.digest, cache.digest);
    }
    // The same one twice counts once.
    let twice = written(&exports(&[word(&first), word(&first)]), &path);
    assert_eq!(references(&twice), [Reference::Default]);
}

#[test]
fn a_cache_without_a_tag_becomes_the_latest() {
    let (layout, place) = (cache(Style::ImageManifest, "a", &[]), tempfile::tempdir().unwrap());
    let path = place.path().join("sparse");
    written(&exports(&[word(&layout)]), &path);
    let index = Layout::open(&path, &Limits::default()).unwrap();
    assert_eq!(index.entries()[0].annotations[REF_NAME], "latest");
    assert_eq!(index.annotations()[ANNOTATION], "true");
}

#[test]
fn an_inline_cache_has_all_platforms_of_its_image() {
    let layout = TestLayout::new();
    layout.blob(GZIP, "a");
    let image = |architecture: &str| {
        let plain = json!({"mediaType": GZIP, "digest": Digest::of("a"), "size": 1});
        let records = json!([{"digest": Digest::of("record"), "layers": [{"layer": 0}]}]);
        layout.image(
            &[plain],
            &json!({
                "architecture": architecture,
                "moby.buildkit.cache.v0": inline_cache(&records),
                "rootfs": {"type": "layers", "diff_ids": [Digest::of("tar of a")]},
            }),
        )
    };
    // One is missing, as in a partial copy.
    let absent = json!({"mediaType": "", "digest": Digest::of("absent"), "size": 1});
    let index = json!({"manifests": [image("amd64"), image("arm64"), absent]});
    let index = annotated(layout.json(OCI_INDEX, &index), REF_NAME, "latest");
    layout.index(std::slice::from_ref(&index));
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sparse");
    let all = exports(&[word(&layout)]);
    assert_eq!(all.len(), 2);
    let sparse = written(&all, &path);
    assert_eq!(sparse.caches.len(), 1);
    assert_eq!(sparse.caches[0].digest, digest_of(&index));
    // The index, two manifests, two configs.
    assert_eq!(blobs(&path).len(), 5);
    let copies = exports(&[path.to_str().unwrap().to_owned()]);
    assert!(copies.len() == 2 && copies.iter().all(CacheExport::is_sparse));
}

#[test]
fn attached_keys_come_along() {
    let copy = tempfile::tempdir().unwrap();
    let layout = copy.path().join("cache");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/index");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&format!("{fixture}/cache"), layout.to_str().unwrap()])
        .status();
    assert!(copied.unwrap().success());
    let all = exports(&[layout.to_str().unwrap().to_owned()]);
    let provenance = format!("{fixture}/keys/provenance.json");
    let sources = keys::read_source(provenance.as_ref(), &Limits::default()).unwrap();
    attach(&all[0], &KeysFile::from_sources(&sources), None).unwrap();

    let path = copy.path().join("sparse");
    let sparse = written(&exports(&[layout.to_str().unwrap().to_owned()]), &path);
    let copies = exports(&[sparse.caches[0].source.to_string()]);
    let mut keyring = Keyring::for_exports(&copies);
    keyring.read_layouts(&copies).unwrap();
    let inputs = copies[0].config.digests_with_inputs();
    let missing = inputs.filter(|record| keyring.get(record).is_none()).count();
    assert_eq!(missing, 0);
}

#[test]
fn only_new_empty_or_sparse_directories_are_written() {
    let (layout, place) = (cache(Style::Index, "a", &["latest"]), tempfile::tempdir().unwrap());
    let all = exports(&[word(&layout)]);
    let place = place.path();
    fs::create_dir(place.join("empty")).unwrap();
    written(&all, &place.join("empty"));
    // Replaced by the layout of another cache.
    let other = cache(Style::Index, "b", &["latest"]);
    written(&exports(&[word(&other)]), &place.join("empty"));
    assert_eq!(blobs(&place.join("empty")).len(), 2);

    fs::write(place.join("file"), "").unwrap();
    symlink(place.join("empty"), place.join("link")).unwrap();
    for name in ["file", "link"] {
        let error = write(&all, &place.join(name), &Limits::default()).unwrap_err();
        assert!(
            matches!(error, SparseError::Place(NewDirectoryError::NotADirectory { .. })),
            "{name}: {error}"
        );
        assert!(error.to_string().ends_with(" is not a directory; name a new one"), "{error}");
    }
    // A full cache, and a sparse layout with an additional file.
    fs::write(place.join("empty/note"), "mine").unwrap();
    for path in [layout.path().to_owned(), place.join("empty")] {
        let error = write(&all, &path, &Limits::default()).unwrap_err();
        assert!(matches!(error, SparseError::Place(NewDirectoryError::NotEmpty { .. })), "{error}");
        assert!(
            error.to_string().ends_with(
                " is not empty, and not a sparse layout, which could be replaced; name a \
                 new directory"
            ),
            "{error}"
        );
        assert!(!error.is_input());
    }
    let error = write(&[], &place.join("new"), &Limits::default()).unwrap_err();
    assert!(matches!(error, SparseError::NoCache) && error.is_input(), "{error}");
    let error = write(&all, Path::new("/"), &Limits::default()).unwrap_err();
    assert!(matches!(error, SparseError::Place(NewDirectoryError::NoName { .. })), "{error}");
    assert_eq!(error.to_string(), "/ has no name at its end; name a new directory");
    let error = write(&all, &place.join("absent/dir"), &Limits::default()).unwrap_err();
    assert!(matches!(error, SparseError::Place(NewDirectoryError::Dir { .. })), "{error}");
    assert!(error.to_string().starts_with("cannot write the directory "), "{error}");
    // Nothing is left beside them.
    let left = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<BTreeSet<_>>(), ["empty", "file", "link"].map(Into::into).into());
}

#[test]
fn the_same_caches_give_the_same_bytes() {
    let (layout, place) = (cache(Style::Index, "a", &["latest"]), tempfile::tempdir().unwrap());
    let all = exports(&[word(&layout)]);
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    written(&all, &first);
    written(&all, &second);
    let read = |path: &Path| fs::read(path.join("index.json")).unwrap();
    assert_eq!(read(&first), read(&second));
}

//! Directories that builds were exported to, and the places beside caches.

use std::path::PathBuf;

use super::*;
use crate::export::CacheExport;
use crate::keys::beside;
use crate::layout::Layout;
use crate::plan::testing::{export, record};

/// Writes provenance to `path`.
fn put(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, merge_provenance().to_string()).unwrap();
}

#[test]
fn provenance_is_found_in_the_directory_of_an_exported_build_and_in_those_of_its_platforms() {
    let dir = tempfile::tempdir().unwrap();
    let expected = [
        "linux_386/provenance.json",
        "linux_arm64/my-provenance.json",
        "provenance.json",
        "provenance.linux_amd64.json",
    ];
    for name in expected {
        put(&dir.path().join(name));
    }
    // Files of a build, whatever they are called.
    for name in ["app/provenance.json", "linux_386/app/provenance.json", "provenance.txt", "a_file"]
    {
        put(&dir.path().join(name));
    }
    fs::create_dir(dir.path().join("my-provenance.json")).unwrap();
    let sources = read_source(dir.path(), &Limits::default()).unwrap();
    let found: BTreeSet<_> = sources.iter().map(|source| source.description.path.clone()).collect();
    assert_eq!(found, expected.map(|name| dir.path().join(name)).into());
    assert!(sources.into_iter().all(|source| offers_the_merge(&[source])));
}

/// Creates a directory with the export of a merge as `cache`.
fn beside_a_cache() -> (TempDir, CacheExport) {
    let merge: OpDigest = MERGE.to_owned().try_into().unwrap();
    let records = json!([
        {"digest": record("r")},
        {"digest": merge.record(0), "inputs": [[{"link": 0}], [{"link": 0}]]},
    ]);
    let (layout, _) = export(&[], &[], &records);
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    fs::rename(layout.path(), &cache).unwrap();
    let source = cache.to_str().unwrap().parse().unwrap();
    let export = CacheExport::read_all(&source, &Limits::default()).unwrap().remove(0);
    (place, export)
}

/// Returns the paths of the sources beside `layout`.
fn found(layout: &Layout) -> Vec<PathBuf> {
    let places = beside::places([layout].into_iter());
    let sources = places.flat_map(|(limits, place)| beside::read(&place, limits));
    sources
        .map(|source| {
            let source = source.unwrap();
            assert!(source.found);
            source.description.path
        })
        .collect()
}

#[test]
fn sources_are_found_beside_a_cache_and_in_its_directory_by_the_names_that_tools_give_them() {
    let (place, export) = beside_a_cache();
    assert!(found(&export.layout).is_empty());
    for (name, is_source) in [
        ("provenance.json", true),
        ("metadata.json", true),
        ("keys.json", true),
        ("out/provenance.json", true),
        ("out/linux_amd64/provenance.json", true),
        ("cache/provenance.json", true),
        ("cache/out/provenance.json", false),
        ("other.json", false),
        ("other/provenance.json", false),
    ] {
        let path = place.path().join(name);
        put(&path);
        let expected = if is_source { vec![path.clone()] } else { Vec::new() };
        assert_eq!(found(&export.layout), expected, "{name}");
        fs::remove_file(path).unwrap();
    }
    // Only files count, and only a directory is one.
    for name in ["provenance.json", "cache/keys.json"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    fs::remove_dir_all(place.path().join("out")).unwrap();
    put(&place.path().join("out"));
    assert!(found(&export.layout).is_empty());
}

#[test]
fn what_is_beside_a_cache_is_read_until_all_keys_are_known_and_counts_if_it_has_one() {
    let (place, export) = beside_a_cache();
    let exports = [export];
    let broken = place.path().join("cache/metadata.json");
    fs::write(&broken, "broken").unwrap();
    let other = json!({"mediaType": KEYS_MEDIA_TYPE, "ops": [
        {"digests": [{"digest": Digest::of("of another build")}], "outputs": 1},
    ]});
    fs::write(place.path().join("cache/keys.json"), other.to_string()).unwrap();
    put(&place.path().join("provenance.json"));

    let mut keyring = Keyring::for_exports(&exports);
    let errors = keyring.read_beside(&exports);
    let [SourceError::Unrecognised { path, .. }] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(*path, broken);
    let [source] = keyring.sources() else { panic!("{:?}", keyring.sources()) };
    assert_eq!(source.description.path, place.path().join("provenance.json"));
    assert_eq!((source.resolved, source.found, keyring.len()), (1, true, 1));

    let mut keyring = Keyring::for_exports(&exports);
    keyring.read(place.path().join("provenance.json"), &Limits::default()).unwrap();
    assert!(keyring.read_beside(&exports).is_empty());
    assert_eq!((keyring.sources().len(), keyring.len()), (1, 1));
    assert!(!keyring.sources()[0].found);
}

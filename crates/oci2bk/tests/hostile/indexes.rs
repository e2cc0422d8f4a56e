//! Infinite and huge indexes.

use std::collections::BTreeMap;

use bkstate::Digest;
use oci2bk::export::ExportError;
use oci2bk::json::TooComplex;
use oci2bk::layout::{BlobError, LayoutError};
use oci2bk::limits::{Limits, MAX_INDEX_DEPTH};
use oci2bk::manifest::{ManifestError, SelectError};
use serde_json::{Value, json};

use super::layout::INDEX;
use super::*;

fn select_error(layout: &Layout) -> SelectError {
    match export_error(layout.path()) {
        ExportError::Select(error) => *error,
        error => panic!("{error:?}"),
    }
}

// A cycle would require the digest of content that contains it, so a document in it has a false digest.
#[test]
fn that_contain_themselves() {
    for length in [1, 2, 100] {
        let layout = Layout::new();
        let name = |n: usize| Digest::of(format!("index {n}"));
        let entry = |n: usize| json!({"mediaType": INDEX, "digest": name(n % length), "size": 127});
        for n in 0..length {
            let index = json!({"manifests": [entry(n + 1)]}).to_string();
            let index = format!("{index}{}", " ".repeat(200 - index.len()));
            std::fs::write(layout.blob_path(&entry(n)), index).unwrap();
        }
        let mut top = entry(0);
        top["size"] = 200.into();
        layout.index(&[top]);
        let SelectError::Manifest { source, .. } = select_error(&layout) else { panic!() };
        assert!(
            source.to_string().contains(" is damaged: its content has the digest "),
            "{source}"
        );
        let ManifestError::Blob(BlobError::Digest { digest, .. }) = *source else {
            panic!("{source:?}")
        };
        assert_eq!(digest, name(0));
    }
}

#[test]
fn in_indexes_in_indexes() {
    let (layout, _) = one_layer();
    let index: Value = read(&layout);
    let mut entry = index["manifests"][0].clone();
    for depth in 1..=MAX_INDEX_DEPTH + 1 {
        entry = layout.blob(INDEX, json!({"manifests": [entry]}).to_string());
        layout.index(&[entry.clone()]);
        if depth <= MAX_INDEX_DEPTH {
            converted(layout.path()).unwrap();
        } else {
            let error = select_error(&layout);
            assert!(matches!(error, SelectError::TooDeep { .. }), "{error}");
            assert!(error.to_string().ends_with(" lies more than 8 indexes deep"), "{error}");
        }
    }
}

fn read(layout: &Layout) -> Value {
    serde_json::from_slice(&std::fs::read(layout.path().join("index.json")).unwrap()).unwrap()
}

#[test]
fn of_indexes_that_all_list_the_same() {
    // Each level lists the one below a thousand times: 10^24 paths, and eight documents.
    let (layout, _) = one_layer();
    let mut entry = read(&layout)["manifests"][0].clone();
    for _ in 0..MAX_INDEX_DEPTH {
        entry = layout.blob(INDEX, json!({"manifests": vec![entry; 1000]}).to_string());
    }
    layout.index(&[entry]);
    converted(layout.path()).unwrap();
}

/// Returns an index of this many missing manifests.
fn fan_out(count: usize) -> String {
    let entry = |n: usize| format!(r#"{{"digest":"{}","size":1}}"#, Digest::of(n.to_string()));
    format!(r#"{{"manifests":[{}]}}"#, (0..count).map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn of_very_many_manifests() {
    let layout = Layout::new();
    let most = usize::try_from(Limits::default().manifests).unwrap();
    layout.file("index.json", fan_out(most + 1));
    let error = select_error(&layout);
    assert!(matches!(error, SelectError::TooMany { .. }), "{error}");
    assert!(
        error.to_string().contains(" has more than 10000 manifests; choose the cache with @DIGEST"),
        "{error}"
    );
    layout.index(&[layout.blob(INDEX, fan_out(most))]);
    let error = select_error(&layout);
    assert!(matches!(error, SelectError::TooMany { .. }), "{error}");
    assert!(
        error.to_string().contains(" has more than 10000 manifests; choose the cache with @DIGEST"),
        "{error}"
    );
}

#[test]
fn of_a_million_manifests() {
    let layout = Layout::new();
    let million = fan_out(1_000_000);
    layout.file("index.json", &million);
    let ExportError::Layout(error) = export_error(layout.path()) else { panic!() };
    assert!(matches!(error, LayoutError::TooLarge { .. }), "{error:?}");
    assert!(error.to_string().contains(" has more than 16777216 bytes"), "{error}");
    layout.index(&[layout.blob(INDEX, &million)]);
    let SelectError::Manifest { source, .. } = select_error(&layout) else { panic!() };
    assert!(matches!(*source, ManifestError::Blob(BlobError::TooLarge { .. })), "{source:?}");
    assert!(
        source.to_string().contains(
            " has 94000015 bytes, but 16777216 is all that a document of its kind may \
             have"
        ),
        "{source}"
    );
}

#[test]
fn of_manifests_that_are_too_large_together() {
    // Each may be as large as the limit; whether they exist is known only when they are read.
    let layout = Layout::new();
    let limits = Limits::default();
    let count = limits.manifests_size / limits.manifest + 1;
    let entry = |n: u64| json!({"digest": Digest::of(n.to_string()), "size": limits.manifest});
    layout.index(&(0..count).map(entry).collect::<Vec<_>>());
    let error = select_error(&layout);
    assert!(matches!(error, SelectError::TooLarge { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(" have more than 268435456 bytes; choose the cache with @DIGEST"),
        "{error}"
    );
}

#[test]
fn of_a_million_empty_annotations() {
    let layout = Layout::new();
    let annotations: BTreeMap<_, _> = (0..1_000_000).map(|n| (format!("{n:x}"), "")).collect();
    let index = json!({"manifests": [], "annotations": annotations}).to_string();
    layout.file("index.json", &index);
    let error = export_error(layout.path());
    let ExportError::Select(error) = error else { panic!("{error:?}") };
    assert!(matches!(*error, SelectError::NoCache { .. }), "{error:?}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 0 manifests looked at"),
        "{error}"
    );
    // Empty objects, of which a few bytes become much memory.
    layout.file("index.json", format!(r#"{{"manifests":[{}]}}"#, "{},".repeat(5_000_000)));
    let ExportError::Layout(error) = export_error(layout.path()) else { panic!() };
    let LayoutError::TooComplex { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, TooComplex::Objects { .. }), "{source:?}");
}

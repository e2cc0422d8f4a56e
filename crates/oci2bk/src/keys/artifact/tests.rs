//! What attaching changes in a layout.

use serde_json::Value;

use super::*;
use crate::keys::{Candidate, KeySource, SourceDescription, SourceKind};
use crate::layout::testing::{TestLayout, annotated, digest_of};
use crate::limits::Limits;
use crate::manifest::{OCI_INDEX, REF_NAME};
use crate::plan::testing::{export, op, record};

/// Creates a layout with the cache of the steps `x` and `y`, tagged `latest`.
fn layout() -> TestLayout {
    let step = |name: &str| json!({"digest": record(name), "inputs": [[{"link": 0}]]});
    let records = json!([{"digest": record("r")}, step("x"), step("y")]);
    let (layout, _) = export(&[], &[], &records);
    let cache = entries(&layout).remove(0);
    layout.index(&[annotated(cache, REF_NAME, "latest")]);
    layout
}

fn entries(layout: &TestLayout) -> Vec<Value> {
    manifests(&std::fs::read(layout.path().join("index.json")).unwrap())
}

fn manifests(index: &[u8]) -> Vec<Value> {
    let index: Value = serde_json::from_slice(index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn digests(entries: &[Value]) -> Vec<Digest> {
    entries.iter().map(digest_of).collect()
}

/// Returns the position in `index.json` of the list of what is attached to `subject`.
fn list_of(layout: &TestLayout, subject: Digest) -> usize {
    let tag = format!("sha256-{}", subject.hex());
    entries(layout).iter().position(|entry| entry["annotations"][REF_NAME] == *tag).unwrap()
}

/// Returns what is listed as attached to `subject`.
fn listed(layout: &TestLayout, subject: Digest) -> Vec<Value> {
    let list = digest_of(&entries(layout)[list_of(layout, subject)]);
    manifests(&std::fs::read(layout.blob_path(list)).unwrap())
}

/// Replaces the list of what is attached to `subject`.
fn list(layout: &TestLayout, subject: Digest, listed: &[Value]) {
    let at = list_of(layout, subject);
    let mut entries = entries(layout);
    let list = layout.json(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": listed}));
    let tag = entries[at]["annotations"][REF_NAME].as_str().unwrap();
    entries[at] = annotated(list, REF_NAME, tag);
    layout.index(&entries);
}

/// Adds something of another tool to `layout`, attached to `subject`.
fn signature(layout: &TestLayout, subject: Digest) -> Value {
    let config = layout.blob(EMPTY_TYPE, EMPTY);
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
    let manifest = json!({"schemaVersion": 2, "artifactType": "signature", "config": config,
        "layers": [], "subject": subject});
    let mut entry = layout.json(OCI_MANIFEST, &manifest);
    entry["artifactType"] = "signature".into();
    layout.index(&[entries(layout), vec![entry.clone()]].concat());
    entry
}

/// Replaces the cache `latest` by another one with the same steps, and returns its digest.
fn export_again(layout: &TestLayout, number: usize) -> Digest {
    let mut entries = entries(layout);
    let cache = std::fs::read(layout.blob_path(digest_of(&entries[0]))).unwrap();
    let mut cache: Value = serde_json::from_slice(&cache).unwrap();
    cache["annotations"] = json!({"export": number.to_string()});
    entries[0] = annotated(layout.json("", &cache), REF_NAME, "latest");
    layout.index(&entries);
    digest_of(&entries[0])
}

fn keys(names: &[&str]) -> KeysFile {
    let candidates = names.iter().map(|name| Candidate {
        op_digest: op(name),
        outputs: 1,
        name: None,
        encoding: None,
        vertex: None,
        builder: None,
    });
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::CacheDb, part: None };
    KeysFile::from_sources([&KeySource::from_digests(candidates.collect(), description)])
}

fn attach_to(
    layout: &TestLayout,
    names: &[&str],
    tag: Option<&str>,
    limits: &Limits,
) -> Result<Digest, AttachError> {
    let source = format!("oci:{}:latest", layout.path().display()).parse().unwrap();
    let export = CacheExport::read_all(&source, limits).unwrap().remove(0);
    attach(&export, &keys(names), tag).map(|attached| attached.manifest)
}

fn attached(layout: &TestLayout, names: &[&str]) -> Digest {
    attach_to(layout, names, None, &Limits::default()).unwrap()
}

#[test]
fn newer_keys_replace_older_ones_and_nothing_that_others_attached() {
    let layout = layout();
    let cache = digest_of(&entries(&layout)[0]);
    let older = attached(&layout, &["x"]);
    let signature = signature(&layout, cache);
    list(&layout, cache, &[listed(&layout, cache), vec![signature.clone()]].concat());
    let newer = attached(&layout, &["x", "y"]);
    assert_ne!(newer, older);
    let list_now = digest_of(&entries(&layout)[3]);
    let signature = digest_of(&signature);
    assert_eq!(digests(&entries(&layout)), [cache, signature, newer, list_now]);
    assert_eq!(digests(&listed(&layout, cache)), [signature, newer]);
    // Also if another tool has left them in the list only.
    let mut entries = entries(&layout);
    entries.remove(2);
    layout.index(&entries);
    assert_eq!(attached(&layout, &["x"]), older);
    assert_eq!(digests(&listed(&layout, cache)), [signature, older]);
}

#[test]
fn keys_of_a_replaced_cache_go_with_their_list_even_if_their_blobs_are_missing() {
    let layout = layout();
    attached(&layout, &["x"]);
    let signature = digest_of(&signature(&layout, digest_of(&entries(&layout)[0])));
    for number in 0..3 {
        let cache = export_again(&layout, number);
        let keys = attached(&layout, &["x"]);
        let list = digest_of(&entries(&layout)[list_of(&layout, cache)]);
        assert_eq!(digests(&entries(&layout)), [cache, signature, keys, list], "{number}");
        if number == 1 {
            for blob in [keys, list] {
                std::fs::remove_file(layout.blob_path(blob)).unwrap();
            }
        }
    }
}

#[test]
fn keys_of_another_cache_of_the_layout_stay() {
    let layout = layout();
    let keys = attached(&layout, &["x"]);
    let mut before = entries(&layout);
    before.push(annotated(before[0].clone(), REF_NAME, "release"));
    layout.index(&before);
    export_again(&layout, 0);
    attached(&layout, &["x"]);
    let now = digests(&entries(&layout));
    assert_eq!((now[1..4].to_vec(), now.len()), (digests(&before[1..]), 6));
    assert_eq!(now[1], keys);
}

#[test]
fn a_list_of_a_replaced_cache_with_what_others_attached_stays() {
    let layout = layout();
    let cache = digest_of(&entries(&layout)[0]);
    attached(&layout, &["x"]);
    let signature = signature(&layout, cache);
    list(&layout, cache, &[listed(&layout, cache), vec![signature]].concat());
    export_again(&layout, 0);
    attached(&layout, &["x"]);
    assert_eq!(listed(&layout, cache).len(), 2);
}

#[test]
fn a_tag_of_something_else_is_not_taken() {
    let layout = layout();
    let tagged = |tag: &str| attach_to(&layout, &["x"], Some(tag), &Limits::default());
    let keys = tagged("keys").unwrap();
    // Its own tag can be given again, and another.
    for tag in ["keys", "other"] {
        assert_eq!(tagged(tag).unwrap(), keys);
        let entry = entries(&layout).into_iter().find(|entry| digest_of(entry) == keys).unwrap();
        assert_eq!(entry["annotations"], json!({REF_NAME: tag}));
    }
    let before = entries(&layout);
    let list = format!("sha256-{}", digest_of(&before[0]).hex());
    for tag in ["latest", &list] {
        let error = tagged(tag).unwrap_err();
        assert!(
            matches!(&error, AttachError::Put(PutArtifactError::TagTaken { tag: taken, .. }) if taken == tag)
        );
        let said = format!(" has something else with the tag {tag:?}; choose another");
        assert!(error.to_string().ends_with(&said), "{error}");
    }
    assert_eq!(entries(&layout), before);
}

#[test]
fn tags_are_those_that_registries_accept() {
    let longest = "a".repeat(128);
    for tag in ["a", "Z", "_", "1.2-rc_3", &longest] {
        assert!(check_tag(tag).is_ok(), "{tag}");
    }
    let layout = layout();
    let longer = "a".repeat(129);
    for wrong in ["", ".a", "-a", "a b", "a/b", "a:b", "\u{e9}", &longer] {
        let error = attach_to(&layout, &["x"], Some(wrong), &Limits::default()).unwrap_err();
        assert!(
            matches!(&error, AttachError::Put(PutArtifactError::InvalidTag { tag }) if tag == wrong),
            "{error}"
        );
        let said = " is not a tag: that is 1 to 128 letters, digits, '_', '.' and '-'";
        assert!(error.to_string().ends_with(said), "{error}");
    }
    assert_eq!(entries(&layout).len(), 1);
}

#[test]
fn the_outputs_to_try_are_limited() {
    let layout = layout();
    let within = |limit: u64| {
        let limits = Limits { key_outputs: limit, ..Limits::default() };
        attach_to(&layout, &["x", "y"], None, &limits)
    };
    let error = within(1).unwrap_err();
    assert!(matches!(error, AttachError::TooManyOutputs { outputs: 2, limit: 1 }), "{error}");
    assert_eq!(
        error.to_string(),
        "the ops that the key sources have claim 2 outputs to try, more than 1"
    );
    assert!(within(2).is_ok());
}

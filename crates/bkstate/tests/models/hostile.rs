//! Files that no daemon writes.

use bkstate::bolt::{Node, Tree};
use bkstate::decode::DecodeError;
use bkstate::metadata::Metadata;
use bkstate::records::Records;
use bkstate::snapshots::Snapshots;
use bkstate::solver::SolverCache;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Model, arbitrary};

fn value(bytes: &[u8]) -> Node {
    Node::Value(bytes.to_vec())
}

/// A file with one entry, `node`, at the end of `path`.
fn at(path: &[&[u8]], node: Node) -> Tree {
    let node = path.iter().rev().fold(node, |node, name| {
        Node::Bucket(Tree { sequence: 0, entries: [(name.to_vec(), node)].into() })
    });
    let Node::Bucket(tree) = node else { panic!("the path is empty") };
    tree
}

/// Returns the error for a file with `node` at the end of `path`.
fn refusal<M: Model>(path: &[&[u8]], node: Node) -> DecodeError {
    match M::of(&at(path, node)) {
        Err(error) => error,
        Ok(model) => panic!("{path:?} was read as {model:?}"),
    }
}

/// Asserts that `bytes` at the end of `path` are rejected as unexpected.
fn refused_value<M: Model>(path: &[&[u8]], bytes: &[u8]) {
    let error = refusal::<M>(path, value(bytes));
    assert!(matches!(error, DecodeError::Value { .. }), "{path:?}: {error}");
    assert!(error.to_string().contains(", which is not "), "{error}");
}

/// Asserts that reading fails if `path` ends in a bucket where a value is expected.
fn refused_bucket<M: Model>(path: &[&[u8]]) {
    let error = refusal::<M>(path, Node::Bucket(Tree::default()));
    assert!(matches!(error, DecodeError::Kind { expected: "value", .. }), "{path:?}: {error}");
    assert!(
        error
            .to_string()
            .ends_with(" is not a value, so the database was not written by a known release"),
        "{error}"
    );
}

/// Asserts that reading fails if `path` ends in a value where a bucket is expected.
fn refused_plain<M: Model>(path: &[&[u8]]) {
    let error = refusal::<M>(path, value(b"value"));
    assert!(matches!(error, DecodeError::Kind { expected: "bucket", .. }), "{path:?}: {error}");
    assert!(
        error
            .to_string()
            .ends_with(" is not a bucket, so the database was not written by a known release"),
        "{error}"
    );
}

const DIGEST: &[u8] = b"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn values_and_buckets_in_each_others_places() {
    for bucket in [&b"_links"[..], b"_backlinks", b"_result", b"_byresult"] {
        refused_plain::<SolverCache>(&[bucket, b"key"]);
    }
    refused_bucket::<SolverCache>(&[b"_links", b"key", b"{}@target"]);
    refused_bucket::<SolverCache>(&[b"_result", b"key", b"w::r"]);
    for bucket in [&b"_main"[..], b"_external"] {
        refused_plain::<Records>(&[bucket, b"id"]);
        refused_bucket::<Records>(&[bucket, b"id", b"cache.size"]);
    }
    refused_bucket::<Metadata>(&[b"v1", b"version"]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit"]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id"]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit", b"snapshots", b"overlayfs"]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit", b"snapshots", b"overlayfs", b"key"]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit", b"content", b"blob", DIGEST]);
    refused_plain::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id", b"snapshots", b"overlayfs"]);
    refused_bucket::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id", b"labels", b"label"]);
    refused_plain::<Snapshots>(&[b"v1", b"snapshots", b"name"]);
}

#[test]
fn links_that_are_none() {
    for link in [
        &b"{}"[..],
        b"@target",
        b"{}@",
        b"[]@target",
        b"null@target",
        b"{}@two@parts",
        b"{\"Input\":\"0\"}@target",
        b"{\"Input\":9223372036854775808}@target",
        b"{\"Input\":1e3}@target",
        b"{\"Digest\":1}@target",
        b"{\"Digest\":\"\xff\"}@target",
        b"{}@\xff",
        b"{\"Input\":1",
    ] {
        refused_value::<SolverCache>(&[b"_links", b"key", link], b"");
    }
}

#[test]
fn keys_and_results_that_are_none() {
    for key in [&b"a@b"[..], b"\xff"] {
        for bucket in [&b"_links"[..], b"_backlinks", b"_result"] {
            let error = refusal::<SolverCache>(&[bucket, key], Node::Bucket(Tree::default()));
            assert!(matches!(error, DecodeError::Value { .. }), "{error}");
            assert!(error.to_string().ends_with(", which is not a key id"), "{error}");
        }
        refused_value::<SolverCache>(&[b"_backlinks", b"key", key], b"");
        refused_value::<SolverCache>(&[b"_byresult", b"w::r", key], b"");
    }
    let stored = br#"{"CreatedAt":"2026-11-21T20:27:19Z","ID":"w::r"}"#;
    for id in [&b"w"[..], b"w::r::s", b"::r", b"w::r@", b"\xff::r"] {
        refused_value::<SolverCache>(&[b"_result", b"key", id], stored);
    }
    for json in [
        &b""[..],
        b"{}",
        b"null",
        br#"["2026-11-21T20:27:19Z","w::r"]"#,
        br#"{"CreatedAt":0,"ID":"w::r"}"#,
        br#"{"CreatedAt":"yesterday","ID":"w::r"}"#,
        br#"{"CreatedAt":"2026-11-21T20:27:19Z"}"#,
        br#"{"CreatedAt":"2026-11-21T20:27:19Z","ID":"w::r"} trailing"#,
    ] {
        refused_value::<SolverCache>(&[b"_result", b"key", b"w::r"], json);
    }
}

#[test]
fn fields_of_records_of_the_wrong_type() {
    let field = |key: &[u8], json: &[u8]| refused_value::<Records>(&[b"_main", b"id", key], json);
    for json in [
        &b"{"[..],
        b"true",
        b"[]",
        b"{\"value\":tru}",
        b"{\"value\":true}x",
        b"null",
        b"[true]",
        b"\xff",
    ] {
        field(b"snapshot.committed", json);
    }
    field(b"snapshot.committed", br#"{"value":"true"}"#);
    field(b"cache.blobsize", br#"{"value":1.5}"#);
    field(b"cache.blobsize", br#"{"value":9223372036854775808}"#);
    field(b"cache.parent", br#"{"value":""}"#);
    field(b"cache.parent", br#"{"value":"a::b"}"#);
    field(b"cache.mergeParents", br#"{"value":["a","b@c"]}"#);
    field(b"cache.blob", br#"{"value":"sha256:../../etc/passwd"}"#);
    field(b"cache.layer.urls", br#"{"value":"not a list"}"#);
    field(b"cache.description", br#"{"value":"x","index":1}"#);
    field(b"\xff", b"");
    let nested = [b"{\"value\":".as_slice(), &b"[".repeat(100_000)].concat();
    field(b"cache.description", &nested);
    for id in [&b"a::b"[..], b"a@b", b"\xff"] {
        let error = refusal::<Records>(&[b"_main", id], Node::Bucket(Tree::default()));
        assert!(matches!(error, DecodeError::Value { .. }), "{error}");
        assert!(error.to_string().contains(" holds "), "{error}");
    }
}

#[test]
fn an_entry_of_a_record_without_a_value_counts_as_unset() {
    for entry in [&b"{}"[..], b"{\"value\":null}", b""] {
        let tree = at(&[b"_main", b"id", b"snapshot.committed"], value(entry));
        let records = Records::of(&tree).unwrap();
        assert!(records.by_id.values().all(|record| record.committed.is_none()));
        assert_eq!(records.by_id.len(), 1);
    }
}

#[test]
fn times_that_are_none() {
    let long = [&[1; 15][..], &[0]].concat();
    for time in [&b""[..], b"2026-11-21T20:27:19Z", &[2; 15], &[1; 14], &long, &[0xff; 15]] {
        for key in [&b"createdat"[..], b"updatedat"] {
            refused_value::<Metadata>(
                &[b"v1", b"buildkit", b"content", b"blob", DIGEST, key],
                time,
            );
            refused_value::<Metadata>(&[b"v1", b"buildkit", b"snapshots", b"s", b"key", key], time);
        }
        refused_value::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id", b"createdat"], time);
    }
    // The maximum of nanoseconds is 999,999,999.
    let nanoseconds = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0x3b, 0x9a, 0xca, 0x00, 0xff, 0xff];
    refused_value::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id", b"createdat"], &nanoseconds);
}

#[test]
fn varints_that_are_none() {
    for varint in [&b""[..], b"\x80", &[0xff; 10], &[0x80; 11], b"\x02\x00"] {
        refused_value::<Metadata>(&[b"v1", b"version"], varint);
        refused_value::<Metadata>(
            &[b"v1", b"buildkit", b"content", b"blob", DIGEST, b"size"],
            varint,
        );
        refused_value::<Snapshots>(&[b"v1", b"snapshots", b"name", b"id"], varint);
    }
}

#[test]
fn digests_that_are_none() {
    for digest in [&b"sha256:"[..], b"../../etc/passwd", b"sha512:00", b"\xff"] {
        let path = [&b"v1"[..], b"buildkit", b"content", b"blob", digest];
        let error = refusal::<Metadata>(&path, Node::Bucket(Tree::default()));
        assert!(matches!(error, DecodeError::Value { .. }), "{error}");
        assert!(error.to_string().ends_with(", which is not a SHA-256 digest"), "{error}");
        refused_value::<Metadata>(&[b"v1", b"buildkit", b"leases", b"id", b"content", digest], b"");
    }
}

#[test]
fn snapshots_without_what_makes_them_one() {
    let snapshot = |entries: &[(&[u8], &[u8])]| {
        let entries = entries.iter().map(|(key, bytes)| (key.to_vec(), value(bytes))).collect();
        let bucket = Node::Bucket(Tree { sequence: 0, entries });
        Snapshots::of(&at(&[b"v1", b"snapshots", b"name"], bucket))
    };
    assert!(snapshot(&[(b"id", &[1]), (b"kind", &[3])]).is_ok());
    for entries in [
        &[][..],
        &[(&b"id"[..], &[1][..])],
        &[(b"kind", &[3])],
        &[(b"id", &[1]), (b"kind", &[0])],
        &[(b"id", &[1]), (b"kind", &[4])],
        &[(b"id", &[1]), (b"kind", &[3, 0])],
        &[(b"id", &[1]), (b"inodes", &[0x80]), (b"kind", &[3])],
        &[(b"id", &[1]), (b"kind", &[3]), (b"parent", &[0xff])],
        &[(b"id", &[1]), (b"kind", &[3]), (b"size", &[])],
    ] {
        let error = snapshot(entries).unwrap_err();
        assert!(matches!(error, DecodeError::Value { .. }), "{entries:?}: {error}");
        assert!(error.to_string().contains(" holds "), "{error}");
    }
}

#[test]
fn a_refusal_names_the_place_and_shows_little_of_what_is_there() {
    let long = [b"\x00".as_slice(), &b"x".repeat(1000)].concat();
    let error =
        refusal::<Records>(&[b"_main", b"id", b"cache.size\n"], Node::Bucket(Tree::default()));
    assert_eq!(
        error.to_string(),
        r"records/_main/id/cache.size\n is not a value, so the database was not written by a known release"
    );
    let error = refusal::<Records>(&[b"_main", b"id", b"snapshot.size"], value(&long)).to_string();
    assert!(error.starts_with(r"records/_main/id/snapshot.size holds \x00xxx"), "{error}");
    assert!(error.len() < 300, "{error}");
}

/// Replaces some entry of `tree` by `node`, or adds `node` beside it under the name `name`.
fn disturb(tree: &mut Tree, way: &[Index], node: Node, name: Option<Vec<u8>>) {
    let Some((first, rest)) = way.split_first() else { return };
    if tree.entries.is_empty() {
        return;
    }
    let key = first.get(&tree.entries.keys().cloned().collect::<Vec<_>>()).clone();
    match tree.entries.get_mut(&key) {
        Some(Node::Bucket(bucket)) if !rest.is_empty() && !bucket.entries.is_empty() => {
            disturb(bucket, rest, node, name);
        }
        _ => {
            tree.entries.insert(name.unwrap_or(key), node);
        }
    }
}

fn disturbance() -> impl Strategy<Value = (Vec<Index>, Node, Option<Vec<u8>>)> {
    let node = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Node::Value),
        r#"(\{"(value|CreatedAt|index|ID)":["0-9tz:{]{0,5}\}?){1,2}"#
            .prop_map(|json| Node::Value(json.into_bytes())),
        Just(Node::Bucket(Tree::default())),
    ];
    let name = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..12));
    (proptest::collection::vec(any::<Index>(), 1..6), node, name)
}

/// A disturbed file is rejected, or read into a model that survives a round trip.
fn read_or_refused<M: Model>(model: &M, (way, node, name): (Vec<Index>, Node, Option<Vec<u8>>)) {
    let mut tree = Tree::read(&model.db().unwrap().root()).unwrap();
    disturb(&mut tree, &way, node, name);
    if let Ok(model) = M::of(&tree) {
        assert_eq!(model.rewritten(), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_disturbed_cache_db(model in arbitrary::solver(), disturbance in disturbance()) {
        read_or_refused(&model, disturbance);
    }

    #[test]
    fn a_disturbed_metadata_v2_db(model in arbitrary::records(), disturbance in disturbance()) {
        read_or_refused(&model, disturbance);
    }

    #[test]
    fn a_disturbed_containerdmeta_db(model in arbitrary::metadata(), disturbance in disturbance()) {
        read_or_refused(&model, disturbance);
    }

    #[test]
    fn a_disturbed_snapshots_metadata_db(
        model in arbitrary::snapshots(),
        disturbance in disturbance(),
    ) {
        read_or_refused(&model, disturbance);
    }
}

//! Arbitrary models, with anything that their files can contain.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bkstate::bolt::{Node, Tree};
use bkstate::ids::{KeyId, RecordId, ResultId, WorkerId};
use bkstate::metadata::{Content, Lease, Metadata, Namespace, SnapshotRow, SnapshotTable};
use bkstate::records::{Record, Records};
use bkstate::snapshots::{Kind, Snapshot, Snapshots};
use bkstate::solver::{Link, SolverCache};
use bkstate::{Digest, Time};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// Text with characters that JSON escapes, that only Go's JSON escapes, and that need several bytes.
fn text() -> impl Strategy<Value = String> {
    "[a-z<>&\"\\\\/:\u{0}\u{8}\n\u{7f}\u{e9}\u{2028}\u{1f40b}]{0,8}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9:/\u{e9}<]{1,12}"
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]{1,8}|random:[0-9a-f]{4}|[0-9a-z]{25}",
        digest().prop_map(|id| id.to_string())
    ]
}

fn record_id() -> impl Strategy<Value = RecordId> {
    "[a-z0-9]{1,8}|[0-9a-z]{25}".prop_map(|id| RecordId::new(id).unwrap())
}

fn key_id() -> impl Strategy<Value = KeyId> {
    id().prop_map(|id| KeyId::new(id).unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

/// Any time that has a binary form.
fn time() -> impl Strategy<Value = Time> {
    let seconds = -62_135_596_800 + i64::from(i32::MIN)..i64::MAX - 62_135_596_800;
    (seconds, 0_u32..1_000_000_000, -720_i16..720).prop_map(|(seconds, nanoseconds, zone)| {
        let mut bytes = [0; 15];
        bytes[0] = 1;
        bytes[1..9].copy_from_slice(&seconds.wrapping_add(62_135_596_800).to_be_bytes());
        bytes[9..13].copy_from_slice(&nanoseconds.to_be_bytes());
        bytes[13..].copy_from_slice(&zone.to_be_bytes());
        Time::from_go_binary(&bytes).unwrap()
    })
}

/// Any time that has a text, which Go restricts to the years 0 to 9999.
fn calendar_time() -> impl Strategy<Value = Time> {
    (-62_135_596_800_i64..253_402_207_200, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| {
        let whole = Time::from_unix_seconds(seconds).to_string();
        format!("{}.{nanos:09}Z", whole.trim_end_matches('Z')).parse().unwrap()
    })
}

fn link() -> impl Strategy<Value = Link> {
    let digest = prop_oneof![text(), digest().prop_map(|digest| digest.to_string())];
    (any::<i64>(), -1_i64..3, digest, text()).prop_map(|(input, output, digest, selector)| Link {
        input,
        output,
        digest: digest.into(),
        selector,
    })
}

fn result_id() -> impl Strategy<Value = ResultId> {
    (id(), option::of(record_id())).prop_map(|(worker, record)| {
        let worker = worker.replace(':', "");
        ResultId { worker: WorkerId::new(worker).unwrap(), record }
    })
}

fn few<T, F: FromIterator<T> + Debug>(items: impl Strategy<Value = T>) -> impl Strategy<Value = F> {
    vec(items, 0..4).prop_map(F::from_iter)
}

pub(super) fn solver() -> impl Strategy<Value = SolverCache> {
    (
        btree_map(key_id(), few((link(), key_id())), 0..6),
        btree_map(key_id(), few(key_id()), 0..6),
        btree_map(key_id(), few((result_id(), calendar_time())), 0..6),
        btree_map(result_id(), few(key_id()), 0..6),
    )
        .prop_map(|(links, backlinks, results, by_result)| SolverCache {
            links,
            backlinks,
            results,
            by_result,
        })
}

fn record() -> impl Strategy<Value = Record> {
    let ids = (
        option::of(record_id()),
        option::of(vec(record_id(), 0..3)),
        option::of(record_id()),
        option::of(record_id()),
        option::of(record_id()),
    );
    let digests = [(); 5].map(|()| option::of(digest()));
    let texts = [(); 7].map(|()| option::of(text()));
    let lists = [(); 2].map(|()| option::of(vec(text(), 0..3)));
    let numbers = [(); 6].map(|()| option::of(any::<i64>()));
    let flags = [(); 3].map(|()| option::of(any::<bool>()));
    let other = btree_map("x\\.[a-z]{1,6}", vec(any::<u8>(), 0..8), 0..3);
    (ids, digests, texts, lists, numbers, flags, other).prop_map(
        |(ids, digests, texts, lists, numbers, flags, other)| {
            let (parent, merge_parents, lower_diff_parent, upper_diff_parent, equal_mutable) = ids;
            let [blob, diff_id, layer_identity, chain_id, blob_chain_id] = digests;
            let [snapshot, media_type, layer_type, record_type, description, cache_dir, shared_key] =
                texts;
            let [urls, image_refs] = lists;
            let [blob_size, created_at, last_used_at, usage_count, cache_policy, size] = numbers;
            let [committed, blob_only, deleted] = flags;
            Record {
                committed,
                parent,
                merge_parents,
                lower_diff_parent,
                upper_diff_parent,
                snapshot,
                blob,
                diff_id,
                layer_identity,
                chain_id,
                blob_chain_id,
                media_type,
                blob_size,
                blob_only,
                urls,
                image_refs,
                layer_type,
                record_type,
                created_at,
                last_used_at,
                usage_count,
                cache_policy,
                description,
                size,
                equal_mutable,
                deleted,
                cache_dir,
                shared_key,
                other,
            }
        },
    )
}

pub(super) fn records() -> impl Strategy<Value = Records> {
    let external = btree_map(name(), vec(any::<u8>(), 0..2000), 0..3);
    (btree_map(record_id(), record(), 0..6), btree_map(record_id(), external, 0..3))
        .prop_map(|(by_id, external)| Records { by_id, external })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(name(), text(), 0..3)
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = vec(any::<u8>(), 0..8).prop_map(Node::Value);
    leaf.prop_recursive(3, 8, 3, |inner| {
        (any::<u64>(), btree_map(vec(any::<u8>(), 1..6), inner, 0..3))
            .prop_map(|(sequence, entries)| Node::Bucket(Tree { sequence, entries }))
    })
}

fn others() -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    // Before, between and after the names that the models know.
    btree_map("[a-z]{1,3}".prop_map(String::into_bytes), node(), 0..4)
}

fn content() -> impl Strategy<Value = Content> {
    (option::of(time()), option::of(time()), any::<i64>(), labels()).prop_map(
        |(created_at, updated_at, size, labels)| Content { created_at, updated_at, size, labels },
    )
}

fn row() -> impl Strategy<Value = SnapshotRow> {
    let times = (option::of(time()), option::of(time()));
    (text(), times, option::of(name()), btree_set(name(), 0..3), labels()).prop_map(
        |(name, (created_at, updated_at), parent, children, labels)| SnapshotRow {
            name,
            created_at,
            updated_at,
            parent,
            children,
            labels,
        },
    )
}

fn table() -> impl Strategy<Value = SnapshotTable> {
    (any::<u64>(), btree_map(name(), row(), 0..4))
        .prop_map(|(sequence, rows)| SnapshotTable { sequence, rows })
}

fn lease() -> impl Strategy<Value = Lease> {
    let snapshots = btree_map(name(), btree_set(name(), 0..3), 0..3);
    (option::of(time()), labels(), btree_set(digest(), 0..3), snapshots, others()).prop_map(
        |(created_at, labels, content, snapshots, other)| Lease {
            created_at,
            labels,
            content,
            snapshots,
            other,
        },
    )
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let tree = || option::of(others().prop_map(|entries| Tree { sequence: 0, entries }));
    (
        btree_map(digest(), content(), 0..3),
        tree(),
        btree_map(name(), table(), 0..3),
        btree_map(name(), lease(), 0..3),
        tree(),
        others(),
    )
        .prop_map(|(content, ingests, snapshots, leases, images, other)| Namespace {
            content,
            ingests,
            snapshots,
            leases,
            images,
            other,
        })
}

pub(super) fn metadata() -> impl Strategy<Value = Metadata> {
    let others = btree_map("[a-z_]{1,10}", others(), 0..4);
    (any::<i64>(), btree_map("buildkit(_history)?", namespace(), 0..2), others).prop_map(
        |(version, namespaces, others)| {
            let others = others.into_iter().filter(|(name, _)| name != "version");
            let others = others.map(|(name, entries)| (name, Tree { sequence: 0, entries }));
            Metadata { version, namespaces, others: others.collect() }
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let kind = prop_oneof![Just(Kind::View), Just(Kind::Active), Just(Kind::Committed)];
    let times = (option::of(time()), option::of(time()));
    let sizes = (option::of(any::<i64>()), option::of(any::<i64>()));
    (any::<u64>(), kind, option::of(name()), times, sizes, labels()).prop_map(
        |(id, kind, parent, (created_at, updated_at), (inodes, size), labels)| Snapshot {
            id,
            kind,
            parent,
            created_at,
            updated_at,
            inodes,
            size,
            labels,
        },
    )
}

pub(super) fn snapshots() -> impl Strategy<Value = Snapshots> {
    (any::<u64>(), btree_map(name(), snapshot(), 0..8))
        .prop_map(|(sequence, by_name)| Snapshots { sequence, by_name })
}

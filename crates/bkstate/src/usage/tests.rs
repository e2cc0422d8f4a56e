//! What a daemon would list for small states. The end-to-end suite compares whole ones with real daemons.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;

use super::*;
use crate::digest::Digest;
use crate::dir::Dir;
use crate::ids::WorkerId;
use crate::metadata::{Content, Namespace, SnapshotRow, SnapshotTable};
use crate::snapshots::Trees;
use crate::snapshots::{Kind, Snapshot};
use crate::worker::Worker;

/// The measured size of every writable tree.
const TREE: i64 = 40_960;
/// The size of every committed snapshot.
const SNAPSHOT: i64 = 4096;

fn id(name: &str) -> RecordId {
    RecordId::new(name).unwrap()
}

fn layer(parent: Option<&str>) -> Record {
    Record { committed: Some(true), parent: parent.map(id), ..Record::default() }
}

fn table(state: &mut State) -> &mut SnapshotTable {
    state.worker.table_entry(state.worker.namespace_entry(&mut state.metadata))
}

fn namespace(state: &mut State) -> &mut Namespace {
    state.worker.namespace_entry(&mut state.metadata)
}

fn add_snapshot(state: &mut State, key: &str, kind: Kind) {
    let number = state.snapshots.by_name.len() as u64 + 1;
    let name = state.worker.snapshot_name(number, key);
    let row = SnapshotRow { name: name.clone(), ..SnapshotRow::default() };
    table(state).rows.insert(key.to_owned(), row);
    let snapshot = Snapshot {
        id: number,
        kind,
        parent: None,
        created_at: None,
        updated_at: None,
        inodes: None,
        size: (kind == Kind::Committed).then_some(SNAPSHOT),
        labels: BTreeMap::new(),
    };
    state.snapshots.by_name.insert(name, snapshot);
}

/// A state with `records`, each with a snapshot of the same name.
fn state<'r>(records: impl IntoIterator<Item = (&'r str, Record)>) -> State {
    let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
    for (name, record) in records {
        let kind = if record.is_mutable() { Kind::Active } else { Kind::Committed };
        if record.equal_mutable.is_none() {
            add_snapshot(&mut state, name, kind);
        }
        state.records.by_id.insert(id(name), record);
    }
    state
}

fn usage(state: &State) -> Vec<Usage> {
    let Ok(usages) = state.usage_with(|_| Ok::<_, Infallible>(TREE));
    usages
}

/// Names, sizes, and whether they are in use.
fn listed(state: &State) -> Vec<(String, i64, bool)> {
    let usages = usage(state).into_iter();
    usages.map(|usage| (usage.id.to_string(), usage.size, usage.in_use)).collect()
}

fn row(name: &str, size: i64) -> (String, i64, bool) {
    (name.to_owned(), size, false)
}

#[test]
fn of_two_records_with_the_same_data_one_is_listed() {
    let twin = Record { equal_mutable: Some(id("local")), ..layer(None) };
    let unused = state([("local", Record::default()), ("files", twin.clone())]);
    assert_eq!(listed(&unused), [row("local", TREE)]);
    let measured = Record { size: Some(7), ..twin.clone() };
    let unused = state([("local", Record::default()), ("files", measured)]);
    assert_eq!(listed(&unused), [row("local", 7)]);
    // Once something builds on the immutable one, that one is listed.
    let based = [("local", Record::default()), ("files", twin), ("top", layer(Some("files")))];
    assert_eq!(listed(&state(based)), [row("top", SNAPSHOT), row("files", TREE)]);
}

#[test]
fn a_twin_without_its_mutable_record_needs_a_snapshot_of_its_own() {
    let twin = Record { equal_mutable: Some(id("gone")), ..layer(None) };
    let mut state = state([("files", twin)]);
    assert_eq!(listed(&state), []);
    add_snapshot(&mut state, "files", Kind::Committed);
    assert_eq!(listed(&state), [row("files", SNAPSHOT)]);
}

#[test]
fn what_a_starting_daemon_drops_is_not_listed() {
    let removed = Record { deleted: Some(true), ..layer(None) };
    let circle = |next| Record { merge_parents: Some(vec![id(next)]), ..layer(None) };
    let mut state = state([
        ("base", layer(None)),
        ("circle1", circle("circle2")),
        ("circle2", circle("circle1")),
        ("mount", Record::default()),
        ("on-circle", layer(Some("circle1"))),
        ("on-nothing", layer(Some("nothing"))),
        ("on-removed", layer(Some("removed"))),
        ("removed", removed),
    ]);
    assert_eq!(listed(&state), [row("base", SNAPSHOT), row("mount", TREE)]);
    namespace(&mut state).snapshots.clear();
    assert_eq!(listed(&state), [row("base", 0)]);
}

#[test]
fn a_layer_that_has_to_be_downloaded_is_listed_and_what_builds_on_it_is_not() {
    let blob = Digest::of("blob");
    let lazy = Record { blob_only: Some(true), blob: Some(blob), ..layer(None) };
    let mut state = state([("lazy", lazy), ("top", layer(Some("lazy")))]);
    assert_eq!(listed(&state), [row("lazy", 0)]);
    namespace(&mut state).content.insert(blob, Content { size: 50, ..Content::default() });
    assert_eq!(listed(&state), [row("lazy", 50), row("top", SNAPSHOT)]);
}

#[test]
fn blobs_count_with_the_same_layer_in_other_compressions() {
    let [gzip, zstd, unknown] = ["gzip", "zstd", "unknown"].map(Digest::of);
    let record = Record { blob: Some(gzip), size: Some(-1), ..layer(None) };
    let mut state = state([("layer", record)]);
    let variant = |of: Digest| (format!("containerd.io/gc.ref.content.blob-{of}"), of.to_string());
    let labels = |of: &[Digest], typed: bool| -> BTreeMap<String, String> {
        let media_type = ("buildkit.io/blob/mediatype".to_owned(), "a type".to_owned());
        of.iter().map(|of| variant(*of)).chain(typed.then_some(media_type)).collect()
    };
    let content = |size, labels| Content { size, labels, ..Content::default() };
    namespace(&mut state).content = BTreeMap::from([
        (gzip, content(100, labels(&[zstd, unknown], true))),
        (zstd, content(20, labels(&[gzip], true))),
        (unknown, content(3, labels(&[], false))),
    ]);
    assert_eq!(listed(&state), [row("layer", SNAPSHOT + 120)]);
}

#[test]
fn the_label_of_a_merged_snapshot_counts_in_place_of_its_size() {
    let merged = Record { merge_parents: Some(vec![id("base")]), ..layer(None) };
    let mut state = state([("base", layer(None)), ("merged", merged)]);
    let table = self::table(&mut state);
    let labels = &mut table.rows.get_mut("merged").unwrap().labels;
    labels.insert("buildkit.mergeUsageSize".to_owned(), "12".to_owned());
    assert_eq!(listed(&state), [row("merged", 12), row("base", SNAPSHOT)]);
    assert_eq!(usage(&state)[0].parents, [id("base")]);
}

#[test]
fn fields_that_are_not_set_are_what_the_daemon_takes_them_for() {
    let plain = usage(&state([("plain", layer(None))])).remove(0);
    assert_eq!((plain.usage_count, plain.last_used_at, plain.created_at), (0, None, None));
    assert_eq!((&*plain.record_type, plain.mutable, plain.shared), ("regular", false, false));
    let only_time = Record { last_used_at: Some(5), ..layer(None) };
    assert_eq!(usage(&state([("time", only_time.clone())]))[0].last_used_at, None);
    let both = Record { usage_count: Some(2), ..only_time };
    let both = usage(&state([("both", both)])).remove(0);
    assert_eq!((both.usage_count, both.last_used_at), (2, Some(Time::from_unix_nanos(5))));
}

#[test]
fn a_chain_as_long_as_a_hostile_file_makes_it_is_followed() {
    let names: Vec<_> = (0..20_000).map(|number| format!("layer{number}")).collect();
    let below = [None].into_iter().chain(names.iter().map(|name| Some(&**name)));
    let records = names.iter().zip(below).map(|(name, below)| (&**name, layer(below)));
    let state = state(records);
    assert!(usage(&state).iter().all(|usage| !usage.in_use && usage.size == SNAPSHOT));
    assert_eq!(state.collected_bytes(None), 20_000 * SNAPSHOT as u64);
}

#[test]
fn a_tree_is_measured_by_its_blocks_each_inode_once_and_through_no_link() {
    let temp = tempfile::tempdir().unwrap();
    let trees = Trees::create(&Dir::open(temp.path()).unwrap(), Worker::default().form()).unwrap();
    trees.create_snapshot(3).unwrap();
    let fs_dir = temp.path().join("snapshots/3/fs");
    let empty = tree::measure(std::slice::from_ref(&trees), 3).unwrap();
    fs::create_dir_all(fs_dir.join("deep/er")).unwrap();
    let directories = tree::measure(std::slice::from_ref(&trees), 3).unwrap();
    let file = fs_dir.join("deep/er/file");
    fs::write(&file, vec![1; 100_000]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    fs::hard_link(&file, fs_dir.join("again")).unwrap();
    std::os::unix::fs::symlink("/usr", fs_dir.join("usr")).unwrap();
    let sparse = fs::File::create(fs_dir.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let all = tree::measure(&[trees], 3).unwrap();
    let file = all - directories;
    assert!((0..=3 * 4096).contains(&empty), "{empty}");
    assert!((100_000..100_000 + 4 * 4096).contains(&file), "{file}");
    let error = tree::measure(&[], 3).unwrap_err();
    assert!(matches!(error, UsageError::Tree { id: 3, .. }), "{error}");
    assert_eq!(error.to_string(), "cannot measure the files of the snapshot 3");
}

fn matching(filters: &[&str], usages: &[Usage]) -> Vec<String> {
    let filters = Filters::new(filters.iter().map(|filter| filter.parse().unwrap()));
    let matching = usages.iter().filter(|usage| filters.matches(usage));
    matching.map(|usage| usage.id.to_string()).collect()
}

#[test]
fn filters_are_those_of_buildctl_and_of_buildx() {
    let mount = Record {
        record_type: Some("exec.cachemount".to_owned()),
        description: Some("mount /c, \"a b\"".to_owned()),
        ..Record::default()
    };
    let usages =
        usage(&state([("base", layer(None)), ("mount", mount), ("top", layer(Some("base")))]));
    for (filters, expected) in [
        (&[][..], "base top mount"),
        (&[""], "base top mount"),
        (&["mutable"], "mount"),
        (&["immutable"], "base top"),
        (&["private,immutable"], "base top"),
        (&["inuse"], ""),
        (&["shared"], ""),
        (&["parents"], "top"),
        (&["id==top"], "top"),
        (&["id == top , parents == base"], "top"),
        (&["id!=top"], "base mount"),
        (&["parents!=base"], "base mount"),
        (&["id~=^.o"], "top mount"),
        (&["id~=/o(p|u)/"], "top mount"),
        (&["id~=|o(p\\|u)|"], "top mount"),
        (&["description==\"mount /c, \\\"a b\\x22\""], "mount"),
        (&["type==regular,id==top", "mutable"], "top mount"),
        (&["type=regular"], "base top"),
        // buildx combines several.
        (&["type=regular", "id=o"], "top"),
        (&["id=^b"], "base"),
    ] {
        let expected: Vec<_> = expected.split_whitespace().collect();
        assert_eq!(matching(filters, &usages), expected, "{filters:?}");
    }
}

#[test]
fn what_is_no_filter_is_refused() {
    const ESCAPES: &str = "one of the characters abfnrtvxuU\\, an octal number or the quote";
    for (text, expected, rest) in [
        (",", "the name of a field", ","),
        ("id==", "a value", ""),
        ("id===x", "one of the operators ==, != and ~=", "x"),
        ("id=!x", "one of the operators ==, != and ~=", "x"),
        ("=x", "the name of a field", "=x"),
        ("id==a b", "a comma", "b"),
        ("id==\"a", "the quote at the end", ""),
        ("id==\"\\q\"", ESCAPES, "\""),
        ("id==\"\\xff\"", ESCAPES, "\""),
        ("id==\"\\u12\"", ESCAPES, "12\""),
        ("id==a,", "the name of a field", ""),
        ("id.x", "a comma", ".x"),
        ("é", "the name of a field", "é"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert!(matches!(error, ParseFilterError::Expected { .. }), "{text}: {error}");
        let message = format!("{text:?} lacks {expected} before {rest:?}");
        assert_eq!(error.to_string(), message);
    }
    for text in ["until=24h", "size==1", "ID==x"] {
        let error = text.parse::<Filter>().unwrap_err();
        assert!(matches!(error, ParseFilterError::Field { .. }), "{text}: {error}");
        assert!(
            error.to_string().ends_with(
                "\" is not a field of a record; there are id, parents, description, \
                 type, and without a value inuse, mutable, immutable, shared and private"
            ),
            "{error}"
        );
    }
    for (text, field) in [("mutable==true", "mutable"), ("shared=false", "shared")] {
        let error = text.parse::<Filter>().unwrap_err();
        assert!(matches!(error, ParseFilterError::NoValue { .. }), "{text}: {error}");
        assert_eq!(error.to_string(), format!("{field} has no value; write {field} alone"));
    }
    let error = "id~=(".parse::<Filter>().unwrap_err();
    assert!(matches!(error, ParseFilterError::Regex { .. }), "{error}");
    assert_eq!(error.to_string(), "\"(\" is not a regular expression");
}

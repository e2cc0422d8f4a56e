mod existing;
mod mend;
mod read;
mod staging;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::dir::Dir;
use crate::ids::{KeyId, RecordId, ResultId};
use crate::metadata::{
    Content, LABEL_GC_FLAT, LABEL_TEMPORARY, Lease, Namespace, SnapshotRow, SnapshotTable,
};
use crate::records::{POLICY_RETAIN, Record};
use crate::snapshots::{Kind, Snapshot};
use crate::solver::Link;
use crate::time::Time;

const NOW: Time = Time::from_unix_seconds(1_795_299_875);

const NAMESPACE: &str = "buildkit";
const SNAPSHOTTER: &str = "overlayfs";
const WORKER: &str = "runc-overlayfs";
const WORKER_ID: &str = "workerid";
const CACHE_DB: &str = "cache.db";
const RECORDS_DB: &str = "metadata_v2.db";
const METADATA_DB: &str = "containerdmeta.db";

/// A root in a temporary directory, under its lock.
pub(super) struct Root {
    temp: TempDir,
    pub(super) held: crate::Root,
}

impl Root {
    fn empty() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let held = crate::Root::open_to_write(temp.path()).unwrap();
        Self { temp, held }
    }

    /// A root with `state`, and its blobs and directories.
    pub(super) fn with(state: &State) -> Self {
        let root = Self::empty();
        let nothing = nothing();
        let staging = Staging::begin(&root.held, &nothing).unwrap();
        fill(&staging, state);
        let written = staging.write(state).unwrap();
        staging.publish(written).unwrap();
        root
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    fn worker(&self, name: &str) -> PathBuf {
        self.path().join(WORKER).join(name)
    }

    fn blob(&self, blob: &Digest) -> PathBuf {
        self.worker("content/blobs/sha256").join(blob.hex())
    }

    pub(super) fn snapshot(&self, id: u64) -> PathBuf {
        self.worker("snapshots/snapshots").join(id.to_string())
    }

    fn names(&self) -> Vec<String> {
        names(self.path())
    }
}

/// The content of an empty root.
fn nothing() -> Existing {
    Existing::nothing(Worker::default(), WorkerId::derive("worker"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fill(staging: &Staging<'_>, state: &State) {
    for (digest, content) in &namespace(state).content {
        let bytes = vec![b'x'; usize::try_from(content.size).unwrap()];
        staging.blobs().create_blob(digest).unwrap().write_all(&bytes).unwrap();
    }
    for snapshot in state.snapshots.by_name.values() {
        staging.trees().create_snapshot(snapshot.id).unwrap();
    }
}

fn namespace(state: &State) -> &Namespace {
    &state.metadata.namespaces[NAMESPACE]
}

fn namespace_mut(state: &mut State) -> &mut Namespace {
    state.metadata.namespaces.get_mut(NAMESPACE).unwrap()
}

pub(super) fn table_mut(state: &mut State) -> &mut SnapshotTable {
    namespace_mut(state).snapshots.get_mut(SNAPSHOTTER).unwrap()
}

fn record_mut<'s>(state: &'s mut State, name: &str) -> &'s mut Record {
    state.records.by_id.get_mut(&id(name)).unwrap()
}

fn snapshot_mut<'s>(state: &'s mut State, key: &str) -> &'s mut Snapshot {
    let name = namespace(state).snapshots[SNAPSHOTTER].rows[key].name.clone();
    state.snapshots.by_name.get_mut(&name).unwrap()
}

pub(super) fn id(name: &str) -> RecordId {
    RecordId::derive(name)
}

fn key(name: &str) -> KeyId {
    KeyId::new(name).unwrap()
}

fn result(state: &State, name: &str) -> ResultId {
    ResultId { worker: state.worker_id.clone(), record: Some(id(name)) }
}

fn blob(name: &str) -> Digest {
    Digest::of(format!("blob of {name}"))
}

/// The link from `root` to `top` in [`sound`].
fn link() -> Link {
    Link { digest: Digest::of("op").into(), ..Link::default() }
}

impl State {
    fn without_anything() -> Self {
        let namespace = Namespace {
            snapshots: BTreeMap::from([(SNAPSHOTTER.to_owned(), SnapshotTable::default())]),
            ..Namespace::default()
        };
        let namespaces = BTreeMap::from([(NAMESPACE.to_owned(), namespace)]);
        Self {
            worker: Worker::default(),
            worker_id: WorkerId::derive("worker"),
            solver: SolverCache::default(),
            records: Records::default(),
            metadata: Metadata { namespaces, ..Metadata::default() },
            snapshots: Snapshots::default(),
        }
    }

    /// Adds a record with a lease for its snapshot `key`.
    fn add_record(&mut self, name: &str, key: &str, record: Record) {
        let lease = Lease {
            created_at: Some(NOW),
            labels: BTreeMap::from([(LABEL_GC_FLAT.to_owned(), NOW.to_string())]),
            content: record.blob.into_iter().collect(),
            snapshots: BTreeMap::from([(SNAPSHOTTER.to_owned(), [key.to_owned()].into())]),
            other: BTreeMap::new(),
        };
        namespace_mut(self).leases.insert(id(name).to_string(), lease);
        let record = Record { snapshot: Some(key.to_owned()), ..record };
        self.records.by_id.insert(id(name), record);
    }

    /// Adds a layer record with its blob.
    fn add_layer(&mut self, name: &str, parent: Option<&str>, blob_only: bool) {
        let size = name.len() as i64;
        let content = Content { created_at: Some(NOW), size, ..Content::default() };
        namespace_mut(self).content.insert(blob(name), content);
        let on = |below: Option<Digest>, digest: Digest| match below {
            Some(below) => Digest::of(format!("{below} {digest}")),
            None => digest,
        };
        let diff_id = Digest::of(name);
        let below = parent.map(|parent| &self.records.by_id[&id(parent)]);
        let chain_id = on(below.and_then(|below| below.chain_id), diff_id);
        let pair = on(Some(blob(name)), diff_id);
        let blob_chain_id = on(below.and_then(|below| below.blob_chain_id), pair);
        let record = Record {
            committed: Some(true),
            parent: parent.map(id),
            blob: Some(blob(name)),
            diff_id: Some(diff_id),
            chain_id: Some(chain_id),
            blob_chain_id: Some(blob_chain_id),
            media_type: Some("application/vnd.oci.image.layer.v1.tar".to_owned()),
            blob_size: Some(size),
            blob_only: blob_only.then_some(true),
            created_at: NOW.unix_nanos(),
            cache_policy: Some(POLICY_RETAIN),
            size: Some(-1),
            ..Record::default()
        };
        self.add_record(name, name, record);
    }

    /// Adds a snapshot to both databases.
    fn add_snapshot(&mut self, key: &str, kind: Kind, parent: Option<&str>) {
        let number = self.snapshots.sequence + 1;
        self.snapshots.sequence = number;
        let table = table_mut(self);
        table.sequence = number;
        let parent_name = parent.map(|parent| {
            let row = table.rows.get_mut(parent).unwrap();
            row.children.insert(key.to_owned());
            row.name.clone()
        });
        let name = format!("{NAMESPACE}/{number}/{key}");
        let row = SnapshotRow {
            name: name.clone(),
            created_at: Some(NOW),
            updated_at: Some(NOW),
            parent: parent.map(str::to_owned),
            children: BTreeSet::new(),
            labels: BTreeMap::new(),
        };
        table.rows.insert(key.to_owned(), row);
        let committed = kind == Kind::Committed;
        let snapshot = Snapshot {
            id: number,
            kind,
            parent: parent_name,
            created_at: Some(NOW),
            updated_at: Some(NOW),
            inodes: committed.then_some(1),
            size: committed.then_some(4096),
            labels: BTreeMap::new(),
        };
        self.snapshots.by_name.insert(name, snapshot);
    }
}

/// A state with one of everything sound that a daemon leaves behind:
///
/// | record | |
/// |---|---|
/// | `base`, `top` | layers with blobs and snapshots, `top` on `base`, of a key `top` that `root` links to |
/// | `packed` | a layer on `top` that is not unpacked |
/// | `merged` | merges `base` and `top`, never mounted |
/// | `mount` | a cache mount on `base` |
/// | `local`, `files` | a local source and its immutable twin, under the key of one session |
/// | `remote` | a layer of an image whose files were never needed |
/// | `removed` | was being removed when the daemon was stopped |
///
/// and a view of `top` with its own lease.
pub(super) fn sound() -> State {
    let mut state = State::without_anything();
    state.add_layer("base", None, false);
    state.add_layer("top", Some("base"), false);
    state.add_layer("packed", Some("top"), true);
    state.add_snapshot("base", Kind::Committed, None);
    state.add_snapshot("top", Kind::Committed, Some("base"));
    state.add_snapshot("a view", Kind::View, Some("top"));
    let view = Lease {
        snapshots: BTreeMap::from([(SNAPSHOTTER.to_owned(), ["a view".to_owned()].into())]),
        ..Lease::default()
    };
    namespace_mut(&mut state).leases.insert(format!("{}-view", id("top")), view);

    let committed = Record { committed: Some(true), ..Record::default() };
    let merged = Record { merge_parents: Some(vec![id("base"), id("top")]), ..committed.clone() };
    state.add_record("merged", id("merged").as_str(), merged);
    let mount = Record {
        parent: Some(id("base")),
        cache_dir: Some("//cache".to_owned()),
        record_type: Some("exec.cachemount".to_owned()),
        ..Record::default()
    };
    state.add_record("mount", id("mount").as_str(), mount);
    state.add_snapshot(id("mount").as_str(), Kind::Active, Some("base"));
    state.add_record("local", id("local").as_str(), Record::default());
    state.add_snapshot(id("local").as_str(), Kind::Active, None);
    let files = Record { equal_mutable: Some(id("local")), ..committed.clone() };
    state.records.by_id.insert(id("files"), files);
    state.add_layer("remote", None, true);
    namespace_mut(&mut state).content.remove(&blob("remote"));
    let removed = Record { deleted: Some(true), parent: Some(id("gone")), ..committed };
    state.records.by_id.insert(id("removed"), removed);

    let solver = &mut state.solver;
    solver.add_key(&key("root"));
    solver.add_key(&key("top"));
    solver.add_link(&key("root"), link(), &key("top"));
    solver.add_key(&key("random:0"));
    for (name, record) in [("top", "top"), ("top", "packed"), ("random:0", "forgotten")] {
        let result = result(&state, record);
        state.solver.add_result(&key(name), result, NOW);
    }
    let scratch = ResultId { worker: state.worker_id.clone(), record: None };
    state.solver.add_result(&key("root"), scratch, NOW);
    state
}

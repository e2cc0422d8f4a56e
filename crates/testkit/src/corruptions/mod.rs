//! Ways to corrupt a converted root, one for each field of every database and each kind of file, with their
//! outcome: `oci2bk verify` finds it, or no daemon is affected.

mod files;
mod metadata;
mod records;
mod snapshots;
mod solver;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;
use bkstate::bolt::{self, Db, Node, Tree};
use bkstate::ids::{KeyId, RecordId, ResultId};
use bkstate::metadata::{Namespace, SnapshotTable};
use bkstate::records::Record;
use bkstate::snapshots::Snapshot;
use bkstate::state::State;

/// The database with the records, in a root.
const RECORDS: &str = "runc-overlayfs/metadata_v2.db";
/// The database with content, snapshots and leases.
const METADATA: &str = "runc-overlayfs/containerdmeta.db";
/// The database of the snapshotter.
const SNAPSHOTS: &str = "runc-overlayfs/snapshots/metadata.db";
/// The database of the solver.
const SOLVER: &str = "cache.db";

/// A way to corrupt a root.
pub struct Corruption {
    /// A description of the change.
    pub name: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    change: Change,
}

/// The outcome of a corruption of a root that no daemon has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `verify` finds damage of this kind.
    Found(&'static str),
    /// `verify --trees` finds damage of this kind.
    InTrees(&'static str),
    /// `verify --against` finds damage of this kind.
    Against(&'static str),
    /// `verify` notes it.
    Noted(&'static str),
    /// It looks as if a daemon had collected the step: it runs again, and `verify --against` counts it.
    Counted,
    /// A daemon has the same steps cached and the same files, but exports the corrupted data of a layer or a
    /// result.
    Exported(&'static str),
    /// A daemon has the same steps cached, the same files and the same export, and does not complain. The
    /// text is the reason.
    Harmless(&'static str),
}

enum Change {
    /// Changes the content of the databases as models.
    Model(fn(&mut Model) -> Result<()>),
    /// Changes the entries of a database.
    Entries(&'static str, fn(&mut Tree, &Model) -> Result<()>),
    /// Changes files.
    Files(fn(&Path, &Model) -> Result<()>),
}

const fn model(
    name: &'static str,
    outcome: Outcome,
    change: fn(&mut Model) -> Result<()>,
) -> Corruption {
    Corruption { name, outcome, change: Change::Model(change) }
}

const fn entries(
    name: &'static str,
    outcome: Outcome,
    database: &'static str,
    change: fn(&mut Tree, &Model) -> Result<()>,
) -> Corruption {
    Corruption { name, outcome, change: Change::Entries(database, change) }
}

const fn files(
    name: &'static str,
    outcome: Outcome,
    change: fn(&Path, &Model) -> Result<()>,
) -> Corruption {
    Corruption { name, outcome, change: Change::Files(change) }
}

/// Returns all corruptions.
pub fn all() -> impl Iterator<Item = &'static Corruption> {
    [solver::ALL, records::ALL, metadata::ALL, snapshots::ALL, files::ALL].into_iter().flatten()
}

impl Corruption {
    /// Corrupts `root`, which must have an unpacked chain of four layers, with a result for the topmost.
    ///
    /// # Errors
    /// Returns an error if the root is not like that, or cannot be written.
    pub fn apply(&self, root: &Path) -> Result<()> {
        let mut model = Model::read(root)?;
        match self.change {
            Change::Model(change) => {
                change(&mut model)?;
                model.write(root)
            }
            Change::Entries(database, change) => {
                let path = root.join(database);
                let mut tree = Tree::read(&Db::open(File::open(&path)?)?.root())?;
                change(&mut tree, &model)?;
                rewrite(&path, |file| bolt::write(file, |root| tree.write(root)))
            }
            Change::Files(change) => change(root, &model),
        }
        .with_context(|| self.name)
    }
}

/// The content of a root, and a chain of layers in it.
struct Model {
    state: State,
    /// Four records, each on top of the previous one; the last has a key.
    layers: [RecordId; 4],
}

impl Model {
    fn read(root: &Path) -> Result<Self> {
        let state = Root::open(root)?.state()?;
        let below = |id: &RecordId| state.records.by_id.get(id)?.parent.clone();
        let chain = |id: &RecordId| -> Vec<RecordId> {
            std::iter::successors(Some(id.clone()), &below).take(100).collect()
        };
        let results = state.solver.by_result.keys().filter_map(|result| result.record.as_ref());
        let chains = results.map(chain).filter(|chain| chain.len() >= 4);
        let mut chain = chains.max_by_key(Vec::len).context("no chain of four layers")?;
        chain.truncate(4);
        chain.reverse();
        let layers = <[_; 4]>::try_from(chain).ok().context("four layers")?;
        Ok(Self { state, layers })
    }

    fn write(&self, root: &Path) -> Result<()> {
        let State { solver, records, metadata, snapshots, .. } = &self.state;
        rewrite(&root.join(SOLVER), |file| solver.write(file))?;
        rewrite(&root.join(RECORDS), |file| records.write(file))?;
        rewrite(&root.join(METADATA), |file| metadata.write(file))?;
        rewrite(&root.join(SNAPSHOTS), |file| snapshots.write(file))
    }

    fn top(&self) -> &RecordId {
        &self.layers[3]
    }

    /// Returns the record below the topmost.
    fn middle(&self) -> &RecordId {
        &self.layers[2]
    }

    fn record(&self, id: &RecordId) -> Result<&Record> {
        self.state.records.by_id.get(id).context("no record")
    }

    fn record_mut(&mut self, id: &RecordId) -> Result<&mut Record> {
        self.state.records.by_id.get_mut(id).context("no record")
    }

    fn top_mut(&mut self) -> Result<&mut Record> {
        let top = self.top().clone();
        self.record_mut(&top)
    }

    fn key_of(&self, id: &RecordId) -> Result<String> {
        Ok(self.record(id)?.snapshot_key(id).to_owned())
    }

    fn namespace(&mut self) -> Result<&mut Namespace> {
        let State { worker, metadata, .. } = &mut self.state;
        worker.namespace_of_mut(metadata).context("no namespace")
    }

    fn table(&mut self) -> Result<&mut SnapshotTable> {
        let State { worker, metadata, .. } = &mut self.state;
        let namespace = worker.namespace_of_mut(metadata).context("no namespace")?;
        worker.table_of_mut(namespace).context("no snapshots")
    }

    fn snapshot_name(&self, id: &RecordId) -> Result<String> {
        let State { worker, metadata, .. } = &self.state;
        let namespace = worker.namespace_of(metadata).context("no namespace")?;
        let table = worker.table_of(namespace).context("no snapshots")?;
        Ok(table.rows.get(&self.key_of(id)?).context("no row")?.name.clone())
    }

    fn snapshot(&mut self, id: &RecordId) -> Result<&mut Snapshot> {
        let name = self.snapshot_name(id)?;
        self.state.snapshots.by_name.get_mut(&name).context("no snapshot")
    }

    /// Returns the directory of a record's snapshot.
    fn directory(&self, root: &Path, id: &RecordId) -> Result<PathBuf> {
        let name = self.snapshot_name(id)?;
        let snapshot = self.state.snapshots.by_name.get(&name).context("no snapshot")?;
        Ok(root.join("runc-overlayfs/snapshots/snapshots").join(snapshot.id.to_string()))
    }

    fn blob(&self, root: &Path, id: &RecordId) -> Result<PathBuf> {
        let blob = self.record(id)?.blob.context("no blob")?;
        Ok(root.join("runc-overlayfs/content/blobs/sha256").join(blob.hex()))
    }

    fn result(&self, id: &RecordId) -> ResultId {
        ResultId { worker: self.state.worker_id.clone(), record: Some(id.clone()) }
    }

    /// Returns a key whose only result is the topmost layer.
    fn key(&self, id: &RecordId) -> Result<KeyId> {
        let keys = self.state.solver.by_result.get(&self.result(id)).context("no result")?;
        keys.first().cloned().context("no key")
    }

    /// Gives a record the snapshot `key`, and its lease with it.
    fn take_snapshot(&mut self, id: &RecordId, key: String) -> Result<()> {
        self.record_mut(id)?.snapshot = Some(key.clone());
        let State { worker, metadata, .. } = &mut self.state;
        let namespace = worker.namespace_of_mut(metadata).context("no namespace")?;
        let lease = namespace.leases.get_mut(id.as_str()).context("no lease")?;
        worker.kept_by_entry(lease).insert(key);
        Ok(())
    }
}

/// Writes a file anew, with its old permissions.
fn rewrite<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    fs::remove_file(path)?;
    let file = File::create_new(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(write(&file)?)
}

/// Returns the bucket at `path`.
fn bucket<'t>(tree: &'t mut Tree, path: &[&str]) -> Result<&'t mut Tree> {
    path.iter().try_fold(tree, |tree, name| match tree.entries.get_mut(name.as_bytes()) {
        Some(Node::Bucket(bucket)) => Ok(bucket),
        _ => anyhow::bail!("no bucket {name} of {path:?}"),
    })
}

fn put(tree: &mut Tree, path: &[&str], key: &str, value: &[u8]) -> Result<()> {
    let entries = &mut bucket(tree, path)?.entries;
    entries.insert(key.as_bytes().to_vec(), Node::Value(value.to_vec()));
    Ok(())
}

fn remove(tree: &mut Tree, path: &[&str], key: &str) -> Result<()> {
    bucket(tree, path)?.entries.remove(key.as_bytes()).context("no such entry").map(drop)
}

/// Ensures that the names of `all` are different.
///
/// # Errors
/// Returns an error if two are equal.
pub fn ensure_named() -> Result<()> {
    let names: BTreeSet<_> = all().map(|corruption| corruption.name).collect();
    ensure!(names.len() == all().count(), "two corruptions have one name");
    Ok(())
}

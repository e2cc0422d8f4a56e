//! The consequences that `oci2bk verify` states for some kinds of damage are a daemon's real behaviour.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bkstate::Root;
use bkstate::ids::{RecordId, WorkerId};
use bkstate::metadata::{LABEL_TEMPORARY, Lease};
use bkstate::state::State;
use testkit::corruptions::{self, Outcome};

use crate::daemon::Daemon;
use crate::process::{run, wait_until};
use crate::proof::GARBAGE_COLLECTED;
use crate::world::World;

/// The converted cache.
pub(crate) const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/index");

pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("damage").tempdir_in(world.scratch())?;
    let bench = Bench { world, dir: dir.path() };
    bench.collects_what_no_lease_keeps().context("leases")?;
    bench.deletes_what_has_no_parent().context("a missing parent")?;
    bench.deletes_results_of_another_worker().context("another worker id")?;
    bench.crashes_on_a_twin_that_cannot_change().context("a wrong twin")?;
    bench.starts_cold_or_not_at_all().context("databases that are none")
}

struct Bench<'a> {
    world: &'a World,
    dir: &'a Path,
}

impl Bench<'_> {
    /// Creates a converted root.
    fn root(&self, name: &str) -> Result<(PathBuf, State)> {
        let root = self.dir.join(name);
        run(Command::new(&self.world.tools.oci2bk)
            .args(["convert", "--progress=quiet", "--keys"])
            .arg(Path::new(FIXTURE).join("keys/provenance.json"))
            .arg(Path::new(FIXTURE).join("cache"))
            .arg(&root))?;
        let state = read(&root)?;
        Ok((root, state))
    }

    /// Returns the state after a daemon has run on the root for a moment.
    fn after_a_run(&self, root: &Path) -> Result<State> {
        let daemon = self.world.start(root)?;
        std::thread::sleep(GARBAGE_COLLECTED);
        daemon.stop()?;
        read(root)
    }

    fn collects_what_no_lease_keeps(&self) -> Result<()> {
        let (root, mut state) = self.root("leases")?;
        let leaves = leaves(&state);
        let [unleased, temporary, ..] = leaves.as_slice() else { anyhow::bail!("{leaves:?}") };
        let namespace = state.metadata.namespaces.get_mut("buildkit").context("no namespace")?;
        namespace.leases.remove(unleased.as_str());
        let lease = namespace.leases.get_mut(temporary.as_str()).context("no lease")?;
        lease.labels.insert(LABEL_TEMPORARY.to_owned(), String::new());
        let stray = RecordId::derive("stray").to_string();
        namespace.leases.insert(stray.clone(), Lease::default());
        let blobs = [unleased, temporary].map(|id| state.records.by_id[id].blob);
        rewrite(&root.join("runc-overlayfs/containerdmeta.db"), |file| state.metadata.write(file))?;
        ensure_kinds(&root, &["stray-lease", "temporary-lease", "unleased", "unleased"])?;

        let daemon = self.world.start(&root)?;
        let store = root.join("runc-overlayfs/content/blobs/sha256");
        let files: Vec<_> = blobs.iter().flatten().map(|blob| store.join(blob.hex())).collect();
        wait_until(Duration::from_secs(60), || files.iter().all(|file| !file.exists()));
        daemon.stop()?;
        let after = read(&root)?;
        let namespace = &after.metadata.namespaces["buildkit"];
        ensure!(namespace.leases.contains_key(&stray), "the stray lease is gone");
        for blob in blobs.into_iter().flatten() {
            ensure!(!namespace.content.contains_key(&blob), "{blob} was not collected");
        }
        Ok(())
    }

    fn deletes_what_has_no_parent(&self) -> Result<()> {
        let (root, mut state) = self.root("parent")?;
        let children = |state: &State, id: &RecordId| -> Vec<RecordId> {
            let records = state.records.by_id.iter();
            let above = records.filter(|(_, record)| record.parent.as_ref() == Some(id));
            above.map(|(id, _)| id.clone()).collect()
        };
        let ids: Vec<_> = state.records.by_id.keys().cloned().collect();
        let gone = ids.into_iter().find(|id| children(&state, id).len() == 1);
        let gone = gone.context("no record has one child")?;
        let [child] = <[_; 1]>::try_from(children(&state, &gone)).unwrap_or_else(|_| panic!());
        state.records.by_id.remove(&gone);
        rewrite(&root.join("runc-overlayfs/metadata_v2.db"), |file| state.records.write(file))?;
        let found = Root::open(&root)?.verify_databases()?;
        let kinds: BTreeSet<_> = found.damage.iter().map(|damage| damage.kind()).collect();
        ensure!(kinds.contains("missing-parent") && kinds.contains("result-without-record"));

        let after = self.after_a_run(&root)?;
        ensure!(!after.records.by_id.contains_key(&child), "the record above is there");
        let left = after.solver.by_result.keys().filter_map(|result| result.record.as_ref());
        let dangling = left.filter(|record| !after.records.by_id.contains_key(*record)).count();
        ensure!(dangling == 0, "{dangling} results of no record are there");
        Ok(())
    }

    fn deletes_results_of_another_worker(&self) -> Result<()> {
        let (root, state) = self.root("worker")?;
        ensure!(!state.solver.by_result.is_empty());
        let path = root.join("runc-overlayfs/workerid");
        fs::remove_file(&path)?;
        fs::write(&path, WorkerId::derive("another").as_str())?;
        let found = Root::open(&root)?.verify_databases()?;
        ensure!(found.damage.iter().all(|damage| damage.kind() == "result-of-unknown-worker"));
        ensure!(self.after_a_run(&root)?.solver.by_result.is_empty(), "results are left");
        Ok(())
    }

    fn crashes_on_a_twin_that_cannot_change(&self) -> Result<()> {
        let (root, _) = self.root("twin")?;
        let mut corruptions = corruptions::all();
        let twin = corruptions.find(|one| one.outcome == Outcome::Found("wrong-twin"));
        twin.context("no such corruption")?.apply(&root)?;
        ensure_kinds(&root, &["wrong-twin"])?;
        // It listens before it checks.
        let daemon = self.world.start(&root);
        let listed = daemon.as_ref().map(Daemon::du);
        ensure!(!matches!(listed, Ok(Ok(_))), "it lists its records");
        let log = root.with_extension("log");
        let crashed =
            || fs::read_to_string(&log).is_ok_and(|l| l.contains("nil pointer dereference"));
        ensure!(wait_until(Duration::from_secs(20), crashed), "the daemon goes on");
        drop(daemon);
        Ok(())
    }

    fn starts_cold_or_not_at_all(&self) -> Result<()> {
        let (root, state) = self.root("databases")?;
        ensure!(!state.solver.links.is_empty());
        fs::write(root.join("cache.db"), vec![b'x'; 1 << 16])?;
        ensure_kinds(&root, &["no-database"])?;
        ensure!(self.after_a_run(&root)?.solver.links.is_empty(), "the cache is not cold");
        for name in ["metadata_v2.db", "containerdmeta.db"] {
            let (root, _) = self.root(name)?;
            fs::write(root.join("runc-overlayfs").join(name), vec![b'x'; 1 << 16])?;
            ensure_kinds(&root, &["no-database"])?;
            // It listens before it checks.
            let daemon = self.world.start(&root);
            let log = root.with_extension("log");
            let refuses = || fs::read_to_string(&log).is_ok_and(|l| l.contains("invalid database"));
            ensure!(wait_until(Duration::from_secs(20), refuses), "a daemon starts without {name}");
            drop(daemon);
        }
        Ok(())
    }
}

fn read(root: &Path) -> Result<State> {
    Ok(Root::open(root)?.state()?)
}

/// Returns the records that no other builds on.
fn leaves(state: &State) -> Vec<RecordId> {
    let records = &state.records.by_id;
    let below: BTreeSet<_> = records.values().filter_map(|record| record.parent.as_ref()).collect();
    records.keys().filter(|id| !below.contains(id)).cloned().collect()
}

fn rewrite<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<()> {
    fs::remove_file(path)?;
    Ok(write(&File::create_new(path)?)?)
}

fn ensure_kinds(root: &Path, expected: &[&str]) -> Result<()> {
    let found = Root::open(root)?.verify_databases()?;
    let mut kinds: Vec<_> = found.damage.iter().map(|damage| damage.kind()).collect();
    kinds.sort_unstable();
    ensure!(kinds == expected, "{:#?}, not {expected:?}", found.damage);
    Ok(())
}

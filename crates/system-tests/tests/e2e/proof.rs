//! The tests of every build of the table.
//!
//! One daemon builds and exports; the export is converted; a second daemon starts on the result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use oci2bk::release::Version;
use testkit::schema;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context, Keys, Mode};
use crate::daemon::Daemon;
use crate::du;
use crate::export::CacheExport;
use crate::packed::Packed;
use crate::process::{run, wait_until};
use crate::sharing::{Compared, Roots};
use crate::state::{self, Snapshot, State};
use crate::tree;
use crate::world::World;

/// The oldest release whose provenance identifies the daemon's (`solver/llbsolver/provenance.go`).
const TELLS: Version = Version { major: 0, minor: 30, patch: 0 };

/// Longer than the second after which a starting daemon collects garbage (`control/control.go`,
/// `Controller.gc`).
pub(crate) const GARBAGE_COLLECTED: Duration = Duration::from_millis(2500);

/// Accepted difference in bytes for a snapshot of this size: more blocks are allocated for large directories
/// and attributes, and to map scattered files.
pub(crate) fn tolerance(size: u64) -> u64 {
    (size / 100).max(4 * 4096)
}

/// The state for the second daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The converted cache: the actual test.
    Converted,
    /// The same, converted with `--no-extract`: the daemon extracts layers when it needs them.
    Unextracted,
    /// The same, with the trees packed into a mounted image.
    Packed,
    /// The first daemon's own: shows that the test requires nothing that a natural state lacks.
    Natural,
    /// The state of a daemon that imported the cache and extracted the layers for the build after the edit:
    /// shows that the reference trees are those that a daemon makes.
    Imported,
}

/// The results and reports of the first daemon.
struct Made {
    cache: PathBuf,
    tag: &'static str,
    keys: Option<PathBuf>,
    export: CacheExport,
    warm: Report,
    edited: Report,
    /// With `mode=min`, the report of a daemon that has only the import.
    imported: Option<Report>,
    complaints: BTreeSet<String>,
}

/// Runs all tests of one case.
pub(crate) fn prove(world: &World, case: &Case, subject: Subject) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(case.name).tempdir_in(world.scratch())?;
    let context = dir.path().join("context");
    let bench = Bench { world, case, subject, dir: dir.path(), context };
    let made = bench.make().context("the first daemon")?;
    let root = dir.path().join("second");
    match subject {
        Subject::Natural => {}
        Subject::Imported => {
            bench.import_and_edit(&made.cache, &root).context("the importing daemon")?;
            bench.ensure_same_trees(&made, &root)?;
            return bench.ensure_verified(&root, true);
        }
        Subject::Unextracted => {
            bench.convert(&made, &root).context("the conversion")?;
            bench.ensure_restart_changes_nothing(&made, &root).context("the first start")?;
        }
        Subject::Converted => {
            bench.convert(&made, &root).context("the conversion")?;
            bench.ensure_same_trees(&made, &root).context("the snapshots")?;
            // It may change access times of links, which are compared above.
            bench.ensure_verified(&root, true)?;
            for compared in bench.roots(&made, &root)?.compare()? {
                compared.ensure_shared()?;
            }
            bench.ensure_restart_changes_nothing(&made, &root).context("the first start")?;
        }
        Subject::Packed => {
            bench.convert(&made, &root).context("the conversion")?;
            let packed = Packed::pack(&world.tools, &root)?;
            bench.ensure_same_trees(&made, &root).context("the packed snapshots")?;
            bench.ensure_verified(&root, true)?;
            // The copies have the trees as directories at the mount point, which a daemon cannot tell.
            for compared in bench.roots(&made, &root)?.compare()? {
                compared.ensure_shared()?;
            }
            bench.ensure_restart_changes_nothing(&made, &root).context("the first start")?;
            bench.ensure_warm(&made, &root).context("the second daemon")?;
            bench.ensure_prunable(&made, &root).context("the second daemon, started again")?;
            return packed.ensure_unchanged().context("the image after prune --all");
        }
    }
    bench.ensure_warm(&made, &root).context("the second daemon")?;
    bench.ensure_prunable(&made, &root).context("the second daemon, started again")
}

/// Compares the costs of the sharing scenarios on a natural and on a converted root, of the release whose
/// daemon `world` starts.
pub(crate) fn compare_sharing(world: &World, case: &Case) -> Result<Vec<Compared>> {
    let dir = tempfile::Builder::new().prefix("sharing").tempdir_in(world.scratch())?;
    let context = dir.path().join("context");
    let bench = Bench { world, case, subject: Subject::Converted, dir: dir.path(), context };
    let made = bench.make().context("the first daemon")?;
    let root = dir.path().join("second");
    bench.convert(&made, &root).context("the conversion")?;
    bench.roots(&made, &root)?.compare()
}

/// A case in its directory.
struct Bench<'a> {
    world: &'a World,
    case: &'a Case,
    subject: Subject,
    dir: &'a Path,
    /// The build context, including the Dockerfile.
    context: PathBuf,
}

impl Bench<'_> {
    /// Builds cold with the first daemon and exports; then records its reports when it builds again,
    /// unchanged and after an edit.
    fn make(&self) -> Result<Made> {
        let root = self.dir.join("first");
        let cache = self.dir.join("cache");
        let mut daemon = self.world.start(&root)?;
        self.write_source(false);
        let keys =
            self.source().make(&self.world.tools, &daemon, &cache, &self.dir.join("keys"))?;
        let tag = if self.case.keys == Keys::Inside { "cache" } else { "latest" };
        let export = CacheExport::open(&cache, tag)?;

        let again = self.dir.join("again");
        let warm = self.build_and_export(&daemon, &again)?;
        export.ensure_same(&CacheExport::open(&again, "latest")?).context("building again")?;

        let mut complaints = BTreeSet::new();
        if let Some(copy) = self.copy_of_natural() {
            complaints = daemon.stop()?;
            if self.subject == Subject::Natural {
                self.ensure_verified(&root, true).context("the natural state")?;
            }
            run(Command::new("cp").arg("-a").args([&root, &copy]))?;
            daemon = self.world.start(&root)?;
        }
        self.write_source(true);
        let edited = self.build_and_export(&daemon, &self.newer())?;
        complaints.append(&mut daemon.stop()?);
        let imported = match self.case.export.mode {
            Mode::Max => None,
            Mode::Min => Some(self.import_and_edit(&cache, &self.dir.join("importer"))?),
        };
        Ok(Made { cache, tag, keys, export, warm, edited, imported, complaints })
    }

    /// Returns the report after an edit of a daemon that has only the results of an imported `mode=min`
    /// export.
    fn import_and_edit(&self, cache: &Path, root: &Path) -> Result<Report> {
        let daemon = self.world.start(root)?;
        let import = Some(cache);
        self.write_source(false);
        self.source().build(&daemon, &Options { import, ..Options::default() })?;
        self.write_source(true);
        let report = self.source().build(&daemon, &Options::default())?;
        daemon.stop()?;
        Ok(report)
    }

    /// Runs the command under test.
    fn convert(&self, made: &Made, root: &Path) -> Result<()> {
        let mut command = Command::new(&self.world.tools.oci2bk);
        command.args(["convert", "--progress=plain", "--buildkit", &self.world.release.version]);
        if self.subject == Subject::Unextracted {
            command.arg("--no-extract");
        }
        if let Some(keys) = &made.keys {
            command.arg("--keys").arg(keys);
        }
        let source = format!("type=local,src={},tag={}", made.cache.display(), made.tag);
        let report = schema::run(
            command.arg("--format=json").arg(source).args(self.world.host.arguments(root)),
        )?;
        // The two daemons are of one release, so every step is found. LLB alone does not identify the
        // release, nor does provenance of an older one: then the report lists what depends on it.
        let misses = report["misses"].as_array().context("a report without misses")?;
        let tells = self.world.release.version.parse::<Version>()? >= TELLS
            && !matches!(self.case.keys, Keys::Definition | Keys::Answer);
        let wrong = misses
            .iter()
            .find(|miss| tells || miss["certain"] == true || miss["exporter_releases"].is_null());
        ensure!(wrong.is_none(), "this may run again: {wrong:#?}");
        state::ensure_sound(&self.world.tools, self.world.place(root))
    }

    /// Checks that the verification under test finds nothing.
    fn ensure_verified(&self, root: &Path, trees: bool) -> Result<()> {
        state::ensure_verified_on(self.world.host, &self.world.tools, root, trees)
    }

    /// Checks that the chains of layers of the export are extracted as containerd does: all of them, unless a
    /// daemon extracted only what it needed.
    fn ensure_same_trees(&self, made: &Made, root: &Path) -> Result<()> {
        let tools = &self.world.tools;
        let reference = self.dir.join("reference");
        let extracted = SystemTime::now();
        let json = run(Command::new(&tools.refstate).arg("apply").arg(&made.cache).arg(reference))?;
        let theirs: BTreeMap<String, Snapshot> = serde_json::from_str(&json)?;
        let place = self.world.place(root);
        let ours = State::read(tools, &place)?.snapshots_by_chain(&place)?;
        let mut compared = 0;
        for (chain, theirs) in &theirs {
            if let Some(ours) = ours.get(chain).cloned().flatten() {
                tree::ensure_equal(&ours.fs, &theirs.fs, extracted)
                    .with_context(|| format!("chain {chain}"))?;
                // Ours counts the blocks that every ext4 allocates.
                let same_size = ours.size.abs_diff(theirs.size) <= tolerance(theirs.size);
                ensure!(
                    ours.inodes == theirs.inodes && same_size,
                    "chain {chain}: usage is {ours:?}, should be {theirs:?}"
                );
                compared += 1;
            }
        }
        let least = if self.subject == Subject::Imported { 1 } else { theirs.len() };
        ensure!(compared >= least, "only {compared} of {} chains are extracted", theirs.len());
        Ok(())
    }

    /// A start with the default garbage collection and a stop change nothing. (On a natural state they do,
    /// because it has records and keys of the local context, valid for one run.)
    fn ensure_restart_changes_nothing(&self, made: &Made, root: &Path) -> Result<()> {
        let tools = &self.world.tools;
        let before = State::read(tools, self.world.place(root))?;
        let usages = du::ours(self.world, root, &[])?;
        let daemon = self.world.start(root)?;
        std::thread::sleep(GARBAGE_COLLECTED);
        let listed = daemon.du()?;
        ensure!(
            listed == before.records(),
            "du lists {listed:?}, the records are {:?}",
            before.records()
        );
        du::ensure_same_fields(&usages, &daemon)?;
        ensure_only_known(&made.complaints, &daemon.stop()?)?;
        before.ensure_unchanged(&State::read(tools, self.world.place(root))?)
    }

    /// The build is as warm as on the first daemon, unchanged and after the edit, and exports the
    /// same cache.
    fn ensure_warm(&self, made: &Made, root: &Path) -> Result<()> {
        let daemon = self.world.start(root)?;
        self.write_source(false);
        let exported = self.dir.join("exported");
        let warm = self.build_and_export(&daemon, &exported)?;
        ensure_same_steps(self.case.keys, &made.warm, &warm)?;
        let unextracted = self.subject == Subject::Unextracted;
        warm.ensure_nothing_imported(|_| unextracted)?;
        made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;

        self.write_source(true);
        let edited = self.source().build(&daemon, &Options::default())?;
        match &made.imported {
            None => ensure_same_steps(self.case.keys, &made.edited, &edited),
            Some(imported) => self.ensure_steps_between(imported, &edited, &made.edited),
        }
        .context("after the edit")?;
        // The step after the edit needs its base image. Its layers are found among those of the cache
        // unless the export made other archives of them: then they are pulled and extracted.
        let layers = made.export.layers()?;
        let keeps_diff_ids = self.case.export.keeps_diff_ids();
        edited
            .ensure_nothing_imported(|layer| {
                unextracted || (!keeps_diff_ids && !layers.contains(layer))
            })
            .context("after the edit")?;
        ensure_only_known(&made.complaints, &daemon.stop()?)?;
        state::ensure_sound(&self.world.tools, self.world.place(root))?;
        // With the layers that the daemon unpacked and the steps that ran after the edit.
        self.ensure_verified(root, true)
    }

    /// After another start the build is still warm, and pruning leaves nothing.
    fn ensure_prunable(&self, made: &Made, root: &Path) -> Result<()> {
        let place = self.world.place(root);
        let layers = State::read(&self.world.tools, &place)?.layer_blobs();
        let daemon = self.world.start(root)?;
        self.write_source(false);
        let warm = self.source().build(&daemon, &Options::default())?;
        ensure_same_steps(self.case.keys, &made.warm, &warm)?;

        daemon.prune_all()?;
        let records = daemon.du()?;
        ensure!(records.is_empty(), "prune --all leaves the records {records:?}");
        // containerd removes directories in the background.
        let empty = || state::snapshot_directories(&place).is_ok_and(|left| left.is_empty());
        wait_until(Duration::from_secs(20), empty);
        let left = state::snapshot_directories(&place)?;
        ensure!(left.is_empty(), "prune --all leaves the snapshots {left:?}");
        let blobs = state::blob_files(&place)?;
        let left: Vec<_> = blobs.intersection(&layers).collect();
        ensure!(left.is_empty(), "prune --all leaves the layers {left:?}");
        ensure_only_known(&made.complaints, &daemon.stop()?)?;
        state::ensure_sound(&self.world.tools, place)?;
        self.ensure_verified(root, false)
    }

    /// The build had all steps cached that `least` had, and none that `most` did not have.
    fn ensure_steps_between(&self, least: &Report, build: &Report, most: &Report) -> Result<()> {
        let cached = build.cached(self.case.keys);
        let missing = least.cached(self.case.keys).into_iter().find(|name| !cached.contains(name));
        ensure!(missing.is_none(), "{missing:?} is not cached, as it is after an import");
        let most = most.cached(self.case.keys);
        let wrong = cached.iter().find(|name| !most.contains(name));
        ensure!(wrong.is_none(), "{wrong:?} is cached, as it is not on the first daemon");
        Ok(())
    }

    /// Returns the path for a copy of the first daemon's root, if this subject needs one.
    fn copy_of_natural(&self) -> Option<PathBuf> {
        match self.subject {
            Subject::Natural => Some(self.dir.join("second")),
            Subject::Converted | Subject::Packed => Some(self.dir.join("natural")),
            Subject::Unextracted | Subject::Imported => None,
        }
    }

    fn newer(&self) -> PathBuf {
        self.dir.join("newer")
    }

    /// Returns the first daemon's root and the converted one, both unused.
    fn roots(&self, made: &Made, converted: &Path) -> Result<Roots<'_>> {
        let newer = self.newer();
        let counted = if self.case.export.keeps_diff_ids() {
            None
        } else {
            let (layers, newer) = (made.export.layers()?, CacheExport::open(&newer, "latest")?);
            Some(layers.into_iter().chain(newer.layers()?).collect())
        };
        Ok(Roots {
            world: self.world,
            case: self.case,
            dir: self.dir,
            natural: self.dir.join("natural"),
            converted: converted.to_owned(),
            newer,
            counted,
        })
    }

    fn build_and_export(&self, daemon: &Daemon, dir: &Path) -> Result<Report> {
        let export = Some((dir, ""));
        self.source().build(daemon, &Options { export, ..Options::default() })
    }

    fn source(&self) -> Source<'_> {
        Source { case: self.case, context: &self.context }
    }

    /// Writes the Dockerfile and the context, original or edited.
    fn write_source(&self, edited: bool) {
        let context = Context::create(&self.context);
        context.file("Dockerfile", self.world.fill_in(&(self.case.dockerfile)()));
        (self.case.context)(&context);
        if edited {
            (self.case.edit)(&context);
        }
    }
}

/// Checks that both builds had the same steps cached, of those that `keys` determine.
pub(crate) fn ensure_same_steps(keys: Keys, first: &Report, second: &Report) -> Result<()> {
    let (expected, cached) = (first.cached(keys), second.cached(keys));
    ensure!(!expected.is_empty(), "the first daemon reports no step as cached");
    ensure!(
        cached == expected,
        "cached are\n  {}\nbut on the first daemon\n  {}",
        cached.join("\n  "),
        expected.join("\n  ")
    );
    Ok(())
}

/// Checks that the daemon has no complaints that a daemon with an empty root does not have.
fn ensure_only_known(known: &BTreeSet<String>, complaints: &BTreeSet<String>) -> Result<()> {
    let new: Vec<_> = complaints.difference(known).collect();
    ensure!(new.is_empty(), "the log has {new:#?}\nwhich an empty root does not cause: {known:#?}");
    Ok(())
}

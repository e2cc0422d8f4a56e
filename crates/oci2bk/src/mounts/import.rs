//! Imports cache mounts.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::dir::{Dir, DirError};
use bkstate::ids::{RecordId, WorkerId};
use bkstate::root::Location;
use bkstate::state::{self, Scratch, Staging, State};
use bkstate::worker::Worker;
use bkstate::{Digest, Root, Time, input};
use llb::release::Target;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};

use super::document::{ListedMount, MountsArtifact};
use super::id::check_id;
use super::job::Job;
use super::opened::Opened;
use super::owner::{DIRECTORY, Owner};
use super::seed::Seeder;
use super::{MountsError, MountsSource, Selection};
use crate::cancel::Cancel;
use crate::export::CacheExport;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::progress::{self, Event, Progress, Silent, Stage};
use crate::unpack::{Allowance, check_rights, usage};

/// What happens with a mount that the root has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Existing {
    /// The import fails, and nothing is changed.
    #[default]
    Fail,
    /// The root keeps its own.
    Keep,
    /// It is replaced.
    Replace,
}

/// What happened with a mount.
///
/// ```
/// use oci2bk::mounts::Outcome;
///
/// assert_eq!(Outcome::name(Outcome::Replaced), "replaced");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is new.
    Added,
    /// It replaced one of the root.
    Replaced,
    /// The root has one, and kept it.
    Kept,
}

impl Outcome {
    /// Returns its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Kept => "kept",
        }
    }
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The root; for a Docker volume, the directory with its files.
    pub root: PathBuf,
    /// The manifest of the artifact, if the source is one.
    pub manifest: Option<Digest>,
    /// The mounts, sorted by id and owner.
    pub mounts: Vec<ImportedMount>,
}

/// A mount of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportedMount {
    /// Its id.
    pub id: String,
    /// Its owner, if it is one with `uid=`, `gid=` or `mode=`.
    pub owner: Option<Owner>,
    /// What happened with it.
    pub outcome: Outcome,
    /// Its record in the root.
    pub record: RecordId,
    /// Number of entries in the archive; 0 if the root kept its own.
    pub entries: u64,
    /// The size of the uncompressed archive in bytes; 0 if the root kept its own.
    pub bytes: u64,
}

/// Imports cache mounts into the root of a stopped daemon.
///
/// ```no_run
/// use oci2bk::mounts::{Existing, ImportedMount, Importer, Owner, Selection};
/// use oci2bk::{CacheExport, Cancel, Limits, Target};
///
/// // A directory with the files of `RUN --mount=type=cache,target=/home/app/.npm,uid=1000`.
/// let selection = Selection { wanted: vec!["target=/home/app/.npm".parse()?], ..Selection::default() };
/// let owner = Owner::new(Some(1000), None, None);
/// let imported = Importer::new()
///     .existing(Existing::Replace)
///     .import(&"dir:npm".parse()?, &selection, owner, "/var/lib/buildkit")?;
/// for ImportedMount { id, outcome, .. } in imported.mounts {
///     println!("{id}: {}", outcome.name());
/// }
///
/// // Those that are attached to a cache, for a daemon of another release.
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["./cache".parse()?], &limits)?;
/// let importer = Importer::new()
///     .target("v0.16.0".parse::<Target>()?)
///     .last_used(oci2bk::Time::UNIX_EPOCH)
///     .limits(limits)
///     .progress(std::sync::Arc::new(|_: oci2bk::Event<'_>| {}))
///     .cancel(Cancel::new())
///     .import_attached(&exports[0], &Selection::default(), "/var/lib/buildkit")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Importer {
    existing: Existing,
    target: Target,
    last_used: Option<Time>,
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Default for Importer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer")
            .field("existing", &self.existing)
            .field("target", &self.target)
            .field("last_used", &self.last_used)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Importer {
    /// Creates an importer that fails if the root has one of the mounts, for the newest release, within the
    /// default limits.
    pub fn new() -> Self {
        Self {
            existing: Existing::default(),
            target: Target::default(),
            last_used: None,
            limits: Limits::default(),
            progress: Arc::new(Silent),
            cancel: Cancel::new(),
        }
    }

    /// Sets what happens with mounts that the root has already.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Sets the release of the daemon that will use the root. It matters for mounts with an owner.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Sets the time at which the mounts were last used. By default there is none.
    #[must_use]
    pub fn last_used(mut self, time: impl Into<Option<Time>>) -> Self {
        self.last_used = time.into();
        self
    }

    /// Sets the limits on the source.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`MountsError::Cancelled`] as soon as `cancel` requests it. Once the result is being moved
    /// into place, the import continues to its end.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Imports the mounts of `source` that `selection` names into `root`, which is created if it is missing.
    /// An artifact has owners and ids; an archive or a directory is one mount, of which `selection` has the id.
    ///
    /// # Errors
    /// Returns an error if a mount is not in the source, the root has it and must not, an archive has something
    /// that no cache mount may have, or the root cannot be written. The root is then unchanged.
    pub fn import(
        &self,
        source: &MountsSource,
        selection: &Selection,
        owner: Option<Owner>,
        root: impl Into<Location>,
    ) -> Result<Imported, MountsError> {
        let one = |form| match selection.ids().collect::<Vec<_>>().as_slice() {
            [id] => {
                let shown = || id.chars().take(100).collect();
                check_id(id).map_err(|source| MountsError::Id { id: shown(), source })?;
                Ok(vec![self.job(id.clone(), owner, None)])
            }
            ids => Err(MountsError::One { form, count: ids.len() }),
        };
        match source {
            MountsSource::Layout(_) if owner.is_some() => Err(MountsError::OwnerGiven),
            MountsSource::Layout(source) => {
                let source = source.on_disk();
                let layout = Layout::open(&source.path, &self.limits)?;
                let artifact = MountsArtifact::select(&layout, &source.reference)?;
                let place = source.to_string();
                self.import_artifact(layout, artifact, &place, selection, root.into())
            }
            MountsSource::Tar(path) => {
                let file = input::open(path)
                    .map_err(|source| MountsError::Source { path: path.clone(), source })?;
                let read = |source| MountsError::Read { path: path.clone(), source };
                let size = file.metadata().map_err(read)?.size();
                let opened = Opened::Tar { path: path.clone(), file, size };
                self.run(&opened, one("tar:")?, None, root.into())
            }
            MountsSource::Directory(path) => {
                let dir = Dir::open(path).map_err(|error| MountsError::Read {
                    path: path.clone(),
                    source: error.source,
                })?;
                self.run(&Opened::Directory(dir), one("dir:")?, None, root.into())
            }
        }
    }

    /// Imports the mounts that are attached to `export`; `None` if there are none.
    ///
    /// # Errors
    /// Same as [`import`](Self::import).
    pub fn import_attached(
        &self,
        export: &CacheExport,
        selection: &Selection,
        root: impl Into<Location>,
    ) -> Result<Option<Imported>, MountsError> {
        let Some(artifact) = MountsArtifact::attached(export)? else { return Ok(None) };
        let layout = Layout::open(export.layout.path(), &self.limits)?;
        let place = export.source.to_string();
        self.import_artifact(layout, artifact, &place, selection, root.into()).map(Some)
    }

    fn import_artifact(
        &self,
        layout: Layout,
        artifact: MountsArtifact,
        place: &str,
        selection: &Selection,
        root: Location,
    ) -> Result<Imported, MountsError> {
        let chosen = choose(&artifact, place, selection)?;
        let jobs = chosen.into_iter().map(|ListedMount { id, owner, layer, diff_id, .. }| {
            self.job(id, owner, Some((layer, diff_id)))
        });
        let jobs = jobs.collect();
        let opened = Opened::Layout { layout: Box::new(layout), layers: artifact.layers };
        self.run(&opened, jobs, Some(artifact.manifest), root)
    }

    fn job(&self, id: String, owner: Option<Owner>, archive: Option<(usize, Digest)>) -> Job {
        let keys =
            |owner: Owner| self.target.encodings().filter_map(move |encoding| owner.key(encoding));
        let mut steps: Vec<_> = owner.map(keys).into_iter().flatten().collect();
        steps.dedup();
        Job { id, owner, archive, steps, base: None, is_unfinished: false, record: None }
    }

    fn run(
        &self,
        opened: &Opened,
        mut jobs: Vec<Job>,
        manifest: Option<Digest>,
        root: Location,
    ) -> Result<Imported, MountsError> {
        self.check()?;
        let root = Root::open_to_write(root)?;
        let existing = root.existing(&WorkerId::derive("cache mounts"))?;
        for job in &mut jobs {
            job.find(&existing.state)?;
        }
        let there: Vec<_> =
            jobs.iter().filter(|job| job.is_there()).map(|job| job.id.clone()).collect();
        if !there.is_empty() {
            // The import that was stopped after everything was in place is not done again.
            Staging::remove_dead_run(&root)?;
        }
        if self.existing == Existing::Fail && !there.is_empty() {
            return Err(MountsError::Exists { root: root.path().to_owned(), ids: there });
        }
        let done = |mounts| Imported { root: root.path().to_owned(), manifest, mounts };
        let is_kept = |job: &Job| self.existing == Existing::Keep && job.is_there();
        if jobs.iter().all(is_kept) {
            return Ok(done(jobs.iter().filter_map(Job::kept).collect()));
        }
        self.try_rights(&root)?;

        let staging = Staging::begin(&root, &existing)?;
        let mut state = existing.state.clone();
        let mut seeder = Seeder { state: &mut state, last_used: self.last_used };
        let mut next = existing.state.snapshots.sequence;
        let mut next = || {
            next += 1;
            next
        };
        let allowance = opened.allowance(&jobs, &self.limits);
        self.progress.event(Event::StageStarted(Stage::Mounts));
        let mut mounts = Vec::new();
        for job in &mut jobs {
            if is_kept(job) {
                mounts.extend(job.kept());
                continue;
            }
            if let (Some(owner), None) = (job.owner, &job.base) {
                // Another mount of this import may have made it.
                job.find_base(seeder.state)?;
                if job.base.is_none() {
                    job.base = Some(self.make_base(&staging, &mut seeder, job, owner, next())?);
                }
            }
            if let (Some(base), Some(step), true) =
                (&job.base, job.steps.first(), job.is_unfinished)
            {
                seeder.add_result(step, base);
            }
            mounts.push(self.make_mount(opened, &staging, &mut seeder, job, next(), &allowance)?);
        }
        self.progress.event(Event::StageFinished(Stage::Mounts));
        self.publish(staging, &existing, &state)?;
        Ok(done(mounts))
    }

    fn check(&self) -> Result<(), MountsError> {
        self.cancel.check(MountsError::Cancelled)
    }

    fn try_rights(&self, root: &Root) -> Result<(), MountsError> {
        let scratch = Scratch::create(root)?;
        check_rights(scratch.dir(), root.worker())
            .map_err(|source| MountsError::Rights { root: root.path().to_owned(), source })
    }

    /// Makes the empty directory below a mount with an owner.
    fn make_base(
        &self,
        staging: &Staging<'_>,
        seeder: &mut Seeder<'_>,
        job: &Job,
        owner: Owner,
        directory: u64,
    ) -> Result<RecordId, MountsError> {
        let fs = staging.trees().create_snapshot(directory)?;
        let made = make_owned(&fs, owner, &seeder.state.worker)?;
        set_times(&made)?;
        set_times(&fs)?;
        let size = usage(fs.as_fd()).map_err(|source| job.failed(source))?;
        let mut steps = job.steps.iter();
        let unknown = || MountsError::Unfinished { id: job.id.clone() };
        let base = seeder.add_base(steps.next().ok_or_else(unknown)?, directory, size);
        Ok(base)
    }

    /// Unpacks the files of a mount, and adds it to the state.
    fn make_mount(
        &self,
        opened: &Opened,
        staging: &Staging<'_>,
        seeder: &mut Seeder<'_>,
        job: &Job,
        directory: u64,
        allowance: &Allowance,
    ) -> Result<ImportedMount, MountsError> {
        self.check()?;
        let worker = seeder.state.worker.clone();
        let top = staging.trees().create_snapshot(directory)?;
        let made = job.owner.map(|owner| make_owned(&top, owner, &worker)).transpose()?;
        let fs = made.as_ref().unwrap_or(&top);
        let (content, entries, bytes) =
            opened.unpack(job, fs, &worker, allowance, (&*self.progress, &self.cancel))?;
        if made.is_some() {
            set_times(&top)?;
        }
        let base = job.base.as_ref();
        let replaced = job.record.clone();
        let outcome = if job.is_there() { Outcome::Replaced } else { Outcome::Added };
        let record = seeder.add_mount(&job.id, base, directory, content, replaced);
        Ok(ImportedMount { id: job.id.clone(), owner: job.owner, outcome, record, entries, bytes })
    }

    /// Verifies the new state, and moves it into place.
    fn publish(
        &self,
        staging: Staging<'_>,
        existing: &state::Existing,
        state: &State,
    ) -> Result<(), MountsError> {
        let stage = |stage: Stage| progress::stage(&*self.progress, stage);
        self.check()?;
        let done = stage(Stage::Verify);
        let written = staging.write(state)?;
        let damage = existing.new_damage(staging.parts(&written)?.verify_databases()?);
        if !damage.is_empty() {
            return Err(MountsError::Damaged { damage });
        }
        done();
        // From here on it is faster to continue than to undo.
        self.check()?;
        let done = stage(Stage::Publish);
        staging.publish(written)?;
        done();
        Ok(())
    }
}

/// Returns the mounts of `artifact` that `selection` names, or all.
fn choose(
    artifact: &MountsArtifact,
    place: &str,
    selection: &Selection,
) -> Result<Vec<ListedMount>, MountsError> {
    let mounts = &artifact.mounts;
    for id in selection.ids() {
        if !mounts.iter().any(|mount| mount.id == id) {
            return Err(MountsError::NotThere { place: place.to_owned(), id });
        }
    }
    let ids: Vec<_> = selection.ids().collect();
    let named = |mount: &&ListedMount| ids.is_empty() || ids.contains(&mount.id);
    let chosen: Vec<_> = mounts.iter().filter(named).cloned().collect();
    if chosen.is_empty() {
        return Err(MountsError::Nothing { place: place.to_owned() });
    }
    Ok(chosen)
}

/// Makes the directory on which a mount with an owner is, in the files of a snapshot.
fn make_owned(fs: &Dir, owner: Owner, worker: &Worker) -> Result<Dir, MountsError> {
    let dir = fs.create_dir(DIRECTORY, owner.mode)?;
    let failed = |errno: rustix::io::Errno| DirError {
        action: "set the owner of",
        path: dir.path().to_owned(),
        source: errno.into(),
    };
    let (uid, gid) = worker.owners().on_disk(owner.uid, owner.gid)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::fchown(&dir, Some(uid), Some(gid)).map_err(failed)?;
    // The change of the owner drops setuid and setgid.
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(owner.mode)).map_err(failed)?;
    Ok(dir)
}

/// Sets the times of a directory that has none in an archive, so that they are not those of the run.
fn set_times(dir: &Dir) -> Result<(), MountsError> {
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: epoch, last_modification: epoch };
    let set = rustix::fs::futimens(dir, &times);
    let failed = |errno: rustix::io::Errno| DirError {
        action: "set the times of",
        path: dir.path().to_owned(),
        source: errno.into(),
    };
    Ok(set.map_err(failed)?)
}

//! Imports cache mounts.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bkstate::digest::Hasher;
use bkstate::dir::Dir;
use bkstate::ids::{KeyId, RecordId, WorkerId};
use bkstate::mounts::key;
use bkstate::root::Location;
use bkstate::state::{self, Scratch, Staging, State};
use bkstate::{Digest, Root, Time, input};
use llb::release::Target;
use rustix::fs::{Gid, Uid};

use super::copy::copy;
use super::document::{ListedMount, MountsArtifact};
use super::id::check_id;
use super::owner::{DIRECTORY, Owner};
use super::seed::Seeder;
use super::{MountsError, MountsSource, Selection};
use crate::cancel::Cancel;
use crate::export::CacheExport;
use crate::layout::{Descriptor, Layout};
use crate::limits::Limits;
use crate::pack::{Observer, PackError, pack};
use crate::progress::{Event, MountWork, Progress, Silent, Stage};
use crate::unpack::tree::{ChunkWriter, unpack_tree};
use crate::unpack::{Allowance, Blob, Layer, UnpackError, Watch, check_rights, usage};

/// What happens with a mount that the root has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
/// use oci2bk::mounts::{Existing, Importer, Owner, Selection};
///
/// // A directory with the files of `RUN --mount=type=cache,target=/home/app/.npm,uid=1000`.
/// let selection = Selection { wanted: vec!["target=/home/app/.npm".parse()?], ..Selection::default() };
/// let owner = Owner::new(Some(1000), None, None);
/// let imported = Importer::new()
///     .existing(Existing::Replace)
///     .import(&"dir:npm".parse()?, &selection, owner, "/var/lib/buildkit")?;
/// println!("{} entries", imported.mounts[0].entries);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Importer<'p> {
    existing: Existing,
    target: Target,
    last_used: Option<Time>,
    limits: Limits,
    progress: &'p dyn Progress,
    cancel: Cancel,
}

impl Default for Importer<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Importer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer")
            .field("existing", &self.existing)
            .field("target", &self.target)
            .field("last_used", &self.last_used)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A mount that was asked for, with its place.
struct Job {
    id: String,
    owner: Option<Owner>,
    /// The index of its archive, and the digest of the uncompressed content.
    archive: Option<(usize, Digest)>,
    /// The steps that make the directory below it, for the daemon that will use the root.
    steps: Vec<KeyId>,
    /// The existing result of such a step.
    base: Option<RecordId>,
    /// The existing record.
    record: Option<RecordId>,
}

/// An opened source.
enum Opened {
    Layout { layout: Layout, layers: Vec<Descriptor> },
    Tar { path: PathBuf, file: File, size: u64 },
    Directory(Dir),
}

impl<'p> Importer<'p> {
    /// Creates an importer that fails if the root has one of the mounts, for the newest release, within the
    /// default limits.
    pub fn new() -> Self {
        Self {
            existing: Existing::default(),
            target: Target::default(),
            last_used: None,
            limits: Limits::default(),
            progress: &Silent,
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
    pub fn progress(mut self, progress: &'p dyn Progress) -> Self {
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
        let opened = Opened::Layout { layout, layers: artifact.layers };
        self.run(&opened, jobs, Some(artifact.manifest), root)
    }

    fn job(&self, id: String, owner: Option<Owner>, archive: Option<(usize, Digest)>) -> Job {
        let keys =
            |owner: Owner| self.target.encodings().filter_map(move |encoding| owner.key(encoding));
        let mut steps: Vec<_> = owner.map(keys).into_iter().flatten().collect();
        steps.dedup();
        Job { id, owner, archive, steps, base: None, record: None }
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
            jobs.iter().filter(|job| job.record.is_some()).map(|job| job.id.clone()).collect();
        if self.existing == Existing::Fail && !there.is_empty() {
            return Err(MountsError::Exists { root: root.path().to_owned(), ids: there });
        }
        let done = |mounts| Imported { root: root.path().to_owned(), manifest, mounts };
        let is_kept = |job: &Job| self.existing == Existing::Keep && job.record.is_some();
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
        let allowance = self.allowance(opened, &jobs);
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
        check_rights(scratch.dir())
            .map_err(|source| MountsError::Rights { root: root.path().to_owned(), source })
    }

    /// Returns the limits on all archives together.
    fn allowance(&self, opened: &Opened, jobs: &[Job]) -> Allowance {
        match opened {
            Opened::Layout { layers, .. } => {
                let layers = jobs.iter().filter_map(|job| layers.get(job.archive?.0));
                let bytes = layers.fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
                Allowance::of_run(&self.limits, bytes)
            }
            Opened::Tar { size, .. } => Allowance::of_run(&self.limits, *size),
            // The files take their space already.
            Opened::Directory(_) => Allowance::of_run(&self.limits, u64::MAX),
        }
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
        make_owned(&fs, owner)?;
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
        let top = staging.trees().create_snapshot(directory)?;
        let fs = match job.owner {
            Some(owner) => make_owned(&top, owner)?,
            None => top,
        };
        let (content, entries, bytes) = self.unpack(opened, job, &fs, allowance)?;
        let base = job.base.as_ref();
        let replaced = job.record.clone();
        let outcome = if replaced.is_some() { Outcome::Replaced } else { Outcome::Added };
        let record = seeder.add_mount(&job.id, base, directory, content, replaced);
        Ok(ImportedMount { id: job.id.clone(), owner: job.owner, outcome, record, entries, bytes })
    }

    /// Unpacks the archive of a mount. Returns the digest of its content, the number of its entries, and its
    /// size.
    fn unpack(
        &self,
        opened: &Opened,
        job: &Job,
        fs: &Dir,
        allowance: &Allowance,
    ) -> Result<(Digest, u64, u64), MountsError> {
        let size = match opened {
            Opened::Layout { layers, .. } => {
                job.archive.and_then(|(layer, _)| layers.get(layer)).map_or(0, |layer| layer.size)
            }
            Opened::Tar { size, .. } => *size,
            Opened::Directory(_) => 0,
        };
        let work = MountWork { id: job.id.clone(), size };
        self.progress.event(Event::MountStarted(&work));
        let mut watcher = Watcher { work: &work, importer: self, done: 0 };
        let tree = match opened {
            Opened::Layout { layout, layers } => {
                let none = || MountsError::NotThere { place: String::new(), id: job.id.clone() };
                let (layer, diff_id) = job.archive.ok_or_else(none)?;
                let descriptor = layers.get(layer).ok_or_else(none)?;
                let blob = layout.open_blob(descriptor)?;
                let layer = Layer {
                    blob: &blob,
                    digest: descriptor.digest,
                    size: descriptor.size,
                    media_type: &descriptor.media_type,
                    diff_id,
                };
                let tree = unpack_tree(&layer, fs.as_fd(), allowance, &watcher)
                    .map_err(|source| job.failed(source))?;
                if tree.diff_id != diff_id {
                    let (layer, expected, found) = (layer.digest, diff_id, tree.diff_id);
                    return Err(job.failed(UnpackError::WrongDiffId { layer, expected, found }));
                }
                tree
            }
            Opened::Tar { path, file, size } => {
                let digest = hash(file)
                    .map_err(|source| MountsError::Read { path: path.clone(), source })?;
                let layer =
                    Layer { blob: file, digest, size: *size, media_type: "", diff_id: digest };
                unpack_tree(&layer, fs.as_fd(), allowance, &watcher)
                    .map_err(|source| job.failed(source))?
            }
            Opened::Directory(dir) => {
                let pack = |out: &mut ChunkWriter| {
                    pack(dir, out, &mut watcher).map_err(|error| match error {
                        PackError::Cancelled => MountsError::Cancelled,
                        source => MountsError::Pack { id: job.id.clone(), source },
                    })
                };
                copy(&job.id, pack, fs.as_fd(), allowance)?.1
            }
        };
        self.progress.event(Event::MountFinished(&work));
        Ok((tree.diff_id, tree.entries, tree.bytes))
    }

    /// Verifies the new state, and moves it into place.
    fn publish(
        &self,
        staging: Staging<'_>,
        existing: &state::Existing,
        state: &State,
    ) -> Result<(), MountsError> {
        let stage = |stage: Stage| {
            self.progress.event(Event::StageStarted(stage));
            move || self.progress.event(Event::StageFinished(stage))
        };
        self.check()?;
        let done = stage(Stage::Verify);
        let written = staging.write(state)?;
        let damage = existing.new_damage(staging.parts(&written)?.verify()?);
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

impl Job {
    /// Finds what `state` has of the mount.
    fn find(&mut self, state: &State) -> Result<(), MountsError> {
        self.find_base(state)?;
        if self.owner.is_some() && self.base.is_none() {
            return Ok(());
        }
        let key = key(&self.id, self.base.as_ref());
        let mounts = state.cache_mounts();
        let is_it = |record: &RecordId| {
            let record = state.records.by_id.get(record);
            record.is_some_and(|record| record.cache_dir.as_ref() == Some(&key))
        };
        self.record = mounts.into_iter().map(|mount| mount.record).find(is_it);
        Ok(())
    }

    /// Finds the directory below the mount, as a result of its step.
    fn find_base(&mut self, state: &State) -> Result<(), MountsError> {
        let results = self.steps.iter().filter_map(|step| state.solver.results.get(step));
        let results = results.flat_map(|results| results.iter().map(|(result, _)| result));
        let records = results.filter(|result| result.worker == state.worker_id);
        for record in records.filter_map(|result| result.record.as_ref()) {
            match state.records.by_id.get(record) {
                Some(known) if known.is_lasting() => self.base = Some(record.clone()),
                Some(_) => return Err(MountsError::Unfinished { id: self.id.clone() }),
                None => continue,
            }
            break;
        }
        Ok(())
    }

    fn kept(&self) -> Option<ImportedMount> {
        let (id, owner, record) = (self.id.clone(), self.owner, self.record.clone()?);
        let outcome = Outcome::Kept;
        Some(ImportedMount { id, owner, outcome, record, entries: 0, bytes: 0 })
    }

    fn failed(&self, source: UnpackError) -> MountsError {
        match source {
            UnpackError::Cancelled { .. } => MountsError::Cancelled,
            source => MountsError::Unpack { id: self.id.clone(), source: Box::new(source) },
        }
    }
}

/// Makes the directory on which a mount with an owner is, in the files of a snapshot.
fn make_owned(fs: &Dir, owner: Owner) -> Result<Dir, MountsError> {
    let dir = fs.create_dir(DIRECTORY, owner.mode)?;
    let failed = |errno: rustix::io::Errno| bkstate::dir::DirError {
        action: "set the owner of",
        path: dir.path().to_owned(),
        source: errno.into(),
    };
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(&dir, Some(uid), Some(gid)).map_err(failed)?;
    // The change of the owner drops setuid and setgid.
    rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(owner.mode)).map_err(failed)?;
    Ok(dir)
}

/// Returns the digest of a file.
fn hash(file: &File) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; 256 << 10];
    let mut position = 0;
    loop {
        match Blob::read_at(file, &mut chunk, position) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&chunk[..length]);
                position += length as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reports progress, and ends the work on cancellation.
struct Watcher<'w> {
    work: &'w MountWork,
    importer: &'w Importer<'w>,
    done: u64,
}

impl Watch for Watcher<'_> {
    fn read(&self, bytes: u64) {
        self.importer.progress.event(Event::MountAdvanced(self.work, bytes));
    }

    fn is_cancelled(&self) -> bool {
        self.importer.cancel.is_cancelled()
    }
}

impl Observer for Watcher<'_> {
    fn file(&mut self, _path: &[u8]) {}

    fn read(&mut self, bytes: u64) {
        self.done += bytes;
        self.importer.progress.event(Event::MountAdvanced(self.work, self.done));
    }

    fn is_cancelled(&self) -> bool {
        self.importer.cancel.is_cancelled()
    }
}

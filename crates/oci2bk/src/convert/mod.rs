//! Executes a plan.
//!
//! ```text
//! lock -> read what is there -> places -> staging: blobs, snapshots -> databases -> verify -> publish
//! ```
//! After any error the root is as it was.
//!
//! A [`Report`] says what was done, and its [`Shares`] what existed before; a [`ConvertError`] says whether
//! the input is wrong.
//!
//! ```
//! use oci2bk::convert::{
//!     ConvertError, LeftPacked, PackedReason, Report, Share, Shares, StoreBlobs, check_root,
//! };
//! use oci2bk::{CacheExport, Cancel, Converter, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/zstd/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read("fixtures/zstd/keys/cache.db", &limits)?;
//! let plan = Plan::new(&exports, &keyring)?;
//!
//! let temporary = tempfile::tempdir()?;
//! let root = temporary.path().join("buildkit");
//! // Before anything is read: is a daemon running on it? A missing root will be created.
//! check_root(&root)?;
//!
//! let cancel = Cancel::new();
//! cancel.cancel();
//! let cancelled = Converter::new().cancel(cancel).convert(&plan, &root);
//! assert!(matches!(cancelled, Err(ConvertError::Cancelled)));
//! assert!(!root.exists());
//!
//! let converter = Converter::new().extract(false);
//! let report: Report = converter.convert(&plan, &root)?;
//! let Shares { records, steps, .. } = report.shares;
//! let Share { existing, added, .. } = records;
//! assert_eq!((existing, added), (0, plan.layers.len()));
//! assert_eq!(steps.added, plan.steps.len());
//! // Nothing is unpacked, so the size of the state is that of its blobs.
//! assert_eq!(report.collected_bytes, report.blob_bytes);
//!
//! // If layers are to be unpacked, some may not be needed, and not be possible to unpack.
//! for LeftPacked { layer, reason, .. } in &report.left_packed {
//!     match reason {
//!         PackedReason::CannotUnpack(why) => println!("{layer}: {why}"),
//!         PackedReason::LiesOn(below) => println!("{layer} lies on {below}"),
//!         _ => println!("{layer}"),
//!     }
//! }
//!
//! // A state without blobs and trees would be of no use.
//! let nothing = converter.clone().blobs(StoreBlobs::None).convert(&plan, &root);
//! assert!(matches!(nothing, Err(error @ ConvertError::NothingToStore) if !error.is_input()));
//!
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod below;
mod blobs;
mod chains;
mod check;
mod converter;
mod copying;
mod data;
mod error;
mod images;
mod options;
mod packed;
mod site;
mod snapshots;
mod store;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bkstate::ids::WorkerId;
use bkstate::root::Location;
use bkstate::state::{Existing, Scratch, Staging, StagingError, Written};
use bkstate::{Digest, Root, Time};

use crate::assemble::{Tree, assemble};
use crate::cancel::Cancel;
use crate::layout::BadCopy;
use crate::limits::Limits;
use crate::mend;
pub use crate::mend::Legacy;
pub use crate::place::{NoPlace, Share, Shares};
use crate::place::{Places, Scope, steps};
use crate::plan::{Plan, SnapshotIndex};
use crate::progress::{self, Progress, Stage};
use crate::unpack::{Allowance, check_marks, check_rights};
use crate::verify::Verifier;

pub use converter::Converter;
pub use error::{ConvertError, LinkError};
pub use options::StoreBlobs;
pub use packed::{LeftPacked, PackedReason};
use site::Site;

/// The settings of a conversion; [`Converter`] documents each.
#[derive(Debug, Clone, Copy)]
struct Options {
    extract: bool,
    jobs: NonZeroUsize,
    blobs: StoreBlobs,
    trust_blobs: bool,
    last_used: Option<Time>,
    limits: Limits,
}

/// The settings of a run, and its observers.
struct Run<'a> {
    options: &'a Options,
    progress: &'a Arc<dyn Progress>,
    cancel: &'a Cancel,
}

impl Run<'_> {
    fn check(&self) -> Result<(), ConvertError> {
        self.cancel.check(ConvertError::Cancelled)
    }
}

impl Run<'_> {
    /// Returns a verifier for comparing trees in this run.
    fn verifier(&self) -> Verifier<'static> {
        Verifier::new()
            .jobs(self.options.jobs)
            .limits(self.options.limits)
            .progress(Arc::clone(self.progress))
            .cancel(self.cancel.clone())
    }
}

impl Options {
    fn scope(&self) -> Scope {
        Scope { extract: self.extract, blobs: self.blobs != StoreBlobs::None }
    }
}

/// The result of a conversion. As JSON it is the part of [the document](crate::document::Conversion) that the plan does
/// not have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The root; for a Docker volume, the directory with its files.
    pub root: PathBuf,
    /// The id of the worker, which is that of the existing state, if any.
    pub worker_id: WorkerId,
    /// What existed before, and what is new.
    pub shares: Shares,
    /// Existing blobs of the root that were damaged, replaced by those of the cache.
    pub mended: BTreeSet<Digest>,
    /// The results for layers that a daemon before v0.33.1 unpacked.
    pub legacy: Legacy,
    /// The layers that were read and have bytes after their gzip streams, with the number of bytes. They are
    /// [ignored](crate::unpack::Stream::ignored).
    pub trailing: BTreeMap<Digest, u64>,
    /// Unusable copies of blobs that were skipped, because another layout has a good one.
    pub bad_copies: BTreeSet<BadCopy>,
    /// The blobs that were [hard-linked](StoreBlobs::Hardlink) and for which the kernel does not tell whether
    /// another process has them open for writing.
    pub unleased: BTreeSet<Digest>,
    /// The layers that stay packed although layers were to be unpacked, lower ones first.
    pub left_packed: Vec<LeftPacked>,
    /// Number of blobs stored, including replacements of damaged ones.
    pub blobs: usize,
    /// Their total size in bytes.
    pub blob_bytes: u64,
    /// Number of snapshots unpacked.
    pub snapshots: usize,
    /// Total size of the uncompressed layers, in bytes.
    pub unpacked_bytes: u64,
    /// Number of entries in the layers' archives.
    pub entries: u64,
    /// Number of entries that were left out of the trees for a rootless daemon
    /// ([`Unpacked::left_out`](crate::unpack::Unpacked::left_out)).
    pub left_out: u64,
    /// Size of the snapshots on disk, in bytes.
    pub disk_bytes: u64,
    /// Size of the whole state in bytes, including the existing one, as garbage collection counts it. See
    /// [`State::collected_bytes`](bkstate::state::State::collected_bytes).
    pub collected_bytes: u64,
}

fn convert(plan: &Plan, root: Location, run: &Run<'_>) -> Result<Report, ConvertError> {
    let &Run { options, progress, .. } = run;
    run.check()?;
    if options.blobs == StoreBlobs::None && !options.extract {
        return Err(ConvertError::NothingToStore);
    }
    plan.check()?;
    warnings::of_place(plan, &root, &**progress)?;
    let root = Root::open_to_write(root)?;
    let mut existing = root.existing(&plan.worker_id)?;
    images::check(plan, &existing, options.blobs)?;
    let stage = |stage: Stage| progress::stage(&**progress, stage);
    let mut legacy = Legacy::default();
    if mend::is_needed(plan, &existing) {
        let done = stage(Stage::Trees);
        let scratch = Scratch::create(&root)?;
        let verifier = run.verifier();
        let unpacked = options.extract;
        if unpacked {
            try_rights(&root, &scratch)?;
        }
        legacy = mend::mend_with(plan, &mut existing, unpacked, scratch.dir(), &verifier)
            .map_err(ConvertError::of_comparison)?;
        done();
    }
    let mut places = Places::new(plan, &existing, options.scope());
    let left = chains::leave_packed(plan, &existing, &mut places, options)?;
    let allowance = blobs::allowance(plan, &places, &options.limits)?;
    if places.unpack_something() {
        try_rights(&root, &Scratch::create(&root)?)?;
    }
    let last_used = options.last_used.or_else(|| plan.newest());
    let reused = check::reused(plan, &places, &existing);
    let mut mended = BTreeSet::new();
    if !options.trust_blobs && !reused.is_empty() {
        let done = stage(Stage::Check);
        mended = check::damaged(&reused, &existing, run)?;
        places.blobs.extend(&mended);
        done();
    }
    let mut report = Report { mended, legacy, ..Report::new(&root, plan, &existing, &places) };
    warnings::of_existing(&report, &**progress);
    if places.need_no_files() {
        let state = assemble(plan, &places, &existing.state, &BTreeMap::new(), last_used)?;
        if existing.is_all_of(&state) {
            report.collected_bytes = state.collected_bytes(existing.store());
            existing.remove_leftovers()?;
            Staging::remove_dead_run(&root)?;
            return Ok(report);
        }
    }

    let staging = Staging::begin(&root, &existing)?;
    let work =
        Work { plan, existing: &existing, staging: &staging, allowance: &allowance, last_used };
    match work.stage(&mut places, left, run, &mut report) {
        Ok(written) => {
            // From here on it is faster to continue than to undo.
            let done = progress::stage(&**run.progress, Stage::Publish);
            staging.publish(written)?;
            done();
            Ok(report)
        }
        Err(ConvertError::Cancelled) => {
            // A million files are not removed in an instant.
            let started = Instant::now();
            staging.abandon(&|| started.elapsed() < UNDOING);
            Err(ConvertError::Cancelled)
        }
        Err(error) => Err(error),
    }
}

/// How long a cancelled conversion removes what it unpacked.
const UNDOING: Duration = Duration::from_millis(200);

/// What is staged, from what and where.
struct Work<'a> {
    plan: &'a Plan,
    existing: &'a Existing,
    staging: &'a Staging<'a>,
    allowance: &'a Allowance,
    last_used: Option<Time>,
}

impl Work<'_> {
    /// Stores blobs, unpacks layers, writes the databases, and verifies all of it. Layers in `left` stay packed,
    /// and others that cannot be unpacked.
    fn stage(
        &self,
        places: &mut Places,
        left: BTreeMap<SnapshotIndex, PackedReason>,
        run: &Run<'_>,
        report: &mut Report,
    ) -> Result<Written, ConvertError> {
        let &Self { plan, existing, staging, last_used, .. } = self;
        let trees = self.store_and_unpack(places, left, run, report)?;
        run.check()?;
        let done = progress::stage(&**run.progress, Stage::Verify);
        let state = assemble(plan, places, &existing.state, &trees, last_used)?;
        let written = staging.write(&state)?;
        run.check()?;
        let parts = staging.parts(&written)?;
        report.collected_bytes = state.collected_bytes(&parts.blobs);
        // The state read back is equally large, and both need not be in memory at the same time.
        drop(state);
        let damage = existing.new_damage(parts.verify_databases()?);
        if !damage.is_empty() {
            return Err(ConvertError::Damaged { damage });
        }
        done();
        run.check()?;
        Ok(written)
    }

    /// Stores blobs and unpacks layers. Returns the trees.
    fn store_and_unpack(
        &self,
        places: &mut Places,
        left: BTreeMap<SnapshotIndex, PackedReason>,
        run: &Run<'_>,
        report: &mut Report,
    ) -> Result<BTreeMap<SnapshotIndex, Tree>, ConvertError> {
        let &Self { plan, existing, staging, allowance, .. } = self;
        let site = Site::new(plan, places, existing, staging, allowance, run.options.blobs);
        let done = progress::stage(&**run.progress, Stage::Layers);
        blobs::store_documents(&site)?;
        let worked = blobs::store_and_unpack(&site, run)?;
        report.trailing = worked.trailing;
        report.bad_copies = worked.bad_copies;
        report.unleased = site.unleased();
        done();
        warnings::of_blobs(report, &**run.progress);
        if !run.options.extract {
            return Ok(BTreeMap::new());
        }
        let done = progress::stage(&**run.progress, Stage::Settle);
        let mut settled = snapshots::settle(&site, worked.snapshots, run)?;
        report.snapshots = settled.trees.len();
        report.unpacked_bytes = settled.bytes;
        report.entries = settled.entries;
        report.left_out = settled.left_out;
        let bytes = settled.trees.values().map(|tree| tree.usage.size.cast_unsigned());
        report.disk_bytes = bytes.sum();
        places.leave_packed(settled.left.keys());
        settled.left.extend(left);
        report.left_packed = packed::report(plan, settled.left, &settled.limits);
        report.shares = shares(plan, existing, places);
        done();
        warnings::of_trees(report, &**run.progress);
        Ok(settled.trees)
    }
}

/// Removes what a conversion into `root` left there that was killed or cancelled. The next conversion does the
/// same; nothing else needs it.
///
/// A conversion that is cancelled returns soon. Of what it unpacked it has removed as much as it could in a
/// fraction of a second; the rest can be some million files. Where the disk matters more than the time, call
/// this, perhaps on a thread of its own.
///
/// ```
/// use oci2bk::convert::remove_remains;
///
/// let root = tempfile::tempdir()?;
/// std::fs::create_dir(root.path().join(".oci2bk-staging"))?;
/// std::fs::write(root.path().join(".oci2bk-staging/file"), "of a run that was killed")?;
/// remove_remains(root.path())?;
/// assert!(!root.path().join(".oci2bk-staging").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error if the root is in use, is not one, or something cannot be removed. A root that does not
/// exist has no remains.
pub fn remove_remains(root: impl Into<Location>) -> Result<(), ConvertError> {
    let Some(root) = Root::open_if_there(root.into())? else { return Ok(()) };
    Ok(Staging::remove_dead_run(&root).map_err(StagingError::from)?)
}

impl Report {
    /// Returns the report of a conversion that has not unpacked anything yet.
    fn new(root: &Root, plan: &Plan, existing: &Existing, places: &Places) -> Self {
        let stored = || plan.blobs.iter().filter(|(digest, _)| places.blobs.contains(digest));
        Self {
            root: root.path().to_owned(),
            worker_id: existing.state.worker_id.clone(),
            shares: shares(plan, existing, places),
            mended: BTreeSet::new(),
            legacy: Legacy::default(),
            trailing: BTreeMap::new(),
            bad_copies: BTreeSet::new(),
            unleased: BTreeSet::new(),
            left_packed: Vec::new(),
            blobs: stored().count(),
            blob_bytes: stored().fold(0, |sum, (_, blob)| sum.saturating_add(blob.size)),
            snapshots: 0,
            unpacked_bytes: 0,
            entries: 0,
            left_out: 0,
            disk_bytes: 0,
            collected_bytes: 0,
        }
    }
}

fn try_rights(root: &Root, scratch: &Scratch<'_>) -> Result<(), ConvertError> {
    let rights = check_marks(scratch.dir(), root.worker())
        .and_then(|()| check_rights(scratch.dir(), root.worker()));
    rights.map_err(|source| ConvertError::Rights { root: root.path().to_owned(), source })
}

fn shares(plan: &Plan, existing: &Existing, places: &Places) -> Shares {
    let steps: BTreeSet<_> = steps::keys(plan, &existing.state.solver).into_iter().collect();
    let known = steps.iter().filter(|key| existing.state.solver.links.contains_key(key)).count();
    let steps = Share { existing: known, added: steps.len() - known };
    Shares { steps, ..places.shares(plan, existing) }
}

/// Rejects a root that a conversion could not use, without changing anything: one in use by a daemon, one
/// with only another worker, one that other users can change, or a directory of something else.
///
/// # Errors
/// Returns [`ConvertError::Open`], or [`ConvertError::Existing`] if it has another worker's state. A root
/// that does not exist is accepted.
pub fn check_root(root: impl Into<Location>) -> Result<(), ConvertError> {
    match Root::check_to_write(root)? {
        Some(root) => Ok(Existing::check_workers(&root)?),
        None => Ok(()),
    }
}

fn preview(plan: &Plan, root: Location, run: &Run<'_>) -> Result<Shares, ConvertError> {
    let &Run { options, progress, .. } = run;
    plan.check()?;
    warnings::of_place(plan, &root, &**progress)?;
    let worker = root.worker().clone();
    let existing = match Root::open_if_there(root)? {
        Some(root) => root.existing(&plan.worker_id)?,
        None => Existing::nothing(worker, plan.worker_id.clone()),
    };
    images::check(plan, &existing, options.blobs)?;
    let mut places = Places::new(plan, &existing, options.scope());
    chains::leave_packed(plan, &existing, &mut places, options)?;
    blobs::allowance(plan, &places, &options.limits)?;
    Ok(shares(plan, &existing, &places))
}

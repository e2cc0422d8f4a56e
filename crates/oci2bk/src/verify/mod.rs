//! Verifies a whole root: its databases, its blobs and, if requested, its unpacked trees.
//!
//! Nothing in the root is changed, so it may be on a read-only file system. As root, or as its owner, access
//! times do not change either, except those of symbolic links in trees.
//!
//! [`bkstate::state::verify_databases`] checks the databases. This module hashes every blob, since a daemon never does
//! so again, and compares the trees with their layers.
//!
//! Damage is data: its kind in a word, a message, and what a daemon would do about it.
//!
//! ```
//! use oci2bk::verify::{Counts, Damage, Difference, Report, TreeDamage};
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
//!
//! # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
//! # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! # let directory = tempfile::tempdir()?;
//! # Converter::new().extract(false).convert(&plan, &directory)?;
//! // A root that a conversion has made, with a bit flipped by the disk.
//! let blob = plan.blobs.keys().next().expect("the cache has layers");
//! let path = directory.path().join("runc-overlayfs/content/blobs/sha256").join(blob.hex());
//! let mut content = std::fs::read(&path)?;
//! content[100] ^= 1;
//! # std::fs::remove_file(&path)?;
//! std::fs::write(&path, content)?;
//!
//! let Report { damage, counts, .. } = Verifier::new().verify(&Root::open(&directory)?)?;
//! let Counts { blobs, .. } = counts;
//! assert_eq!(blobs, plan.blobs.len());
//! let [damage] = damage.as_slice() else { panic!("{damage:?}") };
//! assert!(damage.to_string().contains(&blob.to_string()));
//! println!("{}: {damage}: {}", damage.kind(), damage.consequence());
//! // With `trees` there can also be differences between a tree and its layer.
//! match damage {
//!     Damage::State(_) => {}
//!     Damage::Tree(TreeDamage::Entry { difference: Difference::Content, path, .. }) => {
//!         panic!("{path} has other content: {} {}", damage.kind(), damage.consequence())
//!     }
//!     _ => panic!("nothing is unpacked"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod against;
pub(crate) mod blobs;
mod damage;
mod data;
mod described;
mod images;
pub(crate) mod trees;
mod witnesses;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::dir::DirError;
use bkstate::layers;
use bkstate::state::{State, dated_ahead};
use bkstate::{Root, Time};

use crate::cancel::Cancel;
use crate::degree::Degree;
use crate::limits::Limits;
use crate::parallel::processors;
use crate::plan::{BrokenPlan, Plan};
use crate::progress::{self, Progress, Silent, Stage};
use crate::unpack::{EntryName, RightsError, UnpackError};

pub use crate::mend::MendError;
use crate::mend::mend_root;
pub use against::{Against, AgainstDamage};
pub use damage::Damage;
pub use described::LayerDamage;
pub use trees::{Difference, TreeDamage};

/// Verifies roots.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
///
/// use oci2bk::verify::{Counts, Report, VerifyError};
/// use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan, Root, Verifier};
///
/// # let limits = Limits::default();
/// # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
/// # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// # let directory = tempfile::tempdir()?;
/// # Converter::new().extract(false).convert(&plan, &directory)?;
/// // A root that a conversion has made.
/// let root = Root::open(&directory)?;
/// let show = |event: Event<'_>| println!("{event:?}");
/// let cancel = Cancel::new();
/// let verifier = Verifier::new()
///     // Nothing is unpacked here. Otherwise the comparison would require root.
///     .trees(false)
///     // Dates after this time count as in the future.
///     .now("2026-11-29T12:00:00Z".parse()?)
///     .jobs(NonZeroUsize::MIN)
///     .limits(limits)
///     .progress(Arc::new(show))
///     .cancel(cancel.clone());
///
/// let Report { counts, damage, leftovers, .. } = verifier.verify(&root)?;
/// assert!(damage.is_empty() && leftovers.is_empty());
/// let Counts { records, blobs, .. } = counts;
/// assert_eq!((records, blobs), (plan.layers.len(), plan.blobs.len()));
///
/// cancel.cancel();
/// assert!(matches!(verifier.verify(&root), Err(VerifyError::Cancelled)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Verifier<'p> {
    trees: bool,
    now: Option<Time>,
    against: Option<&'p Plan>,
    pub(crate) jobs: NonZeroUsize,
    pub(crate) limits: Limits,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) cancel: Cancel,
}

/// What was verified, and what was found. As JSON it is what the command prints.
///
/// ```
/// let mut report = oci2bk::verify::Report::default();
/// report.root = "/var/lib/buildkit".into();
/// let json = oci2bk::text::to_json_line(&report)?;
/// assert!(json.starts_with(r#"{"root":"/var/lib/buildkit","sound":true,"#), "{json}");
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The root.
    pub root: PathBuf,
    /// The amounts.
    pub counts: Counts,
    /// The degree of warmth; `None` if the root has no layers, or if a database cannot be read.
    pub degree: Option<Degree>,
    /// The damage.
    pub damage: Vec<Damage>,
    /// Leftovers of a daemon's normal operation, which it removes by itself; and dates in the future, if the
    /// [current time](Verifier::now) is given.
    pub leftovers: Vec<Damage>,
    /// How much of the caches is in the root, if there is a [plan to compare with](Verifier::against).
    pub against: Option<Against>,
    /// Number of legacy layers that were [mended](Verifier::mend), if that was asked for. Everything else is as it was
    /// before.
    pub mended: Option<usize>,
}

/// The amounts in a state. All are zero if a database cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of keys of the solver.
    pub keys: usize,
    /// Number of keys with results.
    pub results: usize,
    /// Number of cache records.
    pub records: usize,
    /// Number of snapshots.
    pub snapshots: usize,
    /// Number of hashed blobs.
    pub blobs: usize,
    /// Their total size in bytes.
    pub blob_bytes: u64,
    /// Number of hashed images with packed trees.
    pub images: usize,
    /// Their total size in bytes.
    pub image_bytes: u64,
    /// Number of unpacked trees compared with their layers, if that was [asked for](Verifier::trees).
    pub trees: Option<usize>,
    /// Number of records that daemons since v0.33.1 use but do not share with images and caches, because they
    /// depend on layers that an older daemon unpacked ([`bkstate::layers`]). [`Verifier::mend`] changes that.
    pub legacy: usize,
}

impl Counts {
    fn of(state: &State) -> Self {
        let results = state.solver.results.values().filter(|results| !results.is_empty());
        Self {
            keys: state.solver.links.len(),
            results: results.count(),
            records: state.records.by_id.len(),
            snapshots: state.snapshots.by_name.len(),
            legacy: layers::depend_on_legacy(&state.records).len(),
            ..Self::default()
        }
    }
}

/// The findings of a verification.
struct Findings {
    report: Report,
    /// The ids of the snapshots that match their layers.
    sound: BTreeSet<u64>,
    /// Whether a conversion can add to the databases.
    is_usable: bool,
}

/// Why a root cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It has no state, or cannot be examined.
    #[error(transparent)]
    State(#[from] bkstate::state::VerifyError),
    /// The plan to compare with was changed after it was made, and is inconsistent.
    #[error(transparent)]
    Plan(#[from] BrokenPlan),
    /// A directory cannot be used.
    #[error("cannot verify the root")]
    Dir(#[from] DirError),
    /// There is no directory to unpack layers into.
    #[error(
        "cannot make a directory for temporary files; set TMPDIR to where there is room for layers"
    )]
    Temporary(#[source] std::io::Error),
    /// Layers cannot be unpacked into the directory for temporary files, whatever their content.
    /// [`trees(false)`](Verifier::trees) does not need it.
    #[error(
        "cannot unpack layers to compare trees with them; set TMPDIR to a directory where that can be \
         done"
    )]
    Rights(#[source] RightsError),
    /// A layer cannot be unpacked, for a reason other than the layer.
    #[error("cannot unpack a layer to compare a snapshot with it")]
    Unpack(#[source] Box<UnpackError>),
    /// An entry of an unpacked tree cannot be examined.
    #[error("cannot look at {path} in the tree {snapshot}/fs")]
    Entry {
        /// The id of the snapshot.
        snapshot: u64,
        /// The entry.
        path: EntryName,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The verification was [cancelled](Verifier::cancel).
    #[error("the verification was cancelled")]
    Cancelled,
}

impl<'p> Verifier<'p> {
    /// Creates a verifier that does not compare trees, with one job per processor, within the default limits.
    pub fn new() -> Self {
        Self {
            trees: false,
            now: None,
            against: None,
            jobs: processors(),
            limits: Limits::default(),
            progress: Arc::new(Silent),
            cancel: Cancel::new(),
        }
    }

    /// Sets whether to compare the unpacked trees with their layers too. That requires root, and space for
    /// the largest layers in the directory for temporary files.
    #[must_use]
    pub fn trees(mut self, trees: bool) -> Self {
        self.trees = trees;
        self
    }

    /// Sets the current time. With it, dates more than a day ahead are among the
    /// [leftovers](Report::leftovers); nothing else depends on it.
    #[must_use]
    pub fn now(mut self, now: Time) -> Self {
        self.now = Some(now);
        self
    }

    /// Compares the root with `plan`, made from the caches and the key sources from which the root was made.
    /// Contradictions are damage.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::state::State;
    /// use oci2bk::verify::{Against, AgainstDamage, Damage, Report};
    /// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
    ///
    /// let limits = Limits::default();
    /// let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
    /// let mut keyring = Keyring::for_exports(&exports);
    /// keyring.read("fixtures/index/keys/provenance.json", &limits)?;
    /// let plan = Plan::new(&exports, &keyring)?;
    /// # let directory = tempfile::tempdir()?;
    /// # Converter::new().extract(false).convert(&plan, &directory)?;
    /// // A root that was made from it, and is unused.
    /// let Report { damage, against, .. } =
    ///     Verifier::new().against(&plan).verify(&Root::open(&directory)?)?;
    /// let Some(Against { steps, missing_steps, other_steps, .. }) = against else { panic!() };
    /// assert!(damage.is_empty());
    /// assert_eq!((steps, missing_steps, other_steps), (plan.steps.len(), 0, 0));
    ///
    /// // A consistent falsification: two steps have each other's results.
    /// let mut state = Root::open(directory.path())?.state()?;
    /// let with_results = state.solver.results.iter().filter(|(_, results)| !results.is_empty());
    /// let [a, b] = [0, 1].map(|n| with_results.clone().nth(n).expect("a step").0.clone());
    /// let (of_a, of_b) = (state.solver.results[&a].clone(), state.solver.results[&b].clone());
    /// # assert_ne!(of_a, of_b);
    /// # for (result, from, to) in of_a.keys().map(|r| (r, &a, &b)).chain(of_b.keys().map(|r| (r, &b, &a))) {
    /// #     let keys = state.solver.by_result.get_mut(result).expect("an index");
    /// #     *keys = keys.iter().map(|key| if key == from { to.clone() } else { key.clone() }).collect();
    /// # }
    /// state.solver.results.insert(a, of_b);
    /// state.solver.results.insert(b, of_a);
    /// # std::fs::remove_file(directory.path().join("cache.db"))?;
    /// state.solver.write(&std::fs::File::create_new(directory.path().join("cache.db"))?)?;
    /// let root = Root::open(&directory)?;
    /// assert!(Verifier::new().verify(&root)?.damage.is_empty());
    /// let damage = Verifier::new().against(&plan).verify(&root)?.damage;
    /// let is_lie = |damage: &Damage| {
    ///     matches!(damage, Damage::Against(AgainstDamage::ResultOfOther { .. }))
    /// };
    /// assert!(damage.len() == 2 && damage.iter().all(is_lie), "{damage:#?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn against(mut self, plan: &'p Plan) -> Self {
        self.against = Some(plan);
        self
    }

    /// Sets the number of blobs or trees to work on in parallel; the default is the number of processors.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Sets the limits on unpacking.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events to `progress`, from several threads.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`VerifyError::Cancelled`] as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Verifies the state in `root`.
    ///
    /// # Errors
    /// Returns an error if there is no state, or a part of it cannot be examined. Damage is not an error.
    pub fn verify(&self, root: &Root) -> Result<Report, VerifyError> {
        Ok(self.look_at(root)?.report)
    }

    /// Verifies the state in `root` with its trees, and gives the legacy layers that pass, with all below
    /// them, the keys by which daemons since v0.33.1 share them. The report is from before that, and has the number of
    /// changed layers. Nothing else is changed, and nothing at all if the databases are damaged.
    ///
    /// ```
    /// use oci2bk::verify::MendError;
    /// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
    ///
    /// # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &Limits::default())?;
    /// # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
    /// # let directory = tempfile::tempdir()?;
    /// # Converter::new().extract(false).convert(&plan, &directory)?;
    /// match Verifier::new().mend(&Root::open(&directory)?) {
    ///     // No daemon before v0.33.1 has used a new root.
    ///     Ok(report) => assert_eq!((report.counts.legacy, report.mended), (0, Some(0))),
    ///     Err(MendError::Verify(error)) => panic!("the root cannot be read: {error}"),
    ///     Err(error) => panic!("{error}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`verify`](Self::verify); also if the databases cannot be written.
    pub fn mend(&self, root: &Root) -> Result<Report, MendError> {
        let Findings { mut report, sound, is_usable } = self.clone().trees(true).look_at(root)?;
        let is_needed = report.counts.legacy > 0 && is_usable;
        report.mended = Some(if is_needed { mend_root(root, &sound, self)? } else { 0 });
        Ok(report)
    }

    fn look_at(&self, root: &Root) -> Result<Findings, VerifyError> {
        self.check()?;
        self.against.map_or(Ok(()), Plan::check)?;
        let done = self.stage(Stage::Verify);
        let verified = root.verify_databases()?;
        let is_usable = verified.damage.iter().all(bkstate::state::Damage::is_harmless);
        let mut report = Report {
            root: root.path().to_owned(),
            counts: verified.state.as_ref().map(Counts::of).unwrap_or_default(),
            degree: verified.state.as_ref().and_then(Degree::of_state),
            damage: verified.damage.into_iter().map(Damage::State).collect(),
            leftovers: verified.leftovers.into_iter().map(Damage::State).collect(),
            against: None,
            mended: None,
        };
        done();
        // Blobs and trees are found through the databases.
        let mut sound = BTreeSet::new();
        let Some(state) = verified.state else {
            return Ok(Findings { report, sound, is_usable });
        };
        let parts = root.parts()?;
        if let Some(now) = self.now {
            report.leftovers.extend(dated_ahead(&state, now).into_iter().map(Damage::State));
        }
        if let Some(plan) = self.against {
            let (counts, found) = against::compare(&state, plan, verified.used);
            report.against = Some(counts);
            report.damage.extend(found.into_iter().map(Damage::Against));
        }

        let done = self.stage(Stage::Blobs);
        let hashed = blobs::hash(&state, &parts, self)?;
        report.counts.blobs = hashed.blobs;
        report.counts.blob_bytes = hashed.bytes;
        report.damage.extend(hashed.damage.into_iter().map(Damage::from));
        let sound_blobs = hashed.sound;
        let hashed = images::hash(&parts, self)?;
        report.counts.images = hashed.images;
        report.counts.image_bytes = hashed.bytes;
        report.damage.extend(hashed.damage.into_iter().map(|damage| Damage::State(damage.into())));
        let described = described::check(&state, &parts, &sound_blobs)?;
        report.damage.extend(described.into_iter().map(Damage::Layer));
        done();

        let mut compared_trees = BTreeSet::new();
        if self.trees {
            let done = self.stage(Stage::Trees);
            let compared = trees::compare(&state, &parts, self)?;
            sound = compared.sound();
            report.counts.trees = Some(compared.trees.len());
            report.damage.extend(compared.damage.into_iter().map(Damage::Tree));
            compared_trees = compared.trees;
            done();
        }
        let lost = witnesses::look_at(&state, &parts, &compared_trees, self)?;
        report.damage.extend(lost.into_iter().map(Damage::Tree));
        Ok(Findings { report, sound, is_usable })
    }

    /// Begins a stage; the returned function ends it.
    fn stage(&self, stage: Stage) -> impl FnOnce() {
        progress::stage(&*self.progress, stage)
    }

    pub(crate) fn check(&self) -> Result<(), VerifyError> {
        self.cancel.check(VerifyError::Cancelled)
    }
}

impl Default for Verifier<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trees, now, jobs, limits, cancel, .. } = self;
        f.debug_struct("Verifier")
            .field("trees", trees)
            .field("now", now)
            .field("jobs", jobs)
            .field("limits", limits)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}

//! Verifying a whole root: its databases, its blobs and, if asked to, its unpacked trees.
//!
//! Nothing in the root is changed, so it may be on a file system that is mounted read-only. As root,
//! or as its owner, not even the times change when things were last read, other than those of symbolic
//! links in trees.
//!
//! What the databases have to say is the matter of [`bkstate::state::verify`]. Here every blob is
//! hashed, since a daemon never does so again, and the trees are compared with their layers.
//!
//! Damage is data: what it is, in a word and a sentence, and what a daemon would make of it.
//!
//! ```
//! use oci2bk::verify::{Counts, Damage, Difference, Report, TreeDamage};
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
//!
//! # let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &Limits::default())?;
//! # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
//! # let directory = tempfile::tempdir()?;
//! # Converter::new().extract(false).convert(&plan, &directory)?;
//! // A root that a conversion has made, and a disk that has lost a bit.
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
mod described;
pub(crate) mod trees;
mod witnesses;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;

use bkstate::dir::DirError;
use bkstate::layers;
use bkstate::state::{State, dated_ahead};
use bkstate::{Root, Time};

use crate::cancel::Cancel;
use crate::degree::Degree;
use crate::limits::Limits;
use crate::parallel::processors;
use crate::plan::{BrokenPlan, Plan};
use crate::progress::{Event, Progress, Silent, Stage};
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
///
/// use oci2bk::verify::{Counts, Report, VerifyError};
/// use oci2bk::{CacheExport, Cancel, Converter, Event, Keyring, Limits, Plan, Root, Verifier};
///
/// # let limits = Limits::default();
/// # let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &limits)?;
/// # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// # let directory = tempfile::tempdir()?;
/// # Converter::new().extract(false).convert(&plan, &directory)?;
/// // A root that a conversion has made.
/// let root = Root::open(&directory)?;
/// let show = |event: Event<'_>| println!("{event:?}");
/// let cancel = Cancel::new();
/// let verifier = Verifier::new()
///     // Nothing is unpacked here. If it were, comparing it would take root.
///     .trees(false)
///     // When the future begins, in which nothing should be dated.
///     .now("2026-11-29T12:00:00Z".parse()?)
///     .jobs(NonZeroUsize::MIN)
///     .limits(limits)
///     .progress(&show)
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
    pub(crate) progress: &'p dyn Progress,
    pub(crate) cancel: Cancel,
}

/// What was verified, and what was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What there is.
    pub counts: Counts,
    /// How warm the root is; nothing if it has no layers, or if a database cannot be read.
    pub degree: Option<Degree>,
    /// What is wrong with it.
    pub damage: Vec<Damage>,
    /// What daemons leave behind in the normal course of things, and clear away by themselves; and what is
    /// dated in the future, if it is known [when that begins](Verifier::now).
    pub leftovers: Vec<Damage>,
    /// What of the caches is in the root, if there is [something to compare it with](Verifier::against).
    pub against: Option<Against>,
}

/// What there is in a state. All of it is zero if a database cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Keys of the solver.
    pub keys: usize,
    /// Keys with results.
    pub results: usize,
    /// Cache records.
    pub records: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked trees that were compared with their layers.
    pub trees: usize,
    /// Records that daemons since v0.33.1 use but share with no image or cache, as they depend on layers
    /// that an older daemon unpacked ([`bkstate::layers`]). [`Verifier::mend`] changes that.
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

/// What a look at a root gives.
struct Findings {
    report: Report,
    /// The ids of the snapshots that are what their layers unpack to.
    sound: BTreeSet<u64>,
    /// Whether something can be added to what the databases say.
    is_usable: bool,
}

/// Why a root could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It holds no state, or cannot be looked at.
    #[error(transparent)]
    State(#[from] bkstate::state::VerifyError),
    /// The plan to compare with was changed after it was made, and does not fit together.
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
    /// Layers cannot be unpacked into the directory for temporary files, whatever is in them.
    /// [`trees(false)`](Verifier::trees) does not take it.
    #[error(
        "cannot unpack layers to compare trees with them; set TMPDIR to a directory where that can be \
         done"
    )]
    Rights(#[source] RightsError),
    /// A layer could not be unpacked, for a reason other than the layer.
    #[error("cannot unpack a layer to compare a snapshot with it")]
    Unpack(#[source] Box<UnpackError>),
    /// An entry of an unpacked tree cannot be looked at.
    #[error("cannot look at {path} in the tree {snapshot}/fs")]
    Entry {
        /// The id of the snapshot.
        snapshot: u64,
        /// The entry.
        path: EntryName,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody [asked to stop](Verifier::cancel).
    #[error("the verification was cancelled")]
    Cancelled,
}

impl<'p> Verifier<'p> {
    /// A verifier that leaves the trees alone, with a job for each processor, within the default
    /// limits.
    pub fn new() -> Self {
        Self {
            trees: false,
            now: None,
            against: None,
            jobs: processors(),
            limits: Limits::default(),
            progress: &Silent,
            cancel: Cancel::new(),
        }
    }

    /// Whether to compare the unpacked trees with their layers too. That takes root, and room for the
    /// largest layers in the directory for temporary files.
    #[must_use]
    pub fn trees(mut self, trees: bool) -> Self {
        self.trees = trees;
        self
    }

    /// What time it is. With it, what is dated more than a day ahead is among the
    /// [leftovers](Report::leftovers); nothing else depends on it.
    #[must_use]
    pub fn now(mut self, now: Time) -> Self {
        self.now = Some(now);
        self
    }

    /// Compares the root with `plan`, made of the caches and the key sources that the root was made of. What
    /// contradicts them is damage.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::state::State;
    /// use oci2bk::verify::{Against, AgainstDamage, Damage, Report};
    /// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
    ///
    /// let limits = Limits::default();
    /// let exports = CacheExport::read_sources(&["../../fixtures/index/cache".parse()?], &limits)?;
    /// let mut keyring = Keyring::for_exports(&exports);
    /// keyring.read("../../fixtures/index/keys/provenance.json", &limits)?;
    /// let plan = Plan::new(&exports, &keyring)?;
    /// # let directory = tempfile::tempdir()?;
    /// # Converter::new().extract(false).convert(&plan, &directory)?;
    /// // A root that was made of it, and nobody has used.
    /// let Report { damage, against, .. } =
    ///     Verifier::new().against(&plan).verify(&Root::open(&directory)?)?;
    /// let Some(Against { steps, missing_steps, other_steps, .. }) = against else { panic!() };
    /// assert!(damage.is_empty());
    /// assert_eq!((steps, missing_steps, other_steps), (plan.steps.len(), 0, 0));
    ///
    /// // A consistent lie: two steps have each other's results.
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

    /// How many blobs or trees to work on at a time; by default as many as there are processors.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = jobs;
        self
    }

    /// What unpacking a layer may cost.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Tells `progress` what happens, from several threads.
    #[must_use]
    pub fn progress(mut self, progress: &'p dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`VerifyError::Cancelled`] as soon as `cancel` asks for it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Verifies the state in `root`.
    ///
    /// # Errors
    /// If there is no state, or the system refuses to look at it. Damage is not an error.
    pub fn verify(&self, root: &Root) -> Result<Report, VerifyError> {
        Ok(self.look_at(root)?.report)
    }

    /// Verifies the state in `root` with its trees, and gives the legacy layers that pass, with all
    /// below them, the keys by which daemons since v0.33.1 share them. How many, besides what was found
    /// before. Nothing else is changed, and nothing at all if the databases are damaged.
    ///
    /// ```
    /// use oci2bk::verify::MendError;
    /// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
    ///
    /// # let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &Limits::default())?;
    /// # let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
    /// # let directory = tempfile::tempdir()?;
    /// # Converter::new().extract(false).convert(&plan, &directory)?;
    /// match Verifier::new().mend(&Root::open(&directory)?) {
    ///     // No daemon before v0.33.1 has worked on a root that was just made.
    ///     Ok((report, mended)) => assert_eq!((report.counts.legacy, mended), (0, 0)),
    ///     Err(MendError::Verify(error)) => panic!("the root cannot be read: {error}"),
    ///     Err(error) => panic!("{error}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`verify`](Self::verify), or if the databases cannot be written.
    pub fn mend(&self, root: &Root) -> Result<(Report, usize), MendError> {
        let Findings { report, sound, is_usable } = self.clone().trees(true).look_at(root)?;
        if report.counts.legacy == 0 || !is_usable {
            return Ok((report, 0));
        }
        let mended = mend_root(root, &sound, self)?;
        Ok((report, mended))
    }

    fn look_at(&self, root: &Root) -> Result<Findings, VerifyError> {
        self.check()?;
        self.against.map_or(Ok(()), Plan::check)?;
        let done = self.stage(Stage::Verify);
        let verified = root.verify()?;
        let is_usable = verified.damage.iter().all(bkstate::state::Damage::is_harmless);
        let mut report = Report {
            counts: verified.state.as_ref().map(Counts::of).unwrap_or_default(),
            degree: verified.state.as_ref().and_then(Degree::of_state),
            damage: verified.damage.into_iter().map(Damage::State).collect(),
            leftovers: verified.leftovers.into_iter().map(Damage::State).collect(),
            against: None,
        };
        done();
        // Blobs and trees are known by what the databases say of them.
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
        let described = described::check(&state, &parts, &hashed.sound)?;
        report.damage.extend(described.into_iter().map(Damage::Layer));
        done();

        let mut compared_trees = BTreeSet::new();
        if self.trees {
            let done = self.stage(Stage::Trees);
            let compared = trees::compare(&state, &parts, self)?;
            sound = compared.sound();
            report.counts.trees = compared.trees.len();
            report.damage.extend(compared.damage.into_iter().map(Damage::Tree));
            compared_trees = compared.trees;
            done();
        }
        let lost = witnesses::look_at(&state, &parts, &compared_trees, self)?;
        report.damage.extend(lost.into_iter().map(Damage::Tree));
        Ok(Findings { report, sound, is_usable })
    }

    /// Begins a stage; what is returned ends it.
    fn stage(&self, stage: Stage) -> impl FnOnce() {
        self.progress.event(Event::StageStarted(stage));
        move || self.progress.event(Event::StageFinished(stage))
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

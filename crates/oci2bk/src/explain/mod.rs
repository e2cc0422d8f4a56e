//! Explains why a build is cached, or is not.
//!
//! A daemon looks up each step of a build by its op and the keys of its inputs. [`Explainer`] does the same
//! with the records of an export or the state of a root. For each step it says whether it is found, and for
//! the first missing one, how it differs. See [`docs/format/solver.md`].
//!
//! ```
//! use oci2bk::explain::{
//!     Cache, Contents, Difference, Explained, Explainer, Explanation, Nearest, Outcome, Reason,
//!     StepIndex,
//! };
//! use oci2bk::keys::read_source;
//! use oci2bk::llb::op::Kind;
//! use oci2bk::{CacheExport, Limits};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_all(&"fixtures/index/cache".parse()?, &limits)?;
//! let mut cache = Cache::of_exports(&exports);
//! // The ops of the cached build, for comparison.
//! let provenance = "fixtures/index/keys/provenance.json".as_ref();
//! cache.learn(read_source(provenance, &limits)?, &limits)?;
//! cache.learn_layouts(&exports)?;
//! let explainer = Explainer::new(&cache, &limits);
//!
//! // The build that made the cache is found in it, if the files are unchanged.
//! let sources = read_source(provenance, &limits)?;
//! let mut build = (**sources[0].graph.as_ref().expect("provenance has it")).clone();
//! let explanation: Explanation = explainer.explain(&build)?;
//! assert!(explanation.first_miss().is_none());
//! let copy = explanation.steps.iter().find(|step| step.outcome == Outcome::IfSame);
//! let Some(Reason::Contents { inputs }) = copy.and_then(|step| step.reason.as_ref()) else {
//!     panic!("a step copies from the context");
//! };
//! let Contents { step, paths, .. } = &inputs[0];
//! let step: StepIndex = *step;
//! assert_eq!(paths, &["/busybox"]);
//! assert!(explanation.steps[step].name.contains("context"));
//!
//! // The same with another value of a build argument.
//! for step in &mut build.steps {
//!     if let Kind::Exec(exec) = &mut step.op.kind {
//!         exec.meta.env.iter_mut().filter(|v| *v == "LEVEL=3").for_each(|v| *v = "LEVEL=4".into());
//!     }
//! }
//! let explanation = explainer.explain(&build)?;
//! let Explained { name, reason, .. } = explanation.first_miss().expect("its commands are others");
//! let Some(Reason::Op { nearest: Some(Nearest { differences, .. }), .. }) = reason else {
//!     panic!("{name}: {reason:?}");
//! };
//! let Difference { field, cached, asked, .. } = &differences[0];
//! assert_eq!(field, "meta.env.LEVEL");
//! println!("{name}: {field} was {cached:?} and is {asked:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The state of a daemon is explained in the same way:
//!
//! ```
//! use oci2bk::explain::{Cache, ExplainError, Explainer};
//! use oci2bk::keys::read_source;
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root};
//!
//! let limits = Limits::default();
//! let metadata = "fixtures/min/keys/metadata.json";
//! # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
//! # let mut keyring = Keyring::for_exports(&exports);
//! # keyring.read(metadata, &limits)?;
//! # let plan = Plan::new(&exports, &keyring)?;
//! # let directory = tempfile::tempdir()?;
//! # Converter::new().extract(false).convert(&plan, &directory)?;
//! // A root that a conversion has made for a daemon of the newest release.
//! let state = Root::open(&directory)?.state()?;
//! let cache = Cache::of_state(&state, plan.target);
//! let sources = read_source(metadata.as_ref(), &limits)?;
//! let build = sources[0].graph.as_ref().expect("provenance has it");
//! assert!(Explainer::new(&cache, &limits).explain(build)?.first_miss().is_none());
//!
//! // A root without any builds.
//! let empty = Cache::of_exports(&[]);
//! let explainer = Explainer::new(&empty, &limits);
//! assert!(explainer.explain(build)?.first_miss().is_some());
//! assert!(explainer.comparisons() < limits.comparisons);
//!
//! // If builds and caches match in very many places, a limit applies.
//! let limits = Limits { comparisons: 1, ..limits };
//! let ended = Explainer::new(&cache, &limits).explain(build);
//! assert_eq!(ended.unwrap_err(), ExplainError::TooMany { limit: 1 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/solver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/solver.md

mod asked;
mod difference;
mod known;
mod nearest;
mod walk;

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::state::State;
use llb::release::Target;
use llb::{Encoding, Graph, Selectors};
use serde::Serialize;

pub use difference::Difference;

use crate::export::{CacheExport, layouts};
use crate::index::index;
use crate::keys::{KeySource, Keyring, SourceError, TooManyOutputs, read_layout};
use crate::limits::Limits;

use known::Known;
use nearest::Neighbours;
use walk::{IMAGE, Walk};

/// The content of a cache.
#[derive(Debug)]
pub struct Cache {
    known: Known,
    keyring: Keyring,
    /// The base images of the key sources' builds, by the names used there, with their digests; by
    /// repository.
    images: BTreeMap<String, BTreeSet<(String, Option<Digest>)>>,
    /// The encodings by which the cache may name an op.
    encodings: Vec<Encoding>,
    selectors: Vec<Selectors>,
}

impl Cache {
    /// Returns the cache of exports, of any release: `convert` translates their keys.
    pub fn of_exports(exports: &[CacheExport]) -> Self {
        let (encodings, selectors) = (Encoding::ALL.to_vec(), Selectors::ALL.to_vec());
        Self::new(Known::of_exports(exports), encodings, selectors)
    }

    /// Returns the cache of a root for a daemon of the release `target`.
    pub fn of_state(state: &State, target: Target) -> Self {
        let selectors = vec![target.class().selectors];
        Self::new(Known::of_state(state), target.encodings().collect(), selectors)
    }

    fn new(known: Known, encodings: Vec<Encoding>, selectors: Vec<Selectors>) -> Self {
        let keyring = Keyring::new(known.names());
        Self { known, keyring, images: BTreeMap::new(), encodings, selectors }
    }

    /// Takes the ops of the cached build from key sources, for comparison with a missing step. Ops that no
    /// record confirms are ignored.
    ///
    /// # Errors
    /// Returns an error if the sources, including earlier ones, have more outputs of ops to try than `limits`
    /// allow.
    pub fn learn(
        &mut self,
        sources: impl IntoIterator<Item = KeySource>,
        limits: &Limits,
    ) -> Result<(), TooManyOutputs> {
        for source in sources {
            let steps = source.graph.iter().flat_map(|graph| &graph.steps);
            for identifier in steps.filter_map(|step| step.identifier.as_ref()) {
                let image = identifier.strip_prefix(IMAGE).and_then(|name| name.rsplit_once('@'));
                if let Some((name, digest)) = image {
                    let images = self.images.entry(repository(name).to_owned()).or_default();
                    images.insert((identifier.clone(), digest.parse().ok()));
                }
            }
            self.keyring.add(source, limits)?;
        }
        Ok(())
    }

    /// [Learns](Self::learn) from the key sources beside the caches in their layouts.
    ///
    /// # Errors
    /// See [`read_layout`], or the same as [`learn`](Self::learn).
    pub fn learn_layouts(&mut self, exports: &[CacheExport]) -> Result<(), SourceError> {
        for layout in layouts(exports) {
            self.learn(read_layout(layout)?, layout.limits())?;
        }
        Ok(())
    }
}

/// Returns the name of an image without its tag.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Number of bytes of two ops that cost as much as one other comparison.
const BYTES_OF_ONE: usize = 16;

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// Too many steps of the build match too many of the cache.
    #[error("what the builds ask for is compared with the cache in more than {limit} places")]
    TooMany {
        /// The limit ([`Limits::comparisons`](crate::Limits::comparisons)).
        limit: u64,
    },
}

/// Explains which steps of builds a cache has.
///
/// A hostile build and cache can match in any number of places. [`Limits::comparisons`] limits all
/// comparisons of one explainer.
#[derive(Debug)]
pub struct Explainer<'a> {
    cache: &'a Cache,
    neighbours: OnceCell<Neighbours<'a>>,
    limit: u64,
    left: Cell<u64>,
}

impl<'a> Explainer<'a> {
    /// Creates an explainer for builds on `cache`.
    pub fn new(cache: &'a Cache, limits: &Limits) -> Self {
        let limit = limits.comparisons;
        Self { cache, neighbours: OnceCell::new(), limit, left: Cell::new(limit) }
    }

    /// Explains the steps of `build`.
    ///
    /// # Errors
    /// Returns an error if it takes too many comparisons.
    pub fn explain(&self, build: &Graph) -> Result<Explanation, ExplainError> {
        Walk::new(build, self).explanation()
    }

    /// Explains that of several builds which may be meant of which most steps are found, the first of equals. `None`
    /// if there are none.
    ///
    /// ```
    /// use oci2bk::explain::{Cache, Explainer};
    /// use oci2bk::keys::DockerfileKeys;
    /// use oci2bk::{CacheExport, Limits};
    ///
    /// let limits = Limits::default();
    /// let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
    /// let cache = Cache::of_exports(&exports);
    /// // Neither the release nor the platform of the build is known.
    /// let builds = DockerfileKeys::new("fixtures/index/Dockerfile").graphs(&[], &limits)?;
    /// let explainer = Explainer::new(&cache, &limits);
    /// let explanation = explainer.explain_likeliest(&builds[0].graphs)?.expect("it has graphs");
    /// assert!(explanation.first_miss().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it takes too many comparisons.
    pub fn explain_likeliest<'b>(
        &self,
        builds: impl IntoIterator<Item = &'b Graph>,
    ) -> Result<Option<Explanation>, ExplainError> {
        let mut likeliest: Option<(usize, Explanation)> = None;
        for build in builds {
            let explanation = self.explain(build)?;
            let is_found =
                |step: &&Explained| matches!(step.outcome, Outcome::Hit | Outcome::IfSame);
            let found = explanation.steps.iter().filter(is_found).count();
            if likeliest.as_ref().is_none_or(|(most, _)| found > *most) {
                likeliest = Some((found, explanation));
            }
        }
        Ok(likeliest.map(|(_, explanation)| explanation))
    }

    /// Returns the number of comparisons made.
    pub fn comparisons(&self) -> u64 {
        self.limit - self.left.get()
    }

    fn spend(&self, amount: usize) -> Result<(), ExplainError> {
        let left = self.left.get().checked_sub(amount as u64);
        self.left.set(left.ok_or(ExplainError::TooMany { limit: self.limit })?);
        Ok(())
    }

    fn spend_on_text(&self, bytes: usize) -> Result<(), ExplainError> {
        self.spend(bytes.div_ceil(BYTES_OF_ONE))
    }

    fn neighbours(&self) -> &Neighbours<'a> {
        self.neighbours.get_or_init(|| Neighbours::of(self.cache))
    }
}

/// The result for each step of a build.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The steps, each after its inputs.
    pub steps: Vec<Explained>,
}

index! {
    /// The index of a step in [`Explanation::steps`].
    pub struct StepIndex of Explained;
}

/// The result for one step.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explained {
    /// The frontend's name for it, or a description of its op.
    pub name: String,
    /// The digest that names it in the progress of a build, if the source has it.
    #[serde(rename = "vertex_digest")]
    pub digest: Option<String>,
    /// Its inputs.
    #[serde(rename = "input_steps")]
    pub inputs: Vec<StepIndex>,
    /// Whether it is found.
    pub outcome: Outcome,
    /// Why it is not found, or what the result depends on.
    pub reason: Option<Reason>,
}

/// Whether a step is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is found.
    Hit,
    /// It is found if some files or sources are unchanged.
    IfSame,
    /// It is not found, so it runs.
    Miss,
    /// It depends on the current state of a source.
    Unknown,
}

/// Why a step is not found, or what the result depends on. Inputs are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Reason {
    /// The key of the source depends on its state when the build runs.
    Source,
    /// The cache has no image with this digest. One with another digest and the same layers would be found,
    /// which only its registry can tell.
    Image {
        /// Images of the same repository on which cached builds were based.
        #[serde(rename = "cached_images")]
        cached: Vec<String>,
    },
    /// It depends on the content of these inputs.
    Contents {
        /// The inputs.
        inputs: Vec<Contents>,
    },
    /// The cache has the op, but on another input.
    Input {
        /// The input.
        input: usize,
        /// The step of the input.
        step: StepIndex,
        /// Whether the cache also has that step in other inputs of this op: then the op uses another part of
        /// it.
        part: bool,
    },
    /// The cache does not have the op on these inputs.
    Op {
        /// Number of other ops that it has on them.
        #[serde(rename = "other_op_count")]
        others: usize,
        /// The least different one, of those in key sources.
        nearest: Option<Nearest>,
    },
    /// The cache has the step but not its result any more, which a step that runs needs.
    NoResult,
    /// The build requires it to run.
    NoCache,
    /// The source of the build does not have enough data for a key.
    NotComputable {
        /// The cause.
        message: String,
    },
}

/// The content of an input that the result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// The input.
    pub input: usize,
    /// The step of the input.
    pub step: StepIndex,
    /// The paths in it; empty if that step itself is found only if something is unchanged.
    pub paths: Vec<String>,
}

/// A cached op similar to the requested one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Nearest {
    /// A description of the op.
    pub name: String,
    /// The differences.
    pub differences: Vec<Difference>,
}

impl Explanation {
    /// Returns the first step that is not found.
    pub fn first_miss(&self) -> Option<&Explained> {
        self.steps.iter().find(|step| step.outcome == Outcome::Miss)
    }
}

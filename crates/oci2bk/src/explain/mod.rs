//! Why a build is cached, or is not.
//!
//! A daemon looks for each step of a build by its op and the keys of its inputs. [`Explainer`] does the
//! same with the records of an export or the state of a root, and says of each step whether it is
//! found and, of the first that is not, what is otherwise. See `docs/format/solver.md`.
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
//! let exports = CacheExport::read_all(&"../../fixtures/index/cache".parse()?, &limits)?;
//! let mut cache = Cache::of_exports(&exports);
//! // What the cached build was made of, to compare with.
//! let provenance = "../../fixtures/index/keys/provenance.json".as_ref();
//! cache.learn(read_source(provenance, &limits)?, &limits)?;
//! cache.learn_layouts(&exports)?;
//! let explainer = Explainer::new(&cache, &limits);
//!
//! // The very build that made the cache is found in it, if the files are what they were.
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
//! let Difference { field, cached, asked } = &differences[0];
//! assert_eq!(field, "meta.env.LEVEL");
//! println!("{name}: {field} was {cached:?} and is {asked:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The state of a daemon is looked into in the same way:
//!
//! ```
//! use oci2bk::explain::{Cache, ExplainError, Explainer};
//! use oci2bk::keys::read_source;
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root};
//!
//! let limits = Limits::default();
//! let metadata = "../../fixtures/min/keys/metadata.json";
//! # let exports = CacheExport::read_sources(&["../../fixtures/min/cache".parse()?], &limits)?;
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
//! // One that has never built anything.
//! let empty = Cache::of_exports(&[]);
//! let explainer = Explainer::new(&empty, &limits);
//! assert!(explainer.explain(build)?.first_miss().is_some());
//! assert!(explainer.comparisons() < limits.comparisons);
//!
//! // Where builds and caches are alike in very many places there is an end.
//! let limits = Limits { comparisons: 1, ..limits };
//! let ended = Explainer::new(&cache, &limits).explain(build);
//! assert_eq!(ended.unwrap_err(), ExplainError::TooMany { limit: 1 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

/// What is known of a cache.
#[derive(Debug)]
pub struct Cache {
    known: Known,
    keyring: Keyring,
    /// The images that the builds of the key sources started from, as they name them, with their
    /// digests; by repository.
    images: BTreeMap<String, BTreeSet<(String, Option<Digest>)>>,
    /// What the cache may call an op.
    encodings: Vec<Encoding>,
    selectors: Vec<Selectors>,
}

impl Cache {
    /// The cache of exports, of whatever release: `convert` translates their keys.
    pub fn of_exports(exports: &[CacheExport]) -> Self {
        let (encodings, selectors) = (Encoding::ALL.to_vec(), Selectors::ALL.to_vec());
        Self::new(Known::of_exports(exports), encodings, selectors)
    }

    /// The cache of a root that a daemon of the release `target` is to work on.
    pub fn of_state(state: &State, target: Target) -> Self {
        let selectors = vec![target.class().selectors];
        Self::new(Known::of_state(state), target.encodings().collect(), selectors)
    }

    fn new(known: Known, encodings: Vec<Encoding>, selectors: Vec<Selectors>) -> Self {
        let keyring = Keyring::new(known.names());
        Self { known, keyring, images: BTreeMap::new(), encodings, selectors }
    }

    /// Takes the ops of the cached build from key sources, so that a miss can be compared with what
    /// is there. What none of its records confirms is left out.
    ///
    /// # Errors
    /// If the sources, with those before, have more outputs of ops to try than `limits` allow.
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

    /// [Learns](Self::learn) from what lies beside the caches in their layouts.
    ///
    /// # Errors
    /// See [`read_layout`], or as for [`learn`](Self::learn).
    pub fn learn_layouts(&mut self, exports: &[CacheExport]) -> Result<(), SourceError> {
        for layout in layouts(exports) {
            self.learn(read_layout(layout)?, layout.limits())?;
        }
        Ok(())
    }
}

/// The name of an image without its tag.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// So many bytes of two ops are compared for what one comparison costs otherwise.
const BYTES_OF_ONE: usize = 16;

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// Many steps are alike, and the cache has many that are like them.
    #[error(
        "what the builds ask for is compared with the cache in more than {limit} places; \
         allow for more with --limit comparisons"
    )]
    TooMany {
        /// How many there may be.
        limit: u64,
    },
}

/// Says of builds which of their steps a cache has.
///
/// A hostile build and cache can be alike in any number of places. All that one explainer compares is
/// limited by [`Limits::comparisons`].
#[derive(Debug)]
pub struct Explainer<'a> {
    cache: &'a Cache,
    neighbours: OnceCell<Neighbours<'a>>,
    limit: u64,
    left: Cell<u64>,
}

impl<'a> Explainer<'a> {
    /// An explainer for builds on `cache`.
    pub fn new(cache: &'a Cache, limits: &Limits) -> Self {
        let limit = limits.comparisons;
        Self { cache, neighbours: OnceCell::new(), limit, left: Cell::new(limit) }
    }

    /// What becomes of the steps of `build`.
    ///
    /// # Errors
    /// When that takes too many comparisons.
    pub fn explain(&self, build: &Graph) -> Result<Explanation, ExplainError> {
        Walk::new(build, self).explanation()
    }

    /// How many comparisons were made.
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

/// What becomes of each step of a build.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The steps, each after those it builds on.
    pub steps: Vec<Explained>,
}

index! {
    /// The index of a step in [`Explanation::steps`].
    pub struct StepIndex of Explained;
}

/// What becomes of one step.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// What the frontend calls it, or what it does.
    pub name: String,
    /// The digest by which the progress of a build names it, where the source tells.
    #[serde(rename = "vertex_digest")]
    pub digest: Option<String>,
    /// The steps it builds on.
    #[serde(rename = "input_steps")]
    pub inputs: Vec<StepIndex>,
    /// Whether it is found.
    pub outcome: Outcome,
    /// Why it is not, or what that depends on.
    pub reason: Option<Reason>,
}

/// Whether a step is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is.
    Hit,
    /// It is, if some files or sources are what they were.
    IfSame,
    /// It is not, so it runs.
    Miss,
    /// What a source is now decides.
    Unknown,
}

/// Why a step is not found, or what that depends on. Inputs are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reason {
    /// The key of the source depends on what it is when the build runs.
    Source,
    /// The cache has no image of this digest. One of another digest with the same layers would be
    /// found, which only its registry can tell.
    Image {
        /// Images of the same repository that cached builds started from.
        #[serde(rename = "cached_images")]
        cached: Vec<String>,
    },
    /// What these inputs are decides.
    Contents {
        /// The inputs.
        inputs: Vec<Contents>,
    },
    /// The cache has the op, but on another input.
    Input {
        /// The input.
        input: usize,
        /// The step that is the input.
        step: StepIndex,
        /// Whether the cache has that step on other inputs of this op too: what the op takes of it
        /// is another part then.
        part: bool,
    },
    /// The cache does not have the op on these inputs.
    Op {
        /// How many other ops it has on them.
        #[serde(rename = "other_op_count")]
        others: usize,
        /// The one that differs least, of those that a key source tells.
        nearest: Option<Nearest>,
    },
    /// The cache knows the step and no longer has its result, which a step that runs needs.
    NoResult,
    /// The build asks for it to run.
    NoCache,
    /// The source of the build does not say enough for a key.
    NotComputable {
        /// Why.
        message: String,
    },
}

/// What of an input decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The input.
    pub input: usize,
    /// The step that is the input.
    pub step: StepIndex,
    /// The paths in it; none if it is that step itself which is found only if something is the
    /// same.
    pub paths: Vec<String>,
}

/// A cached op beside the one that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// What it does.
    pub name: String,
    /// Where they differ.
    pub differences: Vec<Difference>,
}

impl Explanation {
    /// The first step that is not found.
    pub fn first_miss(&self) -> Option<&Explained> {
        self.steps.iter().find(|step| step.outcome == Outcome::Miss)
    }
}

//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.
//!
//! What a daemon has built it remembers in its root directory, such as `/var/lib/buildkit`: layers,
//! unpacked trees, and databases that lead from a step of a build to its result. A cache export
//! (`--cache-to`) has the same knowledge in another form. This library brings it back into the form
//! that a daemon starts from, without a daemon, a network, or a build.
//!
//! # In one page
//!
//! ```
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let limits = Limits::default();
//!     let exports = CacheExport::read_sources(&["../../fixtures/index/cache".parse()?], &limits)?;
//!
//!     let mut keyring = Keyring::for_exports(&exports);
//!     keyring.read("../../fixtures/index/keys/provenance.json", &limits)?;
//!     keyring.read_layouts(&exports)?;
//!
//!     let plan = Plan::new(&exports, &keyring)?;
//!     assert_eq!(plan.unkeyed().count(), 0);
//!
//!     // `/var/lib/buildkit`, say.
//!     let directory = tempfile::tempdir()?;
//!     // As root, leave `extract` out: the layers are unpacked too then.
//!     let report = Converter::new().extract(false).convert(&plan, &directory)?;
//!     assert_eq!(report.blobs, plan.blobs.len());
//!
//!     let root = Root::open(&directory)?;
//!     assert_eq!(root.state()?.records.by_id.len(), plan.layers.len());
//!     assert!(Verifier::new().verify(&root)?.damage.is_empty());
//!     Ok(())
//! }
//! ```
//!
//! The examples of this documentation read the caches in the project's `fixtures`, and are run in CI.
//!
//! # Concepts
//!
//! A **[source](Source)** names a cache: a directory or tar archive in the layout of OCI, and which of
//! the caches in it is meant. It is parsed from the words that BuildKit's own tools take.
//!
//! A **[cache export](CacheExport)** is what is read from there. It has *records*, the steps of builds
//! with the steps they build on, and the *chains* of layers that came out of them. The layers are only
//! looked at, not read. A source has one export, or for an image with an inline cache one for each
//! platform.
//!
//! An export names a record by a hash over the *op digest* of its step, which cannot be turned back. A
//! daemon wants the op digest itself, so a second file about the same build has to tell it: a **key
//! source**, such as provenance, or the root of the builder. A **[keyring](Keyring)** takes all that
//! sources offer and keeps what the records prove. A wrong or hostile source can leave a step without
//! its key, but never give it that of another.
//!
//! A **[plan](Plan)** is what will be written, as plain data, for a daemon of a given
//! [release](Target). What is lost is in it too: steps without keys, results with missing layers, steps
//! that the target will name otherwise. Whether that is acceptable is for the caller to say. Nothing
//! has been written so far, and nothing of the target has been looked at.
//!
//! A **[converter](Converter)** carries a plan out. It takes the daemon's own lock, reads what the root
//! holds, adds what is missing beside it, verifies the outcome, and moves it into place. A root that
//! has a state keeps all of it.
//!
//! A **[root](Root)** is opened to look at what is there: its [`State`] as data, or what a
//! **[verifier](Verifier)** finds wrong with it.
//!
//! # What holds for all of it
//!
//! * **Errors** are enums, one for each operation, beside it. A variant names the file or digest that
//!   it is about; causes are in [`source`](std::error::Error::source). Hostile input gives errors too,
//!   and never a panic. What costs memory or time is bounded by [`Limits`].
//! * **Progress** comes as [events](Event), from several threads at once, to anything that implements
//!   [`Progress`]; a closure will do. Nothing is printed or logged.
//! * **Cancellation** is asked for with a [`Cancel`]. The work ends within a fraction of a second and
//!   takes back what it began.
//! * **Threads** are started where work is done in parallel, and are gone when the call returns. There
//!   is no runtime and no global state; all values are `Send`, and those that take no `&mut self` to
//!   use are `Sync`.
//! * **The same input gives the same bytes**, on any machine: no clock, no randomness.
//! * Unpacking layers takes root, as owners are set. Everything else works for any user who may read
//!   the input and write the root.
//!
//! # Features and stability
//!
//! There are no features to choose: whoever needs less is served by [`bkstate`], which reads, models,
//! writes and verifies the state and knows nothing of exports; it is re-exported whole.
//!
//! The crates follow [semantic versioning](https://semver.org), from 0.1 on in the way of Cargo: a
//! change that can break a caller raises the second number. Enums and structs that are expected to
//! grow are `#[non_exhaustive]`. [`Limits`] is not, so that it can be written down; new limits may
//! come with any release, so write `..Limits::default()`. Messages are for people and may change
//! at any time. The oldest Rust that compiles the crates is in `rust-version` of their `Cargo.toml`;
//! raising it raises the second number. `docs/semver.md` of the project has all that is promised,
//! and `docs/api` the whole interface as a text that is compared in CI.
//!
//! # The modules
//!
//! In the order of the work. Each of a format is described on the page of the same name in the
//! project's `docs/format`.
//!
//! | | |
//! |---|---|
//! | [`source`], [`layout`], [`manifest`], [`config`], [`export`] | from a word to an export: the words, the directory or archive, the cache in it, its records, all in one call |
//! | [`inputs`] | the same for sources of which some are images without a cache |
//! | [`llb`], [`keys`] | ops and their digests for each release; key sources and the keyring |
//! | [`image`], [`release`], [`plan`] | base images, what depends on the release, and the plan |
//! | [`convert`], [`unpack`] | carrying the plan out; layers into trees |
//! | [`sparse`] | the index of caches without their layers, for `--cache-from` |
//! | [`root`], [`degree`], [`verify`], [`gc`] | what a root holds, how warm it is, what is wrong with it, what a daemon will remove of it |
//! | [`limits`], [`json`] | what the input may cost |
//! | [`progress`], [`cancel`] | following the work, and ending it |
//! | [`inspect`], [`explain`], [`text`] | showing what there is; the library `graph` draws it |

mod assemble;
pub mod cancel;
mod class;
pub mod config;
pub mod convert;
pub mod degree;
pub mod explain;
pub mod export;
pub mod gc;
pub mod image;
mod index;
pub mod inputs;
pub mod inspect;
pub mod json;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod manifest;
mod mend;
mod packing;
mod parallel;
mod place;
pub mod plan;
pub mod progress;
pub mod source;
pub mod sparse;
pub mod text;
pub mod unpack;
pub mod verify;

pub use bkstate;
pub use bkstate::root;
pub use bkstate::state::State;
pub use bkstate::{Class, Classified, Digest, Root, Time};
pub use llb;
pub use llb::release;

pub use cancel::Cancel;
pub use convert::Converter;
pub use degree::Degree;
pub use export::CacheExport;
pub use image::BaseImage;
pub use inputs::Inputs;
pub use keys::Keyring;
pub use limits::Limits;
pub use llb::release::Target;
pub use plan::Plan;
pub use progress::{Event, Progress};
pub use source::Source;
pub use verify::Verifier;

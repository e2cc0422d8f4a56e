//! Converts a BuildKit cache export into the state directory of a buildkitd that has already run those
//! builds.
//!
//! A daemon stores the builds that it has run in its root directory, such as `/var/lib/buildkit`: layers,
//! unpacked trees, and databases that lead from a step of a build to its result. A cache export
//! (`--cache-to`) has the same knowledge in another form. This library converts it back into the form that a
//! daemon starts from, without a daemon, a network, or a build.
//!
//! # In one page
//!
//! ```
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan, Root, Verifier};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let limits = Limits::default();
//!     let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//!
//!     let mut keyring = Keyring::for_exports(&exports);
//!     keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//!     keyring.read_layouts(&exports)?;
//!
//!     let plan = Plan::new(&exports, &keyring)?;
//!     assert_eq!(plan.unkeyed().count(), 0);
//!
//!     // For example `/var/lib/buildkit`.
//!     let directory = tempfile::tempdir()?;
//!     // As root, omit `extract`: then the layers are unpacked too.
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
//! A **[source](Source)** names a cache: a directory or tar archive in the layout of OCI, and one of the
//! caches in it. It is parsed from the forms of BuildKit's own tools.
//!
//! A **[cache export](CacheExport)** is read from a source. It has *records*, the steps of builds with their
//! inputs, and the *chains* of layers that are their results. The layers are only examined, not read. A
//! source has one export, or for an image with an inline cache one for each platform.
//!
//! An export names a record by a hash over the *op digest* of its step, which cannot be inverted. A daemon
//! needs the op digest itself, so it must come from a second file about the same build: a **key source**,
//! such as provenance, or the root of the builder. A **[keyring](Keyring)** collects the candidates of all
//! sources and keeps those that the records prove. A wrong or hostile source can leave a step without its
//! key, but never give it the key of another step.
//!
//! A **[plan](Plan)** is the state to be written, as plain data, for a daemon of a given [release](Target).
//! It also lists what is lost: steps without keys, results with missing layers, steps that have other keys in
//! the target. The caller decides whether that is acceptable. Up to here nothing has been written, and the
//! target root has not been read.
//!
//! A **[converter](Converter)** executes a plan. It takes the daemon's own lock, reads the state in the root,
//! writes the missing parts to a staging directory, verifies the result, and moves it into place. A root with
//! a state keeps all of it.
//!
//! A **[root](Root)** gives access to an existing state: the [`State`] as data, or the damage that a
//! **[verifier](Verifier)** finds in it.
//!
//! # Common properties
//!
//! * **Errors** are enums, one for each operation, beside it. A variant names the file or digest; causes are
//!   in [`source`](std::error::Error::source). Hostile input causes errors, never a panic. [`Limits`] bound
//!   memory and time.
//! * **Progress** is reported as [events](Event), from several threads at once, to an implementation of
//!   [`Progress`], such as a closure. Nothing is printed or logged.
//! * **Cancellation** is requested with a [`Cancel`]. The work ends within half a second, and the root is as
//!   it was; [`convert::remove_remains`] removes what there was no time for.
//! * **Threads** are started for parallel work, and have ended when the call returns. There is no runtime and
//!   no global state; all values are `Send`, and those whose methods do not take `&mut self` are `Sync`.
//! * **The same input gives the same bytes**, on any machine: no clock, no randomness.
//! * Unpacking layers requires root, to set owners. Everything else works for any user who may read the input
//!   and write the root.
//!
//! # Features and stability
//!
//! The features are on by default. `zstd` reads and writes zstd with a library in C; without it, a layer in
//! zstd is an error. `config-file` (TOML) and `filters` are those of [`bkstate`].
//!
//! For less than a conversion, use [`bkstate`], which reads, models, writes and
//! verifies the state and does not know exports; it is re-exported as a whole.
//!
//! The crates follow [semantic versioning](https://semver.org), from 0.1 on as in Cargo: a change that can
//! break a caller increments the second number. Enums and structs that are expected to grow are
//! `#[non_exhaustive]`. [`Limits`] is not, so that it can be written as a literal; new limits may come with
//! any release, so write `..Limits::default()`. Messages are for people and may change at any time. The
//! oldest supported Rust is in `rust-version` of `Cargo.toml`; raising it increments the second number.
//! [`docs/semver.md`] of the project has all guarantees, and [`docs/api`] the whole interface as text, which CI
//! compares.
//!
//! # The modules
//!
//! In the order of use. The modules of formats are described on the page of the same name in the project's
//! [`docs/format`].
//!
//! | | |
//! |---|---|
//! | [`source`], [`layout`], [`manifest`], [`config`], [`export`] | from an argument to an export: the argument, the directory or archive, the cache in it, its records, all in one call |
//! | [`inputs`] | the same for sources that can be images without a cache |
//! | [`llb`], [`keys`] | ops and their digests for each release; key sources and the keyring |
//! | [`image`], [`release`], [`plan`] | base images, differences between releases, and the plan |
//! | [`prepare`] | all of this in one call, as the command does it |
//! | [`convert`], [`unpack`] | executing the plan; layers into trees |
//! | [`last_used`] | when a state counts as used, as people write it |
//! | [`mounts`] | cache mounts: listing, exporting and importing them |
//! | [`sizes`] | what a root with a cache would take |
//! | [`state_image`] | the state of a builder as an OCI image |
//! | [`sparse`] | the index of caches without their layers, for `--cache-from` |
//! | [`builder`] | the root of a builder of docker buildx |
//! | [`root`], [`degree`], [`verify`], [`gc`] | the state in a root, its warmth, its damage, and what a daemon will remove |
//! | [`limits`], [`json`] | limits on the cost of the input |
//! | [`document`], [`error_report`] | reports and errors as data |
//! | [`progress`], [`warning`], [`cancel`] | following the work, and stopping it |
//! | [`inspect`], [`explain`], [`text`] | showing the content; the library `graph` draws it |
//!
//! [`docs/api`]: https://github.com/oci2bk/oci2bk/blob/main/docs/api
//! [`docs/format`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format
//! [`docs/semver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/semver.md

#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a link to a crate that is not published: unit tests have it in a package too"
)]
mod archives;
mod assemble;
pub mod builder;
pub mod cancel;
mod class;
pub mod config;
pub mod convert;
pub mod degree;
pub mod document;
pub mod error_report;
pub mod explain;
pub mod export;
pub mod gc;
pub mod image;
mod index;
pub mod inputs;
pub mod inspect;
pub mod json;
pub mod keys;
pub mod last_used;
pub mod layout;
pub mod limits;
pub mod manifest;
mod mend;
pub mod mounts;
mod pack;
pub mod packed;
mod packing;
mod parallel;
mod place;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod sizes;
pub mod source;
pub mod sparse;
#[cfg(feature = "zstd")]
pub mod state_image;
pub mod text;
pub mod unpack;
pub mod verify;
pub mod warning;

pub use bkstate;
pub use bkstate::root;
pub use bkstate::state::State;
pub use bkstate::{About, Class, Classified, Digest, FormatError, Root, Time};
pub use dockerfile;
pub use llb;
pub use llb::release;

pub use cancel::Cancel;
pub use convert::Converter;
pub use degree::Degree;
pub use error_report::ErrorReport;
pub use export::CacheExport;
pub use image::BaseImage;
pub use inputs::Inputs;
pub use keys::Keyring;
pub use limits::Limits;
pub use llb::release::Target;
pub use plan::Plan;
pub use prepare::Preparer;
pub use progress::{Event, Progress};
pub use source::Source;
pub use verify::Verifier;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! Describes the content of an export or a root, without a daemon.
//!
//! [`Export`] and [`Root`] have all visible content as plain data; [`find`] determines which of the two an
//! argument of the command line names. Both can be reduced to one item and its related items. The library
//! `graph` draws them.
//!
//! Nothing is written. A root is not read while a daemon runs on it.
//!
//! # Exports
//!
//! ```
//! use oci2bk::inspect::{
//!     Export, ExportLayer, ExportStep, Place, PlaceError, StepInput, StepKey, StepMiss, StepResult,
//!     Warmth, count, find,
//! };
//! use oci2bk::{CacheExport, Keyring, Limits};
//!
//! // The kind of the argument: a cache, or the root of a daemon?
//! let Place::Source(source) = find("fixtures/index/cache".as_ref())? else {
//!     panic!("a layout is not a root");
//! };
//! assert!(matches!(find("fixtures".as_ref()), Err(PlaceError::Neither { .. })));
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_all(&source, &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//!
//! // As for a daemon of an old release.
//! let view = Export::new(&exports, &keyring, "v0.13.2".parse()?)?;
//! for ExportStep { digest, source, key, misses, inputs, results, .. } in &view.steps {
//!     let key: Option<&StepKey> = key.as_ref();
//!     println!("{digest}: {}", key.map_or("(no key)", |key| key.op_digest.as_str()));
//!     for StepMiss { reason, certain, .. } in misses {
//!         println!("  {} not be found: {reason:?}", if *certain { "will" } else { "may" });
//!     }
//!     for StepInput { step, .. } in inputs {
//!         assert!(view.steps.iter().any(|other| other.number == *step));
//!     }
//!     for StepResult { layer, .. } in results {
//!         let layer: &ExportLayer = view.layer(*source, *layer).expect("it is in the same export");
//!         assert_eq!(layer.compression_word(), Some("gzip"));
//!     }
//! }
//! let warmths = count(view.steps.iter().map(|step| step.warmth));
//! assert!(warmths.iter().any(|(warmth, steps)| *warmth == Warmth::MayMiss && *steps > 0));
//! // Each has a stable word, and a meaning.
//! for warmth in Warmth::ALL {
//!     println!("{}: {} ({})", warmth.word(), warmth.meaning(), warmth.is_cold());
//! }
//!
//! // One step, its inputs and its dependents.
//! let digest = view.steps[0].digest.to_string();
//! let near = view.only(&digest[..20]).expect("it is there");
//! assert!(near.steps.len() < view.steps.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Roots
//!
//! A root is described as it is. Parts that cannot be read and are not needed for the rest are listed:
//!
//! ```
//! use oci2bk::inspect::{
//!     Blob, Build, BuildsError, InspectError, Key, KeyLink, KeyResult, Lease, Record, Root, SnapshotOf,
//!     Unread, Worker,
//! };
//! use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! # let exports = CacheExport::read_sources(&["fixtures/min/cache".parse()?], &limits)?;
//! # let mut keyring = Keyring::for_exports(&exports);
//! # keyring.read("fixtures/min/keys/metadata.json", &limits)?;
//! # let plan = Plan::new(&exports, &keyring)?;
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! # Converter::new().extract(false).convert(&plan, directory)?;
//! // A root that a conversion has made, with the history of some builds.
//! let history = directory.join("history.db");
//! std::fs::copy("tests/data/history/root/history.db", &history)?;
//! let root = Root::read(directory, &[], &limits)?;
//! assert!(root.damage.is_empty());
//! let [Worker { directory: worker, is_ours: true, .. }] = root.workers.as_slice() else {
//!     panic!("{:?}", root.workers);
//! };
//! assert_eq!(worker, "runc-overlayfs");
//!
//! for Key { name, results, inputs, .. } in &root.keys {
//!     println!("{}", name.as_deref().unwrap_or("(no name)"));
//!     assert!(results.iter().all(|KeyResult { is_there, .. }| *is_there));
//!     for KeyLink { from, .. } in inputs {
//!         assert!(root.keys.iter().any(|key| key.id == *from));
//!     }
//! }
//! for Lease { record, blobs, .. } in &root.leases {
//!     let Some(record) = record else { continue };
//!     let record: &Record = root.record(record.as_str()).expect("it keeps what is there");
//!     assert!(record.bytes().is_some() && !record.is_cache_mount());
//!     println!("{}: {} parents, {} blobs", record.kind(), record.parents().count(), blobs.len());
//! }
//! assert!(root.blobs.iter().all(|Blob { is_there, .. }| *is_there));
//! // Nothing is unpacked.
//! let snapshots: &[SnapshotOf] = &root.snapshots;
//! assert!(snapshots.is_empty());
//! for Build { reference, frontend, steps, cached, .. } in &root.builds {
//!     println!("{reference}: {frontend}, {cached} of {steps} steps cached");
//! }
//! assert!(!root.builds.is_empty());
//!
//! let record = root.records[0].id.as_str().to_owned();
//! let near = root.only(&record).expect("it is there");
//! assert!(near.record(&record).is_some());
//!
//! std::fs::write(&history, "no database")?;
//! let root = Root::read(directory, &[], &limits)?;
//! let is_history = |unread: &Unread| matches!(unread, Unread::Builds(BuildsError::Database { .. }));
//! assert!(root.unread.iter().any(is_history));
//! let error = Root::read("fixtures", &[], &limits).unwrap_err();
//! assert!(matches!(error, InspectError::Open(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data;
mod export;
mod history;
mod place;
mod root;
#[cfg(test)]
mod tests;
mod warmth;

pub use export::{Export, ExportLayer, ExportStep, StepInput, StepKey, StepMiss, StepResult};
pub use history::{Build, BuildsError};
pub use place::{Place, PlaceError, find};
pub use root::{
    Blob, InspectError, Key, KeyLink, KeyResult, Lease, Record, Root, SnapshotOf, Unread, Worker,
};
pub use warmth::{Warmth, count};

/// Returns whether `word` names `id`: it is equal, or a prefix, with or without `sha256:`.
fn names(word: &str, id: &str) -> bool {
    /// Shorter words would match too much by accident.
    const SHORTEST: usize = 4;
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).len();
    id == word
        || bare(word) >= SHORTEST
            && (id.starts_with(word)
                || id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(word)))
}

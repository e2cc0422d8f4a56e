//! How much of a build a state answers without an import.
//!
//! A build whose steps are all in the root is CACHED without anything else. A root with layers only needs the
//! cache's index (`--cache-from`), from which the daemon learns the steps; it then uses the layers in the
//! root, and neither fetches nor unpacks anything (BuildKit v0.34.2 `cache/manager.go` `GetByBlob`).
//!
//! ```
//! use oci2bk::{CacheExport, Degree, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! assert_eq!(Plan::new(&exports, &keyring)?.degree(), Some(Degree::Layers));
//!
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//! assert_eq!(Plan::new(&exports, &keyring)?.degree(), Some(Degree::Steps));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use bkstate::state::State;
use serde::Serialize;

/// The degree of warmth of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Degree {
    /// It has steps, so a build finds them CACHED without anything else.
    Steps,
    /// It has layers, but no step that was run. A build finds its steps CACHED with `--cache-from`.
    Layers,
}

impl Degree {
    /// Returns the degree of a state that a daemon may have used; `None` if it has no layers either.
    ///
    /// Sources, such as images, are keys without a link: they do not count as steps.
    ///
    /// ```
    /// use oci2bk::bkstate::ids::WorkerId;
    /// use oci2bk::bkstate::worker::Worker;
    /// use oci2bk::{Degree, State};
    ///
    /// assert_eq!(Degree::of_state(&State::empty(Worker::default(), WorkerId::derive("worker"))), None);
    /// ```
    pub fn of_state(state: &State) -> Option<Self> {
        let has_links = state.solver.links.values().any(|links| !links.is_empty());
        let has_layers = || state.records.by_id.values().any(|record| record.blob.is_some());
        Self::of(has_links, has_layers)
    }

    pub(crate) fn of(has_links: bool, has_layers: impl FnOnce() -> bool) -> Option<Self> {
        if has_links { Some(Self::Steps) } else { has_layers().then_some(Self::Layers) }
    }
}

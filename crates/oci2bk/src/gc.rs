//! What the garbage collection of a daemon takes of a state, as soon as the daemon starts.
//!
//! How a daemon comes by its limits is the matter of [`bkstate::gc`]. Here they are held against the
//! state that a conversion has made.
//!
//! ```
//! use oci2bk::Target;
//! use oci2bk::bkstate::gc::GcConfig;
//! use oci2bk::gc::Collection;
//!
//! let root = std::env::temp_dir();
//! // A state of a kilobyte is below the limits that any daemon has by itself.
//! let small = Collection::new(&GcConfig::default(), Target::NEWEST, 1000, &root)?
//!     .expect("the limits of this release are known");
//! assert!(small.losses.is_empty() && small.config.is_none());
//!
//! // One that is larger than the disk is not, whatever the daemon is told.
//! let too_large = small.disk.total.saturating_mul(2);
//! let large = Collection::new(&GcConfig::default(), Target::NEWEST, too_large, &root)?
//!     .expect("the limits of this release are known");
//! assert!(!large.losses.is_empty());
//!
//! let old: Target = "v0.16.0".parse()?;
//! assert!(Collection::new(&GcConfig::default(), old, 1000, &root)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use bkstate::gc::{Disk, DiskError, GcConfig, Loss, Policy};
use llb::release::Target;
use serde::Serialize;

/// What becomes of a state.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Collection {
    /// Its bytes, as the daemon counts them.
    #[serde(rename = "size")]
    pub bytes: u64,
    /// The disk it is on.
    pub disk: Disk,
    /// The limits of the daemon.
    pub policy: Policy,
    /// What will go by them.
    pub losses: Vec<Loss>,
    /// The lines for `buildkitd.toml` with which nothing will go; nothing if nothing will anyway.
    pub config: Option<String>,
}

impl Collection {
    /// What a daemon of `target`, configured so, will do with the `bytes` in `root`, which is there:
    /// the [`record_bytes`](crate::convert::Report::record_bytes) of a conversion. Nothing is known of
    /// releases before v0.17, which have other limits.
    ///
    /// # Errors
    /// If the system does not tell how large the disk is.
    pub fn new(
        config: &GcConfig,
        target: Target,
        bytes: u64,
        root: &Path,
    ) -> Result<Option<Self>, DiskError> {
        if !target.has_space_limits() {
            return Ok(None);
        }
        let disk = Disk::of(root)?;
        let policy = config.policy(disk);
        let losses = policy.losses(bytes, disk);
        let config = config.keeping(bytes, disk);
        Ok(Some(Self { bytes, disk, policy, losses, config }))
    }
}

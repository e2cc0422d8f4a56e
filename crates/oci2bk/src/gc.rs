//! What a daemon's garbage collection removes from a state when the daemon starts.
//!
//! [`bkstate::gc`] determines the limits of a daemon. This module compares them with the state that a
//! conversion has made.
//!
//! ```
//! use oci2bk::Target;
//! use oci2bk::bkstate::gc::GcConfig;
//! use oci2bk::gc::Collection;
//!
//! let root = std::env::temp_dir();
//! // A state of a kilobyte is below every daemon's default limits.
//! let small = Collection::new(&GcConfig::default(), Target::NEWEST, 1000, &root)?
//!     .expect("the limits of this release are known");
//! assert!(small.losses.is_empty() && small.config.is_none());
//!
//! // A state larger than the disk is not, with any configuration.
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

/// The effect of garbage collection on a state.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Collection {
    /// Size of the state in bytes, as the daemon counts it.
    #[serde(rename = "size")]
    pub bytes: u64,
    /// The disk of the state.
    pub disk: Disk,
    /// The limits of the daemon.
    pub policy: Policy,
    /// What the limits will remove.
    pub losses: Vec<Loss>,
    /// The lines for the configuration that prevent all losses; `None` if there are no losses.
    pub config: Option<String>,
    /// The name of the daemon's configuration file.
    #[serde(rename = "config_file")]
    pub file: &'static str,
}

impl Collection {
    /// Computes the effect of a daemon of `target` with this configuration on the `bytes` in the existing
    /// `root`: the [`collected_bytes`](crate::convert::Report::collected_bytes) of a conversion. Returns `None` for
    /// releases before v0.17, which have other limits.
    ///
    /// # Errors
    /// Returns an error if the system does not report the size of the disk.
    pub fn new(
        settings: &GcConfig,
        target: Target,
        bytes: u64,
        root: &Path,
    ) -> Result<Option<Self>, DiskError> {
        if !target.has_space_limits() {
            return Ok(None);
        }
        let disk = Disk::of(root)?;
        let policy = settings.policy(disk);
        let losses = policy.losses(bytes, disk);
        let config = settings.keeping(bytes, disk);
        Ok(Some(Self { bytes, disk, policy, losses, config, file: settings.file.name() }))
    }
}

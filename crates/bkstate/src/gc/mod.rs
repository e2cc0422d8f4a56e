//! What a daemon's garbage collection removes.
//!
//! A daemon collects garbage one second after it starts, before any build has used its root. It applies the
//! rules of its policy one after another, those of `buildkitd.toml` or its own, which depend on the disk
//! ([`GcConfig`], [`Policy`]). [`Policy::losses`] says what they remove from a state of a given size, and
//! [`GcConfig::keeping`] how to configure the daemon so that they remove nothing.
//!
//! All of it is as in BuildKit v0.17 and later. See [`docs/format/gc.md`].
//!
//! ```
//! use std::time::Duration;
//!
//! use bkstate::gc::{Disk, GcConfig, Loss, Policy};
//!
//! const GIB: u64 = 1 << 30;
//! let disk = Disk { total: 100 * GIB, free: 60 * GIB };
//! let config = GcConfig::from_toml("[worker.oci]\n  reservedSpace = \"10GB\"\n")?;
//!
//! // A state of 20 GiB is cut to half, first by a rule for records older than 60 days.
//! let policy: Policy = config.policy(disk);
//! let losses = policy.losses(20 * GIB, disk);
//! let unused_for = Duration::from_secs(60 * 24 * 60 * 60);
//! let Loss { rule, keeps, .. } = losses[0];
//! assert_eq!((rule, keeps, losses[0].unused_for), (1, 10 * GIB, unused_for));
//! assert_eq!(losses.len(), 3);
//!
//! // This configuration keeps it.
//! let lines = config.keeping(20 * GIB, disk).ok_or("nothing to do")?;
//! assert_eq!(lines, "[worker.oci]\n  reservedSpace = \"21GB\"\n");
//! let kept = GcConfig::from_toml(&lines)?;
//! assert!(kept.policy(disk).losses(20 * GIB, disk).is_empty());
//! assert_eq!(kept.keeping(20 * GIB, disk), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Configured rules replace the daemon's own. Percentages of a disk become bytes:
//!
//! ```
//! use std::time::Duration;
//!
//! use bkstate::config::ConfigError;
//! use bkstate::gc::{Disk, DiskSpace, GcConfig, ParseDurationError, Rule, RuleConfig};
//!
//! let toml = |duration: &str| format!(
//!     "[[worker.oci.gcpolicy]]\n  all = true\n  keepDuration = \"{duration}\"\n  maxUsedSpace = \"80%\"\n"
//! );
//! let config = GcConfig::from_toml(&toml("48h"))?;
//! let keep_duration = Duration::from_secs(48 * 60 * 60);
//! let max_used_space = DiskSpace::Percent(80);
//! let mut configured = RuleConfig::default();
//! configured.all = true;
//! configured.keep_duration = keep_duration;
//! configured.max_used_space = max_used_space;
//! assert_eq!(config.rules, [configured]);
//!
//! let disk = Disk { total: 100 << 30, free: 60 << 30 };
//! let max_used_space = max_used_space.bytes(disk);
//! let mut rule = Rule::default();
//! rule.all = true;
//! rule.keep_duration = keep_duration;
//! rule.max_used_space = max_used_space;
//! assert_eq!(config.policy(disk).rules, [rule]);
//!
//! let Err(ConfigError::Duration { source, .. }) = GcConfig::from_toml(&toml("2d")) else { panic!() };
//! assert!(matches!(source, ParseDurationError { text, .. } if text == "2d"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/gc.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/gc.md

mod amount;
mod config;
mod engine;
mod policy;
#[cfg(test)]
mod tests;

pub use amount::{DiskSpace, ParseDiskSpaceError, ParseDurationError};
pub use config::{GcConfig, GcDefaults, GcFile, RuleConfig};
pub use policy::{Disk, DiskError, Loss, Policy, Rule};

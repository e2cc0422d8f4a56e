//! What the garbage collection of a daemon removes.
//!
//! A daemon collects garbage a second after it starts, before any build has used what is in its
//! root. It applies the rules of its policy one after another, those of `buildkitd.toml` or its own,
//! which depend on the disk ([`GcConfig`], [`Policy`]). [`Policy::losses`] tells what they take of a
//! state of a given size, and [`GcConfig::keeping`] how to configure the daemon so that they do not.
//!
//! All of it is as in BuildKit v0.17 and later. See `docs/format/gc.md`.

mod amount;
mod config;
mod policy;
#[cfg(test)]
mod tests;

pub use amount::{DiskSpace, ParseDiskSpaceError, ParseDurationError};
pub use config::{GcConfig, RuleConfig};
pub use policy::{Disk, DiskError, Loss, Policy, Rule};

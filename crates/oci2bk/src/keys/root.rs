//! The root directory of a builder, with everything in it that has keys.

/// The files of a root that keys are in, those that name the steps first
/// (BuildKit v0.32.2 `cmd/buildkitd/main.go`).
pub(super) const DATABASES: [&str; 3] = ["history.db", "cache-debug.db", "cache.db"];

//! Fuzz targets for everything that reads hostile input.

pub use fuzz_targets as targets;

//! Fuzz targets for everything that reads hostile input.

pub mod targets;

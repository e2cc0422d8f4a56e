//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.

mod assemble;
pub mod config;
pub mod convert;
pub mod export;
pub mod keys;
pub mod layout;
pub mod llb;
pub mod manifest;
pub mod plan;
pub mod progress;
pub mod source;
pub mod unpack;

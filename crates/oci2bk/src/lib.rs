//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.

pub mod config;
pub mod export;
pub mod keys;
pub mod layout;
pub mod llb;
pub mod manifest;
pub mod source;
pub mod unpack;

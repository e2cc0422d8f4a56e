//! Turns a BuildKit cache export into the state directory of a buildkitd that has already run
//! those builds.

pub mod keys;
pub mod llb;
pub mod unpack;

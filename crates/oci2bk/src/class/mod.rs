//! The class of each error, and the limit that it is about.
//!
//! The modules are in the order of the work.

mod keys;
mod layout;
mod mounts;
mod packed;
mod root;
#[cfg(feature = "zstd")]
mod state_image;
mod unpack;

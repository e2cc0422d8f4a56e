//! Real daemons and registries on this machine, for the end-to-end suite, the crash harness and the lab:
//! finds the programs, starts them, and ensures that none of them outlives its owner. Also writers of build
//! input, ways to corrupt a root, and the schemas of the command's output.

mod bridge;
pub mod containerd;
pub mod corruptions;
pub mod daemon;
pub mod engine;
pub mod erofs;
pub mod mounts;
pub mod process;
pub mod protobuf;
pub mod registry;
pub mod rootless;
pub mod s3;
pub mod schema;
pub mod tools;
pub mod trials;

pub use containerd::Containerd;
pub use daemon::Daemon;
pub use registry::Registry;
pub use rootless::User;
pub use s3::S3;
pub use tools::Tools;

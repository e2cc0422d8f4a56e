//! Real daemons and registries on this machine, for the end-to-end suite, the crash harness and the
//! lab: where the programs are, how they are started, and that none of them outlives its owner. And
//! what those write who give a daemon something to build, ways to corrupt what a daemon starts on, and the
//! schemas of what the command prints.

pub mod corruptions;
pub mod daemon;
pub mod mounts;
pub mod process;
pub mod protobuf;
pub mod registry;
pub mod s3;
pub mod schema;
pub mod tools;
pub mod trials;

pub use daemon::Daemon;
pub use registry::Registry;
pub use s3::S3;
pub use tools::Tools;

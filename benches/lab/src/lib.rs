//! Measures whole builds, with real daemons, on builders that were warmed in different ways; reports the
//! results, and compares runs. `README.md` beside this crate is for its users.

pub mod args;
mod build;
pub mod cli;
pub mod compare;
mod convert;
mod interval;
pub mod lab;
mod machine;
pub mod record;
pub mod report;
pub mod results;
pub mod scenario;
pub mod stats;
pub mod stream;
#[cfg(test)]
mod testing;
mod units;
pub mod workload;

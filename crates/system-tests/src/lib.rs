//! Shared code of the test suites that run the command: builds and their reports, states as the reference
//! tools see them, comparison of trees.
//!
//! The command under test is `oci2bk-under-test`, a program of this package that only runs the command. So
//! cargo builds it for each of the suites, and it is never older than the sources.
#![allow(clippy::expect_used, reason = "a broken set-up ends a test")]

pub mod build;
pub mod case;
pub mod host;
pub mod others;
pub mod state;
pub mod tree;

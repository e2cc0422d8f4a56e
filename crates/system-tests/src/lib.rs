//! What the suites of tests share that run the command: builds and what they report, states as the
//! reference tools see them, trees that are compared.
//!
//! The command under test is `oci2bk-under-test`, a program of this package that is nothing but the command.
//! So cargo builds it for each of the suites, and it is never older than the sources.
#![allow(clippy::expect_used, reason = "a broken set-up ends a test")]

pub mod build;
pub mod case;
pub mod state;
pub mod tree;

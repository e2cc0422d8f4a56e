//! Caches and key sources made to do harm, built byte by byte and taken through everything that a
//! conversion does: reading the export, collecting keys, planning, converting.
//!
//! Each test is named after what it gives. Whatever it is, the outcome is a named error or the state
//! that the sound parts make, nothing but the root is written to, and the root is not even made if
//! the input shows its fault before layers are read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a test reports what it measured")]

mod answers;
mod archives;
mod blobs;
mod builds;
mod bundles;
mod configs;
mod databases;
mod digests;
mod documents;
mod growth;
mod indexes;
mod keys;
mod large;
mod layout;
mod limits;
mod mirrors;
mod outcome;
mod provenance;
mod top;
mod wire;

use layout::{Layout, one_layer};
use outcome::{
    Fault, converted, converted_with, converted_within, export_error, planned, processor_time,
};

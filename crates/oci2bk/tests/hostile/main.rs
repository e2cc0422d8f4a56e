//! Malicious caches and key sources, built byte by byte and taken through all steps of a conversion: reading
//! the export, collecting keys, planning, converting.
//!
//! Each test is named after its input. In every case, the outcome is a named error or the state from the
//! sound parts, only the root is written, and the root is not even created if the input's fault is detected
//! before layers are read.
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

//! The JSON document on stdout.

use std::io::{self, Write as _};

use oci2bk::ErrorReport;
use oci2bk::convert::Report;
use oci2bk::plan::Shortfall;
use oci2bk::text;
use serde::Serialize;

/// What became of a bake.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Document<'a> {
    /// The root is warm.
    Baked(Warm),
    /// The state would be less than the cache.
    Incomplete {
        /// What it would lack.
        shortfalls: &'a [Shortfall],
    },
    /// It failed.
    Failed {
        /// Why.
        error: &'a ErrorReport,
    },
}

/// What is new in the root.
#[derive(Debug, Serialize)]
pub(crate) struct Warm {
    steps: usize,
    snapshots: usize,
    blobs: usize,
    blob_bytes: u64,
    disk_bytes: u64,
}

impl<'a> Document<'a> {
    pub(crate) fn baked(report: &Report) -> Self {
        Self::Baked(Warm {
            steps: report.shares.steps.added,
            snapshots: report.snapshots,
            blobs: report.blobs,
            blob_bytes: report.blob_bytes,
            disk_bytes: report.disk_bytes,
        })
    }

    /// Prints it as one line.
    pub(crate) fn print(&self) -> io::Result<()> {
        // Names of steps are chosen by others, and may be shown on a terminal.
        let line = text::to_json_line(self).map_err(io::Error::other)?;
        writeln!(io::stdout(), "{line}")
    }
}

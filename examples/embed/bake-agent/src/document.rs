//! The JSON document on stdout.

use std::io::{self, Write as _};

use oci2bk::convert::Report;
use oci2bk::document::{Conversion, Destination};
use oci2bk::plan::Shortfall;
use oci2bk::prepare::Prepared;
use oci2bk::{ErrorReport, text};
use serde::Serialize;

/// What became of a bake.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Document<'a> {
    /// The root is warm: the document of the command `oci2bk convert`.
    Baked(Box<Conversion<'a>>),
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

impl<'a> Document<'a> {
    pub(crate) fn baked(prepared: &'a Prepared, report: &'a Report) -> Self {
        let destination = Destination::new(&prepared.plan, &report.root.as_path().into());
        Self::Baked(Box::new(Conversion::new(prepared, destination, report)))
    }

    /// Prints it as one line.
    pub(crate) fn print(&self) -> io::Result<()> {
        // Names of steps are chosen by others, and may be shown on a terminal.
        let line = text::to_json_line(self).map_err(io::Error::other)?;
        writeln!(io::stdout(), "{line}")
    }
}

//! `docs/compatibility.md`: a row for each release.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use oci2bk::release::Version;

use crate::sharing::Scenario;

/// The path of the page.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

/// The page without measurements.
const TEMPLATE: &str = include_str!("compatibility.template");

/// The rows of the table by their releases, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Page {
    newest: String,
    rows: BTreeMap<Version, String>,
}

impl Page {
    /// Creates a page without rows. `newest` is the release for which all caches are converted, too.
    pub(crate) fn new(newest: &str) -> Self {
        Self { newest: newest.to_owned(), rows: BTreeMap::new() }
    }

    /// Reads the existing page.
    pub(crate) fn read(newest: &str) -> Result<Self> {
        let text = fs::read_to_string(PAGE).context(PAGE)?;
        let head = format!("| converted for {newest} |");
        ensure!(text.contains(&head), "{PAGE} has no {head:?}: run scripts/matrix without --new");
        let mut page = Self::new(newest);
        for line in text.lines().filter(|line| line.starts_with("| v")) {
            let version = line.split('|').nth(1).unwrap_or_default().trim();
            page.rows.insert(version.parse()?, line.to_owned());
        }
        Ok(page)
    }

    /// Adds or replaces the row of a release, and returns it.
    pub(crate) fn set(&mut self, version: &str, cells: &[String]) -> Result<String> {
        let row = format!("| {version} | {} |", cells.join(" | "));
        self.rows.insert(version.parse()?, row.clone());
        Ok(row)
    }

    /// Writes the page, with the Dockerfile of the measured build.
    pub(crate) fn write(&self, dockerfile: &str) -> Result<()> {
        let rows: Vec<_> = self.rows.values().map(String::as_str).collect();
        let page = TEMPLATE
            .replace("{newest}", &self.newest)
            .replace("{dockerfile}", dockerfile.trim())
            .replace("{scenarios}", &Scenario::ALL.map(Scenario::name).join("; "))
            .replace("{rows}", &rows.join("\n"));
        fs::write(PAGE, page).context(PAGE)
    }
}

//! Common parts of the tables.

use bkstate::Time;
use comfy_table::{Cell, CellAlignment, Table, presets};
use oci2bk::inspect::Warmth;
use oci2bk::text::{shortened, size};

/// Maximum width of external text in a table with other columns.
pub(crate) const WIDE: usize = 60;

/// Several tables in sequence, each with a heading and its number of rows.
#[derive(Default)]
pub(crate) struct Page {
    lines: Vec<String>,
}

impl Page {
    pub(crate) fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Adds a table, unless it is empty. Columns whose heading starts with `>` are right-aligned.
    pub(crate) fn table<const N: usize>(
        &mut self,
        heading: &str,
        columns: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(columns.map(|column| column.trim_start_matches('>')));
        for row in rows {
            table.add_row(row.iter().zip(columns).map(|(text, column)| {
                let right = column.starts_with('>');
                Cell::new(text).set_alignment(if right {
                    CellAlignment::Right
                } else {
                    CellAlignment::Left
                })
            }));
        }
        let count = table.row_count();
        if count > 0 {
            if !self.lines.is_empty() {
                self.line("");
            }
            self.line(format!("{heading} ({count})"));
            self.lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
        }
    }

    /// Adds one item with its details. Empty details are omitted.
    pub(crate) fn thing(&mut self, heading: &str, members: &[(&str, String)]) {
        if !self.lines.is_empty() {
            self.line("");
        }
        self.line(heading);
        let width = members.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in members.iter().filter(|(_, value)| !value.is_empty()) {
            self.line(format!("  {name:width$}  {value}"));
        }
    }

    pub(crate) fn finish(self) -> String {
        self.lines.join("\n")
    }
}

/// Returns a line with the number of steps of each warmth.
pub(crate) fn tally(counts: &[(Warmth, usize)]) -> String {
    let counts: Vec<_> =
        counts.iter().map(|(warmth, count)| format!("{count} {}", warmth.word())).collect();
    counts.join(", ")
}

pub(crate) fn name(name: Option<&str>) -> String {
    name.map(|name| shortened(name, WIDE)).unwrap_or_default()
}

/// Returns the replacement for a missing name.
pub(crate) fn unnamed(warmth: Warmth) -> String {
    if warmth == Warmth::Source { "(source)" } else { "(no name)" }.to_owned()
}

pub(crate) fn bytes(bytes: Option<u64>) -> String {
    bytes.map(size).unwrap_or_default()
}

/// Converts a signed number from a database, where negative means unknown.
pub(crate) fn signed(bytes: Option<i64>) -> Option<u64> {
    bytes.and_then(|bytes| u64::try_from(bytes).ok())
}

pub(crate) fn time(time: Option<Time>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

pub(crate) fn yes(is: bool, word: &str) -> String {
    if is { word.to_owned() } else { String::new() }
}

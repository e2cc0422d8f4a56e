//! `oci2bk verify`.

use std::path::Path;

use bkstate::root::check_access;
use oci2bk::root::OpenRootError;
use oci2bk::text::{self, one_line, size};
use oci2bk::verify::{Damage, Report};
use oci2bk::{Root, Verifier};
use serde::Serialize;

use crate::args::{Format, Verify};
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::summary::{damaged_in, legacy_note};

pub(crate) fn run(arguments: &Verify) -> Result<(), Failure> {
    let root = Root::open(arguments.root.resolve()?.root)?;
    if arguments.mend {
        check_access(root.dir()).map_err(OpenRootError::Root)?;
    }
    let display = Display::new(arguments.progress);
    // The trees are unpacked into a directory that has to be removed.
    let signals = Signals::catch()?;
    let mut verifier = Verifier::new()
        .trees(arguments.trees)
        .limits(arguments.limits.limits())
        .progress(&display)
        .cancel(signals.cancel());
    if let Some(jobs) = arguments.jobs {
        verifier = verifier.jobs(jobs);
    }
    let (report, mended) = if arguments.mend {
        let (report, mended) = verifier.mend(&root).map_err(|error| signals.explain(error))?;
        (report, Some(mended))
    } else {
        (verifier.verify(&root).map_err(|error| signals.explain(error))?, None)
    };
    display.finish();
    let printed = Printed::new(root.path(), arguments.trees, &report, mended);
    output::result(&match arguments.format {
        Format::Table => printed.table(),
        Format::Json => text::to_json(&printed)?,
    })?;
    if report.damage.is_empty() {
        Ok(())
    } else {
        Err(Failure::Damaged { root: root.path().to_owned() })
    }
}

/// What was found, as data.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    root: &'a Path,
    sound: bool,
    keys: usize,
    results: usize,
    records: usize,
    snapshots: usize,
    blobs: usize,
    blob_bytes: u64,
    /// Trees that were compared with their layers, if that was asked for.
    trees: Option<usize>,
    /// Records that daemons since v0.33.1 share with no image or cache; before mending.
    legacy: usize,
    /// Layers that such daemons share now, if that was asked for.
    mended: Option<usize>,
    damage: Vec<Item>,
    leftovers: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    kind: &'static str,
    message: String,
    consequence: &'static str,
}

impl Item {
    fn of(damage: &Damage) -> Self {
        let message = output::with_causes(damage);
        Self { kind: damage.kind(), message, consequence: damage.consequence() }
    }
}

impl<'a> Printed<'a> {
    fn new(root: &'a Path, trees: bool, report: &Report, mended: Option<usize>) -> Self {
        let counts = &report.counts;
        let items = |list: &[Damage]| list.iter().map(Item::of).collect();
        Self {
            root,
            sound: report.damage.is_empty(),
            keys: counts.keys,
            results: counts.results,
            records: counts.records,
            snapshots: counts.snapshots,
            blobs: counts.blobs,
            blob_bytes: counts.blob_bytes,
            trees: trees.then_some(counts.trees),
            legacy: counts.legacy,
            mended,
            damage: items(&report.damage),
            leftovers: items(&report.leftovers),
        }
    }

    fn table(&self) -> String {
        let root = text::path(self.root);
        let mut lines = vec![match self.damage.len() {
            0 => format!("{root} is sound"),
            places => damaged_in(self.root, places),
        }];
        lines.push(format!("  {} keys, {} with a result", self.keys, self.results));
        lines.push(format!("  {} records, {} snapshots", self.records, self.snapshots));
        lines.push(format!("  {} blobs with {} hashed", self.blobs, size(self.blob_bytes)));
        lines.extend(self.trees.map(|trees| format!("  {trees} trees compared with their layers")));
        lines.extend(match self.mended {
            None => legacy_note(self.legacy, self.root).map(|note| format!("  {note}")),
            Some(mended) => Some(format!(
                "  {mended} layers mended, which BuildKit v0.33.1 and later share with images and caches now"
            )),
        });
        lines.extend(self.damage.iter().flat_map(Item::lines));
        if !self.leftovers.is_empty() {
            lines.push("left behind by a daemon, which is no damage:".to_owned());
            lines.extend(self.leftovers.iter().flat_map(Item::lines));
        }
        lines.join("\n")
    }
}

impl Item {
    fn lines(&self) -> [String; 2] {
        let message = one_line(&self.message);
        [format!("{}: {message}", self.kind), format!("  {}", self.consequence)]
    }
}

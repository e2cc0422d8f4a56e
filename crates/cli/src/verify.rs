//! `oci2bk verify`.

use std::path::Path;

use bkstate::Classified;
use bkstate::root::{OpenRootError, check_access};
use oci2bk::llb::Platform;
use oci2bk::text::{self, one_line, size};
use oci2bk::verify::{Against, Damage, Report};
use oci2bk::{Degree, Inputs, Plan, Root, Verifier};
use serde::Serialize;

use crate::args::{Format, Verify};
use crate::clock;
use crate::convert::keyring;
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::summary::{damaged_in, legacy_note};
use crate::warmth::layers_note;

pub(crate) fn run(arguments: &Verify) -> Result<(), Failure> {
    let root = Root::open(arguments.root.resolve()?.root)?;
    if arguments.mend {
        check_access(root.dir()).map_err(OpenRootError::Root)?;
    }
    let plan = plan(arguments)?;
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
    if let Some(now) = clock::now() {
        verifier = verifier.now(now);
    }
    if let Some(plan) = &plan {
        verifier = verifier.against(plan);
    }
    let (report, mended) = if arguments.mend {
        let (report, mended) =
            verifier.mend(&root).map_err(|error| Failure::under(&signals, error))?;
        (report, Some(mended))
    } else {
        (verifier.verify(&root).map_err(|error| Failure::under(&signals, error))?, None)
    };
    display.finish();
    let unkeyed = plan.map(|plan| plan.lost.len());
    let printed = Printed::new(root.path(), arguments.trees, &report, mended, unkeyed);
    output::result::<Failure>(&match arguments.format {
        Format::Table => printed.table(),
        Format::Json => text::to_json(&printed)?,
    })?;
    if report.damage.is_empty() {
        Ok(())
    } else {
        let limits = report.damage.iter().filter_map(Classified::limit_name).collect();
        Err(Failure::Damaged { root: root.path().to_owned(), limits })
    }
}

/// What a conversion of the caches that were given would write.
fn plan(arguments: &Verify) -> Result<Option<Plan>, Failure> {
    if arguments.against.is_empty() {
        return Ok(None);
    }
    let limits = arguments.limits.limits();
    let platforms = [Platform::of_machine()];
    let Inputs { exports, images, .. } = Inputs::read(&arguments.against, &platforms, &limits)?;
    let keyring = keyring(&exports, &arguments.keys, &limits)?;
    let mut plan = Plan::for_target(&exports, &keyring, arguments.buildkit)?;
    for image in &images {
        plan.add_layers(image)?;
    }
    Ok(Some(plan))
}

/// What was found, as data.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    root: &'a Path,
    sound: bool,
    /// Nothing if the root has no layers.
    warmth: Option<Degree>,
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
    /// What of the caches is in the root, if there was something to compare it with.
    against: Option<Compared>,
    damage: Vec<Item>,
    leftovers: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Compared {
    steps: usize,
    missing_steps: usize,
    /// Steps of the root that the caches do not have.
    other_steps: usize,
    links: usize,
    missing_links: usize,
    results: usize,
    missing_results: usize,
    /// Results of the caches' steps that daemons have made since.
    other_results: usize,
    /// Records of the caches that no key source has the op digest of. They are not compared.
    unkeyed: usize,
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
    fn new(
        root: &'a Path,
        trees: bool,
        report: &Report,
        mended: Option<usize>,
        unkeyed: Option<usize>,
    ) -> Self {
        let counts = &report.counts;
        let items = |list: &[Damage]| list.iter().map(Item::of).collect();
        Self {
            root,
            sound: report.damage.is_empty(),
            warmth: report.degree,
            keys: counts.keys,
            results: counts.results,
            records: counts.records,
            snapshots: counts.snapshots,
            blobs: counts.blobs,
            blob_bytes: counts.blob_bytes,
            trees: trees.then_some(counts.trees),
            legacy: counts.legacy,
            mended,
            against: report.against.map(|against| Compared::of(&against, unkeyed.unwrap_or(0))),
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
        lines.extend(layers_note(self.warmth).map(|note| format!("  {note}")));
        lines.extend(self.trees.map(|trees| format!("  {trees} trees compared with their layers")));
        lines.extend(match self.mended {
            None => legacy_note(self.legacy, self.root).map(|note| format!("  {note}")),
            Some(mended) => Some(format!(
                "  {mended} layers mended, which BuildKit v0.33.1 and later share with images and caches now"
            )),
        });
        lines.extend(self.against.iter().flat_map(Compared::lines));
        lines.extend(self.damage.iter().flat_map(Item::lines));
        if !self.leftovers.is_empty() {
            lines.push("not damage, but worth knowing:".to_owned());
            lines.extend(self.leftovers.iter().flat_map(Item::lines));
        }
        lines.join("\n")
    }
}

impl Compared {
    fn of(against: &Against, unkeyed: usize) -> Self {
        Self {
            steps: against.steps,
            missing_steps: against.missing_steps,
            other_steps: against.other_steps,
            links: against.links,
            missing_links: against.missing_links,
            results: against.results,
            missing_results: against.missing_results,
            other_results: against.other_results,
            unkeyed,
        }
    }

    fn lines(&self) -> Vec<String> {
        let there = [
            (self.steps, self.missing_steps, "steps"),
            (self.links, self.missing_links, "links"),
            (self.results, self.missing_results, "results"),
        ];
        let there = there.map(|(all, missing, what)| format!("{} of {all} {what}", all - missing));
        let mut lines = vec![format!("  of the caches: {}", there.join(", "))];
        let notes = [
            (self.unkeyed, "records of the caches without a key, which were not compared"),
            (self.other_steps, "steps that the caches do not have"),
            (self.other_results, "later results of the caches' steps"),
        ];
        let notes = notes.iter().filter(|(count, _)| *count > 0);
        lines.extend(notes.map(|(count, what)| format!("  {count} {what}")));
        lines
    }
}

impl Item {
    fn lines(&self) -> [String; 2] {
        let message = one_line(&self.message);
        [format!("{}: {message}", self.kind), format!("  {}", self.consequence)]
    }
}

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
use crate::daemon::DaemonRoot;
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::summary::{damaged_in, legacy_note};
use crate::warmth::layers_note;

pub(crate) fn run(arguments: &Verify) -> Result<(), Failure> {
    let daemon = arguments.root.resolve()?;
    let root = Root::open(daemon.location.clone())?;
    // Of a rootless daemon, trees can be compared only by who knows the owners.
    if arguments.mend || arguments.trees {
        check_access(root.dir(), root.worker()).map_err(OpenRootError::Root)?;
    }
    let plan = plan(arguments, &daemon)?;
    let display = Display::shared(arguments.progress);
    // The trees are unpacked into a directory that has to be removed.
    let signals = Signals::catch()?;
    let mut verifier = Verifier::new()
        .trees(arguments.trees)
        .limits(arguments.limits.limits())
        .progress(display.clone())
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
    let lost = plan.map(|plan| plan.lost.len());
    let printed = Printed::new(root.path(), arguments.trees, &report, mended, lost);
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

/// Returns the plan of a conversion of the given caches.
fn plan(arguments: &Verify, daemon: &DaemonRoot) -> Result<Option<Plan>, Failure> {
    if arguments.against.is_empty() {
        return Ok(None);
    }
    let limits = arguments.limits.limits();
    let platforms = [Platform::of_machine()];
    let Inputs { exports, images, .. } = Inputs::read(&arguments.against, &platforms, &limits)?;
    let keyring = keyring(&exports, &arguments.keys, &limits)?;
    let mut plan = Plan::for_target(&exports, &keyring, daemon.target(arguments.buildkit)?)?;
    for image in &images {
        plan.add_layers(image)?;
    }
    Ok(Some(plan))
}

/// The findings, as data.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    root: &'a Path,
    sound: bool,
    /// `None` if the root has no layers.
    warmth: Option<Degree>,
    step_counts: StepCounts,
    record_count: usize,
    snapshot_count: usize,
    blob_count: usize,
    blob_size: u64,
    /// Number of trees compared with their layers, if requested.
    tree_count: Option<usize>,
    /// Records that daemons since v0.33.1 do not share with images and caches; before mending.
    legacy_record_count: usize,
    /// Layers that such daemons share now, if requested.
    mended_layer_count: Option<usize>,
    /// The comparison with the caches, if any were given.
    against: Option<Compared>,
    damage: Vec<Item>,
    leftovers: Vec<Item>,
}

/// Number of keys of the solver.
#[derive(Debug, Serialize)]
struct StepCounts {
    total: usize,
    with_results: usize,
}

#[derive(Debug, Serialize)]
struct Compared {
    step_count: usize,
    missing_step_count: usize,
    /// Steps of the root that the caches do not have.
    other_step_count: usize,
    link_count: usize,
    missing_link_count: usize,
    result_count: usize,
    missing_result_count: usize,
    /// Results of the caches' steps that daemons have made since.
    other_result_count: usize,
    /// Records of the caches that do not become steps, usually because their op digest is missing. They are
    /// not compared.
    lost_count: usize,
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
        lost: Option<usize>,
    ) -> Self {
        let counts = &report.counts;
        let items = |list: &[Damage]| list.iter().map(Item::of).collect();
        Self {
            root,
            sound: report.damage.is_empty(),
            warmth: report.degree,
            step_counts: StepCounts { total: counts.keys, with_results: counts.results },
            record_count: counts.records,
            snapshot_count: counts.snapshots,
            blob_count: counts.blobs,
            blob_size: counts.blob_bytes,
            tree_count: trees.then_some(counts.trees),
            legacy_record_count: counts.legacy,
            mended_layer_count: mended,
            against: report.against.map(|against| Compared::of(&against, lost.unwrap_or(0))),
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
        let StepCounts { total, with_results } = self.step_counts;
        lines.push(format!("  {total} keys, {with_results} with a result"));
        lines.push(format!("  {} records, {} snapshots", self.record_count, self.snapshot_count));
        lines.push(format!("  {} blobs with {} hashed", self.blob_count, size(self.blob_size)));
        lines.extend(layers_note(self.warmth).map(|note| format!("  {note}")));
        let trees = self.tree_count;
        lines.extend(trees.map(|trees| format!("  {trees} trees compared with their layers")));
        lines.extend(match self.mended_layer_count {
            None => legacy_note(self.legacy_record_count, self.root).map(|note| format!("  {note}")),
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
    fn of(against: &Against, lost: usize) -> Self {
        Self {
            step_count: against.steps,
            missing_step_count: against.missing_steps,
            other_step_count: against.other_steps,
            link_count: against.links,
            missing_link_count: against.missing_links,
            result_count: against.results,
            missing_result_count: against.missing_results,
            other_result_count: against.other_results,
            lost_count: lost,
        }
    }

    fn lines(&self) -> Vec<String> {
        let there = [
            (self.step_count, self.missing_step_count, "steps"),
            (self.link_count, self.missing_link_count, "links"),
            (self.result_count, self.missing_result_count, "results"),
        ];
        let there = there.map(|(all, missing, what)| format!("{} of {all} {what}", all - missing));
        let mut lines = vec![format!("  of the caches: {}", there.join(", "))];
        let notes = [
            (self.lost_count, "records of the caches without a key, which were not compared"),
            (self.other_step_count, "steps that the caches do not have"),
            (self.other_result_count, "later results of the caches' steps"),
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

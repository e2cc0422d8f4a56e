//! `oci2bk verify`.

use std::sync::Arc;

use bkstate::Classified;
use bkstate::root::{OpenRootError, check_access};
use oci2bk::text::{self, one_line, size, with_causes};
use oci2bk::verify::{Against, Damage, Report};
use oci2bk::{Plan, Preparer, Root, Verifier};

use crate::args::{Format, Verify};
use crate::clock;
use crate::daemon::DaemonRoot;
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::summary::{damaged_in, legacy_note};
use crate::warmth::layers_note;
use crate::warning::Speaker;

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
    let report = if arguments.mend {
        verifier.mend(&root).map_err(|error| Failure::under(&signals, error))?
    } else {
        verifier.verify(&root).map_err(|error| Failure::under(&signals, error))?
    };
    display.finish();
    output::result::<Failure>(&match arguments.format {
        Format::Table => table(&report),
        Format::Json => text::to_json(&report)?,
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
    let preparer = Preparer::new()
        .keys(arguments.keys.iter().cloned())
        .target(daemon.target(arguments.buildkit)?)
        .exported_by(arguments.exported_by)
        .limits(arguments.limits.limits())
        .progress(Arc::new(Speaker));
    Ok(Some(preparer.prepare(&arguments.against)?.plan))
}

fn table(report: &Report) -> String {
    let Report { root, counts, damage, .. } = report;
    let mut lines = vec![match damage.len() {
        0 => format!("{} is sound", text::path(root)),
        places => damaged_in(root, places),
    }];
    lines.push(format!("  {} keys, {} with a result", counts.keys, counts.results));
    lines.push(format!("  {} records, {} snapshots", counts.records, counts.snapshots));
    lines.push(format!("  {} blobs with {} hashed", counts.blobs, size(counts.blob_bytes)));
    if counts.images > 0 {
        let images = if counts.images == 1 { "image" } else { "images" };
        let (count, bytes) = (counts.images, size(counts.image_bytes));
        lines.push(format!("  {count} {images} of packed trees with {bytes} hashed"));
    }
    lines.extend(layers_note(report.degree).map(|note| format!("  {note}")));
    lines.extend(counts.trees.map(|trees| format!("  {trees} trees compared with their layers")));
    lines.extend(match report.mended {
        None => legacy_note(counts.legacy, root).map(|note| format!("  {note}")),
        Some(mended) => Some(format!(
            "  {mended} layers mended, which BuildKit v0.33.1 and later share with images and caches now"
        )),
    });
    lines.extend(report.against.iter().flat_map(of_caches));
    lines.extend(damage.iter().flat_map(of_damage));
    if !report.leftovers.is_empty() {
        lines.push("not damage, but worth knowing:".to_owned());
        lines.extend(report.leftovers.iter().flat_map(of_damage));
    }
    lines.join("\n")
}

fn of_caches(against: &Against) -> Vec<String> {
    let there = [
        (against.steps, against.missing_steps, "steps"),
        (against.links, against.missing_links, "links"),
        (against.results, against.missing_results, "results"),
    ];
    let there = there.map(|(all, missing, what)| format!("{} of {all} {what}", all - missing));
    let mut lines = vec![format!("  of the caches: {}", there.join(", "))];
    let notes = [
        (against.lost, "records of the caches without a key, which were not compared"),
        (against.other_steps, "steps that the caches do not have"),
        (against.other_results, "later results of the caches' steps"),
    ];
    let notes = notes.iter().filter(|(count, _)| *count > 0);
    lines.extend(notes.map(|(count, what)| format!("  {count} {what}")));
    lines
}

fn of_damage(damage: &Damage) -> [String; 2] {
    let message = one_line(&with_causes(damage));
    [format!("{}: {message}", damage.kind()), format!("  {}", damage.consequence())]
}

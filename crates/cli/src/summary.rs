//! Results as text.

use std::path::Path;

use comfy_table::{Table, presets};
use oci2bk::Degree;
use oci2bk::convert::{Share, Shares};
use oci2bk::document::{Conversion, Preview, StepCounts};
use oci2bk::manifest::Style;
use oci2bk::plan::{Layer, Plan, Step};
use oci2bk::prepare::Prepared;
use oci2bk::text::{self, one_line, short_digest, size};

use crate::mounts::import_lines;
use crate::report::{destination_lines, why};
use crate::warmth::advice;
use crate::warning::all_left_packed;

/// Formats a plan as text, for `--dry-run`.
pub(crate) fn plan(preview: &Preview<'_>) -> String {
    let Preview { prepared: Prepared { plan, keyring, .. }, destination, shares, .. } = preview;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["STEP", "LAYER", "SIZE", "CREATED"]);
    for step in &plan.steps {
        table.add_row(step_row(plan, step));
    }
    for lost in &plan.lost {
        let name = lost.hint.clone().unwrap_or_else(|| lost.digest.to_string());
        let why = why(lost.reason.into());
        table.add_row([one_line(&name), format!("({why})"), String::new(), String::new()]);
    }
    let mut lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(String::new());
    lines.extend(keyring.sources().iter().map(|key| {
        let source = one_line(&key.description.to_string());
        format!("{source}: {} of {} op digests used", key.resolved, key.candidates)
    }));
    let bytes: u64 = plan.blobs.values().map(|blob| blob.size).sum();
    lines.push(format!(
        "{} steps, {} layers in {} blobs, {}",
        plan.steps.len(),
        plan.layers.len(),
        plan.blobs.len(),
        size(bytes)
    ));
    lines.extend(already_there(shares));
    lines.extend(destination_lines(destination, plan.target));
    lines.join("\n")
}

/// Lists the parts of a plan that the root has already and those that are new; empty if all is new.
fn already_there(shares: &Shares) -> Vec<String> {
    let Shares { records, snapshots, blobs, steps, .. } = shares;
    let line = |name, of: fn(&Share) -> usize| {
        let counts @ [steps, records, blobs, snapshots] =
            [steps, records, blobs, snapshots].map(of);
        let any = counts.iter().any(|count| *count > 0);
        any.then(|| {
            format!("{name}: {steps} steps, {records} layers, {blobs} blobs, {snapshots} snapshots")
        })
    };
    match line("already there", |share| share.existing) {
        None => Vec::new(),
        Some(there) => [there].into_iter().chain(line("new", |share| share.added)).collect(),
    }
}

fn step_row(plan: &Plan, step: &Step) -> [String; 4] {
    let name = match &step.name {
        Some(name) => one_line(name),
        None => format!("(source) {}", short_digest(&step.key.text())),
    };
    let layer = step.results.first().map(|result| &plan.layers[result.layer]);
    let blob = |layer: &Layer| plan.blobs.get(&layer.blob).map(|blob| size(blob.size));
    let created = step.results.first().and_then(|result| result.created_at);
    [
        name,
        layer.map(|layer| short_digest(&layer.blob.to_string())).unwrap_or_default(),
        layer.and_then(blob).unwrap_or_default(),
        created.map(|time| time.to_string()).unwrap_or_default(),
    ]
}

/// Says that a root is damaged, and in how many places.
pub(crate) fn damaged_in(root: &Path, places: usize) -> String {
    let root = text::path(root);
    match places {
        1 => format!("{root} is damaged in one place"),
        places => format!("{root} is damaged in {places} places"),
    }
}

/// Says that daemons do not share a part of a root, and what to do; `None` if they share all of it.
pub(crate) fn legacy_note(records: usize, root: &Path) -> Option<String> {
    let records = match records {
        0 => return None,
        1 => "1 record depends".to_owned(),
        records => format!("{records} records depend"),
    };
    Some(format!(
        "{records} on layers that a BuildKit before v0.33.1 unpacked, so v0.33.1 and later share none of \
         them with images and caches; check and mend them with: oci2bk verify --trees --mend {}",
        text::path(root)
    ))
}

/// Formats the result of a conversion as text.
pub(crate) fn report(conversion: &Conversion<'_>) -> String {
    let Conversion { prepared: Prepared { plan, keyring, .. }, report, .. } = conversion;
    let seconds: f64 = conversion.stage_seconds.values().sum();
    let missed = plan.misses.iter().any(|miss| miss.certain);
    let whole = plan.lost.is_empty() && plan.dropped.is_empty() && !missed;
    let root = text::path(&report.root);
    let steps = || {
        let StepCounts { converted, total, with_results, .. } = StepCounts::of(plan);
        format!("  {converted} of {total} steps, {with_results} with a result")
    };
    let mut lines = match plan.degree() {
        Some(Degree::Layers) => {
            let mut lines = vec![format!("{root} has warm layers after {seconds:.1} s")];
            let has_cache = plan.sources.iter().any(|source| source.style != Style::Image);
            lines.extend(
                advice(&conversion.cache_from, has_cache).iter().map(|line| format!("  {line}")),
            );
            lines
        }
        _ if whole => vec![format!("{root} is warm after {seconds:.1} s"), steps()],
        _ => vec![format!("{root} is partly warm after {seconds:.1} s"), steps()],
    };
    let there = already_there(&report.shares);
    if there.is_empty() {
        lines.push(format!(
            "  {} layers, {} in {} blobs",
            plan.layers.len(),
            size(report.blob_bytes),
            report.blobs
        ));
    } else {
        lines.extend(there.iter().map(|line| format!("  {line}")));
        if report.blobs > 0 {
            lines.push(format!("  {} in {} blobs", size(report.blob_bytes), report.blobs));
        }
    }
    if report.snapshots > 0 {
        lines.push(format!(
            "  {} snapshots with {} entries, {} on disk",
            report.snapshots,
            report.entries,
            size(report.disk_bytes)
        ));
    } else if report.shares.snapshots.existing == 0 {
        lines.push("  not unpacked; the daemon does so when a build needs it".to_owned());
    }
    let destination = destination_lines(&conversion.destination, plan.target);
    lines.extend(destination.iter().map(|line| format!("  {line}")));
    lines.extend(all_left_packed(&report.left_packed).iter().map(|line| format!("  {line}")));
    let translated = plan.sources.iter().filter(|source| source.translated);
    lines.extend(
        translated
            .filter_map(|source| source.exporter)
            .map(|exporter| format!("  keys of BuildKit {exporter} translated to {}", plan.target)),
    );
    let used = keyring.sources().iter().filter(|key| key.resolved > 0);
    lines.extend(used.map(|key| {
        format!("  {} keys from {}", key.resolved, one_line(&key.description.to_string()))
    }));
    let mounts = conversion.mounts.iter().flat_map(import_lines);
    lines.extend(mounts.map(|line| format!("  {line}")));
    lines.join("\n")
}

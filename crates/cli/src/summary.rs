//! Results as text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bkstate::root::Stranger;
use bkstate::state::is_ahead;
use bkstate::{Digest, Time};
use comfy_table::{Table, presets};
use oci2bk::Degree;
use oci2bk::convert::{LeftPacked, PackedReason, Share, Shares};
use oci2bk::image::WholeImage;
use oci2bk::keys::{Keyring, SourceDescription, SourceError};
use oci2bk::layout::BadCopy;
use oci2bk::manifest::Style;
use oci2bk::plan::{Layer, Lost, LostReason, Miss, MissReason, Plan, Step};
use oci2bk::release::{Releases, Target, Version};
use oci2bk::text::{self, one_line, short_digest, size};
use serde::Serialize;

use crate::hint::{of_key_source, of_limit, raise};
use crate::output::{note, with_causes};
use crate::report::{KeySource, Report, StepCounts, key_sources, lost_for};
use crate::warmth::advice;

/// Maximum number of steps that may run again to list.
const NAMED: usize = 3;

/// Maximum number of layers that stay packed to list. A chain of them can have any number.
const NAMED_LAYERS: usize = 10;

#[derive(Serialize)]
struct PrintedPlan<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    warmth: Option<Degree>,
    key_sources: Vec<KeySource>,
    shares: Shares,
}

/// Formats a plan as JSON, for `--dry-run`.
pub(crate) fn plan_as_json(
    plan: &Plan,
    keyring: &Keyring,
    shares: Shares,
) -> Result<String, serde_json::Error> {
    let key_sources = key_sources(keyring.sources());
    text::to_json(&PrintedPlan { plan, warmth: plan.degree(), key_sources, shares })
}

/// Formats a plan as text, for `--dry-run`.
pub(crate) fn plan(plan: &Plan, keyring: &Keyring, shares: Shares) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["STEP", "LAYER", "SIZE", "CREATED"]);
    for step in &plan.steps {
        table.add_row(step_row(plan, step));
    }
    for lost in &plan.lost {
        let name = lost.hint.clone().unwrap_or_else(|| lost.digest.to_string());
        let why = match lost.reason {
            LostReason::NoKey => "no key",
            LostReason::Unproven => "no proven key",
            LostReason::LostInput => "no key below",
            LostReason::SbomScan => "SBOM scan",
        };
        table.add_row([one_line(&name), format!("({why})"), String::new(), String::new()]);
    }
    let mut lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(String::new());
    lines.extend(key_sources(keyring.sources()).iter().map(|key| {
        let source = one_line(&key.description);
        format!("{source}: {} of {} op digests used", key.resolved_count, key.candidate_count)
    }));
    let bytes: u64 = plan.blobs.values().map(|blob| blob.size).sum();
    lines.push(format!(
        "{} steps, {} layers in {} blobs, {}",
        plan.steps.len(),
        plan.layers.len(),
        plan.blobs.len(),
        size(bytes)
    ));
    lines.extend(already_there(&shares));
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

/// Notes on stderr that a signature proves nothing here.
pub(crate) fn note_signature(source: &SourceDescription) {
    note(format_args!("the signature of the {source} is not checked; its keys need no trust"));
}

/// Warns on stderr why a file found beside the cache has no keys.
pub(crate) fn warn_of_found(error: &SourceError) {
    note(format_args!(
        "warning: {}; it was found with the cache, and is left out{}",
        with_causes(error),
        behind(of_key_source(error).or_else(|| of_limit(error)))
    ));
}

/// Returns a hint in the form to follow a warning.
pub(crate) fn behind(hint: Option<String>) -> String {
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// Warns on stderr about layers of the root that differ from the cache.
pub(crate) fn warn_of_different(root: &Path, different: &BTreeSet<Digest>) {
    for chain_id in different {
        note(format_args!(
            "warning: {} has a layer that a BuildKit before v0.33.1 unpacked and that is not what the \
             cache has (chainID {chain_id}); the layer of the cache is stored beside it",
            root.display()
        ));
    }
}

/// Warns on stderr about omitted images.
pub(crate) fn warn_of_unused_images(unused: &[String]) {
    for image in unused {
        note(format_args!(
            "warning: no step of the caches uses the image in {}; it is left out",
            image
        ));
    }
}

/// Warns on stderr about images that no daemon finds by their digests.
pub(crate) fn warn_of_nameless_images(images: &[WholeImage]) {
    for image in images.iter().filter(|image| image.name().is_none()) {
        note(format_args!(
            "warning: the image in {reference} has no name, so only its layers are warm; with \
             --image NAME={reference} a FROM with its digest needs no registry either",
            reference = one_line(&image.image.reference)
        ));
    }
}

/// Warns on stderr about damaged blobs of the root.
pub(crate) fn warn_of_mended(root: &Path, mended: &BTreeSet<Digest>) {
    for blob in mended {
        note(format_args!(
            "warning: the blob {blob} in {} was damaged; that of the cache replaces it",
            root.display()
        ));
    }
}

/// Warns on stderr about layers with ignored trailing bytes.
pub(crate) fn warn_of_trailing(trailing: &BTreeMap<Digest, u64>) {
    for (blob, bytes) in trailing {
        note(format_args!(
            "warning: {bytes} bytes behind the gzip stream of layer {blob} were ignored; a daemon \
             without unpigz refuses such a layer"
        ));
    }
}

/// Warns on stderr about skipped copies of layers.
pub(crate) fn warn_of_bad_copies(copies: &BTreeSet<BadCopy>) {
    for copy in copies {
        note(format_args!(
            "warning: the copy of layer {} in {} was skipped for a good one: {}",
            copy.blob,
            copy.layout.display(),
            one_line(&copy.why)
        ));
    }
}

/// Warns on stderr that other users can replace a root, through a directory on its path.
pub(crate) fn warn_of_strangers(root: &Path, strangers: &[Stranger]) {
    if let Some(stranger) = strangers.first() {
        note(format_args!(
            "warning: {stranger}; users who can write there can replace {}, and a daemon would trust the \
             replacement",
            root.display()
        ));
    }
}

/// Warns on stderr about linked blobs that other processes may still be able to change.
pub(crate) fn warn_of_unleased(blobs: usize) {
    if blobs > 0 {
        note(format_args!(
            "warning: the file system of the cache has no leases: a process that has one of the {blobs} \
             hard-linked blobs open for writing can still change it"
        ));
    }
}

/// Warns on stderr about layers that stay packed.
pub(crate) fn warn_of_packed(left: &[LeftPacked]) {
    for line in all_left_packed(left) {
        note(format_args!("warning: {line}"));
    }
}

fn all_left_packed(left: &[LeftPacked]) -> Vec<String> {
    let (named, more) = left.split_at(left.len().min(NAMED_LAYERS));
    let mut lines: Vec<_> = named.iter().map(left_packed).collect();
    if !more.is_empty() {
        let more = more.len();
        lines.push(format!(
            "{more} more layers stay packed; --format json and --metadata-file name all"
        ));
    }
    lines
}

fn left_packed(LeftPacked { layer, reason, limit, .. }: &LeftPacked) -> String {
    match reason {
        PackedReason::CannotUnpack(why) => format!(
            "layer {layer} stays packed: it cannot be unpacked, and no step of the cache needs its \
             files: {}{}",
            one_line(why),
            behind(limit.map(raise))
        ),
        PackedReason::LiesOn(below) => {
            format!("layer {layer} stays packed, as it lies on layer {below}")
        }
    }
}

/// Warns on stderr about losses, before anything is written.
pub(crate) fn warn_of_losses(plan: &Plan) {
    let unkeyed = plan.unkeyed().count();
    let above = lost_for(plan, LostReason::LostInput);
    if unkeyed + above > 0 {
        note(format_args!("warning: {}", without_keys(unkeyed, above)));
    }
    let (scans, steps): (Vec<&Lost>, Vec<_>) =
        plan.lost.iter().partition(|lost| lost.reason == LostReason::SbomScan);
    for lost in steps.iter().filter_map(|lost| lost.hint.as_ref()) {
        note(format_args!("warning:   {}", one_line(lost)));
    }
    // With several platforms, each has one.
    let scanners: BTreeSet<_> = scans.iter().map(|lost| lost.hint.as_deref()).collect();
    for image in scanners {
        let by = image.map(|image| format!(" by {}", one_line(image))).unwrap_or_default();
        note(format_args!(
            "warning: the SBOM scan{by} will run again; give the image of the scanner with --image to \
             have it cached, if it has no parameters"
        ));
    }
}

/// Warns on stderr about results without a layer.
pub(crate) fn warn_of_dropped(plan: &Plan) {
    for dropped in &plan.dropped {
        let name = dropped.name.clone().unwrap_or_else(|| dropped.record.to_string());
        note(format_args!(
            "warning: the cache lacks layer {} of the step {}; it will run",
            dropped.missing,
            one_line(&name)
        ));
    }
}

/// Warns on stderr about results that are dated after `now`.
pub(crate) fn warn_of_future(plan: &Plan, now: Time) {
    let results = plan.steps.iter().flat_map(|step| &step.results);
    let ahead = results.filter_map(|result| result.created_at.filter(|time| is_ahead(*time, now)));
    let ahead: Vec<_> = ahead.collect();
    if let Some(latest) = ahead.iter().max() {
        note(format_args!(
            "warning: {} of the results are dated in the future, up to {latest}; until then a daemon prefers \
             them to what it builds itself",
            ahead.len()
        ));
    }
}

/// Warns on stderr about the effects of the target's release on the cache.
pub(crate) fn warn_of_releases(plan: &Plan) {
    if plan.target.is_presumed() {
        note(format_args!(
            "warning: BuildKit {} is newer than {}, the newest known release; its keys are \
             assumed to be the same",
            plan.target,
            Version::NEWEST
        ));
    }
    for warning in misses(plan.target, &plan.misses) {
        note(format_args!("warning: {warning}"));
    }
}

/// Describes the fate of steps without keys, and of those that depend on them.
fn without_keys(unkeyed: usize, above: usize) -> String {
    let steps = |count| match count {
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    };
    let has = if unkeyed == 1 { "has" } else { "have" };
    let what = format!("{} {has} no key", steps(unkeyed));
    let unless = "unless the build has --cache-from of the cache";
    match above {
        0 => format!("{what} and will run, {unless}"),
        above => {
            let build = if above == 1 { "builds" } else { "build" };
            let them = if unkeyed == 1 { "it" } else { "them" };
            format!(
                "{what}, and {} {build} on {them}; all of them will run, {unless}",
                steps(above)
            )
        }
    }
}

/// Explains why steps will or may run again, one line for each reason. A step is listed once, with its first
/// reason.
fn misses(target: Target, misses: &[Miss]) -> Vec<String> {
    let unknown = |miss: &Miss| miss.exporter.is_some();
    let mut groups: BTreeMap<_, Vec<&Miss>> = BTreeMap::new();
    for miss in misses {
        // Independent of the reason, which is unknown if the exporter is of another release.
        let reason = (!unknown(miss)).then_some(miss.reason);
        groups.entry((reason.is_none(), !miss.certain, reason)).or_default().push(miss);
    }
    let mut named = BTreeSet::new();
    let mut lines = Vec::new();
    for ((_, doubtful, reason), misses) in groups {
        let name = |miss: &Miss| miss.name.clone().unwrap_or_else(|| miss.record.to_string());
        let new = misses.iter().map(|miss| one_line(&name(miss)));
        let steps: Vec<_> = new.filter(|name| named.insert(name.clone())).collect();
        let exporters = misses.iter().filter_map(|miss| miss.exporter).reduce(Releases::or);
        if steps.is_empty() {
            continue;
        }
        let steps = names(&steps);
        lines.push(match (reason, exporters) {
            (Some(reason), _) => {
                let will = if doubtful { "may" } else { "will" };
                format!("BuildKit {target} {will} run {steps} again: {}", why(reason))
            }
            (None, exporters) => format!(
                "the release of BuildKit that exported the cache is unknown; if it was {}, BuildKit \
                 {target} may run {steps} again",
                exporters.map(|exporters| exporters.to_string()).unwrap_or_default()
            ),
        });
    }
    lines
}

/// Lists some of these steps, and the number of the others.
fn names(steps: &[String]) -> String {
    let shown: Vec<_> = steps.iter().take(NAMED).map(String::as_str).collect();
    let more = steps.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let word = if steps.len() == 1 { "step" } else { "steps" };
    format!("the {word} \"{}\"{more}", shown.join("\", \""))
}

fn why(reason: MissReason) -> &'static str {
    match reason {
        MissReason::NoOp => {
            "their keys come from a cache.db or a keys file and cannot be translated"
        }
        MissReason::Patterns => "files that wildcards match are hashed differently since v0.26",
        MissReason::Links => "directories with symbolic links are hashed differently since v0.14",
    }
}

/// Formats the result of a conversion as text.
pub(crate) fn report(report: &Report) -> String {
    let stored = &report.stored;
    let seconds = report.timings.total();
    let missed = report.misses.iter().any(|miss| miss.certain);
    let whole = report.lost.is_empty() && report.dropped.is_empty() && !missed;
    let root = text::path(&report.root);
    let steps = || {
        let StepCounts { converted, total, with_results, .. } = &report.step_counts;
        format!("  {converted} of {total} steps, {with_results} with a result")
    };
    let mut lines = match report.warmth {
        Some(Degree::Layers) => {
            let mut lines = vec![format!("{root} has warm layers after {seconds:.1} s")];
            let has_cache = report.sources.iter().any(|source| source.style != Style::Image);
            lines.extend(
                advice(&report.cache_from, has_cache).iter().map(|line| format!("  {line}")),
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
            report.layer_count,
            size(stored.blob_size),
            stored.blob_count
        ));
    } else {
        lines.extend(there.iter().map(|line| format!("  {line}")));
        if stored.blob_count > 0 {
            lines.push(format!("  {} in {} blobs", size(stored.blob_size), stored.blob_count));
        }
    }
    if stored.snapshot_count > 0 {
        lines.push(format!(
            "  {} snapshots with {} entries, {} on disk",
            stored.snapshot_count,
            stored.entry_count,
            size(stored.disk_size)
        ));
    } else if report.shares.snapshots.existing == 0 {
        lines.push("  not unpacked; the daemon does so when a build needs it".to_owned());
    }
    lines.extend(all_left_packed(&report.left_packed).iter().map(|line| format!("  {line}")));
    let translated = report.sources.iter().filter(|source| source.translated);
    lines.extend(translated.filter_map(|source| source.exporter).map(|exporter| {
        format!("  keys of BuildKit {exporter} translated to {}", report.buildkit)
    }));
    let used = report.key_sources.iter().filter(|key| key.resolved_count > 0);
    lines.extend(
        used.map(|key| {
            format!("  {} keys from {}", key.resolved_count, one_line(&key.description))
        }),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use oci2bk::plan::SourceIndex;
    use oci2bk::release::CLASSES;

    use super::*;

    fn miss(name: &str, reason: MissReason, certain: bool) -> Miss {
        Miss {
            source: SourceIndex(0),
            record: Digest::of(name),
            name: Some(name.to_owned()),
            reason,
            certain,
            exporter: None,
        }
    }

    #[test]
    fn a_few_of_many_steps_are_named() {
        let steps = ["COPY a* /", "COPY b* /", "COPY c* /", "COPY d* /", "COPY e* /"];
        let steps = steps.map(str::to_owned);
        assert_eq!(names(&steps[..1]), r#"the step "COPY a* /""#);
        assert_eq!(names(&steps[..2]), r#"the steps "COPY a* /", "COPY b* /""#);
        let five = r#"the steps "COPY a* /", "COPY b* /", "COPY c* /" and 2 more"#;
        assert_eq!(names(&steps), five);
    }

    #[test]
    fn steps_without_keys_are_counted() {
        let unless = "unless the build has --cache-from of the cache";
        assert_eq!(without_keys(6, 0), format!("6 steps have no key and will run, {unless}"));
        let both = "1 step has no key, and 2 steps build on it; all of them will run";
        assert_eq!(without_keys(1, 2), format!("{both}, {unless}"));
        let both = "2 steps have no key, and 1 step builds on them; all of them will run";
        assert_eq!(without_keys(2, 1), format!("{both}, {unless}"));
    }

    // For example, the same COPY in several caches, or for several platforms.
    #[test]
    fn a_step_is_named_once_with_what_is_most_certain() {
        let found = [
            miss("COPY a* /", MissReason::Patterns, false),
            miss("COPY b /", MissReason::Links, false),
            miss("COPY a* /", MissReason::Patterns, true),
            miss("COPY a* /", MissReason::Patterns, true),
            miss("COPY b /", MissReason::Links, false),
        ];
        let expected = [
            r#"BuildKit v0.16.0 will run the step "COPY a* /" again: files that wildcards match are hashed differently since v0.26"#,
            r#"BuildKit v0.16.0 may run the step "COPY b /" again: directories with symbolic links are hashed differently since v0.14"#,
        ];
        assert_eq!(misses("0.16.0".parse().unwrap(), &found), expected);
    }

    #[test]
    fn one_line_says_that_nothing_tells_the_exporter() {
        let only_if = |newest: usize| Releases::of(|class| CLASSES[newest..].contains(class));
        let mut found = [
            miss("COPY a* /", MissReason::Patterns, false),
            miss("COPY b /", MissReason::Links, false),
        ];
        found[0].exporter = only_if(1);
        found[1].exporter = only_if(6);
        let expected = r#"the release of BuildKit that exported the cache is unknown; if it was v0.11.0 to v0.25.2, BuildKit v0.32.2 may run the steps "COPY a* /", "COPY b /" again"#;
        assert_eq!(misses("0.32.2".parse().unwrap(), &found), [expected]);
    }
}

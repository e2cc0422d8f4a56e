//! Parts of a cache that a plan loses, listed before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use oci2bk::Degree;
use oci2bk::plan::{Lost, LostReason, Miss, MissReason, Plan, ShortfallKind};
use oci2bk::release::{Releases, Target};
use oci2bk::text::{one_line, size};

use crate::output::note;
use crate::report::lost_for;

/// Maximum number of steps that may run again to list.
const NAMED: usize = 3;

/// Warns on stderr about losses, before anything is written.
pub(crate) fn of_losses(plan: &Plan) {
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

/// Warns on stderr about results without a layer, in one line for each layer.
pub(crate) fn of_dropped(plan: &Plan) {
    let mut steps_of: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for dropped in &plan.dropped {
        let name = dropped.name.clone().unwrap_or_else(|| dropped.record.to_string());
        steps_of.entry(dropped.missing).or_default().push(one_line(&name));
    }
    for (layer, steps) in steps_of {
        note(format_args!("warning: the cache lacks layer {layer}, so {} will run", names(&steps)));
    }
}

/// Warns on stderr about layers that no step leads to.
pub(crate) fn of_unused_layers(plan: &Plan) {
    let shortfalls = plan.shortfalls();
    let unused = shortfalls.iter().filter(|it| it.kind == ShortfallKind::UnusedLayer);
    let (count, bytes) = unused.fold((0, 0_u64), |(count, bytes), it| (count + 1, bytes + it.size));
    // Without any step, the layers are what the state is for.
    if count > 0 && plan.degree() == Some(Degree::Steps) {
        let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
        note(format_args!(
            "warning: no step leads to {layers} of {}, which only builds with --cache-from of the cache use; \
             leave them out with --drop-unused-layers",
            size(bytes)
        ));
    }
}

/// Warns on stderr about the effects of the target's release on the cache.
pub(crate) fn of_releases(plan: &Plan) {
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
        _ => "their keys differ in this release",
    }
}

#[cfg(test)]
mod tests {
    use bkstate::Digest;
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
            inputs: Vec::new(),
            size: 0,
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

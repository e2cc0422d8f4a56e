//! `oci2bk explain`.

mod error;
use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use oci2bk::document::ExplainedBuild;
use oci2bk::explain::{
    Cache, Contents, Difference, Explained, Explainer, Outcome, Reason, StepIndex,
};
use oci2bk::inspect::{Place, find};
use oci2bk::keys::{self, DockerfileBuild, SourceError};
use oci2bk::text::{self, one_line, shortened};
use oci2bk::{CacheExport, Degree, Limits, Root};

pub(crate) use error::ExplainError;

use crate::args::{Explain, Format};
use crate::failure::Failure;
use crate::keys::{read_dockerfiles, read_source};
use crate::output::{self, note};
use crate::warmth::no_steps_note;

/// Maximum number of differences that are listed; the rest is counted.
const NAMED: usize = 8;
/// Maximum length of values.
const LONGEST_VALUE: usize = 60;
/// Maximum length of step names. In a table every line is as long as the longest.
const LONGEST_NAME: usize = 120;
/// Maximum length of reasons.
const LONGEST_REASON: usize = 160;

/// Advice for when no source has the ops of the cache.
const HOW: &str =
    "provenance of the build that made it, given with --keys, would tell what differs";

pub(crate) fn run(arguments: &Explain) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    let (mut cache, degree) = read_cache(arguments, &limits)?;
    for source in &arguments.keys {
        cache.learn(read_source(source, &limits)?, &limits).map_err(SourceError::from)?;
    }
    let dockerfiles = dockerfiles(arguments, &mut cache, &limits)?;
    let explainer = Explainer::new(&cache, &limits);
    let mut builds = Vec::new();
    for build in &dockerfiles {
        let explanation =
            explainer.explain_likeliest(&build.graphs).map_err(ExplainError::Explain)?;
        let description = build.description.to_string();
        if explanation.as_ref().is_some_and(|it| it.first_miss().is_some()) {
            for base in &build.unknown_bases {
                note(format_args!(
                    "note: a step may be another than in the build, because the config of its base image {} is not \
                     known; give it with --image-config",
                    one_line(base)
                ));
            }
        }
        builds.extend(explanation.map(|explanation| ExplainedBuild { description, explanation }));
    }
    if let Some(path) = &arguments.llb {
        for source in keys::read_source(path, &limits)? {
            if let Some(graph) = &source.graph {
                let explanation = explainer.explain(graph).map_err(ExplainError::Explain)?;
                let description = source.description.to_string();
                builds.push(ExplainedBuild { description, explanation });
            }
        }
        if builds.is_empty() {
            return Err(ExplainError::NoBuild { path: path.clone() }.into());
        }
    }
    output::result(&match arguments.format {
        Format::Table => {
            let mut pages: Vec<_> = builds.iter().map(table).collect();
            pages.extend(no_steps_note(degree).map(str::to_owned));
            pages.join("\n\n")
        }
        Format::Json => text::to_json(&builds)?,
    })
}

/// Reads the Dockerfiles, as builds. Their ops are also those of the cache, as far as it has them.
fn dockerfiles(
    arguments: &Explain,
    cache: &mut Cache,
    limits: &Limits,
) -> Result<Vec<DockerfileBuild>, Failure> {
    let files = arguments.dockerfile.sources();
    let sources = read_dockerfiles(&files, &[], limits)?;
    cache.learn(sources, limits).map_err(SourceError::from)?;
    let mut builds = Vec::new();
    for file in &files {
        builds.extend(file.graphs(&[], limits)?);
    }
    Ok(builds)
}

/// Reads the steps of the cache, and for a root its degree of warmth.
fn read_cache(arguments: &Explain, limits: &Limits) -> Result<(Cache, Option<Degree>), Failure> {
    let daemon = match arguments.cache.as_deref().map(find).transpose()? {
        None => arguments.storage.of_engine()?,
        Some(Place::Source(_)) if arguments.buildkit.is_some() => {
            let place = arguments.cache.as_ref().map(|cache| cache.to_string_lossy().into_owned());
            let place = place.unwrap_or_default();
            let why = "is an export: convert translates its keys to those of any release";
            return Err(Failure::NoRelease { place, why });
        }
        Some(Place::Source(source)) => {
            let exports = CacheExport::read_sources(&[source], limits)?;
            let mut cache = Cache::of_exports(&exports);
            cache.learn_layouts(&exports)?;
            return Ok((cache, None));
        }
        Some(Place::Root(path)) => arguments.storage.daemon(&path)?,
    };
    let target = daemon.target(arguments.buildkit)?;
    let root = Root::open(daemon.location)?;
    let verified = root.verify_databases().map_err(ExplainError::State)?;
    let Some(state) = verified.state else {
        let root = root.path().to_owned();
        return Err(Failure::Damaged { root, limits: BTreeSet::new() });
    };
    let mut cache = Cache::of_state(&state, target);
    match keys::read_root(&root, limits) {
        Ok(sources) => cache.learn(sources, limits).map_err(SourceError::from)?,
        // An empty root: no build has used it.
        Err(SourceError::EmptyRoot { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((cache, Degree::of_state(&state)))
}

fn table(build: &ExplainedBuild) -> String {
    let ExplainedBuild { description, explanation } = build;
    let steps = &explanation.steps;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "STEP", "WHY"]);
    for step in steps {
        let reason = step.reason.as_ref().map(|reason| short(reason, steps));
        let outcome = outcome(step.outcome).to_owned();
        table.add_row([outcome, named(&step.name), reason.unwrap_or_default()]);
    }
    let mut lines = vec![one_line(description)];
    lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
    let count = |wanted| steps.iter().filter(|step| step.outcome == wanted).count();
    lines.push(String::new());
    lines.push(format!(
        "{} of {} steps are found, {} if contents are unchanged; {} are not",
        count(Outcome::Hit),
        steps.len(),
        count(Outcome::IfSame),
        count(Outcome::Miss)
    ));
    lines.extend(explanation.first_miss().into_iter().flat_map(|step| first_miss(step, steps)));
    lines.join("\n")
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit => "hit",
        Outcome::IfSame => "hit?",
        Outcome::Miss => "miss",
        Outcome::Unknown => "?",
    }
}

fn name(steps: &[Explained], step: StepIndex) -> String {
    named(&steps[step].name)
}

fn named(name: &str) -> String {
    shortened(name, LONGEST_NAME)
}

/// Formats a reason in a few words.
fn short(reason: &Reason, steps: &[Explained]) -> String {
    shortened(&words(reason, steps), LONGEST_REASON)
}

fn words(reason: &Reason, steps: &[Explained]) -> String {
    match reason {
        Reason::Source => "its current content decides".to_owned(),
        Reason::Image { .. } => "no image of this digest".to_owned(),
        Reason::Contents { inputs } => {
            let hashed = inputs.iter().filter(|input| !input.paths.is_empty());
            let hashed: Vec<_> = hashed.take(NAMED).map(|input| contents(input, steps)).collect();
            match hashed.as_slice() {
                [] => "like its inputs".to_owned(),
                hashed => format!("if unchanged: {}", hashed.join(", ")),
            }
        }
        Reason::Input { step, part: false, .. } => format!("input differs: {}", name(steps, *step)),
        Reason::Input { step, part: true, .. } => {
            format!("not on this result, or this part, of {}", name(steps, *step))
        }
        Reason::Op { nearest: Some(nearest), .. } => {
            let fields = nearest.differences.iter().take(NAMED);
            let fields: Vec<_> = fields.map(|difference| one_line(&difference.field)).collect();
            format!("not in the cache; differs in {}", fields.join(", "))
        }
        Reason::Op { nearest: None, .. } => "not in the cache".to_owned(),
        Reason::NoResult => "its result is gone".to_owned(),
        Reason::NoCache => "the build asks for it to run".to_owned(),
        Reason::NotComputable { message } => one_line(message),
        _ => "for a reason that this command does not know".to_owned(),
    }
}

fn contents(contents: &Contents, steps: &[Explained]) -> String {
    format!("{} of {}", one_line(&contents.paths.join(" ")), name(steps, contents.step))
}

/// Describes the first miss in detail.
fn first_miss(step: &Explained, steps: &[Explained]) -> Vec<String> {
    let mut lines = vec![format!("first miss: {}", named(&step.name))];
    match &step.reason {
        Some(Reason::Op { nearest: Some(nearest), .. }) => {
            lines.push(format!("  the cache has on the same inputs: {}", named(&nearest.name)));
            let differences = nearest.differences.iter();
            lines.extend(differences.take(NAMED).flat_map(of_difference));
            if nearest.differences.len() > NAMED {
                lines.push(format!("  and {} more", nearest.differences.len() - NAMED));
            }
        }
        Some(Reason::Op { others, nearest: None }) => lines.push(match others {
            0 => "  the cache has nothing on the same inputs".to_owned(),
            1 => format!("  the cache has another step on the same inputs; {HOW}"),
            others => format!("  the cache has {others} other steps on the same inputs; {HOW}"),
        }),
        Some(Reason::Image { cached }) => {
            let shown = cached.iter().take(NAMED);
            lines.extend(shown.map(|image| format!("  cached: {}", one_line(image))));
            if cached.len() > NAMED {
                lines.push(format!("  and {} more", cached.len() - NAMED));
            }
        }
        Some(reason) => lines.push(format!("  {}", short(reason, steps))),
        None => {}
    }
    lines
}

fn of_difference(difference: &Difference) -> [String; 3] {
    let value = |value: &Option<String>| match value {
        Some(value) if value.chars().count() > LONGEST_VALUE => {
            let start: String = value.chars().take(LONGEST_VALUE).collect();
            format!("{}…", one_line(&start))
        }
        Some(value) => one_line(value),
        None => "(none)".to_owned(),
    };
    [
        format!("  {}", one_line(&difference.field)),
        format!("    cached: {}", value(&difference.cached)),
        format!("    asked:  {}", value(&difference.asked)),
    ]
}

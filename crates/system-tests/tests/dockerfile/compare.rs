//! Compares what the library makes of a build with what a frontend makes of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use dockerfile::{Conversion, ImageConfig, Images, Limits, Options, Problem, convert};
use oci2bk::llb::op::Kind;
use oci2bk::llb::{Definition, Op};
use serde_json::Value;

use crate::frontend::Frontend;

/// A Dockerfile and its build.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) name: String,
    pub(crate) dockerfile: Vec<u8>,
    pub(crate) opts: BTreeMap<String, String>,
    /// Config objects, or whole configs, by `NAME` or `NAME@PLATFORM`.
    pub(crate) images: BTreeMap<String, Value>,
    pub(crate) worker: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This many operations are the same.
    Same(usize),
    /// The frontend refuses the build, so there is nothing to compare.
    Refused,
    Differs(String),
}

/// Compares the operations that the target needs, in every field.
pub(crate) fn compare(frontend: &mut Frontend, build: &Build) -> Result<Outcome> {
    let ours = ours(frontend, build);
    let theirs = match frontend.convert(build)? {
        Ok(theirs) => theirs,
        Err(_) => return Ok(Outcome::Refused),
    };
    let theirs = theirs.map(|definition| operations(&definition)).unwrap_or_default();
    let ours = match ours {
        Ok(ours) => ours,
        Err(error) => return Ok(Outcome::Differs(format!("refused: {error}"))),
    };
    let only = |name: &str, some: &BTreeSet<String>, others: &BTreeSet<String>| {
        some.difference(others).map(|op| format!("{name} {op}\n")).collect::<String>()
    };
    let difference = only("ours:  ", &ours, &theirs) + &only("theirs:", &theirs, &ours);
    Ok(if difference.is_empty() { Outcome::Same(ours.len()) } else { Outcome::Differs(difference) })
}

/// Returns the operations of the target, as text with every field.
fn ours(frontend: &Frontend, build: &Build) -> Result<BTreeSet<String>, String> {
    let release = dockerfile::Frontend::of(frontend.target().version());
    let worker = build.worker.parse().map_err(|error| format!("{error}"))?;
    let mut options = Options::new(release, worker);
    for (key, value) in &build.opts {
        options.set(key, value).map_err(|error| error.to_string())?;
    }
    let images = images(build).map_err(|error| error.to_string())?;
    let conversion = convert(&build.dockerfile, &options, &images, &Limits::default());
    let conversion = conversion.map_err(|error| error.to_string())?;
    let stage = stage(&conversion, &options.target).ok_or("there is no such target")?;
    if let Some(problem) = refused(&conversion, stage) {
        return Err(problem.error.to_string());
    }
    let steps = conversion.steps_of(stage);
    Ok(steps.iter().map(|&step| text(&conversion.steps[step].op)).collect())
}

fn images(build: &Build) -> Result<Images> {
    let mut images = Images::default();
    for (name, config) in &build.images {
        let (name, platform) = match name.rsplit_once('@') {
            Some((name, platform)) if platform.contains('/') => (name, Some(platform.parse()?)),
            _ => (name.as_str(), None),
        };
        images.add(name, platform, ImageConfig::from_json(&serde_json::to_vec(config)?)?)?;
    }
    Ok(images)
}

fn stage(conversion: &Conversion, target: &str) -> Option<usize> {
    let name = target.to_lowercase();
    match target {
        "" => conversion.stages.len().checked_sub(1),
        _ => conversion.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&*name)),
    }
}

/// Returns a problem that the frontend meets on the way to a stage.
fn refused(conversion: &Conversion, stage: usize) -> Option<&Problem> {
    let mut needed = BTreeSet::new();
    let mut next = vec![stage];
    while let Some(stage) = next.pop() {
        if needed.insert(stage) {
            next.extend(&conversion.stages[stage].needs);
        }
    }
    let met = |problem: &&Problem| problem.stage.is_none_or(|stage| needed.contains(&stage));
    conversion.problems.iter().find(met)
}

fn operations(definition: &Definition) -> BTreeSet<String> {
    let is_step = |op: &&Op| matches!(op.kind, Kind::Exec(_) | Kind::File(_) | Kind::Merge(_));
    definition.ops.iter().filter(is_step).map(text).collect()
}

fn text(op: &Op) -> String {
    let platform = op.platform.as_ref().filter(|_| matches!(op.kind, Kind::Exec(_)));
    let platform = platform.map(|platform| platform.normalized());
    format!("{:?}", Op { platform, ..op.clone() })
}

//! `scripts/matrix --new`: the behaviour of a new, unknown release with our states.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::cases::releases::CASE;
use crate::fixtures;
use crate::matrix::{self, Release};
use crate::ops;
use crate::page::Page;
use crate::proof::{self, Subject};
use crate::shape;
use crate::world::World;

/// Names the release, and the path of the report.
pub(crate) const VERSION: &str = "OCI2BK_NEW";
const REPORT: &str = "OCI2BK_NEW_REPORT";

/// A check of the release of the first world, against the newest one of the suite in the second; returns its
/// findings.
type Check = fn(&World, &World) -> Result<String>;

const CHECKS: [(&str, Check); 5] = [
    ("Op digests", ops),
    ("Op digests of the fixtures", fixtures),
    ("Shape", shape),
    ("CACHED and sharing", row),
    ("Fixpoint", fixpoint),
];

/// Tries a release, and writes the results: its shape, its row and the report. A failed check does not stop
/// the others.
pub(crate) fn prove(world: &World, version: &str) -> Result<()> {
    let tried = if world.release.version == version {
        world.clone()
    } else {
        world.on(Release::old(&world.tools, version).map_err(anyhow::Error::msg)?)
    };
    let mut report = format!("# BuildKit {version}\n");
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        match check(&tried, world) {
            Ok(found) => write!(report, "\n## {name}: as before\n\n{found}\n")?,
            Err(error) => {
                failed.push(name);
                write!(report, "\n## {name}: DIFFERENT\n\n```text\n{error:#}\n```\n")?;
            }
        }
    }
    let path = PathBuf::from(std::env::var_os(REPORT).context(REPORT)?);
    std::fs::write(&path, &report).with_context(|| path.display().to_string())?;
    ensure!(
        failed.is_empty(),
        "{version} differs in {}: see {}",
        failed.join(", "),
        path.display()
    );
    Ok(())
}

fn ops(tried: &World, _: &World) -> Result<String> {
    let ops = ops::compare(tried)?;
    Ok(format!("The daemon calls {ops} generated ops what the library calls them."))
}

fn fixtures(tried: &World, _: &World) -> Result<String> {
    let steps = fixtures::compare(tried)?;
    Ok(format!("The daemon calls the {steps} steps of the fixtures what the library calls them."))
}

fn shape(tried: &World, _: &World) -> Result<String> {
    shape::write(tried)?;
    let changes = shape::changes_since_last(&tried.release.version)?.unwrap_or_default();
    ensure!(
        changes.is_empty(),
        "What is converted occurs in its states. They differ from those of the release before:\n{}",
        changes.join("\n")
    );
    Ok("Its states are made as those of the release before, and what is converted occurs in them."
        .into())
}

fn row(tried: &World, newest: &World) -> Result<String> {
    let newest = &newest.release;
    let mut page = Page::read(&newest.version)?;
    let cells = matrix::measure(tried, &tried.release, newest)?;
    let row = page.set(&tried.release.version, &cells)?;
    page.write(&(CASE.dockerfile)())?;
    Ok(format!("The row in docs/compatibility.md:\n\n```text\n{row}\n```"))
}

fn fixpoint(tried: &World, _: &World) -> Result<String> {
    proof::prove(tried, &CASE, Subject::Converted)?;
    Ok("It leaves a converted root as it is, exports the same cache from it, and prunes all of it."
        .into())
}

//! `.github/workflows`: checked by actionlint; the job that looks for a release of BuildKit finds one without
//! a shape, and no other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::run;
use testkit::tools::buildkitd_release;

use crate::pages::repository;
use crate::world::World;

const WORKFLOWS: &str = ".github/workflows";
const ALARM: &str = "buildkit.yml";

/// A release in the distant future.
const UNKNOWN: &str = "v0.999.0";

pub(crate) fn prove(world: &World) -> Result<()> {
    let workflows = repository().join(WORKFLOWS);
    let mut checked = Command::new(world.tool("recipes/actionlint")?);
    checked.args(["-shellcheck=", "-pyflakes="]);
    for workflow in fs::read_dir(&workflows)? {
        checked.arg(workflow?.path());
    }
    run(&mut checked)?;

    let workflow = world.yaml(&workflows.join(ALARM))?;
    let known = buildkitd_release();
    let cases = [
        // A tag of something else, and a candidate, are newer only by their names.
        (&[known, "dockerfile/9.9.9", "v0.999.0-rc1"][..], "", ""),
        (&["v0.9.3", UNKNOWN, known], "", UNKNOWN),
        (&[known], known, known),
    ];
    for (tags, asked, expected) in cases {
        let found = found_of(world, &workflow, tags, asked)?;
        ensure!(found == expected, "of {tags:?} and {asked:?}, {found:?} is tried");
    }
    let steps = workflow["jobs"]["try"]["steps"].as_array().context("no steps")?;
    let tries = steps.iter().any(|step| step["run"] == "scripts/matrix --new \"$VERSION\"");
    ensure!(tries, "the workflow does not run scripts/matrix");
    Ok(())
}

/// Returns the release that the first job passes on if the project has these tags, and this release was
/// requested.
fn found_of(world: &World, workflow: &Value, tags: &[&str], asked: &str) -> Result<String> {
    let dir = tempfile::tempdir_in(world.scratch())?;
    let git = dir.path().join("git");
    let refs: Vec<_> = tags.iter().map(|tag| format!("echo '0123 refs/tags/{tag}'")).collect();
    fs::write(&git, format!("#!/bin/sh\n{}\n", refs.join("\n")))?;
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755))?;
    let output = dir.path().join("output");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH")?);
    let steps = workflow["jobs"]["newest"]["steps"].as_array().context("no steps")?;
    let script = steps.iter().find_map(|step| step["run"].as_str()).context("no script")?;
    run(Command::new("bash")
        .args(["-e", "-c", script])
        .current_dir(repository())
        .env("PATH", path)
        .env("VERSION", asked)
        .env("GITHUB_OUTPUT", &output))?;
    let line = fs::read_to_string(&output)?;
    let version = line.trim().strip_prefix("version=").context("no version")?;
    Ok(version.to_owned())
}

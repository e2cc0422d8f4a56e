//! `.github/workflows/release.yml`: its own steps, with programs in place of GitHub's that say what they were called with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::run;

use crate::pages::repository;
use crate::world::World;

const WORKFLOW: &str = ".github/workflows/release.yml";

/// What stands for `gh`, `skopeo` and the checks: a line for each call.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>\"$CALLS\"\n";

pub(crate) fn prove(world: &World) -> Result<()> {
    let workflow = world.yaml(&repository().join(WORKFLOW))?;
    let dir = tempfile::tempdir_in(world.scratch())?;
    let programs = dir.path().join("programs");
    fs::create_dir(&programs)?;
    for name in ["gh", "skopeo", "git"] {
        fs::write(programs.join(name), RECORDER)?;
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let tag = format!("v{version}");
    for file in ["Cargo.toml", "CHANGELOG.md"] {
        fs::copy(repository().join(file), dir.path().join(file))?;
    }
    let job = Job { workflow: &workflow, dir: dir.path(), programs: &programs };

    for (tag, right) in [(tag.as_str(), true), ("v999.0.0", false)] {
        for name in ["Compare the tag with the version", "Take the notes from the changelog"] {
            let done = job.run("build", name, tag);
            ensure!(done.is_ok() == right, "{name}, {tag}: {done:?}");
        }
    }
    job.run("build", "Take the notes from the changelog", &tag)?;
    let notes = fs::read_to_string(dir.path().join("target/notes.md"))?;
    ensure!(notes.contains("### Added") && !notes.contains("\n## ["), "the notes are {notes}");
    for (name, script) in [
        ("Run all checks", "scripts/test"),
        ("Make the files, and try them", "scripts/check-release"),
    ] {
        ensure!(job.script("build", name)?.0 == script, "{name} runs something else");
        ensure!(repository().join(script).exists(), "there is no {script}");
    }

    fs::create_dir(dir.path().join("dist"))?;
    let image = format!("oci2bk-{version}-image.tar");
    fs::write(dir.path().join("dist").join(&image), "image")?;
    fs::write(dir.path().join("notes.md"), notes)?;
    run(Command::new("sh")
        .args(["-c", "sha256sum -- oci2bk* >SHA256SUMS"])
        .current_dir(dir.path().join("dist")))?;
    for name in ["Check the files", "Attach the files", "Push the image"] {
        job.run("publish", name, &tag)?;
    }
    let calls = fs::read_to_string(job.calls())?;
    let expected = format!(
        "gh release create {tag} --repo owner/name --verify-tag --title {tag} --notes-file notes.md dist/SHA256SUMS dist/{image}\n\
         skopeo login ghcr.io --username actor --password-stdin\n\
         skopeo copy --all oci-archive:dist/{image} docker://ghcr.io/owner/name:{version}\n\
         skopeo copy --all oci-archive:dist/{image} docker://ghcr.io/owner/name:latest\n"
    );
    ensure!(calls.ends_with(&expected), "{calls}");
    fs::write(dir.path().join("dist").join(&image), "another")?;
    ensure!(job.run("publish", "Check the files", &tag).is_err(), "another image is published");
    Ok(())
}

/// Runs the steps of the jobs.
struct Job<'a> {
    workflow: &'a Value,
    dir: &'a Path,
    programs: &'a Path,
}

impl Job<'_> {
    fn calls(&self) -> std::path::PathBuf {
        self.dir.join("calls")
    }

    /// Returns the script of a step, and its environment.
    fn script(&self, job: &str, name: &str) -> Result<(String, Value)> {
        let steps = self.workflow["jobs"][job]["steps"].as_array().context("no steps")?;
        let step = steps
            .iter()
            .find(|step| step["name"] == name)
            .with_context(|| format!("no step {name}"))?;
        Ok((step["run"].as_str().context("no script")?.to_owned(), step["env"].clone()))
    }

    /// Runs the step `name` of `job` for a tag.
    fn run(&self, job: &str, name: &str, tag: &str) -> Result<String> {
        let (script, env) = self.script(job, name)?;
        let mut command = Command::new("bash");
        command
            .args(["-e", "-c", &script])
            .current_dir(self.dir)
            .env("TAG", tag)
            .env("CALLS", self.calls());
        command.env("PATH", format!("{}:{}", self.programs.display(), std::env::var("PATH")?));
        for (variable, value) in env.as_object().into_iter().flatten() {
            let value = match value.as_str().context("an environment variable")? {
                "${{ github.token }}" => "token",
                "${{ github.actor }}" => "actor",
                "${{ github.repository }}" => "owner/name",
                "ghcr.io/${{ github.repository }}" => "ghcr.io/owner/name",
                other => anyhow::bail!("{variable} is {other}"),
            };
            command.env(variable, value);
        }
        run(&mut command)
    }
}

//! `inspect` on the root of a real daemon: steps with the names in its history, cache mounts, builds.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Source};
use crate::case::Context;
use crate::cases::releases::CASE;
use crate::process::run;
use crate::world::World;

pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("inspecting").tempdir_in(world.scratch())?;
    let context = dir.path().join("context");
    let files = Context::create(&context);
    files.file("Dockerfile", world.fill_in(&(CASE.dockerfile)()));
    (CASE.context)(&files);
    let source = Source { case: &CASE, context: &context };
    let root = dir.path().join("root");
    let daemon = world.start(&root)?;
    source.build(&daemon, &Options::default())?;
    source.build(&daemon, &Options::default())?;
    daemon.stop()?;

    let inspect = |words: &[&str]| {
        run(Command::new(&world.tools.oci2bk).arg("inspect").arg(&root).args(words))
    };
    let json: Value = serde_json::from_str(&inspect(&["--format=json"])?)?;
    schema::ensure_valid("inspect-root.json", &json)?;
    ensure!(json["damage_count"] == 0, "{:#}", json["damage_count"]);

    let list = |member: &str| json[member].as_array().cloned().unwrap_or_default();
    let mounts = list("cache_mounts");
    let has =
        |mount: &Value, id: &str| mount["cache_mount"].as_str().is_some_and(|key| key.contains(id));
    ensure!(mounts.iter().any(|mount| has(mount, "/cache")), "{mounts:#?}");
    ensure!(mounts.iter().any(|mount| has(mount, "shared")), "{mounts:#?}");

    let builds = list("builds");
    ensure!(builds.len() == 2, "{builds:#?}");
    for build in &builds {
        ensure!(build["completed_at"].is_string() && build["error"].is_null(), "{build:#}");
    }
    let cached = |build: &Value| build["cached_step_count"].as_u64();
    ensure!(cached(&builds[1]) > cached(&builds[0]), "{builds:#?}");

    // Every step that ran is warm, and has its name in the Dockerfile.
    let steps = list("steps");
    for name in ["RUN mkdir /given && echo given > /given/file", "RUN cat /heredoc > last"] {
        let step = steps.iter().find(|step| step["name"] == name).with_context(|| {
            let names: Vec<_> = steps.iter().map(|step| &step["name"]).collect();
            format!("no step is named {name:?}: {names:#?}")
        })?;
        ensure!(step["state"] == "warm", "{step:#}");
        let record = step["results"][0]["record"].as_str().context("a warm step has a record")?;
        let tied = inspect(&[record])?;
        ensure!(tied.contains(name) && tied.contains("leases ("), "{tied}");
    }
    Ok(())
}

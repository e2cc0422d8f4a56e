//! `oci2bk explain` predicts which steps a daemon finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::schema;

use crate::build::{Options, Source};
use crate::case::{Case, Context, Export, Keys};
use crate::process::run;
use crate::state;
use crate::world::World;

const fn case(
    name: &'static str,
    dockerfile: fn() -> String,
    arguments: &'static [&'static str],
) -> Case {
    Case {
        name,
        dockerfile,
        context: |context| {
            context.file("a", "a\n");
            context.file("b", "b\n");
        },
        edit: |_| (),
        arguments,
        export: Export::MAX,
        keys: Keys::Provenance,
    }
}

const CACHED: Case = case("cached", || DOCKERFILE.into(), &[]);

const DOCKERFILE: &str = "
FROM {registry}/busybox AS base
COPY /b /shared
RUN mkdir /layers && cp /shared /layers/1
FROM base AS other
RUN --mount=type=cache,target=/cache echo 1 > /cache/z && cp /cache/z /made
FROM base
ARG LEVEL=3
COPY /a /a
RUN echo one > /one
RUN env > /level
COPY --from=other /made /made
RUN --mount=type=bind,from=other,source=/layers,target=/mounted cat /mounted/1 > /last
";

/// A build, its expected first missing step, and the expected difference there.
struct Asked {
    case: Case,
    miss: Option<(&'static str, &'static str)>,
}

/// In this order on one root, each after the previous ones.
const ASKED: [Asked; 5] = [
    Asked { case: CACHED, miss: None },
    Asked {
        case: case("argument", || DOCKERFILE.into(), &["--opt", "build-arg:LEVEL=5"]),
        miss: Some(("RUN echo one > /one", "meta.env.LEVEL")),
    },
    Asked {
        // Its output is the same, so a step that copies it is found.
        case: case("command", || DOCKERFILE.replace("echo 1", "expr 1"), &[]),
        miss: Some(("RUN expr 1", "meta.args[2]")),
    },
    Asked {
        case: case("below", || DOCKERFILE.replace("mkdir /layers", "mkdir -p /layers"), &[]),
        miss: Some(("RUN mkdir -p /layers", "meta.args[2]")),
    },
    Asked {
        case: case("base", || DOCKERFILE.replace("/busybox", "/debian"), &[]),
        miss: Some(("docker-image://", "image")),
    },
];

pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("explain").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let context_of = |case: &Case| {
        let context = Context::create(&path(&format!("{}-context", case.name)));
        context.file("Dockerfile", world.fill_in(&(case.dockerfile)()));
        (case.context)(&context);
        context.dir().to_owned()
    };
    let first = world.start(&path("first"))?;
    let made = |case: &Case| -> Result<[PathBuf; 2]> {
        let [cache, keys] = ["cache", "keys"].map(|what| path(&format!("{}-{what}", case.name)));
        let context = context_of(case);
        let source = Source { case, context: &context };
        let keys = source.make(&world.tools, &first, &cache, &keys)?.context("keys")?;
        Ok([cache, keys])
    };
    let made: Vec<_> = ASKED.iter().map(|asked| made(&asked.case)).collect::<Result<_>>()?;
    first.stop()?;

    let [cache, keys] = made[0].clone();
    let root = path("root");
    run(Command::new(&world.tools.oci2bk)
        .args(["convert", "--progress=quiet", "--keys"])
        .args([&keys, &cache, &root]))?;
    for (asked, [_, llb]) in ASKED.iter().zip(&made) {
        let case = &asked.case;
        let explain = |cache: &Path| -> Result<Value> {
            schema::run(
                Command::new(&world.tools.oci2bk)
                    .args(["explain", "--format=json", "--llb"])
                    .arg(llb)
                    .arg("--keys")
                    .args([&keys, cache]),
            )
        };
        let of_cache = explain(&cache).context(case.name)?;
        asked.ensure_first_miss(&of_cache).context("in the export")?;
        let of_root = explain(&root).context(case.name)?;
        let foretold = foretold(&of_root)?;

        let daemon = world.start(&root)?;
        let context = context_of(case);
        let report = Source { case, context: &context }.build(&daemon, &Options::default())?;
        daemon.stop()?;
        state::ensure_verified(&world.tools, &root, false)?;
        let reported: BTreeMap<_, _> =
            report.steps().map(|(name, cached)| (without_flags(name), cached)).collect();
        for (name, found) in &foretold {
            let reported = reported.get(name).with_context(|| {
                format!("{}: there is no step {name:?} in {reported:?}", case.name)
            })?;
            ensure!(
                reported == found,
                "{}: {name} is cached: {reported}, but {of_root:#}",
                case.name
            );
        }
    }
    Ok(())
}

impl Asked {
    fn ensure_first_miss(&self, explained: &Value) -> Result<()> {
        let name = self.case.name;
        let steps = explained[0]["steps"].as_array().context("steps")?;
        let miss = steps.iter().find(|step| step["outcome"] == "miss");
        let Some((expected, differs)) = self.miss else {
            ensure!(miss.is_none(), "{name}: {explained:#}");
            return Ok(());
        };
        let miss = miss.with_context(|| format!("{name}: nothing misses: {explained:#}"))?;
        let reason = &miss["reason"];
        let step = miss["name"].as_str().unwrap_or_default();
        ensure!(step.starts_with(expected), "{name}: {miss:#}");
        if differs == "image" {
            let cached = reason["cached_images"].as_array().context("images")?;
            ensure!(reason["kind"] == "image" && cached.is_empty(), "{name}: {miss:#}");
            return Ok(());
        }
        let differences = reason["nearest"]["differences"].as_array();
        let fields: Vec<_> =
            differences.into_iter().flatten().map(|difference| &difference["field"]).collect();
        ensure!(fields == [&json!(differs)], "{name}: {miss:#}");
        Ok(())
    }
}

/// Returns which of the steps with inputs are predicted to be found if the context is unchanged.
fn foretold(explained: &Value) -> Result<BTreeMap<String, bool>> {
    let steps = explained[0]["steps"].as_array().context("steps")?;
    let with_inputs = steps.iter().filter(|step| step["input_steps"] != json!([]));
    with_inputs
        .map(|step| {
            let name = step["name"].as_str().context("a name")?;
            let found = match step["outcome"].as_str() {
                Some("hit" | "if-same") => true,
                Some("miss") => false,
                other => anyhow::bail!("{name} is {other:?}"),
            };
            Ok((without_flags(name), found))
        })
        .collect()
}

/// Shortens `[other 2/3] RUN --mount=type=cache,target=/c make` to what the op alone tells: `RUN make`.
fn without_flags(name: &str) -> String {
    let name = match name.split_once("] ") {
        Some((stage, rest)) if stage.starts_with('[') => rest,
        _ => name,
    };
    let words = name.split(' ').filter(|word| !word.starts_with("--"));
    words.collect::<Vec<_>>().join(" ")
}

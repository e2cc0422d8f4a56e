//! Dockerfiles with the digests that real frontends and daemons give to their operations.
//!
//! Each directory in `cases` has a `Dockerfile`, byte for byte, `case.json` with the options of the build and the configs
//! of base images, and `expected.json` with the operations of the target for each release. A case without one gets it with
//! `OCI2BK_BLESS=1`: first compare it with the frontends (`cargo test --workspace --test dockerfile -- cases`).
#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dockerfile::{Conversion, Frontend, ImageConfig, Images, Limits, Options, convert};
use llb::digest;
use llb::release::Target;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Case {
    opts: BTreeMap<String, String>,
    #[serde(default)]
    images: BTreeMap<String, Box<RawValue>>,
    workers: Vec<String>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(default)]
    ops: Vec<ExpectedOp>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct ExpectedOp {
    digest: String,
    outputs: u32,
    description: String,
}

/// The configs of base images. Frontends resolve every other image as well, with a config that is empty.
fn images(case: &Case) -> Images {
    let mut images = Images::default();
    for (name, config) in &case.images {
        let (name, platform) = match name.rsplit_once('@') {
            Some((name, platform)) if platform.contains('/') => {
                (name, Some(platform.parse().unwrap()))
            }
            _ => (name.as_str(), None),
        };
        let config = ImageConfig::from_json(config.get().as_bytes()).unwrap();
        images.add(name, platform, config).unwrap();
    }
    images
}

fn options(case: &Case, target: &Target) -> Options {
    let worker = case.workers.first().map_or("linux/amd64", String::as_str);
    let mut options = Options::new(Frontend::of(target.version()), worker.parse().unwrap());
    for (key, value) in &case.opts {
        options.set(key, value).unwrap();
    }
    options
}

/// Returns the stage that the build is for.
fn stage(conversion: &Conversion, target: &str) -> usize {
    let named = |name: &Option<String>| name.as_deref() == Some(&target.to_lowercase());
    match target {
        "" => conversion.stages.len() - 1,
        _ => conversion.stages.iter().rposition(|stage| named(&stage.name)).unwrap(),
    }
}

/// Writes `expected.json`, if that is missing and asked for.
fn bless(directory: &Path, case: &Case) {
    let path = directory.join("expected.json");
    if path.exists() || std::env::var_os("OCI2BK_BLESS").is_none() {
        return;
    }
    let of_release = |release: &str| {
        let target: Target = release.parse().unwrap();
        let (options, encoding) = (options(case, &target), target.encodings().next().unwrap());
        let content = std::fs::read(directory.join("Dockerfile")).unwrap();
        let conversion = convert(&content, &options, &images(case), &Limits::default()).unwrap();
        let steps = conversion.steps_of(stage(&conversion, &options.target));
        let steps = steps.iter().map(|&step| &conversion.steps[step]);
        let op = |step: &dockerfile::Step| {
            let digest = digest(&step.op, encoding, &options.platform).unwrap().to_string();
            json!({"digest": digest, "outputs": step.op.outputs(), "description": step.instruction})
        };
        (release.to_owned(), json!({"ops": steps.map(op).collect::<Vec<_>>()}))
    };
    let all: BTreeMap<_, _> = ["v0.16", "v0.32", "v0.34"].into_iter().map(of_release).collect();
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    std::fs::write(path, text).unwrap();
}

fn check(directory: &Path) -> Vec<String> {
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let case: Case = serde_json::from_slice(&read("case.json")).unwrap();
    bless(directory, &case);
    let expected: BTreeMap<String, Expected> =
        serde_json::from_slice(&read("expected.json")).unwrap();
    let mut faults = Vec::new();
    for (release, expected) in &expected {
        let target: Target = release.parse().unwrap();
        let options = options(&case, &target);
        let name = format!("{} {release}", directory.file_name().unwrap().display());
        let conversion = convert(&read("Dockerfile"), &options, &images(&case), &Limits::default());
        let conversion = match (conversion, &expected.error) {
            (Ok(conversion), _) => conversion,
            (Err(_), Some(_)) => continue,
            (Err(error), None) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        if expected.error.is_some() {
            if conversion.problems.is_empty() {
                faults.push(format!("{name}: nothing is refused"));
            }
            continue;
        }
        faults
            .extend(conversion.problems.iter().map(|problem| format!("{name}: {}", problem.error)));
        let encoding = target.encodings().next().unwrap();
        let steps = conversion.steps_of(stage(&conversion, &options.target));
        let ours: BTreeMap<_, _> = steps
            .into_iter()
            .map(|step| &conversion.steps[step])
            .map(|step| {
                let op_digest = digest(&step.op, encoding, &options.platform).unwrap().to_string();
                (op_digest, (step.op.outputs(), step.instruction.clone()))
            })
            .collect();
        let theirs: BTreeSet<&str> = expected.ops.iter().map(|op| &*op.digest).collect();
        for op in &expected.ops {
            match ours.get(&op.digest) {
                Some((outputs, _)) if *outputs == op.outputs => {}
                other => faults.push(format!("{name}: lacks {} ({other:?})", op.description)),
            }
        }
        let more = ours.iter().filter(|(op_digest, _)| !theirs.contains(&***op_digest));
        faults.extend(more.map(|(_, (_, text))| format!("{name}: has {text}")));
    }
    faults
}

#[test]
fn every_operation_is_that_of_the_frontend() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut directories: Vec<_> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(directories.len() >= 30);
    let faults: Vec<_> = directories.iter().flat_map(|directory| check(directory)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// What a hostile file of a few kilobytes describes is bounded: each of these would be gigabytes.
#[test]
fn what_grows_is_refused() {
    let refused = |content: &str| {
        let limits = Limits::default();
        let error = convert(content.as_bytes(), &Options::default(), &Images::default(), &limits);
        assert!(error.unwrap_err().reason.to_string().starts_with("the operations and variables"));
    };
    let long = "x".repeat(60_000);
    refused(&format!("FROM a\nENV A={long}\n{}", "ENV A=$A$A\n".repeat(40)));
    refused(&format!("FROM a\nENV A={long}\n{}", "RUN a\n".repeat(5_000)));
    refused(&format!("FROM a AS b\nENV A={long}\n{}", "FROM b\n".repeat(5_000)));
    refused(&format!("FROM a AS b\nSHELL [\"{long}\"]\n{}", "FROM b\n".repeat(5_000)));
    refused(&format!("FROM a\nCOPY {} /{long}\n", "x ".repeat(2_000)));
    refused(&format!("FROM a\nCOPY --chown={long} {} /a\n", "x ".repeat(2_000)));
    refused(&format!("FROM a\nENV A={long}\n{}", "ENV B=${A//*x*/y}\n".repeat(2_000)));
}

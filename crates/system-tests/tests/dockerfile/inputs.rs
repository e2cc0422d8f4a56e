//! Dockerfiles that are there already.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::cases;
use crate::compare::Build;

#[derive(Deserialize)]
struct Case {
    opts: BTreeMap<String, String>,
    #[serde(default)]
    images: BTreeMap<String, Value>,
    workers: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the directories in `directory`, sorted.
fn directories(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        directories.push(entry?.path());
    }
    directories.sort();
    Ok(directories)
}

fn plain(name: &str, dockerfile: Vec<u8>) -> Build {
    let (opts, images) = (BTreeMap::new(), BTreeMap::new());
    Build { name: name.to_owned(), dockerfile, opts, images, worker: "linux/amd64".to_owned() }
}

/// The cases of the library.
pub(crate) fn cases() -> Result<Vec<Build>> {
    let mut builds = Vec::new();
    for directory in directories(&repository().join("crates/dockerfile/tests/cases"))? {
        let case: Case = serde_json::from_slice(&fs::read(directory.join("case.json"))?)?;
        let dockerfile = fs::read(directory.join("Dockerfile"))?;
        let worker = case.workers.first().context("a worker")?.clone();
        let name = directory.display().to_string();
        builds.push(Build { name, dockerfile, opts: case.opts, images: case.images, worker });
    }
    Ok(builds)
}

/// The Dockerfiles of the fixtures and of the examples.
pub(crate) fn fixtures() -> Result<Vec<Build>> {
    let mut builds = Vec::new();
    let places = ["fixtures", "examples", "crates/oci2bk/tests/data"];
    for place in places {
        for directory in directories(&repository().join(place))? {
            if let Ok(dockerfile) = fs::read(directory.join("Dockerfile")) {
                builds.push(plain(&directory.display().to_string(), dockerfile));
            }
        }
    }
    Ok(builds)
}

/// The Dockerfiles of the end-to-end table, on images with a config.
pub(crate) fn table() -> Vec<Build> {
    let config = |env: &str| serde_json::json!({"Env": [env], "WorkingDir": "/", "OnBuild": null});
    let mut builds = Vec::new();
    for case in cases::all().into_iter().chain([cases::releases::CASE]) {
        let dockerfile = (case.dockerfile)();
        let dockerfile = dockerfile
            .replace("{registry}", "localhost:5000")
            .replace("{web}", "http://localhost:8000");
        let mut build = plain(case.name, dockerfile.into_bytes());
        for name in ["busybox", "debian", "onbuild"] {
            build.images.insert(format!("localhost:5000/{name}"), config("PATH=/bin"));
        }
        for (option, value) in case.arguments.iter().zip(case.arguments.iter().skip(1)) {
            if let Some((key, value)) = value.split_once('=').filter(|_| *option == "--opt") {
                build.opts.insert(key.to_owned(), value.to_owned());
            }
        }
        // A build for several platforms is one for each.
        let platforms = build.opts.remove("platform").unwrap_or_default();
        for platform in platforms.split(',') {
            let mut build = build.clone();
            if !platform.is_empty() {
                build.opts.insert("platform".to_owned(), platform.to_owned());
            }
            builds.push(build);
        }
    }
    builds
}

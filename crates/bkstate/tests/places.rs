//! The paths and names of a worker's files are defined in one place: `bkstate::worker`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

/// Names that no other file may contain.
const NAMES: [&str; 7] = [
    "runc-",
    "\"overlayfs\"",
    "containerdmeta.db",
    "metadata_v2.db",
    "\"workerid\"",
    "buildkitd.lock",
    "buildkit_history",
];

/// Finds the sources below `dir`, except tests and those of the worker.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" && name != "worker" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "testing.rs" {
            found.push(path);
        }
    }
}

/// Returns the lines of a source that are neither comments nor tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn only_the_worker_names_its_files() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for name in ["bkstate", "oci2bk", "cli"] {
        sources(&crates.join(name).join("src"), &mut found);
    }
    assert!(found.len() > 200, "the sources were not found: {}", found.len());
    let mut named = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for line in code(&text) {
            if let Some(name) = NAMES.iter().find(|name| line.contains(**name)) {
                named.push(format!("{} names {name}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(named.is_empty(), "{}", named.join("\n"));
}

//! What the published packages say about themselves. `scripts/check-packages` makes them, and tests what is in
//! them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

const PUBLISHED: [&str; 7] = ["bkstate", "cli", "codec", "dockerfile", "graph", "llb", "oci2bk"];

/// Where the files of the project can be read.
const REPOSITORY: &str = "https://github.com/oci2bk/oci2bk/blob/main/";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns all files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Returns the paths in the project to which a text has links.
fn linked(text: &str) -> impl Iterator<Item = &str> {
    text.split(REPOSITORY).skip(1).map(|rest| {
        let ends = |c: char| c.is_whitespace() || ")>#".contains(c);
        rest.split(ends).next().unwrap()
    })
}

/// Returns whether a line of documentation names a file of the project which readers of it do not have.
fn names_a_file(line: &str) -> bool {
    let line = line.trim_start();
    (line.starts_with("//!") || line.starts_with("///"))
        && line.match_indices("docs/").any(|(at, _)| {
            let before = &line[..at];
            !before.ends_with("[`") && !before.ends_with("blob/main/")
        })
}

#[test]
fn manifests_have_what_a_registry_shows() {
    let crates = fs::read_dir(project().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut published: Vec<_> = crates
        .filter(|directory| {
            let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
            !manifest.lines().any(|line| line == "publish = false")
        })
        .map(|directory| directory.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    published.sort();
    assert_eq!(published, PUBLISHED);
    let releasing = fs::read_to_string(project().join("docs/releasing.md")).unwrap();
    for name in PUBLISHED {
        let manifest = project().join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        for key in ["name", "description", "readme", "documentation", "keywords", "categories"] {
            let given = manifest.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(given, "{name} has no {key}");
        }
        let package = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        let package = package.trim_matches('"');
        assert!(releasing.contains(&format!("`{package}`")), "docs/releasing.md lacks {package}");
    }
}

#[test]
fn links_to_the_project_lead_to_files_that_it_has() {
    let mut count = 0;
    for name in PUBLISHED {
        let directory = project().join("crates").join(name);
        let mut paths = files(&directory.join("src"));
        paths.push(directory.join("README.md"));
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            for target in linked(&text) {
                count += 1;
                let there = project().join(target).exists();
                assert!(there, "{}: {target} is not there", path.display());
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn documentation_of_the_libraries_has_links_to_the_projects_files() {
    for name in PUBLISHED.iter().filter(|name| **name != "cli") {
        for path in files(&project().join("crates").join(name).join("src")) {
            for line in fs::read_to_string(&path).unwrap().lines() {
                // The documents of others have the name of their project before them.
                let of_others = ["programming-guides", "skopeo"].iter().any(|w| line.contains(w));
                assert!(of_others || !names_a_file(line), "{}: {line}", path.display());
                // An example in a package has the fixtures of the package.
                let example = line.trim_start().starts_with("//");
                assert!(!example || !line.contains("../../fixtures"), "{}: {line}", path.display());
            }
        }
    }
    assert!(names_a_file("/// See `docs/format/gc.md`."));
    assert!(!names_a_file("/// See [`docs/format/gc.md`]."));
    assert!(!names_a_file(&format!("//! [x]: {REPOSITORY}docs/format/gc.md")));
}

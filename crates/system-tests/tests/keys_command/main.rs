//! `oci2bk keys` and `oci2bk keys attach`, on the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod attached;
mod beside;
mod containerd;
mod dockerfile;
mod sources;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bkstate::records::Records;
use bkstate::solver::SolverCache;
use bkstate::state::State;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::schema;

/// Fixtures, each with its key source.
const FIXTURES: [(&str, &str); 4] = [
    ("index", "keys/provenance.json"),
    ("manifest", "keys/image"),
    ("zstd", "keys/cache.db"),
    ("min", "keys/metadata.json"),
];
const MEDIA_TYPE: &str = "application/vnd.oci2bk.keys.v1+json";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn run(arguments: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci2bk-under-test"));
    command.env_remove("SOURCE_DATE_EPOCH").env_remove("BUILDKIT_PROGRESS");
    arguments(&mut command);
    let output = command.output().unwrap();
    schema::ensure_output(command.get_args(), &output.stdout, &output.stderr).unwrap();
    output
}

/// Returns the stdout of a run that must succeed.
fn done(arguments: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the stderr of a run that must fail with `code`.
fn fails(code: i32, arguments: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn keys(source: &Path, file: &Path) {
    done(|command| command.arg("keys").arg(source).arg("-o").arg(file));
    schema::ensure_valid("keys.json", &serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
        .unwrap();
}

fn attach(layout: &Path, source: &Path) -> String {
    done(|command| command.args(["keys", "attach"]).arg(layout).arg("--keys").arg(source))
}

/// The root converted from `cache`.
#[derive(PartialEq)]
struct Root {
    /// Paths with modes and content, without the databases of the cache records and the solver.
    files: Contents,
    solver: SolverCache,
    /// The cache records, without their descriptions.
    records: Records,
    /// The description that `buildctl du --verbose` would show for each record.
    descriptions: Vec<Option<String>>,
}

type Contents = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn converted(cache: &Path, keys: Option<&Path>) -> Root {
    let root = tempfile::tempdir().unwrap();
    done(|command| {
        command.args(["convert", "--progress=quiet"]).arg(cache).arg(root.path());
        if !rustix::process::geteuid().is_root() {
            command.arg("--no-extract");
        }
        if let Some(keys) = keys {
            command.arg("--keys").arg(keys);
        }
        command
    });
    let State { mut records, solver, .. } =
        bkstate::Root::open(root.path()).unwrap().state().unwrap();
    let descriptions = records.by_id.values_mut().map(|record| record.description.take()).collect();
    let mut files = contents(root.path());
    files.remove(Path::new("runc-overlayfs/metadata_v2.db")).unwrap();
    files.remove(Path::new("cache.db")).unwrap();
    Root { files, solver, records, descriptions }
}

fn contents(top: &Path) -> Contents {
    let mut found = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            metadata.rdev().to_string().into()
        };
        let path = path.strip_prefix(top).unwrap().to_owned();
        found.insert(path, (metadata.permissions().mode(), content));
    }
    found
}

/// Copies the cache of a fixture.
fn copy(name: &str) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let cache = fixture(name).join("cache");
    for (path, (_, content)) in contents(&cache) {
        let (from, to) = (cache.join(&path), temp.path().join(&path));
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::write(to, content).unwrap();
        }
    }
    temp
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
}

/// Returns the entries of `index.json` for keys.
fn entries_of_keys(layout: &Path) -> Vec<Value> {
    let index = index(layout);
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.filter(|entry| entry["artifactType"] == MEDIA_TYPE).cloned().collect()
}

/// Returns the solver's cache without the results of keys for which `other` has no result.
fn with_results_of(solver: &SolverCache, other: &SolverCache) -> SolverCache {
    let mut solver = solver.clone();
    solver.results.retain(|key, _| other.results.contains_key(key));
    for keys in solver.by_result.values_mut() {
        keys.retain(|key| other.results.contains_key(key));
    }
    solver.by_result.retain(|_, keys| !keys.is_empty());
    solver
}

// The root is the same byte for byte, except for what only the ops tell: the name of a step, of which a keys
// file has only the first word, describes layers that the cache itself does not; and the layers below a step
// are the result of a step without one in the export.
#[test]
fn a_keys_file_and_attached_keys_are_as_good_as_the_source() {
    for (name, source) in FIXTURES {
        let cache = fixture(name).join("cache");
        let source = fixture(name).join(source);
        let mut expected = converted(&cache, Some(&source));
        for description in expected.descriptions.iter_mut().flatten() {
            *description = description.split(' ').next().unwrap().to_owned();
        }

        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("keys.json");
        keys(&source, &file);
        let layout = copy(name);
        attach(layout.path(), &file);
        for root in [
            converted(&cache, Some(&file)),
            converted(layout.path(), None),
            // Attached to one copy of the cache, valid for another.
            converted(&cache, Some(layout.path())),
        ] {
            assert_eq!(root.descriptions, expected.descriptions, "{name}");
            assert_eq!(root.solver, with_results_of(&expected.solver, &root.solver), "{name}");
            assert!(root.files == expected.files && root.records == expected.records, "{name}");
        }
        // The source has better names, and takes precedence.
        let both = converted(layout.path(), Some(&source));
        assert!(both == converted(&cache, Some(&source)), "{name}: another root");
    }
}

#[test]
fn the_same_sources_make_the_same_file_in_whatever_order() {
    let temp = tempfile::tempdir().unwrap();
    let [provenance, donor] = [0, 2].map(|n| fixture(FIXTURES[n].0).join(FIXTURES[n].1));
    let written = |sources: &[&Path]| {
        let file = temp.path().join("keys.json");
        done(|command| command.arg("keys").args(sources).arg("-o").arg(&file));
        fs::read(file).unwrap()
    };
    let both = written(&[&provenance, &donor]);
    assert_eq!(written(&[&donor, &provenance, &donor]), both);
    let file = temp.path().join("both.json");
    fs::write(&file, &both).unwrap();
    assert_eq!(written(&[&file]), both);
    let stdout = done(|command| command.arg("keys").arg(&file).args(["-o", "-"]));
    assert_eq!(stdout.into_bytes(), both);
}

#[test]
fn nothing_but_digests_releases_and_kinds_of_steps_is_written() {
    for (name, source) in FIXTURES {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("keys.json");
        keys(&fixture(name).join(source), &file);
        let mut document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(document["mediaType"].take(), MEDIA_TYPE);
        let mut pending = vec![document];
        while let Some(value) = pending.pop() {
            match value {
                Value::Array(values) => pending.extend(values),
                Value::Object(members) => pending.extend(members.into_iter().map(|(_, v)| v)),
                Value::String(text) => assert!(
                    text.starts_with("sha256:") && text.len() == 71
                        || text.starts_with(r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":["#)
                        || ["v0.18", "v0.17", "v0.13", "v0.11", "long"].contains(&&*text)
                        // The daemon that made the fixtures.
                        || ["v0.32.0", "v0.33.0"].contains(&&*text)
                        || ["RUN", "COPY", "MKDIR", "MKFILE", "RM", "MERGE"].contains(&&*text),
                    "{name}: {text}"
                ),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
    }
}

#[test]
fn sources_with_more_to_try_than_may_be_tried_are_refused() {
    let (name, source) = FIXTURES[0];
    let (layout, source) = (copy(name), fixture(name).join(source));
    let limit = ["--limit", "key-outputs=1"];
    let attaching = fails(3, |command| {
        command.args(["keys", "attach"]).arg(layout.path()).arg("--keys").arg(&source).args(limit)
    });
    let root = tempfile::tempdir().unwrap();
    let converting = fails(3, |command| {
        command
            .arg("convert")
            .args([layout.path(), root.path()])
            .arg("--keys")
            .arg(&source)
            .args(limit)
    });
    for error in [attaching, converting] {
        assert!(error.contains("--limit key-outputs"), "{error}");
    }
    assert!(entries_of_keys(layout.path()).is_empty());
    assert_eq!(root.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let [file, output] = ["keys.json", "out.json"].map(|name| temp.path().join(name));
    let read = |content: &str| {
        fs::write(&file, content).unwrap();
        let error = fails(3, |command| command.arg("keys").arg(&file).arg("-o").arg(&output));
        assert!(!output.exists());
        error
    };
    let newer = read(r#"{"mediaType":"application/vnd.oci2bk.keys.v7+json"}"#);
    assert!(newer.contains("a newer oci2bk") && newer.contains("v7"), "{newer}");
    let wrong =
        json!({"mediaType": MEDIA_TYPE, "ops": [{"digests": [{"digest": "x"}], "outputs": 1}]});
    assert!(read(&wrong.to_string()).contains("in the place of an op digest"));
    assert!(read(&wrong.to_string()[..40]).contains("not a known key source"));

    fs::write(&file, json!({"mediaType": MEDIA_TYPE, "ops": []}).to_string()).unwrap();
    fails(4, |command| command.arg("keys").arg(&file).arg("-o").arg(&output));
    fails(2, |command| command.arg("keys").arg(&file));
    assert!(!output.exists());
}

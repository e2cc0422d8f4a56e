//! `oci2bk keys` and `oci2bk keys attach`, on the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod beside;
mod containerd;
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
fn the_artifact_is_one_that_other_tools_find() {
    for (name, source) in FIXTURES {
        let layout = copy(name);
        let cache = index(layout.path())["manifests"][0].clone();
        attach(layout.path(), &fixture(name).join(source));
        let now = index(layout.path());
        assert_eq!(now["manifests"][0], cache);
        let [entry] = entries_of_keys(layout.path()).try_into().unwrap();
        let artifact = blob(layout.path(), &entry["digest"]);
        let subject = json!({"digest": cache["digest"], "mediaType": cache["mediaType"],
            "size": cache["size"]});
        assert_eq!(artifact["subject"], subject);
        assert_eq!(artifact["artifactType"], MEDIA_TYPE);
        assert_eq!(artifact["layers"][0]["mediaType"], MEDIA_TYPE);
        let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(artifact["config"]["digest"], empty);
        assert_eq!(blob(layout.path(), &artifact["config"]["digest"]), json!({}));

        let tag = cache["digest"].as_str().unwrap().replace(':', "-");
        let referrers = now["manifests"].as_array().unwrap().iter();
        let referrers: Vec<_> = referrers
            .filter(|e| e["annotations"]["org.opencontainers.image.ref.name"] == *tag)
            .map(|e| blob(layout.path(), &e["digest"])["manifests"].clone())
            .collect();
        assert_eq!(referrers, [json!([entry])]);
    }
}

#[test]
fn attaching_twice_changes_nothing() {
    for (name, source) in FIXTURES {
        let layout = copy(name);
        let source = fixture(name).join(source);
        assert!(attach(layout.path(), &source).contains("records attached"));
        let once = contents(layout.path());
        let inode = fs::metadata(layout.path().join("index.json")).unwrap().ino();
        assert!(attach(layout.path(), &source).contains("attached already"));
        assert!(contents(layout.path()) == once);
        assert_eq!(fs::metadata(layout.path().join("index.json")).unwrap().ino(), inode);
    }
}

/// Writes a keys file with half of the ops of another.
fn half(of: &Path, file: &Path) {
    let mut document: Value = serde_json::from_slice(&fs::read(of).unwrap()).unwrap();
    let ops = document["ops"].as_array_mut().unwrap();
    ops.truncate(ops.len() / 2);
    fs::write(file, document.to_string()).unwrap();
}

#[test]
fn newer_keys_replace_ours_and_leave_what_others_attached() {
    let (name, source) = FIXTURES[0];
    let layout = copy(name);
    let temp = tempfile::tempdir().unwrap();
    let [whole, part] = ["whole", "part"].map(|file| temp.path().join(file));
    keys(&fixture(name).join(source), &whole);
    half(&whole, &part);
    attach(layout.path(), &part);

    // Another tool lists a signature of the cache, and has members that we do not know.
    let signature = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", "5".repeat(64)), "size": 5, "artifactType": "signature"});
    let mut top = index(layout.path());
    let entries = top["manifests"].as_array_mut().unwrap();
    let fallback = entries
        .iter_mut()
        .find(|e| {
            e["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .is_some_and(|t| t.starts_with("sha256-"))
        })
        .unwrap();
    let mut referrers = blob(layout.path(), &fallback["digest"]);
    referrers["manifests"].as_array_mut().unwrap().push(signature.clone());
    referrers["annotations"] = json!({"kept": "yes"});
    let content = referrers.to_string();
    let digest = bkstate::Digest::of(&content);
    fs::write(layout.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
    fallback["digest"] = json!(digest);
    fallback["size"] = content.len().into();
    top["manifests"].as_array_mut().unwrap().push(signature.clone());
    top["new"] = json!({"member": 1.5});
    fs::write(layout.path().join("index.json"), serde_json::to_string_pretty(&top).unwrap())
        .unwrap();

    attach(layout.path(), &whole);
    let now = index(layout.path());
    assert_eq!(now["new"], top["new"]);
    assert!(now["manifests"].as_array().unwrap().contains(&signature));
    let [entry] = entries_of_keys(layout.path()).try_into().unwrap();
    let fallback = now["manifests"].as_array().unwrap().last().unwrap();
    let referrers = blob(layout.path(), &fallback["digest"]);
    assert_eq!(referrers["manifests"], json!([signature, entry]));
    assert_eq!(referrers["annotations"]["kept"], "yes");
    let keys = blob(layout.path(), &entry["digest"])["layers"][0]["digest"].clone();
    let whole: Value = serde_json::from_slice(&fs::read(whole).unwrap()).unwrap();
    assert!(
        blob(layout.path(), &keys)["ops"].as_array().unwrap().len()
            > whole["ops"].as_array().unwrap().len() / 2
    );
}

#[test]
fn a_tag_is_given_but_never_taken_away() {
    let (name, source) = FIXTURES[1];
    let layout = copy(name);
    let source = fixture(name).join(source);
    let tagged = |tag: &str| -> [OsString; 6] {
        let tag = format!("--tag={tag}").into();
        let [layout, source] = [layout.path(), &source].map(|path| path.as_os_str().to_owned());
        ["keys".into(), "attach".into(), layout, "--keys".into(), source, tag]
    };
    done(|command| command.args(tagged("keys")));
    let [entry] = entries_of_keys(layout.path()).try_into().unwrap();
    assert_eq!(entry["annotations"], json!({"org.opencontainers.image.ref.name": "keys"}));
    done(|command| command.args(tagged("other")));
    let before = contents(layout.path());
    assert!(
        fails(1, |command| command.args(tagged("latest"))).contains("something else with the tag")
    );
    for wrong in ["", ".", "a b", "a/b", "a:b", &"a".repeat(129)] {
        assert!(
            fails(1, |command| command.args(tagged(wrong))).contains("is not a tag"),
            "{wrong}"
        );
    }
    assert!(contents(layout.path()) == before);
    assert_eq!(entries_of_keys(layout.path()).len(), 1);
}

/// Returns whether skopeo is installed. A suite that must be complete sets `OCI2BK_REQUIRE_ORACLE`.
fn has_skopeo() -> bool {
    let found = Command::new("skopeo").arg("--version").output().is_ok();
    if !found {
        let required = std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_some_and(|v| !v.is_empty());
        assert!(!required, "skopeo is not installed");
        eprintln!("not copied: skopeo is not installed");
    }
    found
}

#[test]
fn keys_with_a_tag_go_where_skopeo_takes_them() {
    if !has_skopeo() {
        return;
    }
    let (name, source) = FIXTURES[1];
    let layout = copy(name);
    done(|command| {
        command.args(["keys", "attach"]).arg(layout.path()).arg("--keys");
        command.arg(fixture(name).join(source)).arg("--tag=keys")
    });
    let other = tempfile::tempdir().unwrap();
    for tag in ["latest", "keys"] {
        let [from, to] =
            [&layout, &other].map(|layout| format!("oci:{}:{tag}", layout.path().display()));
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", &from, &to])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(converted(other.path(), None) == converted(layout.path(), None), "another root");
}

#[test]
fn keys_of_another_build_are_not_attached() {
    let layout = copy("index");
    let before = contents(layout.path());
    let foreign =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../oci2bk/tests/data/provenance/cache.db");
    let error = fails(4, |command| {
        command.args(["keys", "attach"]).arg(layout.path()).arg("--keys").arg(foreign)
    });
    assert!(error.contains("is a step of the cache"), "{error}");
    assert!(contents(layout.path()) == before);
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

#[test]
fn attached_keys_that_were_tampered_with_are_refused() {
    let (name, source) = FIXTURES[0];
    let layout = copy(name);
    attach(layout.path(), &fixture(name).join(source));
    let [entry] = entries_of_keys(layout.path()).try_into().unwrap();
    let keys = blob(layout.path(), &entry["digest"])["layers"][0]["digest"].clone();
    let hex = keys.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.path().join("blobs/sha256").join(hex);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("RUN", "RUM", 1)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let error = fails(3, |command| {
        command.args(["convert", "--dry-run"]).arg(layout.path()).arg(root.path())
    });
    assert!(error.contains("is damaged"), "{error}");
    // Missing from a partial copy, they are as if never attached.
    fs::remove_file(&path).unwrap();
    let words = ["convert", "--dry-run", "--require-keys"];
    fails(4, |command| command.args(words).arg(layout.path()).arg(root.path()));
}

#[test]
fn a_layout_that_another_program_writes_to_is_left_alone() {
    let (name, source) = FIXTURES[0];
    let layout = copy(name);
    let lock = fs::File::create(layout.path().join("index.json.lock")).unwrap();
    lock.lock().unwrap();
    let before = contents(layout.path());
    let error = fails(6, |command| {
        command.args(["keys", "attach"]).arg(layout.path()).arg("--keys");
        command.arg(fixture(name).join(source))
    });
    assert!(error.contains("another program"), "{error}");
    assert!(contents(layout.path()) == before);
}

/// Puts another cache into `layout` under the existing tag, as an export does.
fn export_again(layout: &Path, number: usize) {
    let mut top = index(layout);
    let mut cache = blob(layout, &top["manifests"][0]["digest"]);
    cache["annotations"] = json!({"export": number.to_string()});
    let content = cache.to_string();
    let digest = bkstate::Digest::of(&content);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &content).unwrap();
    let entry = &mut top["manifests"][0];
    entry["digest"] = json!(digest);
    entry["size"] = content.len().into();
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
}

#[test]
fn keys_of_caches_that_were_replaced_go_when_others_are_attached() {
    let (name, source) = FIXTURES[1];
    let layout = copy(name);
    let source = fixture(name).join(source);
    let tag = "org.opencontainers.image.ref.name";
    for number in 0..3 {
        export_again(layout.path(), number);
        done(|command| {
            command.args(["keys", "attach"]).arg(layout.path()).arg("--keys").arg(&source);
            command.arg("--tag=main-keys")
        });
        let now = index(layout.path());
        let entries = now["manifests"].as_array().unwrap();
        let tags: Vec<_> = entries.iter().map(|e| e["annotations"][tag].clone()).collect();
        let list = entries[0]["digest"].as_str().unwrap().replace(':', "-");
        assert_eq!(tags, [json!("latest"), json!("main-keys"), json!(list)], "{number}");
        let keys = blob(layout.path(), &entries_of_keys(layout.path())[0]["digest"]);
        assert_eq!(keys["subject"]["digest"], entries[0]["digest"]);
    }

    // Keys of a cache with another tag stay, and so does what others attached.
    let mut top = index(layout.path());
    let mut old = top["manifests"][0].clone();
    old["annotations"][tag] = "release".into();
    let signature = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", "5".repeat(64)), "size": 5, "artifactType": "signature"});
    top["manifests"].as_array_mut().unwrap().extend([old, signature.clone()]);
    fs::write(layout.path().join("index.json"), top.to_string()).unwrap();
    export_again(layout.path(), 3);
    let latest = format!("oci:{}:latest", layout.path().display());
    attach(Path::new(&latest), &source);
    assert_eq!(entries_of_keys(layout.path()).len(), 2);
    assert!(index(layout.path())["manifests"].as_array().unwrap().contains(&signature));

    // The blobs of a replaced cache can be missing, as after an export with reset=true.
    let keys = entries_of_keys(layout.path());
    for entry in &keys {
        let hex = entry["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::remove_file(layout.path().join("blobs/sha256").join(hex)).unwrap();
    }
    attach(Path::new(&latest), &source);
    assert_eq!(entries_of_keys(layout.path()).len(), 1);
}

//! Key sources beside a cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::{FIXTURES, contents, copy, fixture, run};

const NAMES: [&str; 4] =
    ["provenance.json", "metadata.json", "keys.json", "out/linux_amd64/provenance.json"];

fn provenance() -> PathBuf {
    fixture(FIXTURES[0].0).join(FIXTURES[0].1)
}

/// Creates a directory with the cache of the fixture `index` as `cache`.
fn place() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (path, (_, content)) in contents(copy(FIXTURES[0].0).path()) {
        let (from, to) = (
            fixture(FIXTURES[0].0).join("cache").join(&path),
            temp.path().join("cache").join(&path),
        );
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::write(to, content).unwrap();
        }
    }
    temp
}

fn put(source: &Path, at: &Path) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::copy(source, at).unwrap();
}

/// Runs a conversion in `place` without named sources, as a dry run.
fn planned(place: &Path, cache: &str) -> Output {
    let root = place.join("root");
    run(|command| {
        command.current_dir(place).args(["convert", "--dry-run", "--format=json", cache]).arg(root)
    })
}

/// Returns the sources used, and the messages.
fn used(output: &Output) -> (Vec<Value>, String) {
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    (
        plan["key_sources"].as_array().unwrap().clone(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

#[test]
fn they_are_found_by_the_names_that_tools_give_them() {
    for name in NAMES {
        for prefix in ["", "cache/"] {
            if prefix == "cache/" && name.starts_with("out/") {
                continue;
            }
            let place = place();
            put(&provenance(), &place.path().join(format!("{prefix}{name}")));
            let output = planned(place.path(), "cache");
            let (keys, said) = used(&output);
            assert!(output.status.success(), "{prefix}{name}: {said}");
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0]["found"], true);
            let source = keys[0]["description"].as_str().unwrap();
            assert!(source.contains(name), "{source}");
        }
    }
}

#[test]
fn an_archive_has_its_own_beside_it_and_the_directory_itself_may_be_named() {
    let place = place();
    put(&provenance(), &place.path().join("provenance.json"));
    let tar = std::process::Command::new("tar")
        .current_dir(place.path())
        .args(["-cf", "cache.tar", "-C", "cache", "."])
        .status();
    assert!(tar.unwrap().success());
    for cache in ["cache.tar", "./cache", "cache/"] {
        let output = planned(place.path(), cache);
        assert!(output.status.success(), "{cache}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let root = place.path().join("root");
    let output = run(|command| {
        command
            .current_dir(place.path().join("cache"))
            .args(["convert", "--dry-run", "."])
            .arg(root)
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_else_is_looked_at() {
    for name in ["other.json", "deeper/provenance.json", "out/deeper/x/provenance.json"] {
        let place = place();
        put(&provenance(), &place.path().join(name));
        let (keys, said) = used(&planned(place.path(), "cache"));
        assert!(keys.is_empty(), "{name}: {keys:?} {said}");
    }
    // Links are not followed, and FIFOs are not waited for.
    let place = place();
    symlink(provenance(), place.path().join("provenance.json")).unwrap();
    let fifo = place.path().join("metadata.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    fs::create_dir(place.path().join("keys.json")).unwrap();
    symlink(provenance().parent().unwrap(), place.path().join("out")).unwrap();
    let (keys, said) = used(&planned(place.path(), "cache"));
    assert!(keys.is_empty() && !said.contains("warning"), "{keys:?} {said}");
}

#[test]
fn what_cannot_be_read_there_is_left_out_with_a_warning() {
    let place = place();
    fs::write(place.path().join("metadata.json"), r#"{"buildx.build.ref": "a/b/c"}"#).unwrap();
    fs::write(place.path().join("keys.json"), "").unwrap();
    let huge = fs::File::create(place.path().join("cache/provenance.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    // An archive that would have to be unpacked is not read.
    let image = fixture("../crates/oci2bk/tests/data/history/one.dockerbuild");
    put(&image, &place.path().join("provenance.json"));
    put(&provenance(), &place.path().join("out/provenance.json"));
    let output = planned(place.path(), "cache");
    let (keys, said) = used(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(keys.len(), 1);
    for words in [
        "metadata.json gives no keys",
        "keys.json is empty",
        "cache/provenance.json has more than",
        " provenance.json is not a known key source",
        "is left out",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // If named, it is an error.
    let root = place.path().join("root");
    let output = run(|command| {
        let file = place.path().join("metadata.json");
        command.arg("convert").arg(place.path().join("cache")).arg(root).arg("--keys").arg(file)
    });
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn those_of_another_build_are_no_source_and_those_that_are_not_needed_not_read() {
    let place = place();
    let other = fixture(FIXTURES[3].0).join(FIXTURES[3].1);
    put(&other, &place.path().join("metadata.json"));
    let (keys, said) = used(&planned(place.path(), "cache"));
    assert!(keys.is_empty() && !said.contains("metadata.json"), "{keys:?} {said}");

    fs::write(place.path().join("keys.json"), "broken").unwrap();
    let root = place.path().join("root");
    let output = run(|command| {
        let cache = place.path().join("cache");
        command.args(["convert", "--dry-run", "--format=json"]).arg(cache).arg(root);
        command.arg("--keys").arg(provenance())
    });
    let (keys, said) = used(&output);
    assert!(output.status.success() && !said.contains("keys.json"), "{said}");
    assert_eq!((keys.len(), &keys[0]["found"]), (1, &Value::Bool(false)));
}

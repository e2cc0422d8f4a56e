//! Every exit code except 0.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::*;

#[test]
fn exit_1_the_root_is_another_workers() {
    let place = Place::new();
    fs::create_dir_all(place.root().join("containerd-overlayfs")).unwrap();
    let before = place.names();
    let printed = Printed::of(&mut convert(index(), &place), 1);
    let root = place.root();
    printed.says(&["error: ", root.to_str().unwrap(), "containerd-overlayfs", "empty directory"]);
    assert_eq!(printed.stdout, "");
    assert_eq!(place.names(), before);
}

#[test]
fn exit_5_the_state_in_the_root_is_damaged() {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    let blobs = place.root().join("runc-overlayfs/content/blobs/sha256");
    let blob = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap();
    fs::remove_file(blob.path()).unwrap();
    let printed = Printed::of(&mut convert(index(), &place), 5);
    printed.says(&["nothing was changed", blob.file_name().to_str().unwrap()]);
    assert!(!blob.path().exists());
}

#[test]
fn exit_1_the_root_cannot_be_made() {
    let place = Place::new();
    fs::write(place.root(), "a file").unwrap();
    Printed::of(&mut convert(index(), &place), 1).says(&["root", "because: "]);
}

#[test]
fn exit_1_the_metadata_file_cannot_be_written() {
    let place = Place::new();
    let printed =
        Printed::of(convert(index(), &place).args(["--metadata-file", "/nowhere/m.json"]), 1);
    printed.says(&["the conversion itself is done", "/nowhere/m.json"]);
    assert!(place.root().join("cache.db").exists());
}

#[test]
fn a_configuration_of_the_daemon_that_cannot_be_used_is_told_before_anything_is_written() {
    let place = Place::new();
    let config = place.temp.path().join("buildkitd.toml");
    let words = ["--config", config.to_str().unwrap()];
    Printed::of(convert(index(), &place).args(words), 1).says(&[words[1], "because: "]);
    fs::write(&config, "[worker.oci]\nmaxUsedSpace = \"all\"\n").unwrap();
    let printed = Printed::of(convert(index(), &place).args(words), 3);
    printed.says(&[words[1], "maxUsedSpace is wrong", "\"all\" is not an amount of disk space"]);
    assert!(!place.root().exists());
}

#[test]
fn exit_2_the_command_line_is_wrong() {
    let place = Place::new();
    for (words, said) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["--jobs", "0", "src"], "--jobs"),
        (&["--format", "yaml", "src"], "table, json"),
        (&["--progress", "loud", "src"], "rawjson"),
        (&["type=registry,ref=a.io/b:c"], "regctl image copy a.io/b:c ocidir://cache:latest"),
        (&["docker://a.io/b:c"], "regctl image copy a.io/b:c ocidir://cache:latest"),
        (&["docker-daemon:a:b"], "skopeo copy --all docker-daemon:a:b oci:cache:latest"),
        (&["docker-archive:a.tar:A"], "write docker-archive:FILE:NAME:TAG"),
        (
            &["type=s3,bucket=b,name=main"],
            "give s3dir:cache:main when you have fetched it with: aws",
        ),
        (&["type=azblob,account_name=a"], "az storage blob download-batch --destination cache"),
        (&["s3://b/cache.tar"], "give cache.tar when you have fetched it with: aws s3 cp"),
        (&["-"], "write it to a file"),
        (&["type=gha"], "--cache-to type=local,dest=cache,mode=max, too"),
        (&["oci:dir:"], "empty tag"),
        (&["oci:dir@sha256:abc"], "malformed digest"),
        (&[], "the last word is the root"),
    ] {
        let printed = Printed::of(&mut convert(words, &place), 2);
        printed.says(&[said, "--help"]);
        assert!(!printed.stderr.contains("Usage") || printed.stderr.contains("<SRC>... <ROOT>"));
    }
    assert!(place.names().is_empty());
    let printed = Printed::of(convert(index(), &place).env("SOURCE_DATE_EPOCH", "today"), 2);
    printed.says(&["the variable SOURCE_DATE_EPOCH is \"today\"", "correct or unset it"]);
    assert!(!printed.stderr.contains("--"), "{}", printed.stderr);
    let printed = Printed::of(convert(index(), &place).env("BUILDKIT_PROGRESS", "loud"), 2);
    printed.says(&["the variable BUILDKIT_PROGRESS is \"loud\"", "rawjson"]);
    let printed = Printed::of(convert(index(), &place).args(["--progress", "loud"]), 2);
    assert!(!printed.stderr.contains("BUILDKIT_PROGRESS"), "{}", printed.stderr);
}

/// Asserts that the arguments are rejected as bad input, with a message, and that nothing is written.
fn bad_input(words: &[&str], said: &[&str]) {
    refused(3, words, said);
}

/// Expects that nothing is written.
fn refused(code: i32, words: &[&str], said: &[&str]) {
    let place = Place::new();
    let printed = Printed::of(&mut convert(words, &place), code);
    printed.says(said);
    assert_eq!(printed.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    assert_eq!(printed.stdout, "");
    assert!(place.names().iter().all(|name| name == "root" || name == "root/buildkitd.lock"));
}

#[test]
fn exit_1_the_path_of_the_source_leads_nowhere() {
    let cache = fixture("index/cache");
    refused(1, &["/nowhere/cache"], &["/nowhere/cache is not there"]);
    for (word, said) in [(":", "has an empty tag"), ("@sha256:abc", "has a malformed digest")] {
        refused(1, &[&format!("{cache}{word}")], &["is not there", said]);
    }
    let copy = "regctl image copy ghcr.io/team/cache:main";
    refused(1, &["ghcr.io/team/cache:main"], &[copy]);
}

#[test]
fn exit_3_the_source_is_no_cache() {
    let temp = tempfile::tempdir().unwrap();
    let empty = temp.path().to_str().unwrap();
    let cache = fixture("index/cache");
    let digest = format!("sha256:{}", "0".repeat(64));
    bad_input(&[&format!("{cache}:nightly")], &["no entry with the tag \"nightly\"", "latest"]);
    bad_input(&[&format!("{cache}@{digest}")], &[&digest]);
    bad_input(&[empty], &["index.json", "--cache-to type=local"]);
    fs::write(temp.path().join("index.json"), r#"{"manifests":[]}"#).unwrap();
    bad_input(&[empty], &["has no cache and no image", "--cache-to type=local"]);
    let image = fixture("manifest/keys/image");
    let said = ["no image for linux/s390x", "it has linux/amd64"];
    bad_input(&["--platform=linux/s390x", &image], &said);
    bad_input(&[&format!("oci:{cache}:nightly")], &["nightly", "latest"]);
    bad_input(&[&format!("oci:{cache}@{digest}")], &[&digest]);
}

/// A copy of a layout.
fn copied(layout: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("blobs/sha256")).unwrap();
    for name in ["index.json", "oci-layout"] {
        fs::copy(Path::new(layout).join(name), copy.path().join(name)).unwrap();
    }
    for blob in fs::read_dir(Path::new(layout).join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), copy.path().join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    copy
}

#[test]
fn exit_3_the_latest_cache_is_gone_and_no_other_is_taken() {
    let layout = copied(&fixture("index/cache"));
    let path = layout.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let name = "org.opencontainers.image.ref.name";
    let whole = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    index["manifests"][0]["annotations"][name] = "feature-x".into();
    let gone = format!("sha256:{}", "ab".repeat(32));
    index["manifests"].as_array_mut().unwrap().push(serde_json::json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": gone, "size": 1234,
        "annotations": {name: "latest"},
    }));
    fs::write(&path, index.to_string()).unwrap();
    let cache = layout.path().to_str().unwrap();
    let keys = fixture("index/keys/provenance.json");
    let said = ["lists \"latest\"", &gone, "is not in the layout", &whole, "\"feature-x\""];
    bad_input(&[cache, "--keys", &keys], &said);
    for words in [
        &["inspect", cache][..],
        &["explain", cache, "--llb", &keys],
        &["keys", "attach", cache, "--keys", &keys],
    ] {
        Printed::of(command().args(words), 3).says(&said);
    }
    let place = Place::new();
    let other = format!("oci:{cache}:feature-x");
    Printed::of(&mut convert([&*other, "--keys", &keys], &place), 0);
}

#[test]
fn exit_3_the_cache_is_empty() {
    let layout = copied(&fixture("min/cache"));
    let blob = |content: &str| {
        let digest = bkstate::Digest::of(content);
        fs::write(layout.path().join("blobs/sha256").join(digest.hex()), content).unwrap();
        (digest.to_string(), content.len())
    };
    let (config, size) = blob("{}");
    let (top, size) = blob(
        &serde_json::json!({"layers": [], "config": {"digest": config, "size": size,
        "mediaType": "application/vnd.buildkit.cacheconfig.v0"}})
        .to_string(),
    );
    let index = serde_json::json!({"manifests": [{"digest": top, "size": size}]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    bad_input(&[layout.path().to_str().unwrap()], &[&top, "has no records", "--cache-to"]);
}

#[test]
fn archives_are_taken_as_people_make_them() {
    let cache = Path::new(&fixture("index/cache")).to_owned();
    let temp = tempfile::tempdir().unwrap();
    let expected = Place::new();
    Printed::of(&mut convert(index(), &expected), 0);
    for (file, options) in [
        ("in-dir.tar", &["-cf"][..]),
        ("in-dir.tar.gz", &["--gzip", "-cf"]),
        ("in-dir.tar.zst", &["--zstd", "-cf"]),
    ] {
        let archive = temp.path().join(file);
        let mut tar = Command::new("tar");
        tar.args(options).arg(&archive).arg("-C").arg(cache.parent().unwrap()).arg("cache");
        assert!(tar.status().unwrap().success(), "{file}");
        let place = Place::new();
        let words =
            [archive.as_os_str(), "--keys".as_ref(), index()[2].as_ref()].map(OsStr::to_owned);
        Printed::of(&mut convert(words, &place), 0);
        assert_eq!(place.names(), expected.names(), "{file}");
        assert_eq!(place.read("cache.db"), expected.read("cache.db"), "{file}");
    }
}

#[test]
fn exit_3_the_keys_are_none() {
    let cache = fixture("index/cache");
    refused(1, &[&cache, "--keys", "/nowhere/keys"], &["/nowhere/keys", "because: "]);
    bad_input(
        &[&cache, "--keys", "/dev/null"],
        &["/dev/null", "neither a file, a directory nor a pipe"],
    );
    let dockerfile = fixture("index/Dockerfile");
    bad_input(&[&cache, "--keys", &dockerfile], &["not a known key source", "provenance"]);
}

#[test]
fn exit_3_a_layer_is_damaged() {
    let copy = tempfile::tempdir().unwrap();
    let blobs = copy.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::copy(fixture("min/cache/index.json"), copy.path().join("index.json")).unwrap();
    let mut largest = (0, PathBuf::new());
    for blob in fs::read_dir(fixture("min/cache/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let content = fs::read(blob.path()).unwrap();
        let path = blobs.join(blob.file_name());
        fs::write(&path, &content).unwrap();
        let is_layer = !content.starts_with(b"{");
        largest = largest.max((if is_layer { content.len() } else { 0 }, path));
    }
    let mut content = fs::read(&largest.1).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&largest.1, content).unwrap();
    let name = largest.1.file_name().unwrap().to_str().unwrap();
    let keys = fixture("min/keys/metadata.json");
    bad_input(&[copy.path().to_str().unwrap(), "--keys", &keys], &[name]);
}

/// A layout whose only entry is `entry`.
fn layout_of(entry: &str) -> tempfile::TempDir {
    let layout = tempfile::tempdir().unwrap();
    fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    fs::write(layout.path().join("index.json"), index).unwrap();
    layout
}

#[test]
fn exit_3_a_hostile_layout_is_named_and_nothing_is_made() {
    let hostile = |entry: &str, said: &[&str]| {
        let layout = layout_of(entry);
        let place = Place::new();
        let path = layout.path().to_str().unwrap();
        let printed = Printed::of(&mut convert([path], &place), 3);
        printed.says(&[path, "because: "]);
        printed.says(said);
        assert!(place.names().is_empty(), "{:?}", place.names());
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    hostile(r#"{"digest":"sha256:../../../etc/shadow","size":1}"#, &["not a digest", "etc/shadow"]);
    hostile(&format!(r#"{{"digest":"{digest}","size":-1}}"#), &["index.json", "-1"]);
    hostile(&format!(r#"{{"digest":"{digest}","size":1}}"#), &[&digest, "not in the layout"]);
    hostile(&format!(r#"["","{digest}",1]"#), &["index.json", "object"]);
    // No text of a document reaches the terminal unescaped.
    hostile("{\"digest\":\"\\u001b[2J\",\"size\":1}", &["not a digest"]);

    let layout = layout_of(&format!(r#"{{"digest":"{digest}","size":1}}"#));
    let blob = layout.path().join("blobs/sha256").join("0".repeat(64));
    std::os::unix::fs::symlink("/etc/shadow", blob).unwrap();
    let place = Place::new();
    let printed = Printed::of(&mut convert([layout.path()], &place), 3);
    printed.says(&[&digest, "a symbolic link"]);
    assert!(place.names().is_empty());
}

#[test]
fn exit_3_a_limit_is_reached_and_can_be_raised() {
    let place = Place::new();
    let low = |limit: &str| {
        let mut command = convert(index(), &place);
        command.args(["--limit", limit]);
        command
    };
    for (limit, said) in [
        ("config=100", "--limit config"),
        ("json-values=10", "--limit json-values"),
        ("manifest=10", "--limit manifest"),
        ("cache-layers=1", "--limit cache-layers"),
        ("keys-document=1000", "--limit keys-document"),
    ] {
        Printed::of(&mut low(limit), 3).says(&[said]);
        assert!(place.names().is_empty(), "{limit}");
    }
    Printed::of(&mut low("config=1Ti"), 0);
}

#[test]
fn exit_4_keys_are_missing() {
    let place = Place::new();
    let words = [fixture("index/cache"), "--require-keys".to_owned()];
    let printed = Printed::of(&mut convert(words, &place), 4);
    printed.says(&["the keys of 13 steps", "sha256:1616bd1a", "--keys", "--allow-unkeyed"]);
    printed.says(&["nothing was written"]);
    assert!(place.names().is_empty());
}

#[test]
fn exit_4_the_keys_are_of_another_build() {
    let place = Place::new();
    let keys = fixture("min/keys/metadata.json");
    let words = [fixture("index/cache"), "--keys".to_owned(), keys.clone()];
    let printed = Printed::of(&mut convert(words, &place), 4);
    printed.says(&[&format!("\nno key of {keys} fits the cache: it belongs to another build\n")]);
    // A cache with some of the keys is not of another build.
    let words = [&index()[..], &[fixture("min/cache")]].concat();
    let printed = Printed::of(&mut convert(words, &place), 4);
    assert!(!printed.stderr.contains("another"), "{}", printed.stderr);
}

// As after another export into the same layout.
#[test]
fn exit_4_the_attached_keys_are_of_another_cache() {
    let place = Place::new();
    let [older, newer] = ["index", "zstd"].map(|name| place.temp.path().join(name));
    for (name, to) in [("index/cache", &older), ("zstd/cache", &newer)] {
        let copied = Command::new("cp").arg("-r").arg(fixture(name)).arg(to).status().unwrap();
        assert!(copied.success());
    }
    let words = [&older.to_str().unwrap().to_owned(), &index()[1], &index()[2]];
    Printed::of(command().args(["keys", "attach"]).args(words), 0);
    let read = |layout: &Path| -> Value {
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
    };
    let (with_keys, mut both) = (read(&older), read(&newer));
    let entries = with_keys["manifests"].as_array().unwrap();
    let cache = entries
        .iter()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == "latest");
    let cache = cache.unwrap()["digest"].as_str().unwrap();
    let keys = entries.iter().filter(|entry| entry["artifactType"].is_string());
    both["manifests"].as_array_mut().unwrap().extend(keys.cloned());
    fs::write(newer.join("index.json"), both.to_string()).unwrap();
    let blobs = older.join("blobs/sha256/.");
    let copied = Command::new("cp").arg("-r").arg(blobs).arg(newer.join("blobs/sha256")).status();
    assert!(copied.unwrap().success());
    let printed = Printed::of(&mut convert([&newer], &place), 4);
    let expected = format!(
        "the keys attached in {} belong to another cache, {cache}; attach keys after each export",
        newer.display()
    );
    printed.says(&[&expected]);
    assert!(!printed.stderr.contains("another build"), "{}", printed.stderr);
}

#[test]
fn exit_6_the_root_is_in_use() {
    let place = Place::new();
    fs::create_dir(place.root()).unwrap();
    let lock: OwnedFd = File::create(place.root().join("buildkitd.lock")).unwrap().into();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    for words in [&[][..], &["--dry-run"]] {
        let printed = Printed::of(convert(index(), &place).args(words), 6);
        printed.says(&["in use", "buildkitd", "stop it"]);
        assert_eq!(place.names(), ["root", "root/buildkitd.lock"]);
    }
    drop(lock);
    Printed::of(&mut convert(index(), &place), 0);
}

#[test]
fn a_run_that_was_killed_is_cleaned_up_by_the_next() {
    let whole = Place::new();
    Printed::of(&mut convert(index(), &whole), 0);
    for microseconds in [0, 500, 1000, 2000, 4000, 8000] {
        let place = Place::new();
        let mut child = convert(index(), &place).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        Printed::of(&mut convert(index(), &place), 0);
        assert_eq!(place.names(), whole.names(), "killed after {microseconds} µs");
    }
}

#[test]
fn a_run_that_was_killed_while_publishing_is_cleaned_up_by_the_next() {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    let whole = place.names();
    let staging = place.root().join(".oci2bk-staging");
    fs::create_dir(&staging).unwrap();
    fs::rename(place.root().join("cache.db"), staging.join("cache.db")).unwrap();
    Printed::of(&mut convert(index(), &place), 0);
    assert_eq!(place.names(), whole);
}

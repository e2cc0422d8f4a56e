//! Keys that are attached to a layout.

use super::*;

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

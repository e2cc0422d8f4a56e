//! Key sources in the forms that people have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::engine::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{FIXTURES, done, fails, fixture, run};

/// Provenance of the fixture `index`.
fn provenance() -> PathBuf {
    fixture(FIXTURES[0].0).join(FIXTURES[0].1)
}

/// Returns the keys file made from a source.
fn keys_of(source: &Path) -> String {
    done(|command| command.arg("keys").arg(source).args(["-o", "-"]))
}

#[test]
fn provenance_is_taken_however_it_is_wrapped() {
    let temp = tempfile::tempdir().unwrap();
    let plain = provenance();
    let expected = keys_of(&plain);
    let text = fs::read_to_string(&plain).unwrap();
    let provenance: Value = serde_json::from_str(&text).unwrap();
    let predicate = provenance.get("predicate").unwrap_or(&provenance);
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [],
        "predicateType": "https://slsa.dev/provenance/v1", "predicate": predicate});
    let sbom = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [],
        "predicateType": "https://spdx.dev/Document", "predicate": {"~~": "??>>"}});
    let envelope = |statement: &Value, alphabet: &GeneralPurpose| {
        json!({"payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "c2ln"}],
            "payload": alphabet.encode(statement.to_string())})
    };
    let bundle = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {}, "dsseEnvelope": envelope(&statement, &STANDARD_NO_PAD)});
    for (name, content) in [
        ("printed", json!({"SLSA": predicate}).to_string()),
        ("printed of platforms", json!({"linux/amd64": {"SLSA": predicate}}).to_string()),
        ("envelope", envelope(&statement, &STANDARD_NO_PAD).to_string()),
        ("envelope of another alphabet", envelope(&statement, &URL_SAFE_NO_PAD).to_string()),
        ("bundle", bundle.to_string()),
        ("several", format!("{}\n{bundle}\n", envelope(&sbom, &URL_SAFE_NO_PAD))),
    ] {
        let file = temp.path().join(name);
        fs::write(&file, content).unwrap();
        let found = keys_of(&file);
        assert!(found == expected, "{name}");
    }
    let file = temp.path().join("sbom");
    fs::write(&file, envelope(&sbom, &STANDARD_NO_PAD).to_string()).unwrap();
    let error = fails(3, |command| command.arg("keys").arg(&file).args(["-o", "-"]));
    assert!(error.contains("none of the attestations") && error.contains("SLSA"), "{error}");
    for (payload, said) in [("?", "not base64"), ("", "none of the attestations")] {
        let json = json!({"payloadType": "application/vnd.in-toto+json", "payload": payload});
        fs::write(&file, json.to_string()).unwrap();
        let error = fails(3, |command| command.arg("keys").arg(&file).args(["-o", "-"]));
        assert!(error.contains(said), "{error}");
    }

    // Compressed, of any type.
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz")] {
        let packed = Command::new(program).arg("-c").arg(&plain).output();
        let Ok(packed) = packed.map(|output| output.stdout) else { continue };
        let file = temp.path().join(format!("provenance.json.{ending}"));
        fs::write(&file, packed).unwrap();
        if program == "xz" {
            let error = fails(3, |command| command.arg("keys").arg(&file).args(["-o", "-"]));
            assert!(error.contains("with xz -d"), "{error}");
        } else {
            let found = keys_of(&file);
            assert!(found == expected, "{program}");
        }
    }
}

#[test]
fn keys_come_out_of_pipes() {
    let binary = env!("CARGO_BIN_EXE_oci2bk-under-test");
    for (name, source) in [FIXTURES[0], FIXTURES[2], FIXTURES[3]] {
        let file = fixture(name).join(source);
        let expected = keys_of(&file);
        let file = file.display();
        for script in [
            format!("cat '{file}' | '{binary}' keys - -o -"),
            format!("'{binary}' keys - -o - < '{file}'"),
            format!("'{binary}' keys <(cat '{file}') -o -"),
            format!("cat '{file}' | '{binary}' keys /dev/stdin -o -"),
            format!("gzip -c '{file}' | '{binary}' keys - -o -"),
        ] {
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{script}\n{output:?}");
            assert!(output.stdout == expected.as_bytes(), "{script}");
        }
    }
    // An archive with the layout in a subdirectory.
    let image = fixture(FIXTURES[1].0).join(FIXTURES[1].1);
    let expected = keys_of(&image);
    let parent = image.parent().unwrap().display();
    for packed in ["", "z"] {
        let script = format!("tar -C '{parent}' -c{packed}f - image | '{binary}' keys - -o -");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        assert!(output.stdout == expected.as_bytes(), "{script}");
    }
    for (script, said) in [
        (format!("true | '{binary}' keys - -o -"), "the key source stdin is empty"),
        (format!("'{binary}' keys - -o - < /dev/null"), "neither a file, a directory nor a pipe"),
        (
            format!("head -c 2000 /dev/zero | '{binary}' keys - -o - --limit bundle-size=1K"),
            "--limit bundle-size",
        ),
    ] {
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{script}\n{stderr}");
        assert!(stderr.contains(said), "{script}\n{stderr}");
    }
}

#[test]
fn what_a_build_was_exported_to_has_its_provenance() {
    let plain = provenance();
    let expected = keys_of(&plain);
    for names in [
        &["provenance.json"][..],
        &["app-provenance.json"],
        &["provenance.linux_amd64.json", "provenance.linux_arm64.json"],
        &["linux_amd64/provenance.json", "linux_arm64/provenance.json"],
    ] {
        let out = tempfile::tempdir().unwrap();
        for other in ["index.json", "sbom.spdx.json", "usr_local", "linux_arm64/app"] {
            let path = out.path().join(other);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "what the build made").unwrap();
        }
        std::os::unix::fs::symlink(&plain, out.path().join("my-provenance.json")).unwrap();
        for name in names {
            let path = out.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(&plain, path).unwrap();
        }
        let found = keys_of(out.path());
        assert!(found == expected, "{names:?}");
    }
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("app"), "").unwrap();
    let error = fails(3, |command| command.arg("keys").arg(out.path()).args(["-o", "-"]));
    assert!(error.contains("it has no provenance.json"), "{error}");
}

// The member names are those of real exports.
#[test]
fn so_has_an_archive_that_a_build_was_exported_to() {
    let plain = provenance();
    let expected = keys_of(&plain);
    let temp = tempfile::tempdir().unwrap();
    for (number, names) in [
        &["app", "provenance.json"][..],
        &["linux_amd64/index.json", "linux_amd64/provenance.json", "linux_arm64/provenance.json"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = temp.path().join(number.to_string());
        for name in names {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content =
                if name.ends_with("provenance.json") { fs::read(&plain).unwrap() } else { vec![] };
            fs::write(path, content).unwrap();
        }
        for (options, ending) in [("-cf", "tar"), ("-czf", "tar.gz")] {
            let tar = temp.path().join(format!("{number}.{ending}"));
            let packed =
                Command::new("tar").arg("-C").arg(&out).arg(options).arg(&tar).arg(".").status();
            assert!(packed.unwrap().success());
            assert!(keys_of(&tar) == expected, "{names:?}");
        }
    }
    let tar = temp.path().join("other.tar");
    let packed =
        Command::new("tar").arg("-C").arg(temp.path()).arg("-cf").arg(&tar).arg("0/app").status();
    assert!(packed.unwrap().success());
    let error = fails(3, |command| command.arg("keys").arg(&tar).args(["-o", "-"]));
    assert!(error.contains("neither index.json nor provenance.json"), "{error}");
}

#[test]
fn a_signature_is_said_not_to_be_checked() {
    let temp = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(provenance()).unwrap();
    let envelope = json!({"payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "bm8="}],
        "payload": STANDARD_NO_PAD.encode(text)});
    let signed = temp.path().join("signed.jsonl");
    fs::write(&signed, envelope.to_string()).unwrap();
    let note = "is not checked; its keys need no trust";
    let [said, silent] = [&signed, &provenance()].map(|source| {
        let output = run(|command| command.arg("keys").arg(source).args(["-o", "-"]));
        String::from_utf8(output.stderr).unwrap()
    });
    assert!(said.contains(note) && said.contains("signed.jsonl"), "{said}");
    assert!(!silent.contains(note), "{silent}");
    let planned = |source: &Path| {
        let output = run(|command| {
            let cache = fixture(FIXTURES[0].0).join("cache");
            command
                .args(["convert", "--dry-run", "--format=json"])
                .arg(cache)
                .arg(temp.path().join("root"));
            command.arg("--keys").arg(source)
        });
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        (plan["key_sources"][0].clone(), String::from_utf8(output.stderr).unwrap())
    };
    let (source, said) = planned(&signed);
    assert_eq!((&source["signature"], &source["found"]), (&json!("not-checked"), &json!(false)));
    assert_eq!(said.matches(note).count(), 1, "{said}");
    let (source, said) = planned(&provenance());
    assert!(source["signature"].is_null() && !said.contains(note), "{source} {said}");
}

#[test]
fn a_definition_in_json_is_taken_with_what_is_printed_around_it() {
    let answer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../oci2bk/tests/data/history/dockerfile.answer.json");
    let expected = keys_of(&answer);
    let json = fs::read_to_string(&answer).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("answer");
    for printed in [
        format!("Name:\"convertllb\" map[result.json:{json} version:0.1.0]\n"),
        format!("result.json\n{json}\n"),
    ] {
        fs::write(&file, printed).unwrap();
        assert!(keys_of(&file) == expected);
    }
    for (content, said) in [
        (json!({"def": {}, "metadata": {}}).to_string(), "it has no ops"),
        (json!({"def": {"a": []}, "metadata": {}}).to_string(), "not a definition in JSON"),
        (
            json!({"def": {"a": {"inputs": [{"digest": "b"}]}}, "metadata": {}}).to_string(),
            "builds on b, which is not there",
        ),
        (json[..json.len() / 2].to_owned(), "is not a known key source"),
    ] {
        fs::write(&file, content).unwrap();
        let error = fails(3, |command| command.arg("keys").arg(&file).args(["-o", "-"]));
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn stdin_is_refused_as_two_sources_before_anything_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let (cache, root) = ("no such cache", root.to_str().unwrap());
    for words in [
        &["keys", "-", "-", "-o", "-"][..],
        &["keys", "-", "/dev/stdin", "-o", "-"],
        &["keys", "attach", cache, "--keys", "-", "-"],
        &["convert", cache, root, "--keys", "-", "--keys", "-"],
        &["inspect", cache, "--keys", "-", "--keys", "/dev/fd/0"],
        &["verify", root, "--against", cache, "--keys", "-", "--keys", "-"],
        &["explain", cache, "--llb", "-", "--keys", "-"],
    ] {
        let error = fails(2, |command| command.args(words));
        assert!(error.contains("stdin is named as several key sources"), "{words:?}: {error}");
    }
    // Once is valid, in any position.
    let error = fails(3, |command| command.args(["keys", "-", "no such file", "-o", "-"]));
    assert!(!error.contains("several"), "{error}");
}

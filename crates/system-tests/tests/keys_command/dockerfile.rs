//! Keys from a Dockerfile.

use std::fs;
use std::path::Path;

use super::{FIXTURES, done, fails, fixture};

/// Copies the cache of a fixture.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn a_dockerfile_has_the_keys_of_each_fixture() {
    for (name, _) in FIXTURES {
        let dockerfile = fixture(name).join("Dockerfile");
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path().join("cache");
        copy(&fixture(name).join("cache"), &cache);
        let told = done(|command| {
            command.args(["keys", "attach"]).arg(&cache).arg("--dockerfile").arg(&dockerfile)
        });
        // As many records as there are.
        let words: Vec<_> = told.split(' ').collect();
        let of = words.iter().position(|word| *word == "of").unwrap();
        let counts = words[of + 1..].iter().filter_map(|word| word.parse::<usize>().ok());
        let counts: Vec<_> = counts.take(2).collect();
        assert_eq!(counts[0], counts[1], "{name}: {told}");
    }
}

#[test]
fn what_a_build_had_is_given_with_options() {
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = temp.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let file = write("Dockerfile", "FROM base\nARG A\nRUN make $A\n");
    let same = write("Dockerfile.same", "FROM base\nENV L=C\nARG A=1\nRUN make $A\n");
    let config = write(
        "config.json",
        "{\"Env\": [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\", \"L=C\"]}",
    );
    let keys = |file: &Path, options: &[&str]| {
        done(|command| {
            let command = command.arg("keys").arg("--dockerfile").arg(file);
            command.args(options).env("A", "1").args(["--platform", "linux/amd64", "-o", "-"])
        })
    };
    let config = format!("base={}", config.display());
    let expected = keys(&same, &[]);
    assert_ne!(keys(&file, &[]), expected);
    assert_eq!(keys(&file, &["--build-arg", "A=1", "--image-config", &config]), expected);
    // The value is in the environment.
    assert_eq!(keys(&file, &["--build-arg", "A", "--image-config", &config]), expected);
    assert_ne!(keys(&same, &["--opt", "force-network-mode=none"]), expected);
    let bake =
        format!("{{\"target\": {{\"a\": {{\"dockerfile\": {:?}}}}}}}", same.display().to_string());
    assert_eq!(keys(&write("bake.json", &bake), &[]), expected);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("Dockerfile");
    fs::write(&file, "FROM a\nRUN <<EOF\n").unwrap();
    let error =
        fails(3, |command| command.arg("keys").arg("--dockerfile").arg(&file).args(["-o", "-"]));
    assert!(error.contains("dockerfile parse error on line 2: unterminated heredoc"), "{error}");
    let error = fails(2, |command| command.args(["keys", "a", "--build-arg", "A=1", "-o", "-"]));
    assert!(error.contains("--dockerfile"), "{error}");
    let error = fails(2, |command| {
        command.arg("keys").arg("--dockerfile").arg(&file).args(["--image-config", "a", "-o", "-"])
    });
    assert!(error.contains("NAME[@PLATFORM]=FILE"), "{error}");
}

#[test]
fn missing_keys_name_the_option_and_a_dockerfile_that_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let cache = temp.path().join("cache");
    copy(&fixture("manifest").join("cache"), &cache);
    let convert = |options: &[&str]| {
        fails(4, |command| {
            let command = command.arg("convert").arg(&cache).arg(temp.path().join("root"));
            command.args(["--require-keys", "--dry-run"]).args(options)
        })
    };
    assert!(convert(&[]).contains("give the Dockerfile of the build with --dockerfile"));
    let dockerfile = temp.path().join("Dockerfile");
    fs::copy(fixture("manifest").join("Dockerfile"), &dockerfile).unwrap();
    let named = format!("add --dockerfile {}", dockerfile.display());
    let error = convert(&[]);
    assert!(error.contains(&named), "{error}");
    // It is not used unasked. With it, all steps have keys.
    let dockerfile = dockerfile.display().to_string();
    let wrong = ["--dockerfile", &dockerfile, "--platform", "linux/s390x"];
    assert!(convert(&wrong).contains("configs of base images with --image-config"));
    done(|command| {
        let command = command.arg("convert").arg(&cache).arg(temp.path().join("root"));
        command.args(["--require-keys", "--dry-run", "--dockerfile", &dockerfile])
    });
}

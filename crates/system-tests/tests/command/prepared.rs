//! Roots, sources and configurations that other users have prepared.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the commands that write into a root.
fn writers(root: &Path) -> [Command; 3] {
    let [cache, _, keys] = index();
    let words: [&[&str]; 3] = [
        &["convert", "--no-extract", &cache, "--keys", &keys],
        &["convert", "--dry-run", &cache, "--keys", &keys],
        &["verify", "--trees", "--mend"],
    ];
    words.map(|words| {
        let mut command = command();
        command.args(words).arg("--progress=quiet").arg(root);
        command
    })
}

#[test]
fn a_root_that_others_can_change_is_refused_before_anything_is_written() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir(&root).unwrap();
    let refused = |said: &[&str]| {
        for mut command in writers(&root) {
            Printed::of(&mut command, 1).says(said);
            assert_eq!(place.names(), ["root"], "{command:?}");
        }
    };
    for mode in [0o777, 0o1777, 0o775] {
        fs::set_permissions(&root, Permissions::from_mode(mode)).unwrap();
        refused(&[&format!("(mode {mode:04o})"), &format!("chmod go-w {}", root.display())]);
    }
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(&root, Some(1), Some(1)).unwrap();
        refused(&["belongs to user 1", &format!("chown 0 {}", root.display())]);
        chown(&root, Some(0), Some(0)).unwrap();
    }
    Printed::of(&mut writers(&root)[0], 0);
    // Commands that only read report the content.
    fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
    for words in ["du", "inspect"] {
        Printed::of(command().arg(words).arg(&root), 0);
    }
    refuse_again(&root);
}

/// An existing state makes no difference.
fn refuse_again(root: &Path) {
    for mut command in writers(root) {
        Printed::of(&mut command, 1).says(&["chmod go-w"]);
    }
}

#[test]
fn a_root_behind_links_is_followed_unless_they_are_another_users() {
    let place = Place::new();
    let [data, link] = ["data", "link"].map(|name| place.temp.path().join(name));
    fs::create_dir(&data).unwrap();
    symlink(&data, &link).unwrap();
    Printed::of(&mut writers(&link)[0], 0);
    Printed::of(&mut writers(&link.join("below"))[0], 0);
    assert!(data.join("cache.db").is_file() && data.join("below/cache.db").is_file());
    if is_root() {
        lchown(&link, Some(1), Some(1)).unwrap();
        for root in [&link, &link.join("below"), &link.join("new")] {
            let said = ["symbolic link", data.to_str().unwrap(), "belongs to user 1"];
            Printed::of(&mut writers(root)[0], 1).says(&said);
        }
        assert!(!data.join("new").exists());
        Printed::of(&mut writers(&data)[0], 0);
    }
}

#[test]
fn who_can_put_something_else_in_the_place_of_the_root_is_told() {
    let place = Place::new();
    fs::set_permissions(place.temp.path(), Permissions::from_mode(0o777)).unwrap();
    let printed = Printed::of(&mut writers(&place.root())[0], 0);
    printed.says(&["warning: users other than its owner may write to", "can replace"]);
    fs::set_permissions(place.temp.path(), Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(Printed::of(&mut writers(&place.root())[0], 0).stderr, "");
    if is_root() {
        chown(place.temp.path(), Some(1), Some(1)).unwrap();
        Printed::of(&mut writers(&place.root())[0], 0).says(&["belongs to user 1"]);
    }
}

/// Runs a command that must not wait for other processes.
fn at_once(command: &mut Command, code: i32, said: &[&str]) {
    let started = Instant::now();
    Printed::of(command, code).says(said);
    assert!(started.elapsed() < Duration::from_secs(20), "{command:?}");
}

#[test]
fn a_fifo_is_waited_for_by_no_command() {
    let place = Place::new();
    let buildx = place.temp.path().join("buildx/instances");
    fs::create_dir_all(&buildx).unwrap();
    let [fifo, instance] = [place.temp.path().join("fifo"), buildx.join("ci")];
    for path in [&fifo, &instance] {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }
    // With no writer, or with a writer that never writes.
    for silent in [None, Some(fs::File::options().read(true).write(true).open(&fifo).unwrap())] {
        let fifo = fifo.to_str().unwrap();
        let [cache, _, keys] = index();
        for (code, words) in [
            (
                3,
                &["convert", "--no-extract", &cache, "ROOT", "--keys", &keys, "--config", fifo][..],
            ),
            (3, &["convert", "--no-extract", &cache, "ROOT", "--keys", fifo]),
            (3, &["convert", "--no-extract", fifo, "ROOT", "--keys", &keys]),
            (3, &["convert", "--no-extract", &cache, "ROOT", "--keys", &keys, "--image", fifo]),
            (1, &["convert", "--no-extract", &cache, fifo, "--keys", &keys]),
            (3, &["keys", fifo, "--output", "-"]),
            (3, &["keys", "attach", fifo, "--keys", &keys]),
            (3, &["keys", "attach", &cache, "--keys", fifo]),
            (3, &["inspect", fifo]),
            (3, &["inspect", &cache, "--keys", fifo]),
            (3, &["explain", "--llb", fifo, &cache]),
            (1, &["verify", fifo]),
            (1, &["du", fifo]),
            (3, &["du", "--config", fifo]),
        ] {
            let root = place.root();
            let words = words
                .iter()
                .map(|&word| if word == "ROOT" { root.as_os_str() } else { word.as_ref() });
            at_once(command().args(words), code, &[fifo]);
        }
        drop(silent);
    }
    for command_word in ["convert", "verify"] {
        let mut command = command();
        command.env("BUILDX_CONFIG", place.temp.path().join("buildx")).arg(command_word);
        if command_word == "convert" {
            command.args(index());
        }
        at_once(command.args(["--builder", "ci"]), 1, &[instance.to_str().unwrap(), "a FIFO"]);
    }
    assert!(!place.root().exists());
}

#[test]
fn the_pipe_of_a_shell_is_a_configuration() {
    let place = Place::new();
    let root = place.root().display().to_string();
    let binary = env!("CARGO_BIN_EXE_oci2bk-under-test");
    let [cache, _, keys] = index();
    for (config, code) in [(format!("root = \"{root}\""), 0), ("[worker.oci]".to_owned(), 1)] {
        let script = format!(
            "'{binary}' convert --no-extract --progress=quiet '{cache}' --keys '{keys}' --config <(echo '{config}')"
        );
        Printed::of(Command::new("bash").args(["-c", &script]), code);
    }
    assert!(place.root().join("cache.db").exists());
}

#[test]
fn a_blob_that_is_open_for_writing_is_not_linked() {
    let place = Place::new();
    let cache = place.temp.path().join("cache");
    let copied = Command::new("cp").args(["-r", &index()[0]]).arg(&cache).status().unwrap();
    assert!(copied.success());
    let blobs =
        fs::read_dir(cache.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let largest = blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::set_permissions(&largest, Permissions::from_mode(0o644)).unwrap();
    let run = |code| {
        let mut command = convert([cache.to_str().unwrap(), "--keys", &index()[2]], &place);
        Printed::of(command.arg("--blobs=hardlink"), code)
    };
    let writer = fs::File::options().write(true).open(&largest).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap();
    run(1).says(&[name, "somebody has the file open for writing", "copy"]);
    assert_eq!(
        fs::metadata(&largest).map(|found| std::os::unix::fs::MetadataExt::nlink(&found)).unwrap(),
        1
    );
    drop(writer);
    let said = run(0).stderr;
    assert!(!said.contains("has no leases"), "{said}");
    assert_eq!(
        fs::metadata(&largest).map(|found| std::os::unix::fs::MetadataExt::nlink(&found)).unwrap(),
        2
    );
}

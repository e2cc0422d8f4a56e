//! Files that the command writes, at paths that other users have prepared.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// Returns every command that writes a file named by the user, with `path` for it, and the exit code if that
/// is rejected.
fn writers(path: &Path, place: &Place) -> [(Command, i32); 2] {
    let mut metadata = convert(index(), place);
    metadata.arg("--metadata-file").arg(path).arg("--progress=quiet");
    let mut keys = command();
    keys.args(["keys", &index()[2], "--output"]).arg(path);
    [(metadata, 1), (keys, 1)]
}

#[test]
fn a_link_is_replaced_and_never_written_through() {
    let temp = tempfile::tempdir().unwrap();
    let [canary, link] = ["canary", "link"].map(|name| temp.path().join(name));
    for (mut command, _) in writers(&link, &Place::new()) {
        fs::write(&canary, "canary").unwrap();
        symlink(&canary, &link).unwrap();
        Printed::of(&mut command, 0);
        assert_eq!(fs::read(&canary).unwrap(), b"canary");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        serde_json::from_slice::<Value>(&fs::read(&link).unwrap()).unwrap();
        fs::remove_file(&link).unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
    let pages = temp.path().join("man");
    fs::create_dir(&pages).unwrap();
    symlink(&canary, pages.join("oci2bk.1")).unwrap();
    symlink(&canary, pages.join("oci2bk-convert.1")).unwrap();
    Printed::of(command().arg("man").arg(&pages), 0);
    assert_eq!(fs::read(&canary).unwrap(), b"canary");
    assert!(
        fs::read_dir(&pages).unwrap().all(|entry| entry.unwrap().file_type().unwrap().is_file())
    );
}

#[test]
fn directories_and_fifos_without_a_reader_are_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for (path, said) in [(&*fifo, "a FIFO that nobody reads"), (temp.path(), "it is a directory")] {
        for (mut command, code) in writers(path, &Place::new()) {
            Printed::of(&mut command, code).says(&[path.to_str().unwrap(), said]);
        }
    }
    let page = temp.path().join("oci2bk.1");
    fs::rename(&fifo, &page).unwrap();
    Printed::of(command().arg("man").arg(temp.path()), 1).says(&["oci2bk.1", "nobody reads"]);
}

#[test]
fn pipes_terminals_and_descriptors_are_written_to() {
    let binary = env!("CARGO_BIN_EXE_oci2bk-under-test");
    let provenance = &index()[2];
    let keys = format!("'{binary}' keys '{provenance}' -o");
    let temp = tempfile::tempdir().unwrap();
    let bash = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(temp.path());
        Printed::of(&mut command, 0).stdout
    };
    let expected = bash(&format!("{keys} -"));
    assert!(expected.ends_with("}\n"), "{expected:?}");
    for script in [
        // A file, without any message about it.
        format!("{keys} /dev/stdout > out; cat out"),
        format!("{keys} /dev/fd/1 >> new; cat new"),
        format!("{keys} /dev/stdout | cat"),
        format!("{keys} /dev/fd/5 5> five > /dev/null; cat five"),
        format!("{keys} /proc/self/fd/2 2>&1 > /dev/null"),
        format!("{keys} >(cat > sub) > /dev/null; sleep 0.1; wait; cat sub"),
        format!(
            "mkfifo p; cat p > read & while [ ! -p p ]; do :; done; sleep 0.2; {keys} p > /dev/null; wait; cat read"
        ),
    ] {
        assert!(bash(&script) == expected, "{script}");
    }
    bash(&format!("{keys} /dev/null && [ -c /dev/null ]"));
    assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());
}

#[test]
fn an_old_file_is_replaced_as_a_whole() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("keys.json");
    fs::write(&path, "x".repeat(1 << 20)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let reader = fs::File::open(&path).unwrap();
    let script = format!(
        "umask 027; '{}' keys '{}' -o keys.json",
        env!("CARGO_BIN_EXE_oci2bk-under-test"),
        index()[2]
    );
    Printed::of(Command::new("sh").args(["-c", &script]).current_dir(temp.path()), 0);
    serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    // As for any new file; a reader of the old one has all of it.
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(reader.metadata().unwrap().len(), 1 << 20);
}

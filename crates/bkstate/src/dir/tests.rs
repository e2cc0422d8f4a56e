use rustix::io::Errno;

use super::*;

fn temp() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn names_are_single_components() {
    let (temp, dir) = temp();
    for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
        let error = dir.create_file(name, 0o600).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::InvalidInput, "{name:?}");
        let path = temp.path().join(name);
        assert_eq!(error.to_string(), format!("cannot use as a name {}", path.display()));
    }
}

#[test]
fn links_and_pipes_are_not_opened() {
    let (temp, dir) = temp();
    std::fs::write(temp.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", temp.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/", temp.path().join("root")).unwrap();
    fs::mknodat(&dir.fd, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(dir.file("file").is_ok());
    let refused = |error: DirError, errno: Errno, action: &str, name: &str| {
        assert_eq!(error.source.raw_os_error(), Some(errno.raw_os_error()), "{error}");
        let path = temp.path().join(name);
        assert_eq!(error.to_string(), format!("cannot {action} {}", path.display()));
    };
    refused(dir.file("link").unwrap_err(), Errno::LOOP, "open the file", "link");
    refused(dir.file("fifo").unwrap_err(), Errno::INVAL, "read as a file", "fifo");
    refused(dir.dir("root").unwrap_err(), Errno::NOTDIR, "open the directory", "root");
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_temp, dir) = temp();
    let file = dir.create_file("file", 0o666).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o666);
    let error = dir.create_file("file", 0o666).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    assert!(error.to_string().starts_with("cannot make the file "), "{error}");
}

#[test]
fn a_tree_deeper_than_the_open_file_limit_is_removed() {
    let (_temp, dir) = temp();
    let mut here = dir.create_dir("top", 0o700).unwrap();
    here.create_dir("1", 0o700).unwrap().create_dir("in the way", 0o700).unwrap();
    for _ in 0..3000 {
        here.create_file("file", 0o600).unwrap();
        here = here.create_dir("d", 0o700).unwrap();
    }
    drop(here);
    dir.remove_tree("top").unwrap();
    assert_eq!(dir.entries().unwrap(), []);
    dir.remove_tree("top").unwrap();
}

#[test]
fn a_tree_that_was_removed_in_part_is_removed_later() {
    let (temp, dir) = temp();
    for name in ["a", "b"] {
        let inner = temp.path().join("tree").join(name).join("deep");
        std::fs::create_dir_all(&inner).unwrap();
        (0..5).for_each(|file| std::fs::write(inner.join(file.to_string()), "").unwrap());
    }
    let left = std::cell::Cell::new(7);
    let goes_on = || {
        left.set(left.get() - 1);
        left.get() > 0
    };
    assert!(!dir.remove_tree_while("tree", &goes_on).unwrap());
    assert!(temp.path().join("tree").is_dir());
    assert!(dir.remove_tree_while("tree", &|| true).unwrap());
    assert_eq!(dir.entries().unwrap(), []);
}

#[test]
fn removing_a_tree_does_not_follow_links_out_of_it() {
    let (temp, dir) = temp();
    std::fs::create_dir_all(temp.path().join("kept/inside")).unwrap();
    let tree = dir.create_dir("tree", 0o700).unwrap();
    drop(tree);
    std::os::unix::fs::symlink("../kept", temp.path().join("tree/link")).unwrap();
    dir.remove_tree("tree").unwrap();
    assert!(temp.path().join("kept/inside").is_dir());
}

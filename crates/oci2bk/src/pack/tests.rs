use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use bkstate::worker::{OverlayMarks, OwnerMap, Worker};
use rustix::fs::{CWD, Mode, Timespec, Timestamps, XattrFlags, mknodat};
use tempfile::TempDir;

use super::*;
use crate::limits::Limits;
use crate::unpack::tar::{Kind, Reader};
use crate::unpack::tree::copy_tree;
use crate::unpack::{Allowance, hidden_names};

/// Notes the paths, and asks for the end after some of them.
#[derive(Default)]
struct Seen {
    paths: Vec<String>,
    bytes: u64,
    limit: Option<usize>,
}

impl Observer for Seen {
    fn file(&mut self, path: &[u8]) {
        self.paths.push(String::from_utf8_lossy(path).into_owned());
    }

    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn is_cancelled(&self) -> bool {
        self.limit.is_some_and(|limit| self.paths.len() >= limit)
    }
}

fn packed(path: &Path) -> (Packed, Vec<u8>, Seen) {
    let (mut archive, mut seen) = (Vec::new(), Seen::default());
    let packed = pack(&Dir::open(path).unwrap(), View::AS_IT_IS, &mut archive, &mut seen).unwrap();
    (packed, archive, seen)
}

fn failed(path: &Path, seen: &mut Seen) -> PackError {
    pack(&Dir::open(path).unwrap(), View::AS_IT_IS, &mut Vec::new(), seen).unwrap_err()
}

fn names(archive: &[u8]) -> Vec<(String, Kind)> {
    let mut reader = Reader::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        names.push((String::from_utf8(entry.name).unwrap(), entry.kind));
    }
    names
}

/// Creates a tree with every kind of file that a mount can have.
fn tree() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    fs::create_dir_all(path("a/empty")).unwrap();
    fs::write(path("a/file"), vec![7; 700_000]).unwrap();
    fs::write(path("a-b"), "x").unwrap();
    fs::hard_link(path("a-b"), path("z")).unwrap();
    fs::write(path("a-b"), "y").unwrap();
    symlink("../nowhere", path("a/link")).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o2751)).unwrap();
    fs::create_dir(path("n".repeat(200).as_str())).unwrap();
    rustix::fs::setxattr(path("a/file"), "user.kept", b"1", XattrFlags::empty()).unwrap();
    let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 123_000_000 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path("a/file"), &times, AtFlags::empty()).unwrap();
    temp
}

#[test]
fn the_tree_comes_first_and_names_are_sorted_depth_first() {
    let tree = tree();
    let (result, archive, seen) = packed(tree.path());
    let long = format!("./{}/", "n".repeat(200));
    let expected = [
        ("./", Kind::Directory),
        ("./a/", Kind::Directory),
        ("./a/empty/", Kind::Directory),
        ("./a/file", Kind::Regular),
        ("./a/link", Kind::Symlink),
        ("./a-b", Kind::Regular),
        ("./fifo", Kind::Fifo),
        (&long, Kind::Directory),
        ("./z", Kind::HardLink),
    ];
    assert_eq!(names(&archive), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!((result.entries, result.left_out), (9, 0));
    assert_eq!((seen.bytes, seen.paths.len()), (700_001, 5));
    // The access times are others now.
    assert!(packed(tree.path()).1 == archive);
}

#[test]
fn a_copy_gives_the_same_archive() {
    let (tree, copy) = (tree(), tempfile::tempdir().unwrap());
    let from = Dir::open(tree.path()).unwrap();
    let produce = |mut out: crate::unpack::tree::ChunkWriter| {
        let packed = pack(&from, View::AS_IT_IS, &mut out, &mut Seen::default());
        out.flush().unwrap();
        packed
    };
    let to = Dir::open(copy.path()).unwrap();
    let allowance = Allowance::of_run(&Limits::default(), u64::MAX);
    let (result, unpacked) =
        copy_tree(produce, to.as_fd(), &Worker::default(), &allowance).unwrap();
    let unpacked = unpacked.unwrap();
    assert_eq!(result.unwrap().entries, unpacked.entries);
    let (_, archive, _) = packed(tree.path());
    assert_eq!(bkstate::Digest::of(&archive), unpacked.diff_id);
    assert!(packed(copy.path()).1 == archive);
    let [file, link] = ["a-b", "z"].map(|name| fs::metadata(copy.path().join(name)).unwrap());
    assert_eq!(file.ino(), link.ino());
    assert!(fs::metadata(copy.path().join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn sockets_are_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(temp.path().join("socket")).unwrap();
    let (result, archive, _) = packed(temp.path());
    assert_eq!((result.entries, result.left_out), (1, 1));
    assert_eq!(names(&archive).len(), 1);
}

#[test]
fn attributes_of_overlays_are_left_out_and_redirects_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().join("dir");
    fs::create_dir(&directory).unwrap();
    let set = |name: &str| {
        rustix::fs::setxattr(&directory, name, b"y", XattrFlags::empty()).unwrap();
    };
    let (_, before, _) = packed(temp.path());
    set("user.overlay.opaque");
    set("user.fuseoverlayfs.opaque");
    // A PAX record cannot have it.
    set("user.a=b");
    assert!(packed(temp.path()).1 == before);
    set("user.overlay.redirect");
    let error = failed(temp.path(), &mut Seen::default());
    assert!(matches!(error, PackError::Partial { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{} has the attribute user.overlay.redirect: its content is elsewhere, where only a daemon \
             finds it",
            directory.display()
        )
    );
}

#[test]
fn the_work_can_be_cancelled() {
    let tree = tree();
    let mut seen = Seen { limit: Some(2), ..Seen::default() };
    let error = failed(tree.path(), &mut seen);
    assert!(matches!(error, PackError::Cancelled), "{error}");
    assert_eq!(error.to_string(), "packing was cancelled");
}

#[test]
fn a_deep_tree_takes_one_handle() {
    let temp = tempfile::tempdir().unwrap();
    let deep: std::path::PathBuf = std::iter::repeat_n("d", 1500).collect();
    fs::create_dir_all(temp.path().join(&deep)).unwrap();
    fs::write(temp.path().join("e"), "").unwrap();
    let (result, archive, _) = packed(temp.path());
    assert_eq!(result.entries, 1502);
    assert_eq!(names(&archive).last().unwrap().0, "./e");
    // A recursive removal would run out of handles.
    Dir::open(temp.path()).unwrap().remove_tree("d").unwrap();
}

/// Returns the owners of a rootless daemon whose root is the user of this process.
fn of_user(others: &str) -> Owners {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let map = |root: u32| format!("0:{root}:1,{others}").parse().unwrap();
    Owners::Mapped(OwnerMap::new(map(user), map(group)))
}

#[test]
fn a_map_gives_the_owners_that_the_daemon_sees() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("own"), "").unwrap();
    fs::write(temp.path().join("other"), "").unwrap();
    let owners = of_user("1:100000:65536");
    let view = View { owners: &owners, hidden: &[], is_snapshot: false };
    let pack = |seen: &mut Seen| {
        let mut archive = Vec::new();
        let packed = pack(&Dir::open(temp.path()).unwrap(), view, &mut archive, seen);
        packed.map(|_| archive)
    };
    let archive = pack(&mut Seen::default()).unwrap();
    let mut reader = Reader::new(archive.as_slice());
    while let Some(entry) = reader.next().unwrap() {
        assert_eq!((entry.uid, entry.gid), (0, 0));
    }
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(temp.path().join("other"), Some(100_999), Some(100_000)).unwrap();
    let archive = pack(&mut Seen::default()).unwrap();
    let mut reader = Reader::new(archive.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        found.push((entry.uid, entry.gid));
    }
    assert_eq!(found, [(0, 0), (1000, 1), (0, 0)]);

    std::os::unix::fs::chown(temp.path().join("other"), Some(99_999), None).unwrap();
    let error = pack(&mut Seen::default()).unwrap_err();
    let PackError::Owner { path, source } = &error else { panic!("{error}") };
    assert_eq!((path, source.user), (&temp.path().join("other"), 99_999));
    assert_eq!(error.to_string(), format!("cannot pack {}", path.display()));
}

#[test]
fn a_map_gives_the_capabilities_that_the_daemon_sees() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let net_raw = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("ping");
    fs::write(&file, "").unwrap();
    let owners = Owners::Mapped(OwnerMap::of_both("0:1000:1,1:100000:65536".parse().unwrap()));
    for (path, owner) in [(temp.path(), 1000), (&file, 100_999)] {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
    }
    let set = |root: u32| {
        let mut value = net_raw.to_vec();
        value[3] = 3;
        value.extend(root.to_le_bytes());
        rustix::fs::setxattr(&file, "security.capability", &value, XattrFlags::empty()).unwrap();
    };
    let pack = || {
        let mut archive = Vec::new();
        let dir = Dir::open(temp.path()).unwrap();
        let view = View { owners: &owners, hidden: &[], is_snapshot: false };
        pack(&dir, view, &mut archive, &mut Seen::default()).map(|_| archive)
    };
    set(1000);
    let archive = pack().unwrap();
    let mut reader = Reader::new(archive.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        found.extend(entry.xattrs);
    }
    assert_eq!(found, [(b"security.capability".to_vec(), net_raw.to_vec())]);
    set(1001);
    let error = pack().unwrap_err();
    assert!(matches!(error, PackError::Capability { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!("the capabilities of {} are those of another user namespace", file.display())
    );
}

#[test]
fn files_that_a_daemon_does_not_see_are_left_out() {
    let temp = tempfile::tempdir().unwrap();
    for name in [".wh..opq", ".wh..wh..opq", ".wh.seen"] {
        fs::write(temp.path().join(name), "").unwrap();
    }
    for (marks, expected) in [
        (OverlayMarks::Trusted, &["./", "./.wh..opq", "./.wh..wh..opq", "./.wh.seen"][..]),
        (OverlayMarks::FuseTrusted, &["./", "./.wh.seen"]),
        (OverlayMarks::FuseUser, &["./", "./.wh.seen"]),
    ] {
        let view = View { hidden: hidden_names(marks), ..View::AS_IT_IS };
        let mut archive = Vec::new();
        let dir = Dir::open(temp.path()).unwrap();
        let packed = pack(&dir, view, &mut archive, &mut Seen::default()).unwrap();
        let found: Vec<_> = names(&archive).into_iter().map(|(name, _)| name).collect();
        assert!(found == expected && packed.left_out == 0, "{marks:?}: {found:?}");
    }
}

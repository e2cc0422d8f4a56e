//! Layers that are completed with the tree below them.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};

use crate::archives::{archive, dir, file, member};
use bkstate::Classified as _;
use bkstate::worker::OverlayMarks;

use super::super::allowance::Allowance;
use super::super::complete::complete;
use super::*;
use crate::cancel::Cancel;

fn allowance() -> Allowance {
    Allowance::of_run(&Limits::default(), 0)
}

fn on(layer: &Snapshot, parent: &Snapshot) {
    let (tree, below) = (layer.open(), parent.open());
    let digest = Digest::of("layer");
    let marks = OverlayMarks::Trusted;
    complete(digest, tree.as_fd(), Some(below.as_fd()), marks, &allowance(), &Cancel::new())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
}

/// Returns a tree with everything that layers can change.
fn parent() -> Snapshot {
    let parent = Snapshot::new();
    parent.base(&archive(&[
        dir("d").mode(0o2750).owner(3, 4).mtime(77),
        file("d/kept", "kept").owner(5, 6).mode(0o4755),
        file("d/gone", "gone"),
        dir("d/deep"),
        dir("d/deep/er"),
        file("d/deep/er/file", "deep"),
        dir("opaque"),
        file("opaque/hidden", "hidden"),
        dir("opaque/again"),
        file("opaque/again/hidden", "hidden"),
        file("becomes-a-directory", ""),
        dir("becomes-a-file"),
        file("becomes-a-file/below", ""),
        file("changed", "old"),
        crate::archives::symlink("link", "changed"),
        member(b'6', "pipe"),
    ]));
    parent
}

#[test]
fn what_the_layer_leaves_is_linked_and_what_it_hides_is_not_there() {
    require_root!();
    let parent = parent();
    let layer = Snapshot::new();
    let applied = layer.overlay(&archive(&[
        file("d/.wh.gone", ""),
        file("d/.wh.never", ""),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", "new"),
        dir("opaque/again"),
        file("opaque/again/.wh.hidden", ""),
        dir("becomes-a-directory"),
        file("becomes-a-directory/inner", ""),
        file("becomes-a-file", "now"),
        file("changed", "new"),
        file("e/inner", ""),
    ]));
    applied.implied.settle(layer.open().as_fd(), [parent.open()]).unwrap();
    on(&layer, &parent);
    let expected = [
        "becomes-a-directory",
        "becomes-a-directory/inner",
        "becomes-a-file",
        "changed",
        "d",
        "d/deep",
        "d/deep/er",
        "d/deep/er/file",
        "d/kept",
        "e",
        "e/inner",
        "link",
        "opaque",
        "opaque/again",
        "opaque/new",
        "pipe",
    ];
    assert_eq!(layer.tree(), expected);
    for name in ["d/kept", "d/deep/er/file", "link", "pipe"] {
        assert_eq!(layer.stat(name).ino(), parent.stat(name).ino(), "{name}");
    }
    assert_eq!(layer.read("changed"), "new");
    assert_eq!(parent.read("changed"), "old");
    assert_eq!(layer.xattr("opaque", "trusted.overlay.opaque"), None);
    // The layer only implies it, and it has the attributes of the one below.
    for name in ["d", "d/deep", "d/deep/er"] {
        let (new, old) = (layer.stat(name), parent.stat(name));
        assert_ne!(new.ino(), old.ino());
        let attributes = |stat: &fs::Metadata| (stat.mode(), stat.uid(), stat.gid(), stat.mtime());
        assert_eq!(attributes(&new), attributes(&old), "{name}");
    }
    assert_eq!(layer.stat("opaque/again").mtime(), crate::archives::MTIME);
    assert_eq!(parent.tree().len(), 16);
}

#[test]
fn a_layer_without_anything_below_loses_only_its_marks() {
    require_root!();
    let layer = Snapshot::new();
    layer.overlay(&archive(&[
        dir("d"),
        file("d/.wh.gone", ""),
        file("d/.wh..wh..opq", ""),
        file("d/kept", ""),
    ]));
    let tree = layer.open();
    complete(
        Digest::of("layer"),
        tree.as_fd(),
        None,
        OverlayMarks::Trusted,
        &allowance(),
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!(layer.tree(), ["d", "d/kept"]);
    assert_eq!(layer.xattr("d", "trusted.overlay.opaque"), None);
    assert_eq!(layer.stat("d").mtime(), crate::archives::MTIME);
}

#[test]
fn the_root_directory_is_that_of_the_tree_below() {
    require_root!();
    let (layer, parent) = (Snapshot::new(), Snapshot::new());
    std::os::unix::fs::chown(parent.root(), Some(7), Some(8)).unwrap();
    fs::set_permissions(parent.root(), fs::Permissions::from_mode(0o1711)).unwrap();
    on(&layer, &parent);
    let stat = layer.stat("");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (7, 8, 0o1711));
}

#[test]
fn files_that_cannot_be_linked_are_copied() {
    let parent = tempfile::tempdir_in("/dev/shm").unwrap();
    let layer = tempfile::tempdir().unwrap();
    if parent.path().metadata().unwrap().dev() == layer.path().metadata().unwrap().dev() {
        eprintln!("not copied: there is one file system only");
        return;
    }
    fs::write(parent.path().join("file"), "content").unwrap();
    fs::set_permissions(parent.path().join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", parent.path().join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        parent.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    fs::write(parent.path().join("own"), "below").unwrap();
    fs::write(layer.path().join("own"), "above").unwrap();
    let open = |dir: &TempDir| File::open(dir.path()).unwrap();
    let (tree, below) = (open(&layer), open(&parent));
    let marks = OverlayMarks::User;
    complete(
        Digest::of("layer"),
        tree.as_fd(),
        Some(below.as_fd()),
        marks,
        &allowance(),
        &Cancel::new(),
    )
    .unwrap();
    for name in ["file", "link", "pipe"] {
        let stat = |dir: &TempDir| dir.path().join(name).symlink_metadata().unwrap();
        let (new, old) = (stat(&layer), stat(&parent));
        let attributes = |stat: &fs::Metadata| {
            (stat.mode(), stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec(), stat.size())
        };
        assert_eq!(attributes(&new), attributes(&old), "{name}");
    }
    let read = |name: &str| fs::read_to_string(layer.path().join(name)).unwrap();
    assert_eq!((read("file"), read("own")), ("content".to_owned(), "above".to_owned()));
    assert!(layer.path().join("pipe").symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
fn files_that_are_taken_count_as_entries_of_all_layers() {
    let (layer, parent) = (Snapshot::new(), Snapshot::new());
    for name in ["a", "b", "c"] {
        fs::write(parent.path(name), "").unwrap();
    }
    let limits = Limits { total_entries: 2, ..Limits::default() };
    let (tree, below) = (layer.open(), parent.open());
    let allowance = Allowance::of_run(&limits, 0);
    let marks = OverlayMarks::User;
    let error = complete(
        Digest::of("layer"),
        tree.as_fd(),
        Some(below.as_fd()),
        marks,
        &allowance,
        &Cancel::new(),
    );
    assert_eq!(error.unwrap_err().limit_name(), Some("total-entries"));
}

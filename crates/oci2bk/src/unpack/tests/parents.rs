//! Directories that a layer implies, and the attributes that they inherit from the layers below.

use std::os::unix::fs::{MetadataExt as _, symlink as make_symlink};

use crate::archives::*;

use super::*;

/// Returns a settled lower layer.
fn lower(members: &[Member]) -> Snapshot {
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(members));
    assert!(unpacked.implied.is_empty());
    snapshot
}

fn settle(
    snapshot: &Snapshot,
    unpacked: &Unpacked,
    lowers: &[&Snapshot],
) -> Result<(), UnpackError> {
    let lowers = lowers.iter().map(|lower| lower.open());
    unpacked.implied.settle(snapshot.open().as_fd(), lowers)
}

#[test]
fn attributes_come_from_the_nearest_layer_that_has_the_directory() {
    require_root!();
    let xattrs = [
        ("SCHILY.xattr.user.note", &b"lower"[..]),
        ("SCHILY.xattr.security.note", b"kept"),
        ("mtime", b"50.5"),
        ("atime", b"60.25"),
    ];
    let far = lower(&[dir("tmp").mode(0o700).owner(9, 9), dir("var").owner(3, 3).mtime(30)]);
    let near = lower(&[pax(&xattrs), dir("tmp").mode(0o1777).owner(1, 2)]);
    let trusted = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(near.path("tmp"), "trusted.overlay.opaque", b"y", trusted).unwrap();

    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[file("tmp/f", ""), file("var/new/f", "")]));
    assert!(!unpacked.implied.is_empty());
    settle(&snapshot, &unpacked, &[&near, &far]).unwrap();
    let tmp = snapshot.stat("tmp");
    assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.gid()), (0o1777, 1, 2));
    assert_eq!((tmp.mtime(), tmp.mtime_nsec()), (50, 500_000_000));
    assert_eq!(snapshot.xattr("tmp", "user.note").as_deref(), Some(&b"lower"[..]));
    assert_eq!(snapshot.xattr("tmp", "security.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(snapshot.xattr("tmp", "trusted.overlay.opaque"), None);
    let var = snapshot.stat("var");
    assert_eq!((var.uid(), var.mtime()), (3, 30));
    let new = snapshot.stat("var/new");
    assert_eq!((new.mode() & 0o7777, new.uid(), new.mtime()), (0o755, 0, 0));
    assert_eq!(std::fs::metadata(snapshot.root()).unwrap().mtime(), 0);
}

#[test]
fn what_the_layer_names_is_its_own_even_if_it_was_implied_first() {
    require_root!();
    let below = lower(&[
        pax(&[("SCHILY.xattr.user.a", b"lower"), ("SCHILY.xattr.user.b", b"lower")]),
        dir("d").mode(0o700).owner(1, 1),
    ]);
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[
        file("d/f", ""),
        pax(&[("SCHILY.xattr.user.a", b"upper")]),
        dir("d").mode(0o711).owner(2, 2).mtime(77),
    ]));
    settle(&snapshot, &unpacked, &[&below]).unwrap();
    let d = snapshot.stat("d");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.mtime()), (0o711, 2, 77));
    assert_eq!(snapshot.xattr("d", "user.a").as_deref(), Some(&b"upper"[..]));
    // containerd copied it when it created the directory.
    assert_eq!(snapshot.xattr("d", "user.b").as_deref(), Some(&b"lower"[..]));
}

#[test]
fn named_directories_have_nothing_to_settle() {
    require_root!();
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[dir("d"), file("d/f", ""), file(".wh.x", "")]));
    assert!(unpacked.implied.is_empty());
}

#[test]
fn implied_directories_that_are_removed_again_are_forgotten() {
    require_root!();
    for removal in [file("a", ""), symlink("a", "/etc"), file(".wh.a", "")] {
        let snapshot = Snapshot::new();
        let unpacked = snapshot.base(&archive(&[file("a/b/c", ""), removal]));
        assert!(unpacked.implied.is_empty());
    }
}

#[test]
fn something_else_in_a_nearer_layer_hides_the_directory_below() {
    require_root!();
    let far = lower(&[dir("d").mode(0o700).owner(9, 9)]);
    for near in [file(".wh.d", ""), file("d", ""), member(b'6', "d")] {
        let near = lower(&[near]);
        let snapshot = Snapshot::new();
        let unpacked = snapshot.overlay(&archive(&[file("d/f", "")]));
        settle(&snapshot, &unpacked, &[&near, &far]).unwrap();
        let d = snapshot.stat("d");
        assert_eq!((d.mode() & 0o7777, d.uid(), d.mtime()), (0o755, 0, 0));

        // containerd cannot look up files below it.
        let snapshot = Snapshot::new();
        let unpacked = snapshot.overlay(&archive(&[file("d/e/f", "")]));
        let error = settle(&snapshot, &unpacked, &[&near, &far]).unwrap_err();
        let reason = match error {
            UnpackError::Settle { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert!(matches!(reason, Refusal::ParentNotDirectory), "{reason:?}");
        assert_eq!(reason.to_string(), "a parent of the path is not a directory");
    }
}

#[test]
fn links_in_a_lower_layer_are_followed_inside_it() {
    require_root!();
    let below = lower(&[dir("usr"), dir("usr/lib").mode(0o711).owner(4, 4)]);
    make_symlink("usr/lib", below.path("lib")).unwrap();
    make_symlink("../../../outside", below.path("out")).unwrap();
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[file("lib/f", ""), file("out/f", "")]));
    settle(&snapshot, &unpacked, &[&below]).unwrap();
    let lib = snapshot.stat("lib");
    assert_eq!((lib.mode() & 0o7777, lib.uid()), (0o711, 4));
    let out = snapshot.stat("out");
    assert_eq!((out.mode() & 0o7777, out.uid(), out.mtime()), (0o755, 0, 0));
}

#[test]
fn a_new_directory_below_one_with_setgid_gets_its_group() {
    require_root!();
    let below = lower(&[dir("mail").mode(0o2775).owner(0, 8)]);
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[file("mail/new/deeper/f", "")]));
    settle(&snapshot, &unpacked, &[&below]).unwrap();
    let new = snapshot.stat("mail/new");
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o755, 0, 8));
    assert_eq!(snapshot.stat("mail/new/deeper").gid(), 0);
}

#[test]
fn no_more_layers_are_opened_than_needed() {
    require_root!();
    let below = lower(&[dir("d")]);
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[file("d/f", "")]));
    let mut opened = 0;
    let lowers = std::iter::repeat_with(|| {
        opened += 1;
        below.open()
    });
    unpacked.implied.settle(snapshot.open().as_fd(), lowers).unwrap();
    assert_eq!(opened, 1);
}

#[test]
fn an_entry_that_leaves_its_group_to_an_implied_directory_is_refused() {
    require_root!();
    let left = || pax(&[("gid", b"4294967295")]);
    for members in [
        [left(), file("implied/f", "")],
        [left(), dir("implied/d")],
        [left(), symlink("implied/l", "x")],
    ] {
        let error = Snapshot::new().apply(&archive(&members), Placement::Overlay).unwrap_err();
        let reason = refusal(error);
        assert!(matches!(reason, Refusal::GroupOfImpliedDirectory), "{reason}");
        assert_eq!(
            reason.to_string(),
            "the entry leaves its group to the kernel (all ones) in a directory that the \
             layer has no entry for; give the entry a group"
        );
    }
    // If the layer has an entry for the directory, the kernel knows its group.
    let snapshot = Snapshot::new();
    snapshot.overlay(&archive(&[
        dir("named").mode(0o2755).owner(0, 7),
        left(),
        file("named/f", ""),
    ]));
    assert_eq!(snapshot.stat("named/f").gid(), 7);
}

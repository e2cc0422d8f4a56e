//! Whiteouts in overlay snapshots and in base layers.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use crate::archives::*;

use super::*;

fn is_whiteout(snapshot: &Snapshot, name: &str) -> bool {
    let stat = snapshot.stat(name);
    stat.file_type().is_char_device() && stat.rdev() == 0
}

fn opaque(snapshot: &Snapshot, name: &str) -> Option<Vec<u8>> {
    snapshot.xattr(name, "trusted.overlay.opaque")
}

#[test]
fn in_an_overlay_a_whiteout_is_a_device_with_the_owner_of_its_entry() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.overlay(&archive(&[
        dir("d"),
        file("d/.wh.gone", "").owner(6, 7).mode(0o777),
        file(".wh..wh.plnk", ""),
        // The type does not matter.
        dir(".wh.dir"),
    ]));
    assert_eq!(snapshot.tree(), [".wh.plnk", "d", "d/gone", "dir"]);
    for name in ["d/gone", ".wh.plnk", "dir"] {
        assert!(is_whiteout(&snapshot, name), "{name}");
    }
    let gone = snapshot.stat("d/gone");
    assert_eq!((gone.uid(), gone.gid(), gone.mode() & 0o7777), (6, 7, 0));
    assert_eq!(gone.mtime(), 0);
    assert_eq!(snapshot.stat("d").mtime(), MTIME);
}

#[test]
fn in_an_overlay_an_opaque_marker_is_an_xattr() {
    require_root!();
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[
        dir("named"),
        file("named/kept", ""),
        file("named/.wh..wh..opq", ""),
        file("implied/.wh..wh..opq", ""),
        file(".wh..wh..opq", ""),
    ]));
    assert_eq!(snapshot.tree(), ["implied", "named", "named/kept"]);
    for name in ["named", "implied", ""] {
        assert_eq!(opaque(&snapshot, name).as_deref(), Some(&b"y"[..]), "{name}");
    }
    assert!(!unpacked.implied.is_empty());
}

#[test]
fn in_an_overlay_a_directory_after_its_whiteout_is_not_opaque() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.overlay(&archive(&[file(".wh.d", ""), dir("d"), file("d/f", "")]));
    assert!(snapshot.stat("d").is_dir());
    assert_eq!(opaque(&snapshot, "d"), None);
}

#[test]
fn in_an_overlay_a_whiteout_of_what_the_same_layer_has_is_refused() {
    require_root!();
    for first in [file("x", ""), dir("x"), file(".wh.x", "")] {
        let snapshot = Snapshot::new();
        let tar = archive(&[first, file(".wh.x", "")]);
        let error = snapshot.apply(&tar, Placement::Overlay).unwrap_err();
        let error = refusal(error);
        assert!(matches!(error, Refusal::WhiteoutOfSameLayer), "{error}");
        assert_eq!(error.to_string(), "the whiteout deletes a file of the same layer");
    }
}

#[test]
fn in_a_base_layer_a_whiteout_removes_what_the_layer_has() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        file("a", ""),
        file(".wh.a", ""),
        file(".wh.never-there", ""),
        file("d/deep/f", ""),
        file(".wh.d", ""),
        symlink("link", "kept"),
        dir("kept"),
        file("kept/f", ""),
        file(".wh.link", ""),
    ]));
    assert_eq!(snapshot.tree(), ["kept", "kept/f"]);
}

#[test]
fn in_a_base_layer_an_opaque_marker_removes_only_what_has_no_entry() {
    require_root!();
    let snapshot = Snapshot::new();
    let unpacked = snapshot.base(&archive(&[
        dir("d"),
        file("d/kept", ""),
        dir("d/named"),
        file("d/implied/f", ""),
        file("d/named/implied-too/f", ""),
        file("d/named-later/f", ""),
        dir("d/named-later"),
        file("d-other/f", ""),
        file("d/.wh..wh..opq", ""),
    ]));
    assert_eq!(
        snapshot.tree(),
        ["d", "d-other", "d-other/f", "d/kept", "d/named", "d/named-later", "d/named-later/f"]
    );
    assert_eq!(opaque(&snapshot, "d"), None);
    let none: [&File; 0] = [];
    unpacked.implied.settle(snapshot.open().as_fd(), none).unwrap();
}

#[test]
fn whiteouts_that_leave_their_directory_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        for placement in [Placement::Base, Placement::Overlay] {
            let snapshot = Snapshot::new();
            let error = snapshot.apply(&archive(&[file(name, "")]), placement).unwrap_err();
            let error = refusal(error);
            assert!(matches!(error, Refusal::WhiteoutEscapes), "{name}");
            assert_eq!(
                error.to_string(),
                "the whiteout names a directory instead of an entry in it"
            );
            snapshot.assert_contained();
        }
    }
}

#[test]
fn whiteouts_through_links_stay_inside() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        dir("etc"),
        file("etc/gone", ""),
        file("etc/kept", ""),
        symlink("inside", "/etc"),
        file("inside/.wh.gone", ""),
        symlink("out", "../outside"),
        file("out/.wh.secret", ""),
        symlink("dead", "/dne"),
        file("dead/.wh.etc", ""),
        file(".wh.etc-like/f", "not a whiteout itself"),
    ]));
    assert_eq!(
        snapshot.tree(),
        [
            ".wh.etc-like",
            ".wh.etc-like/f",
            "dead",
            "dne",
            "etc",
            "etc/kept",
            "inside",
            "out",
            "outside"
        ]
    );
}

#[test]
fn many_opaque_markers_in_one_directory_take_no_longer_than_their_number() {
    // CVE-2026-95838: each marker walked the whole directory, which would take minutes here.
    require_root!();
    let mut members = vec![dir("d")];
    for index in 0..2000 {
        members.push(dir(format!("d/{index}")));
    }
    members.resize(members.len() + 20_000, file("d/.wh..wh..opq", ""));
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&members));
    assert_eq!(snapshot.path("d").read_dir().unwrap().count(), 2000);
}

//! Whiteouts: umoci's cases for overlay root file systems (opencontainers/umoci pull request 572), overlayfs'
//! own attributes, and repeated markers.

use archives::*;

use crate::case::{Case, Containerd, Outcome};

/// A lower layer with one of everything.
fn below() -> Vec<Member> {
    vec![
        dir("dir"),
        file("dir/file", "below"),
        dir("dir/sub"),
        file("dir/sub/file", "below"),
        file("plain", "below"),
    ]
}

fn overlay(name: &str, names: &[&str], layer: fn() -> Vec<Member>) -> Case {
    Case::unpacks(&format!("umoci-overlay-rootfs::{name}"), names, move |_| layer()).on(below)
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![
        overlay("whiteout-without-parent", &["dir", "dir/sub", "dir/sub/file"], || {
            vec![file("dir/sub/.wh.file", "")]
        }),
        overlay("whiteout-without-parent-below", &["new", "new/deep", "new/deep/gone"], || {
            vec![file("new/deep/.wh.gone", "")]
        }),
        overlay("whiteouts-nested", &["dir"], || vec![file(".wh.dir", "")]),
        overlay("whiteout-below-a-whiteout", &["dir", "dir/file"], || {
            vec![file(".wh.dir", ""), dir("dir"), file("dir/.wh.file", "")]
        }),
        Case::refused("umoci-overlay-rootfs::entry-in-a-whiteout", "not a directory", |_| {
            [file(".wh.dir", ""), file("dir/file", "")]
        })
        .on(below),
        overlay("opaque-without-parent", &["dir", "dir/sub"], || {
            vec![file("dir/sub/.wh..wh..opq", "")]
        }),
        overlay("opaque-converted", &["dir", "dir/new"], || {
            vec![dir("dir"), file("dir/.wh..wh..opq", ""), file("dir/new", "")]
        }),
        overlay("opaque-after-entries", &["dir", "dir/new"], || {
            vec![dir("dir"), file("dir/new", ""), file("dir/.wh..wh..opq", "")]
        }),
        overlay("opaque-nested", &["dir", "dir/sub", "dir/sub/new"], || {
            vec![
                file("dir/.wh..wh..opq", ""),
                file("dir/sub/.wh..wh..opq", ""),
                file("dir/sub/new", ""),
            ]
        }),
        overlay("opaque-root", &["new"], || vec![file(".wh..wh..opq", ""), file("new", "")]),
        overlay("opaque-on-what-was-a-file", &["plain", "plain/new"], || {
            vec![dir("plain"), file("plain/.wh..wh..opq", ""), file("plain/new", "")]
        }),
        overlay("whiteout-in-an-opaque-directory", &["dir", "dir/file"], || {
            vec![file("dir/.wh..wh..opq", ""), file("dir/.wh.file", "")]
        }),
        overlay("whiteout-then-directory", &["dir", "dir/new"], || {
            vec![file(".wh.dir", ""), dir("dir"), file("dir/new", "")]
        }),
        overlay("plnk-of-aufs", &[".wh.plnk"], || vec![file(".wh..wh.plnk", "")]),
        Case::refused("umoci-overlay-rootfs::whiteout-of-the-same-layer", "the same layer", |_| {
            [file("dir/file", "new"), file("dir/.wh.file", "")]
        })
        .on(below),
    ];
    cases.extend(overlay_xattrs());
    cases.push(repeated());
    cases
}

/// `trusted.*` is skipped, so a layer cannot hide or redirect lower layers.
fn overlay_xattrs() -> Vec<Case> {
    let attribute = |case: &str, name: &'static str, value: &'static [u8]| {
        let name = format!("SCHILY.xattr.{name}");
        Case::unpacks(&format!("overlay-xattrs::{case}"), &["dir"], move |_| {
            [pax(&[(&name, value)]), dir("dir")]
        })
        .on(below)
    };
    vec![
        attribute("opaque", "trusted.overlay.opaque", b"y"),
        attribute("redirect", "trusted.overlay.redirect", b"/etc"),
        attribute("metacopy", "trusted.overlay.metacopy", b""),
        attribute("whiteout", "trusted.overlay.whiteout", b""),
        attribute("of-users", "user.overlay.opaque", b"y"),
    ]
}

/// Each marker made older releases walk the whole directory.
fn repeated() -> Case {
    let names: Vec<_> = (0..2000).map(|index| format!("d/{index:04}")).collect();
    let expected = [vec!["d".to_owned()], names.clone()].concat();
    let mut case = Case::new(
        "cve-2026-95838::many-opaque-markers-in-a-large-directory",
        Outcome::Unpacks(expected),
        move |_| {
            let mut members = vec![dir("d")];
            members.extend(names.iter().map(dir));
            members.resize(members.len() + 20_000, file("d/.wh..wh..opq", ""));
            vec![members.into()]
        },
    );
    case.containerd = Containerd::NotTried("it takes minutes");
    case
}

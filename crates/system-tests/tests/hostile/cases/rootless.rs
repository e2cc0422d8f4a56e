//! What a layer must not do to a rootless daemon, whose overlays keep their own state in attributes that layers
//! can have, too.

use archives::*;

use crate::case::Case;

/// A lower layer.
fn below() -> Vec<Member> {
    vec![dir("dir"), file("dir/file", "below"), file("plain", "below")]
}

fn overlay(name: &str, names: &[&str], layer: fn() -> Vec<Member>) -> Case {
    Case::unpacks(&format!("rootless::{name}"), names, move |_| layer()).on(below).rootless()
}

pub(super) fn all() -> Vec<Case> {
    vec![
        overlay("overlay-xattrs", &["dir", "dir/new"], || {
            vec![
                pax(&[
                    ("SCHILY.xattr.user.overlay.opaque", b"y"),
                    ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                    ("SCHILY.xattr.user.overlay.metacopy", b""),
                    ("SCHILY.xattr.user.overlay.whiteout", b"y"),
                ]),
                dir("dir"),
                file("dir/new", ""),
            ]
        }),
        // It would hide the file below.
        overlay("device-like-a-whiteout", &["new"], || {
            vec![member(b'3', "dir/file").device(0, 0), file("new", "")]
        }),
        overlay("device-number", &["new"], || {
            vec![
                member(b'4', "dev").raw(329, &[0x80, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]),
                file("new", ""),
            ]
        }),
        Case::refused("rootless::link-to-a-device", "is not in the same layer", |_| {
            [member(b'3', "null").device(1, 3), hard_link("link", "null")]
        })
        .rootless(),
        Case::refused(
            "rootless::capabilities-of-a-namespace",
            "the capabilities of the file are those of another user namespace",
            |_| {
                let value = [&[1, 0, 0, 3][..], &[0; 16], &1_u32.to_le_bytes()].concat();
                [pax(&[("SCHILY.xattr.security.capability", &value)]), file("tool", "")]
            },
        )
        .rootless(),
    ]
}

//! What the fixtures become, pinned: an alarm for drift.
//!
//! A digest here may only change together with a change that is meant to change what is written,
//! and whoever makes one says in the commit why roots made by an older release are still good. To
//! update them, run the test and take the digests from its message; with `OCI2BK_KEEP=DIR` it
//! leaves what the digests are of in `DIR`, one text for each root, to compare with `diff`.

use std::fs;
use std::path::Path;

use bkstate::Digest;

use super::fixture::{ALL, can_extract};
use super::tree::describe;
use super::{converted, options};

/// Fixture, and the digests of the root without and with unpacked layers.
const PINNED: &[(&str, &str, &str)] = &[
    (
        "index",
        "0224b00225a5759a00660af4bcd4081271a7bedd7b3cf147e240d37ba5f516b6",
        "e653f66d8a0797686e219d93bb70f2a17fbaa60620ee2a7a8f2785a0b16360ce",
    ),
    (
        "manifest",
        "1f164d1080a6208995f2bc3428294c0c30e451206ec8e8f030be6c1c76c27e75",
        "411229a41ee3df5d963ab41fb0f288bcd4af1eb7f8b25325736497d25f72250b",
    ),
    (
        "zstd",
        "e39a1b66d7975cc6595f8019efbee2eaaf899dbdcce9983237143b7e96966c74",
        "e25764db840e28cda02e758215e918903d98e01d40838af5c35dcc3d26b12f4c",
    ),
    (
        "min",
        "0d090abe90b5bfa878a565d3065221162a0eab9c0d9ed3eb15c9443351056b1e",
        "897a070aaebc7d99b3bf5176ede02476a64c587a60da6336f91eb5dbf11541af",
    ),
];

/// The digest of the description of the root that fixture `name` becomes.
fn digest(name: &str, extract: bool) -> String {
    let fixture = ALL.iter().find(|fixture| fixture.name == name).unwrap();
    let temp = tempfile::tempdir().unwrap();
    converted(&[fixture.export()], &[fixture], temp.path(), &options(extract)).unwrap();
    let text = describe(temp.path());
    if let Some(kept) = std::env::var_os("OCI2BK_KEEP") {
        let way = if extract { "unpacked" } else { "packed" };
        fs::write(Path::new(&kept).join(format!("{name}-{way}.txt")), &text).unwrap();
    }
    Digest::of(text).hex()
}

/// Compares the digests of all fixtures at once, so that all are there to be updated.
fn assert_pinned(extract: bool) {
    let found: Vec<_> =
        ALL.iter().map(|fixture| (fixture.name, digest(fixture.name, extract))).collect();
    let pinned = PINNED.iter().map(|(name, packed, unpacked)| {
        (*name, if extract { *unpacked } else { *packed }.to_owned())
    });
    assert_eq!(found, pinned.collect::<Vec<_>>(), "see the top of this file");
}

#[test]
fn without_unpacking() {
    assert_pinned(false);
}

#[test]
fn with_unpacking() {
    if can_extract() {
        assert_pinned(true);
    }
}

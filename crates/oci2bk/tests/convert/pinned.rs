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
        "0a895a56f58c82a8c7a0d0d1fa34450def152eee1b47b77f1a6ff291ce27662c",
        "3e8ba97627d502778310610d08fa20e52de14b0c9e5d8f45d4d421b8deb7d042",
    ),
    (
        "zstd",
        "a75a0512db8e0e020c78ca06552c92fa382f4f01498141057e71bacf5512774d",
        "1aff7291684450d7b3caa20754c4f963f4e5b2b74a59e54682fa769ddb27b8c2",
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

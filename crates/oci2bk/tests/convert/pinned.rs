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
use super::{converted, converter};

/// Fixture, and the digests of the root without and with unpacked layers.
const PINNED: &[(&str, &str, &str)] = &[
    (
        "index",
        "0224b00225a5759a00660af4bcd4081271a7bedd7b3cf147e240d37ba5f516b6",
        "c13475342fba7221e6376a82ff8f9d6dfd082f0d8fa36061912518884c620613",
    ),
    (
        "manifest",
        "0a895a56f58c82a8c7a0d0d1fa34450def152eee1b47b77f1a6ff291ce27662c",
        "bb42a0f3dbe4c3f454081c8a1ae4e71fe85cd4a2403aecbcb2139c3d17d2dce4",
    ),
    (
        "zstd",
        "a75a0512db8e0e020c78ca06552c92fa382f4f01498141057e71bacf5512774d",
        "7014616f413a96556b15d3eca23c0e37dd363d5a48fa1e302757e541165d406d",
    ),
    (
        "min",
        "0d090abe90b5bfa878a565d3065221162a0eab9c0d9ed3eb15c9443351056b1e",
        "c7b7d3e81f635069aece137fb42f92dda18d0f07f08df5382281094ddbfac995",
    ),
];

/// The digest of the description of the root that fixture `name` becomes.
fn digest(name: &str, extract: bool) -> String {
    let fixture = ALL.iter().find(|fixture| fixture.name == name).unwrap();
    let temp = tempfile::tempdir().unwrap();
    converted(&[fixture.export()], &[fixture], temp.path(), &converter(extract)).unwrap();
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

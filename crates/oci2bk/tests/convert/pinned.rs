//! Pinned digests of the converted fixtures: an alarm for drift.
//!
//! A digest here may only change together with an intended change of the output, and its commit says why
//! roots from an older release are still valid. To update them, run the test and take the digests from its
//! message; with `OCI2BK_KEEP=DIR` it writes the hashed texts to `DIR`, one for each root, to compare with
//! `diff`.

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
        "efce87a32d40461be058f2fcf7992cc4bb0f56edf19eebcd92c57251e0f16f9d",
        "03a3232b3ea9f913b31c850ff6a6e8b408ac13f5d7e0d738170be9aa24c2b10e",
    ),
    (
        "manifest",
        "64328f5bc83b17a2bdf1aad21bc3024124ba07f757c7bae5727ef5d016a1957d",
        "dcc7890e1f184536901fda0f196e2038cb3a36b9f2ce99ed87f052c84a503f6d",
    ),
    (
        "zstd",
        "178e99d63fd60f19ed90c816423b8899f40906e4a88a4d80140c89ed8ff46c6a",
        "c9db6ba53f39ac730874ca44c68609a259c39fbf745bbc5546c67826d7f64795",
    ),
    (
        "min",
        "5fc18fc35d5dd2142dd4a99d9ac89712e57b4d7ba5ebcd8b15a03462ab0423e6",
        "89e92b218aa2d57222a1444672101b0570ccb90886d8c56bc0beb1a7d488d021",
    ),
];

/// Returns the digest of the description of the root from fixture `name`.
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

/// Compares the digests of all fixtures at once, so that all can be updated together.
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

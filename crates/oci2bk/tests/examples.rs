//! The examples work on the committed fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(dead_code, reason = "nobody calls the main functions here")]

#[path = "../examples/convert.rs"]
mod convert;
#[path = "../examples/inspect_export.rs"]
mod inspect_export;
#[path = "../examples/keys.rs"]
mod keys;
#[path = "../examples/verify.rs"]
mod verify;

use std::path::Path;
use std::time::Duration;

use oci2bk::convert::ConvertError;

/// Returns the cache of the first fixture, and its keys.
fn fixture() -> (String, String) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/index");
    let path = |name| fixture.join(name).into_os_string().into_string().unwrap();
    (path("cache"), path("keys/provenance.json"))
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn what_is_converted_verifies() {
    let (cache, keys) = fixture();
    let root = tempfile::tempdir().unwrap();
    let report = convert::run(&cache, root.path(), &[keys], false, LONG).unwrap();
    assert!(report.blobs > 0);
    let verified = verify::run(root.path()).unwrap();
    assert!(verified.damage.is_empty());
    assert_eq!(verified.counts.blobs, report.blobs);
}

#[test]
fn a_conversion_without_patience_is_cancelled() {
    let (cache, keys) = fixture();
    let root = tempfile::tempdir().unwrap();
    // Or it was faster than the timer.
    if let Err(error) = convert::run(&cache, root.path(), &[keys], false, Duration::ZERO) {
        let error = error.downcast::<ConvertError>().unwrap();
        assert!(matches!(*error, ConvertError::Cancelled), "{error}");
        assert_eq!(error.to_string(), "the conversion was cancelled; the root is as it was");
        assert!(!root.path().join("cache.db").exists());
    }
}

#[test]
fn keys_that_were_written_name_the_steps() {
    let (cache, keys) = fixture();
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("keys.json").into_os_string().into_string().unwrap();
    let ops = keys::run(Path::new(&file), std::slice::from_ref(&keys)).unwrap();
    assert!(ops > 0);
    let named = |keys: &[String]| inspect_export::run(&cache, keys).unwrap();
    assert_eq!(named(&[]), 0);
    assert_eq!(named(&[file]), named(&[keys]));
}

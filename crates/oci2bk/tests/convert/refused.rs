//! A failed conversion leaves no state behind.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bkstate::root::{LockError, OpenRootError};
use bkstate::state::ExistingError;
use bkstate::{Digest, Root};
use oci2bk::convert::{ConvertError, check_root};
use oci2bk::layout::BlobError;
use oci2bk::unpack::UnpackError;
use serde_json::Value;

use super::fixture::{ALL, Copy, can_extract};
use super::{converted, converter, extracting};

/// The fixture whose copy is damaged.
const MANIFEST: usize = 1;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns the error of converting `copy`, after checking that only the lock file is left.
fn failure(copy: &Copy, extract: bool) -> ConvertError {
    let temp = tempfile::tempdir().unwrap();
    let error = converted(&[copy.export()], &[], temp.path(), &converter(extract)).unwrap_err();
    assert_eq!(names(temp.path()), ["buildkitd.lock"], "{error}");
    error
}

fn flip_a_bit(copy: &Copy, blob: &Digest) {
    let file = fs::File::options().read(true).write(true).open(copy.blob(blob)).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

#[test]
fn a_damaged_layer() {
    for extract in extracting() {
        let copy = ALL[MANIFEST].copy();
        let blob = copy.largest_layer();
        flip_a_bit(&copy, &blob);
        let error = failure(&copy, extract);
        assert!(error.is_input(), "{error:?}");
        let message = match &error {
            ConvertError::Blob(BlobError::Digest { digest, .. }) if *digest == blob => {
                "cannot use a layer of the cache"
            }
            ConvertError::Unpack { digest, .. } if *digest == blob => "cannot unpack the layer ",
            error => panic!("{error:?}"),
        };
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn a_layer_that_is_cut_off_after_planning() {
    for extract in extracting() {
        let copy = ALL[MANIFEST].copy();
        let blob = copy.largest_layer();
        let exports = [copy.export()];
        let file = fs::File::options().write(true).open(copy.blob(&blob)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let error = converted(&exports, &[], temp.path(), &converter(extract)).unwrap_err();
        assert_eq!(names(temp.path()), ["buildkitd.lock"], "{error}");
        assert!(error.is_input(), "{error:?}");
        assert!(matches!(error, ConvertError::Blob(BlobError::Size { .. })), "{error:?}");
        assert_eq!(error.to_string(), "cannot use a layer of the cache");
    }
}

#[test]
fn a_layer_that_vanishes_after_planning() {
    for extract in extracting() {
        let copy = ALL[MANIFEST].copy();
        let blob = copy.largest_layer();
        let exports = [copy.export()];
        fs::remove_file(copy.blob(&blob)).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let error = converted(&exports, &[], temp.path(), &converter(extract)).unwrap_err();
        assert_eq!(names(temp.path()), ["buildkitd.lock"], "{error}");
        assert!(error.is_input(), "{error:?}");
        assert!(
            matches!(error, ConvertError::Blob(BlobError::Missing { digest }) if digest == blob),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "cannot use a layer of the cache");
    }
}

#[test]
fn a_layer_that_unpacks_to_something_else_than_its_diff_id() {
    if !can_extract() {
        return;
    }
    let copy = ALL[MANIFEST].copy();
    let blob = copy.largest_layer();
    copy.edit_manifest(|manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        let layer = layers.iter_mut().find(|layer| layer["digest"] == blob.to_string()).unwrap();
        layer["annotations"]["containerd.io/uncompressed"] =
            Value::from(Digest::of("something else").to_string());
    });
    let error = failure(&copy, true);
    assert!(error.is_input(), "{error:?}");
    let ConvertError::Unpack { digest, source, .. } = error else { panic!("{error:?}") };
    assert_eq!(digest, blob);
    assert!(matches!(*source, UnpackError::WrongDiffId { .. }), "{source:?}");
    assert!(source.to_string().contains(", but its descriptor says "), "{source}");
}

#[test]
fn a_root_that_another_worker_has_to_itself_stays_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("cache.db"), "old").unwrap();
    fs::create_dir(temp.path().join("runc-native")).unwrap();
    for error in [
        converted(&[ALL[0].export()], &[], temp.path(), &converter(false)).unwrap_err(),
        check_root(temp.path()).unwrap_err(),
    ] {
        let other = matches!(&error, ConvertError::Existing(ExistingError::OtherWorker { .. }));
        assert!(other && !error.is_input(), "{error:?}");
        assert!(
            error.to_string().ends_with(
                " holds the state of another worker (runc-native); convert into an empty \
                 directory, or into the root of a buildkitd with the OCI worker on \
                 overlayfs"
            ),
            "{error}"
        );
    }
    assert_eq!(names(temp.path()), ["buildkitd.lock", "cache.db", "runc-native"]);
    assert_eq!(fs::read(temp.path().join("cache.db")).unwrap(), b"old");
}

#[test]
fn a_state_that_cannot_be_read_stays_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("cache.db"), "old").unwrap();
    let error = converted(&[ALL[0].export()], &[], temp.path(), &converter(false)).unwrap_err();
    let damaged = matches!(&error, ConvertError::Existing(ExistingError::Damaged { .. }));
    assert!(damaged && error.to_string().contains("cache.db"), "{error:?}");
    assert_eq!(names(temp.path()), ["buildkitd.lock", "cache.db"]);
    assert_eq!(fs::read(temp.path().join("cache.db")).unwrap(), b"old");
}

#[test]
fn a_root_in_use_is_not_touched() {
    let temp = tempfile::tempdir().unwrap();
    let _held = Root::open_to_write(temp.path()).unwrap();
    for error in [
        converted(&[ALL[0].export()], &[], temp.path(), &converter(false)).unwrap_err(),
        check_root(temp.path()).unwrap_err(),
    ] {
        let ConvertError::Open(OpenRootError::Lock(error)) = error else { panic!("{error:?}") };
        assert!(matches!(error, LockError::InUse { .. }), "{error:?}");
        let holder = format!(" is in use by process {} (", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
    }
    assert_eq!(names(temp.path()), ["buildkitd.lock"]);
}

#[test]
fn looking_at_a_root_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    check_root(temp.path()).unwrap();
    check_root(temp.path().join("not/there")).unwrap();
    assert!(names(temp.path()).is_empty());
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = check_root(file.path()).unwrap_err();
    assert!(matches!(error, ConvertError::Open(OpenRootError::Root(_))), "{error}");
    assert_eq!(error.to_string(), "cannot open the root");
    let error = converted(&[ALL[0].export()], &[], file.path(), &converter(false)).unwrap_err();
    assert!(matches!(error, ConvertError::Open(OpenRootError::Root(_))), "{error:?}");
    assert_eq!(error.to_string(), "cannot open the root");
}

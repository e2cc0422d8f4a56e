//! Storing blobs in a root, and handling existing ones.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bkstate::Digest;
use bkstate::Root;
use oci2bk::convert::{ConvertError, LinkError, StoreBlobs};
use oci2bk::layout::BlobError;

use super::fixture::{ALL, can_extract};
use super::tree::describe;
use super::{converted, converter, ways};

fn blob(root: &Path, digest: &Digest) -> PathBuf {
    root.join("runc-overlayfs/content/blobs/sha256").join(digest.hex())
}

fn assert_sound(root: &Path) {
    let found = Root::open(root).unwrap().verify_databases().unwrap();
    assert!(found.damage.is_empty(), "{:#?}", found.damage);
}

/// Flips a bit of a file, also if it is read-only: only root may write to it then.
fn damage(path: &Path) {
    let byte = fs::read(path).unwrap()[20];
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[byte ^ 1], 20).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

#[test]
fn a_damaged_blob_is_replaced_by_that_of_the_cache() {
    for converter in ways() {
        let cache = ALL[0].copy();
        let root = tempfile::tempdir().unwrap();
        let convert = || converted(&[cache.export()], &[&ALL[0]], root.path(), &converter);
        convert().unwrap();
        let whole = describe(root.path());
        let largest = cache.largest_layer();
        damage(&blob(root.path(), &largest));
        let report = convert().unwrap();
        assert_eq!(report.mended, [largest].into());
        assert_eq!((report.blobs, report.snapshots), (1, 0));
        assert!(describe(root.path()) == whole);
        assert!(convert().unwrap().mended.is_empty());
    }
}

#[test]
fn a_damaged_blob_stays_if_the_cache_has_no_better_one() {
    let cache = ALL[0].copy();
    let root = tempfile::tempdir().unwrap();
    let convert = || converted(&[cache.export()], &[&ALL[0]], root.path(), &converter(false));
    convert().unwrap();
    let largest = cache.largest_layer();
    for path in [blob(root.path(), &largest), cache.blob(&largest)] {
        damage(&path);
    }
    let before = describe(root.path());
    let error = convert().unwrap_err();
    let named = matches!(&error, ConvertError::Blob(BlobError::Digest { digest, .. }) if *digest == largest);
    assert!(named, "{error:?}");
    assert!(describe(root.path()) == before);
}

#[test]
fn a_damaged_blob_of_the_right_size_is_not_noticed_if_blobs_are_trusted() {
    let cache = ALL[0].copy();
    let root = tempfile::tempdir().unwrap();
    let converter = converter(false).trust_blobs(true);
    let convert = || converted(&[cache.export()], &[&ALL[0]], root.path(), &converter);
    convert().unwrap();
    let path = blob(root.path(), &cache.largest_layer());
    damage(&path);
    let before = describe(root.path());
    let report = convert().unwrap();
    assert!(report.mended.is_empty() && report.blobs == 0);
    assert!(describe(root.path()) == before);
}

#[test]
fn however_blobs_are_stored_the_root_is_the_same() {
    for way in ways() {
        let tree = |blobs| {
            // From a separate copy, because hard links require files of ours that no other user can write to.
            let cache = ALL[0].copy();
            for file in fs::read_dir(cache.blob(&Digest::of("")).parent().unwrap()).unwrap() {
                let mode = fs::Permissions::from_mode(0o444);
                fs::set_permissions(file.unwrap().path(), mode).unwrap();
            }
            let root = tempfile::tempdir().unwrap();
            let converter = way.clone().blobs(blobs);
            converted(&[cache.export()], &[&ALL[0]], root.path(), &converter).unwrap();
            assert_sound(root.path());
            describe(root.path())
        };
        let auto = tree(StoreBlobs::Auto);
        assert!(auto == tree(StoreBlobs::Copy));
        assert!(auto == tree(StoreBlobs::Hardlink));
    }
}

#[test]
fn a_hard_link_is_the_file_of_the_layout_and_is_verified() {
    let cache = ALL[0].copy();
    let converter = converter(false).blobs(StoreBlobs::Hardlink);
    let convert = |root: &Path| converted(&[cache.export()], &[&ALL[0]], root, &converter);
    let largest = cache.largest_layer();
    let root = tempfile::tempdir().unwrap();
    let report = convert(root.path()).unwrap();
    assert!(report.blobs > 0);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&blob(root.path(), &largest)), inode(&cache.blob(&largest)));

    damage(&cache.blob(&largest));
    let other = tempfile::tempdir().unwrap();
    let error = convert(other.path()).unwrap_err();
    assert!(matches!(error, ConvertError::Blob(BlobError::Digest { .. })), "{error:?}");
    assert_eq!(error.to_string(), "cannot use a layer of the cache");
    // In both at once, so it cannot be repaired.
    let error = convert(root.path()).unwrap_err();
    assert!(matches!(error, ConvertError::Blob(BlobError::Digest { .. })), "{error:?}");
    assert_eq!(error.to_string(), "cannot use a layer of the cache");
}

#[test]
fn a_file_that_others_can_change_is_not_linked() {
    let cache = ALL[0].copy();
    let converter = converter(false).blobs(StoreBlobs::Hardlink);
    let refused = || {
        let root = tempfile::tempdir().unwrap();
        match converted(&[cache.export()], &[&ALL[0]], root.path(), &converter) {
            Err(ConvertError::Link { reason, .. }) => reason,
            result => panic!("{result:?}"),
        }
    };
    let path = cache.blob(&cache.largest_layer());
    for mode in [0o664, 0o646] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = refused();
        assert!(matches!(error, LinkError::Writable { mode: found } if found == mode), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("users other than its owner may write to the file (mode "),
            "{error}"
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    if can_extract() {
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        let error = refused();
        assert!(matches!(error, LinkError::Owner { owner: 1000, user: 0 }), "{error}");
        assert_eq!(
            error.to_string(),
            "the file belongs to user 1000, who could change it later; chown it to 0"
        );
    }
}

#[test]
fn a_file_that_is_open_for_writing_is_not_linked() {
    let cache = ALL[0].copy();
    let path = cache.blob(&cache.largest_layer());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let convert = |blobs| {
        let root = tempfile::tempdir().unwrap();
        let converter = converter(false).blobs(blobs);
        converted(&[cache.export()], &[&ALL[0]], root.path(), &converter)
    };
    // As for a process that opened it before the file became ours.
    let writer = fs::File::options().write(true).open(&path).unwrap();
    match convert(StoreBlobs::Hardlink) {
        Err(error @ ConvertError::Link { reason: LinkError::OpenForWriting, .. }) => {
            assert!(error.to_string().starts_with("cannot hard-link the layer blob "), "{error}");
        }
        result => panic!("{result:?}"),
    }
    // A copy belongs to us.
    convert(StoreBlobs::Copy).unwrap();
    drop(writer);
    assert!(convert(StoreBlobs::Hardlink).unwrap().unleased.is_empty());
}

#[test]
fn without_blobs_there_are_files_only_and_blobs_can_be_added() {
    if !can_extract() {
        return;
    }
    for fixture in ALL {
        let root = tempfile::tempdir().unwrap();
        let convert = |blobs| {
            let converter = converter(true).blobs(blobs);
            converted(&[fixture.export()], &[fixture], root.path(), &converter).unwrap()
        };
        let report = convert(StoreBlobs::None);
        assert_eq!((report.blobs, report.blob_bytes), (0, 0));
        assert!(report.snapshots > 0);
        assert_sound(root.path());
        let store = root.path().join("runc-overlayfs/content/blobs/sha256");
        assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
        let before = describe(root.path());
        assert_eq!(convert(StoreBlobs::None).snapshots, 0);
        assert!(describe(root.path()) == before);

        let report = convert(StoreBlobs::Auto);
        assert!(report.blobs > 0 && report.snapshots == 0, "{report:?}");
        assert_sound(root.path());
        let at_once = tempfile::tempdir().unwrap();
        converted(&[fixture.export()], &[fixture], at_once.path(), &converter(true)).unwrap();
        let state = |root: &Path| Root::open(root).unwrap().state().unwrap();
        assert!(state(root.path()) == state(at_once.path()), "{}", fixture.name);
    }
}

#[test]
fn without_blobs_and_without_files_there_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let converter = converter(false).blobs(StoreBlobs::None);
    let error = converted(&[ALL[0].export()], &[&ALL[0]], root.path(), &converter).unwrap_err();
    assert!(matches!(error, ConvertError::NothingToStore), "{error}");
    assert_eq!(error.to_string(), "layers that are not unpacked need their blobs in the root");
}

//! Converted roots are sound, and damage to their blobs and trees is found.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::dir::Dir;
use bkstate::records::Records;
use bkstate::root::{LockError, OpenRootError, RootError};
use oci2bk::verify::{Damage, Report, Verifier};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use tempfile::TempDir;

use super::fixture::{ALL, can_extract};
use super::tree::describe;
use super::{TWO, converted, converter};

fn checks(trees: bool) -> Verifier<'static> {
    Verifier::new().trees(trees).jobs(TWO)
}

fn root(fixture: usize, extract: bool) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let fixture = &ALL[fixture];
    converted(&[fixture.export()], &[fixture], temp.path(), &converter(extract)).unwrap();
    temp
}

fn verified(root: &Path, verifier: &Verifier<'_>) -> Report {
    let report = verifier.verify(&Root::open(root).unwrap()).unwrap();
    assert!(report.leftovers.is_empty(), "{:#?}", report.leftovers);
    report
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.damage.iter().map(Damage::kind).collect()
}

#[test]
fn converted_roots_are_sound_and_stay_as_they_are() {
    for fixture in 0..ALL.len() {
        for extract in [false, true] {
            if extract && !can_extract() {
                continue;
            }
            let root = root(fixture, extract);
            let before = describe(root.path());
            let report = verified(root.path(), &checks(false));
            assert!(report.damage.is_empty(), "{:#?}", report.damage);
            let state = Root::open(root.path()).unwrap().state().unwrap();
            assert_eq!(report.counts.keys, state.solver.links.len());
            assert_eq!(report.counts.records, state.records.by_id.len());
            assert_eq!(report.counts.snapshots, state.snapshots.by_name.len());
            assert!(report.counts.blobs > 0 && report.counts.blob_bytes > 0);
            assert_eq!(report.counts.trees, None);
            if extract {
                let report = verified(root.path(), &checks(true));
                assert!(report.damage.is_empty(), "{:#?}", report.damage);
                assert_eq!(report.counts.trees, Some(state.snapshots.by_name.len()));
            }
            assert_eq!(describe(root.path()), before);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_blob_is_found() {
    let root = root(0, false);
    let blobs = root.path().join("runc-overlayfs/content/blobs/sha256");
    for blob in fs::read_dir(blobs).unwrap().take(4) {
        let path = blob.unwrap().path();
        let whole = fs::read(&path).unwrap();
        // Only root may write to a file that is read-only.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
            let report = verified(root.path(), &checks(false));
            assert_eq!(kinds(&report), ["blob-digest"]);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(report.damage[0].to_string().contains(name), "{}", report.damage[0]);
            file.write_all_at(&[whole[at]], at as u64).unwrap();
        }
        // A blob with a wrong size is reported once.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(whole.len() as u64 + 1).unwrap();
        assert_eq!(kinds(&verified(root.path(), &checks(false))), ["blob-file-size"]);
        file.set_len(whole.len() as u64).unwrap();
    }
    assert!(verified(root.path(), &checks(false)).damage.is_empty());
}

/// Returns the tree with `path`.
fn tree_with(root: &Path, path: &str) -> PathBuf {
    let snapshots = root.join("runc-overlayfs/snapshots/snapshots");
    let mut trees: Vec<_> =
        fs::read_dir(snapshots).unwrap().map(|tree| tree.unwrap().path().join("fs")).collect();
    trees.sort();
    let has = |tree: &&PathBuf| tree.join(path).symlink_metadata().is_ok();
    trees.iter().find(has).unwrap_or_else(|| panic!("no tree has {path}")).clone()
}

#[test]
fn every_change_to_a_tree_is_found() {
    if !can_extract() {
        return;
    }
    type Change = fn(&Path);
    let changes: &[(&str, &str, Change)] = &[
        ("bin/busybox", "is not there", |path| fs::remove_file(path).unwrap()),
        ("bin", "\"bin/extra\" is not in the layer", |path| {
            fs::write(path.join("extra"), "").unwrap();
        }),
        ("bin/busybox", "has other content", |path| {
            let file = fs::File::options().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 1000).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
            let since = Timespec { tv_sec: 0, tv_nsec: 0 };
            let times = Timestamps { last_access: since, last_modification: since };
            utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
        }),
        ("bin/busybox", "bytes, not", |path| {
            fs::File::options().write(true).open(path).unwrap().set_len(7).unwrap();
        }),
        ("bin/busybox", "has the mode 4711, not", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o4711)).unwrap();
        }),
        ("bin/busybox", "belongs to 5:6, not 0:0", |path| chown(path, Some(5), Some(6)).unwrap()),
        ("bin/busybox", "is of another type", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
        ("bin/busybox", "is of another type", |path| {
            fs::remove_file(path).unwrap();
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        }),
        ("bin/busybox", "modified at another time", |path| {
            let time = Timespec { tv_sec: 1, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
        }),
        ("bin/busybox", "extended attribute \"security.capability\"", |path| {
            // Version 2, with one capability.
            let value = [[1, 0, 0, 2], [32, 0, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
            rustix::fs::setxattr(
                path,
                c"security.capability",
                &value,
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
        }),
        ("bin", "extended attribute \"trusted.overlay.opaque\"", |path| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, c"trusted.overlay.opaque", b"y", flags).unwrap();
        }),
        ("bin/ls", "leads elsewhere", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
    ];
    for (path, said, change) in changes {
        let root = root(0, true);
        let tree = tree_with(root.path(), path);
        change(&tree.join(path));
        let report = verified(root.path(), &checks(true));
        assert!(!report.damage.is_empty(), "{path}: {said}");
        assert!(report.damage.iter().all(|damage| damage.kind() == "tree-differs"));
        let texts: Vec<_> = report.damage.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains(said)), "{said}: {texts:#?}");
        // Not checked unless requested.
        assert!(verified(root.path(), &checks(false)).damage.is_empty());
    }
}

#[test]
fn names_that_are_no_longer_one_file_are_found() {
    if !can_extract() {
        return;
    }
    let root = root(0, true);
    let tree = tree_with(root.path(), "srv/app/joined.hard");
    let path = tree.join("srv/app/joined.hard");
    let times = path.metadata().unwrap().modified().unwrap();
    let content = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, content).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let report = verified(root.path(), &checks(true));
    let texts: Vec<_> = report.damage.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("hard-linked to other names")), "{texts:#?}");
}

#[test]
fn of_very_many_changes_some_are_named_and_the_rest_are_counted() {
    if !can_extract() {
        return;
    }
    let root = root(0, true);
    let tree = tree_with(root.path(), "bin/busybox");
    for number in 0..1000 {
        fs::write(tree.join("bin").join(number.to_string()), "").unwrap();
    }
    let report = verified(root.path(), &checks(true));
    assert!(report.damage.len() < 30, "{}", report.damage.len());
    let last = report.damage.last().unwrap().to_string();
    assert!(last.contains("more entries differ"), "{last}");
}

#[test]
fn a_layer_that_is_not_that_of_its_record_is_found() {
    if !can_extract() {
        return;
    }
    let root = root(0, true);
    let path = root.path().join("runc-overlayfs/metadata_v2.db");
    let mut records =
        Records::read(&bkstate::bolt::Db::open(fs::File::open(&path).unwrap()).unwrap()).unwrap();
    let record = records.by_id.values_mut().next().unwrap();
    record.diff_id = Some(bkstate::Digest::of("another"));
    fs::remove_file(&path).unwrap();
    records.write(&fs::File::create_new(&path).unwrap()).unwrap();
    let found = kinds(&verified(root.path(), &checks(true))).join(" ");
    assert!(found.contains("record-diff-id") && found.contains("chain-id"), "{found}");
    assert!(found.ends_with("layer-of-tree"), "{found}");
}

#[test]
fn a_tree_is_not_left_through_a_link() {
    if !can_extract() {
        return;
    }
    let root = root(0, true);
    let outside = tempfile::tempdir().unwrap();
    let tree = tree_with(root.path(), "bin/busybox");
    fs::rename(tree.join("bin"), outside.path().join("bin")).unwrap();
    symlink(outside.path().join("bin"), tree.join("bin")).unwrap();
    let report = verified(root.path(), &checks(true));
    let texts: Vec<_> = report.damage.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("\"bin\" is of another type"), "{texts:#?}");
    assert_eq!(texts.len(), 1);
}

#[test]
fn a_tree_that_is_deeper_than_a_path_may_be_is_no_end() {
    if !can_extract() {
        return;
    }
    let root = root(0, true);
    let mut dir = Dir::open(&tree_with(root.path(), "bin/busybox")).unwrap();
    for _ in 0..3000 {
        dir = dir.create_dir("deep", 0o755).unwrap();
    }
    let report = verified(root.path(), &checks(true));
    assert!(kinds(&report).contains(&"tree-differs"), "{:#?}", report.damage);
    let worker = Dir::open(&root.path().join("runc-overlayfs")).unwrap();
    worker.remove_tree("snapshots").unwrap();
}

#[test]
fn a_root_in_use_is_left_alone() {
    let root = root(0, false);
    let lock = Root::open_to_write(root.path()).unwrap();
    let error = Root::open(root.path()).unwrap_err();
    assert!(matches!(error, OpenRootError::Lock(LockError::InUse { .. })), "{error}");
    let holder = format!(" is in use by process {} (", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(lock);
    verified(root.path(), &checks(false));
}

#[test]
fn a_directory_without_a_state_is_said_to_be_one_and_gets_no_lock_file() {
    let temp = tempfile::tempdir().unwrap();
    let error = checks(false).verify(&Root::open(temp.path()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("holds no state"), "{error}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    let missing = temp.path().join("missing");
    let error = Root::open(&missing).unwrap_err();
    assert!(
        matches!(&error, OpenRootError::Root(RootError::Dir(error)) if error.is_not_found()),
        "{error}"
    );
    assert_eq!(error.to_string(), "cannot open the root");
}

//! Roots of daemons with another snapshotter than overlayfs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::root::Location;
use bkstate::state::ExistingError;
use bkstate::worker::Snapshotter;
use oci2bk::Plan;
use oci2bk::convert::{self, ConvertError};
use oci2bk::verify::{Damage, Report, Verifier};
use tempfile::TempDir;

use super::fixture::{self, ALL, can_extract};
use super::{TWO, converter};

const ALL_SNAPSHOTTERS: [Snapshotter; 4] =
    [Snapshotter::Overlayfs, Snapshotter::FuseOverlayfs, Snapshotter::Native, Snapshotter::Stargz];

fn converted(path: &Path, snapshotter: Snapshotter) -> Result<convert::Report, ConvertError> {
    // The one with whiteouts.
    let fixture = ALL.iter().find(|fixture| fixture.name == "manifest").unwrap();
    let exports = [fixture.export()];
    let plan = Plan::new(&exports, &fixture::keyring(&exports, &[fixture])).unwrap();
    converter(true).convert(&plan, Location::of_oci(path, snapshotter))
}

fn verified(path: &Path, snapshotter: Snapshotter) -> Report {
    let root = Root::open(Location::of_oci(path, snapshotter)).unwrap();
    Verifier::new().trees(true).jobs(TWO).verify(&root).unwrap()
}

#[test]
fn roots_are_sound_and_hold_what_a_second_conversion_would_add() {
    if !can_extract() {
        return;
    }
    for snapshotter in ALL_SNAPSHOTTERS {
        let root = tempfile::tempdir().unwrap();
        let report = converted(root.path(), snapshotter).unwrap();
        assert!(report.snapshots > 0);
        let found = verified(root.path(), snapshotter);
        assert!(found.damage.is_empty(), "{snapshotter}: {:#?}", found.damage);
        assert_eq!(found.counts.trees, Some(report.snapshots), "{snapshotter}");
        let again = converted(root.path(), snapshotter).unwrap();
        assert_eq!((again.snapshots, again.blobs), (0, 0), "{snapshotter}");
    }
}

#[test]
fn the_files_are_where_the_snapshotter_has_them() {
    if !can_extract() {
        return;
    }
    for (snapshotter, tree, database) in [
        (Snapshotter::FuseOverlayfs, "runc-fuse-overlayfs/snapshots/snapshots/1/fs", "snapshots"),
        (Snapshotter::Native, "runc-native/snapshots/snapshots/1", "snapshots"),
        (
            Snapshotter::Stargz,
            "runc-stargz/snapshots/snapshotter/snapshots/1/fs",
            "snapshots/snapshotter",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        converted(root.path(), snapshotter).unwrap();
        assert!(root.path().join(tree).is_dir(), "{tree}");
        let database = root.path().join(format!("runc-{snapshotter}/{database}/metadata.db"));
        assert!(database.exists(), "{}", database.display());
    }
}

#[test]
fn the_state_of_another_snapshotter_is_refused_by_name() {
    if !can_extract() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    converted(root.path(), Snapshotter::Native).unwrap();
    for other in [Snapshotter::Overlayfs, Snapshotter::Stargz] {
        let error = converted(root.path(), other).unwrap_err();
        let ConvertError::Existing(ExistingError::OtherWorker { found, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(found, "runc-native");
    }
}

/// A root of a daemon with whole trees.
struct Native {
    root: TempDir,
}

impl Native {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        converted(root.path(), Snapshotter::Native).unwrap();
        Self { root }
    }

    /// Returns the trees, in the order of their numbers.
    fn trees(&self) -> Vec<PathBuf> {
        let trees = self.root.path().join("runc-native/snapshots/snapshots");
        let numbers = fs::read_dir(&trees).unwrap().map(|tree| tree.unwrap().file_name());
        let mut numbers: Vec<u64> =
            numbers.map(|number| number.into_string().unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| trees.join(number.to_string())).collect()
    }

    fn damage(&self) -> Vec<String> {
        let report = verified(self.root.path(), Snapshotter::Native);
        assert!(report.damage.iter().all(|damage| damage.kind() == "tree-differs"));
        report.damage.iter().map(Damage::to_string).collect()
    }
}

#[test]
fn whole_trees_share_the_files_that_layers_leave() {
    if !can_extract() {
        return;
    }
    let native = Native::new();
    let files: Vec<_> = native
        .trees()
        .iter()
        .filter_map(|tree| tree.join("run").metadata().ok())
        .map(|stat| (stat.dev(), stat.ino()))
        .collect();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), 1, "{files:?}");
    // Of each tree the whole size counts, as for the daemon.
    let report = converted(tempfile::tempdir().unwrap().path(), Snapshotter::Overlayfs).unwrap();
    let whole = converted(tempfile::tempdir().unwrap().path(), Snapshotter::Native).unwrap();
    assert!(whole.disk_bytes > report.disk_bytes);
}

#[test]
fn changes_to_whole_trees_are_found() {
    if !can_extract() {
        return;
    }
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("\"run\" is not there", |tree| fs::remove_file(tree.join("run")).unwrap()),
        ("\"extra\" is not in the layer", |tree| fs::write(tree.join("extra"), "").unwrap()),
        ("\"run\" has", |tree| {
            // Another file in the place of the shared one.
            fs::remove_file(tree.join("run")).unwrap();
            fs::write(tree.join("run"), "other").unwrap();
        }),
        ("\"d/file\" is not there", |tree| fs::remove_file(tree.join("d/file")).unwrap()),
        ("\"d\" has the mode 700", |tree| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(tree.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
    ];
    for (said, change) in changes {
        let native = Native::new();
        assert!(native.damage().is_empty());
        // One that has everything from below.
        let trees = native.trees();
        let has_all = |tree: &&PathBuf| tree.join("run").exists() && tree.join("d/file").exists();
        change(trees.iter().rfind(has_all).unwrap());
        let damage = native.damage();
        assert!(damage.iter().any(|text| text.contains(said)), "{said}: {damage:#?}");
    }
}

#[test]
fn a_file_that_a_layer_deletes_is_found_if_it_is_there() {
    if !can_extract() {
        return;
    }
    let native = Native::new();
    let trees = native.trees();
    let has = |tree: &PathBuf, name: &str| tree.join(name).symlink_metadata().is_ok();
    let below = trees.iter().find(|tree| has(tree, "gone") && tree.join("gone").is_file()).unwrap();
    let above = trees.iter().rfind(|tree| has(tree, "gone/inner")).unwrap();
    // It replaces the file by a directory.
    fs::remove_dir_all(above.join("gone")).unwrap();
    fs::hard_link(below.join("gone"), above.join("gone")).unwrap();
    let damage = native.damage();
    assert!(damage.iter().any(|text| text.contains("\"gone\" is of another type")), "{damage:#?}");
}

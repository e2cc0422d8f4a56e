//! The same input gives the same root.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use bkstate::Time;

use super::fixture::ALL;
use super::tree::describe;
use super::{converted, ways};

#[test]
fn a_second_conversion_gives_the_same_tree() {
    for fixture in ALL {
        for converter in ways() {
            let tree = || {
                let temp = tempfile::tempdir().unwrap();
                converted(&[fixture.export()], &[fixture], temp.path(), &converter).unwrap();
                describe(temp.path())
            };
            let (first, second) = (tree(), tree());
            assert!(first == second, "{}:\n{first}\n{second}", fixture.name);
        }
    }
}

/// A file system with other blocks, directory order and limits than a disk's.
const MEMORY: &str = "/dev/shm";

#[test]
fn neither_the_file_system_nor_the_number_of_jobs_shows() {
    let kind = |path: &Path| rustix::fs::statfs(path).ok().map(|system| system.f_type);
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if kind(Path::new(MEMORY)).is_none() || kind(disk) == kind(Path::new(MEMORY)) {
        assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "{MEMORY} is no tmpfs");
        eprintln!("not compared: {MEMORY} is no file system of another kind");
        return;
    }
    for fixture in ALL {
        for converter in ways() {
            let tree = |place, jobs| {
                let temp = tempfile::tempdir_in(place).unwrap();
                let last_used = Some(Time::from_unix_seconds(1_814_313_600));
                let jobs = NonZeroUsize::new(jobs).unwrap();
                let converter = converter.clone().jobs(jobs).last_used(last_used);
                converted(&[fixture.export()], &[fixture], temp.path(), &converter).unwrap();
                describe(temp.path())
            };
            let (on_disk, in_memory) = (tree(disk, 1), tree(Path::new(MEMORY), 4));
            assert!(on_disk == in_memory, "{}:\n{on_disk}\n{in_memory}", fixture.name);
        }
    }
}

#[test]
fn the_number_of_jobs_does_not_show() {
    for converter in ways() {
        let tree = |jobs| {
            let temp = tempfile::tempdir().unwrap();
            let converter = converter.clone().jobs(NonZeroUsize::new(jobs).unwrap());
            converted(&[ALL[0].export()], &[&ALL[0]], temp.path(), &converter).unwrap();
            describe(temp.path())
        };
        assert!(tree(1) == tree(7));
    }
}

#[test]
fn the_time_of_the_last_use_shows_in_the_records_only() {
    for converter in ways() {
        let tree = |last_used| {
            let temp = tempfile::tempdir().unwrap();
            let converter = converter.clone().last_used(last_used);
            converted(&[ALL[0].export()], &[&ALL[0]], temp.path(), &converter).unwrap();
            describe(temp.path())
        };
        let (default, dated) = (tree(None), tree(Some(Time::from_unix_seconds(1))));
        let differing: Vec<_> = default
            .lines()
            .zip(dated.lines())
            .filter(|(a, b)| a != b)
            .map(|(a, _)| a.split(' ').next().unwrap())
            .collect();
        assert_eq!(differing, ["runc-overlayfs/metadata_v2.db"]);
    }
}

#[test]
fn what_a_killed_run_left_does_not_show() {
    for converter in ways() {
        let fresh = tempfile::tempdir().unwrap();
        let again = tempfile::tempdir().unwrap();
        let snapshot = again.path().join(".oci2bk-staging/runc-overlayfs/snapshots/snapshots/1");
        fs::create_dir_all(snapshot.join("fs/half")).unwrap();
        fs::write(snapshot.join("fs/half/written"), "").unwrap();
        fs::write(again.path().join("buildkitd.lock"), "").unwrap();
        for root in [&fresh, &again] {
            converted(&[ALL[0].export()], &[&ALL[0]], root.path(), &converter).unwrap();
        }
        assert!(describe(fresh.path()) == describe(again.path()));
    }
}

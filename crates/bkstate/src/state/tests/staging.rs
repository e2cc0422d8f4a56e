use super::*;

#[test]
fn a_staging_area_that_is_given_up_leaves_nothing() {
    let root = Root::empty();
    fs::write(root.path().join("unrelated"), "").unwrap();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    fill(&staging, &sound());
    fs::create_dir_all(root.path().join(".oci2bk-staging/runc-overlayfs/deep/er")).unwrap();
    drop(staging);
    assert_eq!(root.names(), ["buildkitd.lock", "unrelated"]);
}

#[test]
fn what_a_dead_run_left_is_replaced() {
    let root = Root::empty();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    staging.blobs().create_blob(&blob("half written")).unwrap();
    staging.trees().create_snapshot(1).unwrap().create_file("half written", 0o600).unwrap();
    std::mem::forget(staging);

    let state = sound();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    fill(&staging, &state);
    staging.write(&state).unwrap();
    staging.publish().unwrap();
    assert_eq!(root.names(), ["buildkitd.lock", "cache.db", "runc-overlayfs"]);
    assert_eq!(verify(&root.dir).unwrap().damage.len(), 0);
    assert_eq!(names(&root.worker("content/blobs/sha256")).len(), namespace(&state).content.len());
    assert!(names(&root.snapshot(1).join("fs")).is_empty());
}

/// A root as a run leaves it that is stopped between the two renames of publishing.
fn half_published() -> Root {
    let root = Root::with(&sound());
    let staging = root.path().join(".oci2bk-staging");
    fs::create_dir(&staging).unwrap();
    fs::rename(root.path().join("cache.db"), staging.join("cache.db")).unwrap();
    root
}

#[test]
fn a_run_that_died_between_the_two_renames_is_replaced() {
    let root = half_published();
    let state = sound();
    Staging::check_vacant(&root.dir).unwrap();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let again = Staging::begin(&root.dir, &lock).unwrap();
    fill(&again, &state);
    again.write(&state).unwrap();
    again.publish().unwrap();
    assert_eq!(root.names(), ["buildkitd.lock", "cache.db", "runc-overlayfs"]);
    assert_eq!(verify(&root.dir).unwrap().damage.len(), 0);
}

#[test]
fn a_worker_of_which_no_run_has_the_cache_db_is_somebody_elses() {
    let root = Root::empty();
    fs::create_dir(root.path().join("runc-overlayfs")).unwrap();
    fs::create_dir(root.path().join(".oci2bk-staging")).unwrap();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let refused = Staging::begin(&root.dir, &lock).unwrap_err();
    assert!(matches!(refused, StagingError::Occupied { .. }), "{refused}");
    assert!(root.path().join("runc-overlayfs").is_dir());
}

#[test]
fn a_root_on_which_a_daemon_started_meanwhile_is_occupied() {
    let root = half_published();
    fs::write(root.path().join("cache.db"), "the daemon's").unwrap();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let error = Staging::begin(&root.dir, &lock).unwrap_err();
    assert!(matches!(error, StagingError::Occupied { .. }), "{error}");
    assert!(root.worker("metadata_v2.db").exists());
}

#[test]
fn publishing_that_fails_leaves_no_state() {
    let root = Root::empty();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    // The last of the databases cannot be made.
    fs::create_dir(root.path().join(".oci2bk-staging/cache.db")).unwrap();
    assert!(staging.write(&sound()).and_then(|()| staging.publish()).is_err());
    assert_eq!(root.names(), ["buildkitd.lock"]);
}

#[test]
fn a_link_in_place_of_the_staging_area_is_removed_and_not_followed() {
    let root = Root::empty();
    fs::create_dir(root.path().join("elsewhere")).unwrap();
    fs::write(root.path().join("elsewhere/kept"), "").unwrap();
    std::os::unix::fs::symlink("elsewhere", root.path().join(".oci2bk-staging")).unwrap();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    staging.write(&sound()).unwrap();
    staging.publish().unwrap();
    assert_eq!(names(&root.path().join("elsewhere")), ["kept"]);
}

#[test]
fn every_trace_of_a_daemon_makes_a_root_occupied() {
    for name in [
        "cache.db",
        "history.db",
        "cache-debug.db",
        "runc-overlayfs",
        "runc-native",
        "containerd-overlayfs",
    ] {
        for is_dir in [false, true] {
            let root = Root::empty();
            let path = root.path().join(name);
            if is_dir {
                fs::create_dir(&path).unwrap()
            } else {
                fs::write(&path, "old").unwrap()
            }
            let lock = RootLock::acquire(&root.dir).unwrap();
            for error in [
                Staging::check_vacant(&root.dir).unwrap_err(),
                Staging::begin(&root.dir, &lock).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, StagingError::Occupied { found, .. } if found == name),
                    "{name}: {error}"
                );
                assert!(error.to_string().contains("empty directory"), "{error}");
            }
            assert_eq!(root.names(), ["buildkitd.lock".min(name), "buildkitd.lock".max(name)]);
        }
    }
}

#[test]
fn what_is_not_of_a_daemon_does_not_make_a_root_occupied() {
    let root = Root::empty();
    for name in ["buildkitd.lock", "buildkitd.toml", "lost+found", "cache.db.bak", "runc"] {
        fs::write(root.path().join(name), "").unwrap();
    }
    Staging::check_vacant(&root.dir).unwrap();
}

#[test]
fn a_state_is_not_published_over_one_that_appeared_meanwhile() {
    let root = Root::empty();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    fs::create_dir(root.path().join(WORKER)).unwrap();
    fs::write(root.worker("kept"), "").unwrap();
    staging.write(&sound()).unwrap();
    assert!(matches!(staging.publish(), Err(StagingError::Dir(_))));
    assert_eq!(root.names(), ["buildkitd.lock", "runc-overlayfs"]);
    assert_eq!(names(&root.path().join(WORKER)), ["kept"]);
}

#[test]
fn a_blob_or_a_snapshot_cannot_be_made_twice() {
    let root = Root::empty();
    let lock = RootLock::acquire(&root.dir).unwrap();
    let staging = Staging::begin(&root.dir, &lock).unwrap();
    staging.blobs().create_blob(&blob("a")).unwrap();
    assert!(staging.blobs().create_blob(&blob("a")).is_err());
    staging.trees().create_snapshot(1).unwrap();
    assert!(staging.trees().create_snapshot(1).is_err());
    assert!(staging.trees().fs(2).is_err());
}

#[test]
fn the_same_state_is_the_same_bytes() {
    let bytes = |root: &Root| {
        ["cache.db", "runc-overlayfs/metadata_v2.db", "runc-overlayfs/containerdmeta.db"]
            .map(|name| fs::read(root.path().join(name)).unwrap())
    };
    assert!(bytes(&Root::with(&sound())) == bytes(&Root::with(&sound())));
}

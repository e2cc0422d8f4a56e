use super::*;
use crate::dir::DirError;

#[test]
fn a_staging_area_that_is_given_up_leaves_nothing() {
    let root = Root::empty();
    fs::write(root.path().join("unrelated"), "").unwrap();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    fill(&staging, &sound());
    fs::create_dir_all(root.path().join(".oci2bk-staging/runc-overlayfs/deep/er")).unwrap();
    drop(staging);
    assert_eq!(root.names(), ["buildkitd.lock", "unrelated"]);
}

#[test]
fn what_a_dead_run_left_is_replaced() {
    let root = Root::empty();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    staging.blobs().create_blob(&blob("half written")).unwrap();
    staging.trees().create_snapshot(1).unwrap().create_file("half written", 0o600).unwrap();
    std::mem::forget(staging);

    let state = sound();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    fill(&staging, &state);
    let written = staging.write(&state).unwrap();
    staging.publish(written).unwrap();
    assert_eq!(root.names(), ["buildkitd.lock", "cache.db", "runc-overlayfs"]);
    assert_eq!(verify_databases(&root.held).unwrap().damage.len(), 0);
    assert_eq!(names(&root.worker("content/blobs/sha256")).len(), namespace(&state).content.len());
    assert!(names(&root.snapshot(1).join("fs")).is_empty());
}

#[test]
fn publishing_that_fails_leaves_no_state() {
    let root = Root::empty();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    // The last database cannot be created.
    fs::create_dir(root.path().join(".oci2bk-staging/cache.db")).unwrap();
    let error = staging.write(&sound()).unwrap_err();
    assert_eq!(error.to_string(), "cannot write the state");
    let StagingError::Dir(cause) = error else { panic!("{error:?}") };
    let path = root.path().join(".oci2bk-staging/cache.db");
    assert_eq!(cause.to_string(), format!("cannot make the file {}", path.display()));
    drop(staging);
    assert_eq!(root.names(), ["buildkitd.lock"]);
}

#[test]
fn a_link_in_place_of_the_staging_area_is_removed_and_not_followed() {
    let root = Root::empty();
    fs::create_dir(root.path().join("elsewhere")).unwrap();
    fs::write(root.path().join("elsewhere/kept"), "").unwrap();
    std::os::unix::fs::symlink("elsewhere", root.path().join(".oci2bk-staging")).unwrap();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    let written = staging.write(&sound()).unwrap();
    staging.publish(written).unwrap();
    assert_eq!(names(&root.path().join("elsewhere")), ["kept"]);
}

#[test]
fn a_state_is_not_published_over_one_that_appeared_meanwhile() {
    let root = Root::empty();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    fs::create_dir(root.path().join(WORKER)).unwrap();
    fs::write(root.worker("kept"), "").unwrap();
    let written = staging.write(&sound()).unwrap();
    let error = staging.publish(written).unwrap_err();
    assert!(matches!(error, StagingError::Dir(_)), "{error}");
    assert_eq!(error.to_string(), "cannot write the state");
    assert_eq!(root.names(), ["buildkitd.lock", "runc-overlayfs"]);
    assert_eq!(names(&root.path().join(WORKER)), ["kept"]);
}

#[test]
fn a_blob_or_a_snapshot_cannot_be_made_twice() {
    let root = Root::empty();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    staging.blobs().create_blob(&blob("a")).unwrap();
    let exists = |error: DirError, action: &str| {
        assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
        assert!(error.to_string().starts_with(&format!("cannot {action} ")), "{error}");
    };
    exists(staging.blobs().create_blob(&blob("a")).unwrap_err(), "make the file");
    staging.trees().create_snapshot(1).unwrap();
    exists(staging.trees().create_snapshot(1).unwrap_err(), "make the directory");
    let error = staging.trees().fs(2).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().starts_with("cannot open the directory "), "{error}");
}

#[test]
fn the_same_state_is_the_same_bytes() {
    let bytes = |root: &Root| {
        ["cache.db", "runc-overlayfs/metadata_v2.db", "runc-overlayfs/containerdmeta.db"]
            .map(|name| fs::read(root.path().join(name)).unwrap())
    };
    assert!(bytes(&Root::with(&sound())) == bytes(&Root::with(&sound())));
}

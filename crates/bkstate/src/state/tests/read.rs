use super::*;

#[test]
fn a_published_state_is_read_back_as_it_was() {
    let state = sound();
    let root = Root::with(&state);
    assert_eq!(State::read(&root.held).unwrap(), state);
}

#[test]
fn every_part_of_a_state_that_is_missing_is_named() {
    for part in [
        "cache.db",
        "runc-overlayfs/workerid",
        "runc-overlayfs/metadata_v2.db",
        "runc-overlayfs/containerdmeta.db",
        "runc-overlayfs/snapshots/metadata.db",
    ] {
        let root = Root::with(&sound());
        fs::remove_file(root.path().join(part)).unwrap();
        let error = State::read(&root.held).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the root does not have the state of a builder that can be read"
        );
        let ReadStateError::Dir(error) = error else { panic!("{part}: {error}") };
        assert!(error.is_not_found() && error.path.ends_with(part), "{part}: {error}");
    }
}

#[test]
fn a_database_that_is_a_link_to_one_is_refused() {
    let root = Root::with(&sound());
    let database = root.worker(RECORDS_DB);
    fs::rename(&database, root.worker("elsewhere.db")).unwrap();
    std::os::unix::fs::symlink("elsewhere.db", &database).unwrap();
    let error = State::read(&root.held).unwrap_err();
    assert!(matches!(error, ReadStateError::Dir(_)), "{error}");
    assert_eq!(error.to_string(), "the root does not have the state of a builder that can be read");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let root = Root::with(&sound());
    fs::write(root.worker(METADATA_DB), "not a database").unwrap();
    let error = State::read(&root.held).unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
    let ReadStateError::Database { path, .. } = error else { panic!("{error}") };
    assert!(path.ends_with("runc-overlayfs/containerdmeta.db"), "{path:?}");
}

#[test]
fn a_worker_id_that_would_orphan_all_results_is_refused() {
    for text in ["", "with a newline\n", "a::b", "a@b"] {
        let root = Root::with(&sound());
        fs::remove_file(root.worker(WORKER_ID)).unwrap();
        fs::write(root.worker(WORKER_ID), text).unwrap();
        let error = State::read(&root.held).unwrap_err();
        assert!(matches!(error, ReadStateError::WorkerId { .. }), "{text:?}: {error}");
        assert!(error.to_string().ends_with(" does not hold a worker id"), "{error}");
    }
    let root = Root::with(&sound());
    fs::remove_file(root.worker(WORKER_ID)).unwrap();
    fs::write(root.worker(WORKER_ID), b"\xff").unwrap();
    let error = State::read(&root.held).unwrap_err();
    assert!(matches!(error, ReadStateError::WorkerIdFile { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

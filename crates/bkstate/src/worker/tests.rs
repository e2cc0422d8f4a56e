use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::*;
use crate::Root;
use crate::digest::Digest;
use crate::ids::{KeyId, RecordId, ResultId, WorkerId};
use crate::metadata::Content;
use crate::records::Record;
use crate::snapshots::{Kind, Snapshot};
use crate::state::{Existing, ExistingError, Staging, State, VerifyError};
use crate::time::Time;

#[test]
fn every_file_of_the_oci_worker_is_where_a_daemon_has_it() {
    let worker = Worker::default();
    for (file, path, mode) in [
        (StateFile::Solver, "cache.db", 0o600),
        (StateFile::History, "history.db", 0o600),
        (StateFile::SolverDebug, "cache-debug.db", 0o600),
        (StateFile::WorkerId, "runc-overlayfs/workerid", 0o400),
        (StateFile::Records, "runc-overlayfs/metadata_v2.db", 0o600),
        (StateFile::FormerRecords, "runc-overlayfs/metadata.db", 0o600),
        (StateFile::Metadata, "runc-overlayfs/containerdmeta.db", 0o644),
        (StateFile::Snapshots, "runc-overlayfs/snapshots/metadata.db", 0o600),
    ] {
        let place = worker.place(file);
        let way: PathBuf = worker.way(place.part).into_iter().map(|(name, _)| name).collect();
        assert_eq!((way.join(place.name), place.mode), (PathBuf::from(path), mode));
    }
    let content: PathBuf = worker.way(Part::Content).into_iter().map(|(name, _)| name).collect();
    assert_eq!(content, Path::new("runc-overlayfs/content"));
}

#[test]
fn a_part_is_not_reached_through_a_link() {
    let temp = tempfile::tempdir().unwrap();
    let root = Bases::from(Dir::open(temp.path()).unwrap());
    let worker = Worker::default();
    worker.create(&root, Part::Content).unwrap();
    assert!(worker.open(&root, Part::Content).unwrap().is_some());
    fs::rename(temp.path().join("runc-overlayfs"), temp.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", temp.path().join("runc-overlayfs")).unwrap();
    let opened = worker.open(&root, Part::Content).map(|_| ());
    let made = worker.create(&root, Part::Content).map(|_| ());
    for error in [opened.unwrap_err(), made.unwrap_err()] {
        assert_eq!(error.source.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()), "{error}");
        let path = temp.path().join("runc-overlayfs");
        assert_eq!(error.to_string(), format!("cannot open the directory {}", path.display()));
    }
}

/// Returns all paths below `dir`.
fn paths(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A state of one unpacked layer.
fn state(worker: &Worker) -> State {
    let mut state = State::empty(worker.clone(), WorkerId::derive("worker"));
    let (id, blob) = (RecordId::derive("layer"), Digest::of("layer"));
    let record = Record { committed: Some(true), size: Some(5), ..Record::default() };
    state.records.by_id.insert(id.clone(), record);
    let name = worker.snapshot_name(1, id.as_str());
    let namespace = worker.namespace_entry(&mut state.metadata);
    namespace.content.insert(blob, Content { size: 5, ..Content::default() });
    let lease = namespace.leases.entry(id.to_string()).or_default();
    lease.content.insert(blob);
    worker.kept_by_entry(lease).insert(id.to_string());
    let table = worker.table_entry(namespace);
    table.sequence = 1;
    table.rows.entry(id.to_string()).or_default().name.clone_from(&name);
    let snapshot = Snapshot {
        id: 1,
        kind: Kind::Committed,
        parent: None,
        created_at: None,
        updated_at: None,
        inodes: Some(1),
        size: Some(5),
        labels: BTreeMap::new(),
    };
    state.snapshots.by_name.insert(name, snapshot);
    state.snapshots.sequence = 1;
    let key = KeyId::derive("step");
    state.solver.add_key(&key);
    let result = ResultId { worker: state.worker_id.clone(), record: Some(id) };
    state.solver.add_result(&key, result, Time::UNIX_EPOCH);
    state
}

/// Only the worker determines the paths and names of the parts.
#[test]
fn a_worker_with_other_names_has_its_state_at_its_own_places() {
    let temp = tempfile::tempdir().unwrap();
    let worker = Worker::new(Executor::Oci, "other", "elsewhere");
    let root = Root::open_of(worker.clone(), temp.path()).unwrap();
    let state = state(&worker);
    let nothing = Existing::nothing(worker.clone(), state.worker_id.clone());
    let staging = Staging::begin(&root, &nothing).unwrap();
    staging.blobs().create_blob(&Digest::of("layer")).unwrap().write_all(b"layer").unwrap();
    staging.trees().create_snapshot(1).unwrap();
    let written = staging.write(&state).unwrap();
    assert_eq!(staging.parts(&written).unwrap().verify_databases().unwrap().damage.len(), 0);
    staging.publish(written).unwrap();

    let hex = Digest::of("layer").hex().to_string();
    assert_eq!(
        paths(temp.path()),
        [
            "buildkitd.lock",
            "cache.db",
            "runc-other",
            "runc-other/containerdmeta.db",
            "runc-other/content",
            "runc-other/content/blobs",
            "runc-other/content/blobs/sha256",
            &format!("runc-other/content/blobs/sha256/{hex}"),
            "runc-other/metadata_v2.db",
            "runc-other/snapshots",
            "runc-other/snapshots/metadata.db",
            "runc-other/snapshots/snapshots",
            "runc-other/snapshots/snapshots/1",
            "runc-other/snapshots/snapshots/1/fs",
            "runc-other/snapshots/snapshots/1/work",
            "runc-other/workerid",
        ]
    );
    assert_eq!(root.state().unwrap(), state);
    let verified = root.verify_databases().unwrap();
    assert!(verified.damage.is_empty() && verified.leftovers.is_empty(), "{:?}", verified.damage);
    assert_eq!(root.usage().unwrap().len(), 1);
    assert!(root.existing(&WorkerId::derive("unused")).unwrap().is_all_of(&state));

    // Adding to it.
    let existing = root.existing(&state.worker_id).unwrap();
    let mut more = existing.state.clone();
    more.solver.add_key(&KeyId::derive("another"));
    let staging = Staging::begin(&root, &existing).unwrap();
    let written = staging.write(&more).unwrap();
    staging.publish(written).unwrap();
    assert_eq!(root.state().unwrap(), more);
    drop(root);

    // To the default worker, it is the state of another one.
    let root = Root::open(temp.path()).unwrap();
    let refused = Existing::check_workers(&root).unwrap_err();
    assert!(
        matches!(&refused, ExistingError::OtherWorker { found, .. } if found == "runc-other"),
        "{refused}"
    );
    let message = "holds the state of another worker (runc-other)";
    assert!(refused.to_string().contains(message), "{refused}");
    let refused = root.verify_databases().unwrap_err();
    assert!(
        matches!(&refused, VerifyError::OtherWorker { found, .. } if found == "runc-other"),
        "{refused}"
    );
    assert!(refused.to_string().contains("runc-other"), "{refused}");
}

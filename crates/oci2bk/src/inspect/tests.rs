use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bkstate::ids::{KeyId, WorkerId};
use bkstate::solver::Link;
use bkstate::state::{Existing, Staging, State};
use llb::release::Target;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::keys::{KeySourceIndex, read_source};
use crate::layout::testing::TestLayout;
use crate::limits::Limits;
use crate::plan::testing::{blob, export, keyring, op, plain, record, result};

/// Creates an export with a step of every kind, and its description.
fn view() -> (TestLayout, Export) {
    let records = json!([
        {"digest": record("root")},
        {"digest": record("warm"), "inputs": [[{"link": 0}]], "layers": result(0)},
        {"digest": record("key only"), "inputs": [[{"link": 1}]]},
        {"digest": record("no key"), "inputs": [[{"link": 1}]], "layers": result(1)},
        {"digest": record("above"), "inputs": [[{"link": 3}], [{"link": 1}]], "layers": result(1)},
        {"digest": record("either"), "inputs": [[{"link": 3}, {"link": 1}]], "layers": result(1)},
        {"digest": record("gone"), "inputs": [[{"link": 5}]], "layers": result(2)},
        {"digest": record("after gone"), "inputs": [[{"link": 6}]], "layers": result(1)},
    ]);
    let layers = ["a", "b"].map(plain);
    let (layout, export) = export(&layers, &[("a", -1), ("b", 0), ("gone", 1)], &records);
    let keys = keyring(&["warm", "key only", "above", "either", "gone", "after gone"]);
    let view = Export::new(&[export], &keys, Target::default()).unwrap();
    (layout, view)
}

#[test]
fn what_a_daemon_finds_of_each_step_follows_from_keys_layers_and_inputs() {
    let (_layout, view) = view();
    let warmths: Vec<_> = view.steps.iter().map(|step| step.warmth.word()).collect();
    let expected =
        ["source", "warm", "key-only", "no-key", "no-input", "warm", "no-layers", "warm"];
    assert_eq!(warmths, expected);
    assert_eq!(view.steps[6].missing, [blob("gone")]);
    let result = &view.steps[5].results[0];
    let size = |name| view.layers.iter().find(|l| l.blob == blob(name)).unwrap().bytes.unwrap();
    assert_eq!((result.layer.0, result.depth, result.bytes), (1, 2, size("a") + size("b")));
    assert_eq!(view.steps[1].name.as_deref(), Some("RUN warm"));
    assert_eq!(view.steps[1].key.as_ref().unwrap().source, KeySourceIndex(0));
}

#[test]
fn one_thing_of_an_export_comes_with_what_it_is_tied_to() {
    let (_layout, view) = view();
    let numbers = |word: &str| {
        view.only(word).map(|only| only.steps.iter().map(|step| step.number.0).collect::<Vec<_>>())
    };
    let both = Some(vec![1, 3, 5, 6]);
    assert_eq!(numbers(&record("either").to_string()), both);
    assert_eq!(numbers(&record("either").hex()[..8]), both);
    assert_eq!(numbers(op("either").as_str()), both);
    // If a layer is the topmost of several results, all of them are included.
    let layer = view.only(&blob("b").to_string()).unwrap();
    assert_eq!(layer.layers.len(), 1);
    assert!([4, 5, 7].iter().all(|number| layer.steps.iter().any(|s| s.number.0 == *number)));
    assert_eq!(numbers("ffff"), None);
    assert_eq!(numbers("sha256:"), None, "the beginning of every digest names none");
    assert_eq!(numbers(""), None);
}

#[test]
fn what_a_word_names_shows_from_what_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    let named = |name: &str| find(temp.path().join(name).as_os_str());
    for file in ["root/cache.db", "locked/buildkitd.lock", "volume/_data/runc-overlayfs/x"] {
        make(file);
    }
    for file in
        ["layout/index.json", "archive.tar", "empty/other", "both/cache.db", "both/oci-layout"]
    {
        make(file);
    }
    for (name, root) in [("root", "root"), ("locked", "locked"), ("volume", "volume/_data")] {
        assert_eq!(named(name).unwrap(), Place::Root(temp.path().join(root)), "{name}");
    }
    for name in ["layout", "archive.tar"] {
        assert!(matches!(named(name).unwrap(), Place::Source(_)), "{name}");
    }
    let error = named("empty").unwrap_err();
    assert!(matches!(error, PlaceError::Neither { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " is neither a cache export (no index.json in it, no manifests/ and blobs/) \
             nor the root of a buildkitd (no cache.db, no directory of a worker)"
        ),
        "{error}"
    );
    let error = named("both").unwrap_err();
    assert!(matches!(error, PlaceError::Both { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " has what a root has and what a layout has; name the layout as oci:DIR, or \
             move one away"
        ),
        "{error}"
    );
    let error = named("nothing").unwrap_err();
    assert!(matches!(error, PlaceError::Read { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot look at "), "{error}");
    let prefixed = format!("oci:{}", temp.path().join("both").display());
    assert!(matches!(find(OsStr::new(&prefixed)), Ok(Place::Source(_))));
    let error = find(OsStr::new("type=s3,src=x")).unwrap_err();
    assert!(matches!(error, PlaceError::Source(_)), "{error}");
    assert_eq!(error.to_string(), "it is in S3, which is not read");
}

/// Returns the databases of a real daemon, and its build history, without the files.
fn natural() -> TempDir {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let temp = tempfile::tempdir().unwrap();
    for name in [
        "cache.db",
        "runc-overlayfs/containerdmeta.db",
        "runc-overlayfs/metadata_v2.db",
        "runc-overlayfs/snapshots/metadata.db",
        "runc-overlayfs/workerid",
    ] {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(data.join("natural").join(name), path).unwrap();
    }
    fs::copy(data.join("history/root/history.db"), temp.path().join("history.db")).unwrap();
    temp
}

fn read(root: &TempDir) -> Root {
    Root::read(root.path(), &[], &Limits::default()).unwrap()
}

#[test]
fn a_root_shows_all_that_a_daemon_left_in_it() {
    let temp = natural();
    let root = read(&temp);
    assert_eq!(root.workers.len(), 1);
    assert!(root.workers[0].is_ours && root.workers[0].id.is_some());
    assert!(!root.keys.is_empty() && !root.records.is_empty() && !root.snapshots.is_empty());
    assert!(!root.builds.is_empty());
    assert!(root.builds.iter().all(|build| build.created_at.is_some() && build.steps > 0));
    assert!(root.unread.is_empty(), "{:?}", root.unread);
    assert!(root.records.iter().any(Record::is_cache_mount));
    let of_records = root.leases.iter().filter(|lease| lease.record.is_some()).count();
    assert!(of_records > 0);
    // The directories were not copied, and no blob.
    assert!(root.snapshots.iter().all(|snapshot| !snapshot.is_there && snapshot.id.is_some()));
    assert!(root.blobs.iter().all(|blob| !blob.is_there));
    assert!(
        root.keys
            .iter()
            .all(|key| key.warmth != Warmth::Warm
                || key.results.iter().any(|r| r.id.record.is_none()))
    );
    assert!(!root.damage.is_empty());
}

#[test]
fn one_thing_of_a_root_comes_with_all_that_is_tied_to_it() {
    let temp = natural();
    let root = read(&temp);
    let with_blob = |record: &&Record| record.stored.blob.is_some() && !record.keys.is_empty();
    let record = root.records.iter().find(with_blob).unwrap().clone();
    let blob = record.stored.blob.unwrap();
    for word in [record.id.to_string(), record.id.as_str()[..12].to_owned(), blob.to_string()] {
        let only = read(&temp).only(&word).unwrap();
        assert!(only.records.contains(&record), "{word}");
        assert!(record.keys.iter().all(|id| only.keys.iter().any(|key| key.id == *id)));
        assert!(only.blobs.iter().any(|known| known.digest == blob));
        assert!(only.leases.iter().any(|lease| lease.record.as_ref() == Some(&record.id)));
        assert!(only.snapshots.iter().any(|snapshot| snapshot.records.contains(&record.id)));
        assert!(only.records.len() < root.records.len());
    }
    let build = &root.builds[0].reference;
    assert_eq!(read(&temp).only(build).unwrap().builds.len(), 1);
    assert!(read(&temp).only("no-such-thing").is_none());
}

/// Returns a root whose `cache.db` has only these links.
fn with_links(links: impl IntoIterator<Item = (usize, usize)>) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let root = bkstate::Root::open_to_write(temp.path()).unwrap();
    let worker = WorkerId::derive("worker");
    let mut state = State::empty(root.worker().clone(), worker.clone());
    let id = |number: usize| KeyId::derive(&number.to_string());
    for (from, to) in links {
        let digest = bkstate::Digest::of(format!("op {to}"));
        let link = Link { digest: digest.into(), ..Link::default() };
        state.solver.add_key(&id(to));
        state.solver.add_link(&id(from), link, &id(to));
    }
    let existing = Existing::nothing(root.worker().clone(), worker);
    let staging = Staging::begin(&root, &existing).unwrap();
    let written = staging.write(&state).unwrap();
    staging.publish(written).unwrap();
    temp
}

#[test]
fn loops_in_the_links_of_a_damaged_root_do_no_harm() {
    let temp = with_links([(0, 1), (1, 2), (2, 0), (3, 3), (2, 4)]);
    let root = read(&temp);
    assert_eq!(root.keys.len(), 5);
    assert!(root.only(&KeyId::derive("3").text()).is_some());
}

#[test]
fn a_hundred_thousand_keys_take_bounded_time() {
    const MANY: usize = 100_000;
    let temp = with_links((1..MANY).flat_map(|to| [(to - 1, to), (0, to)]));
    let started = Instant::now();
    let root = read(&temp);
    assert_eq!(root.keys.len(), MANY);
    let only = root.only(&KeyId::derive("0").text()).unwrap();
    assert_eq!(only.keys.len(), MANY, "all are next to the first");
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[test]
fn a_key_source_names_the_steps_of_a_root_that_has_forgotten_them() {
    let temp = natural();
    let unnamed = |root: &Root| root.keys.iter().filter(|key| key.name.is_none()).count();
    let root = read(&temp);
    let digest = root.keys.iter().flat_map(|key| &key.inputs).next().unwrap().link.digest.clone();
    let file = json!({
        "mediaType": "application/vnd.oci2bk.keys.v1+json",
        "ops": [{"digests": [{"digest": digest}], "outputs": 1, "step": "MKDIR"}],
    });
    let path = temp.path().join("keys.json");
    fs::write(&path, file.to_string()).unwrap();
    let sources = read_source(&path, &Limits::default()).unwrap();
    let named = Root::read(temp.path(), &sources, &Limits::default()).unwrap();
    assert!(named.keys.iter().any(|key| key.name.as_deref() == Some("MKDIR")));
    assert!(unnamed(&named) <= unnamed(&root));
}

#[test]
fn a_history_that_cannot_be_read_is_told_and_the_rest_is_seen() {
    let temp = natural();
    fs::write(temp.path().join("history.db"), "nonsense").unwrap();
    let root = read(&temp);
    assert_eq!(root.unread.len(), 2, "neither builds nor names: {:?}", root.unread);
    assert!(!root.keys.is_empty());
    fs::write(temp.path().join("cache.db"), "nonsense").unwrap();
    let error = Root::read(temp.path(), &[], &Limits::default()).unwrap_err();
    assert!(matches!(error, InspectError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            ": the file is not a usable BoltDB file: of meta page 0, the file ends \
             before it; of meta page 1, the file ends before it"
        ),
        "{error}"
    );
}

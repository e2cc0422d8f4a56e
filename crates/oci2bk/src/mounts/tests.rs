use std::fs;
use std::path::Path;

use bkstate::ids::{KeyId, RecordId, WorkerId};
use bkstate::mounts::key;
use bkstate::records::Record;
use bkstate::snapshots::Kind as SnapshotKind;
use bkstate::state::State;
use bkstate::worker::Worker;
use bkstate::{Classified as _, Digest};
use serde_json::{Value, json};

use super::document::config;
use super::seed::Seeder;
use super::*;
use crate::layout::Layout;
use crate::layout::testing::{TestLayout, annotated};
use crate::limits::Limits;
use crate::manifest::{OCI_MANIFEST, REF_NAME};
use crate::source::Reference;
use crate::unpack::{UnpackError, Usage};

const ARCHIVE: &str = "application/vnd.oci2bk.mount.v1.tar";

/// Adds an artifact to `layout`, with this list of mounts and one empty archive. Returns its entry.
fn artifact(layout: &TestLayout, list: &Value, media_type: &str) -> Value {
    let layer = layout.blob(media_type, [0; 1024]);
    let config = layout.json(MOUNTS_MEDIA_TYPE, list);
    let manifest = json!({
        "schemaVersion": 2,
        "artifactType": MOUNTS_MEDIA_TYPE,
        "config": config,
        "layers": [layer],
    });
    let mut entry = layout.json(OCI_MANIFEST, &manifest);
    entry["artifactType"] = MOUNTS_MEDIA_TYPE.into();
    entry
}

fn mount(id: &str) -> Value {
    json!({"id": id, "layer": 0, "diffID": Digest::of([0; 1024]), "size": 1024, "entries": 0})
}

fn list(mounts: &[Value]) -> Value {
    json!({"mediaType": MOUNTS_MEDIA_TYPE, "mounts": mounts})
}

fn select(layout: &TestLayout, reference: &Reference) -> Result<MountsArtifact, ReadMountsError> {
    MountsArtifact::select(&layout.open(), reference)
}

#[test]
fn a_list_is_read_as_it_is_written() {
    let layout = TestLayout::new();
    let owner = Owner { uid: 1000, gid: 1001, mode: 0o770 };
    let mut owned = mount("//c4");
    owned["owner"] = json!({"uid": 1000, "gid": 1001, "mode": 504});
    let entry = artifact(&layout, &list(&[mount("//c1"), owned]), ARCHIVE);
    layout.index(&[annotated(entry, REF_NAME, "mounts")]);
    let read = select(&layout, &Reference::Default).unwrap();
    let owners: Vec<_> = read.mounts.iter().map(|mount| (&*mount.id, mount.owner)).collect();
    assert_eq!(owners, [("//c1", None), ("//c4", Some(owner))]);
    assert_eq!(read.tags, ["mounts".to_owned()].into());
    let written = config(&read.mounts).to_string();
    assert!(written.starts_with(
        "{\"mediaType\":\"application/vnd.oci2bk.mounts.v1+json\",\"mounts\":[{\"diffID\":\"sha256:"
    ));
    assert!(written.contains("\"owner\":{\"gid\":1001,\"mode\":504,\"uid\":1000}"), "{written}");
}

#[test]
fn artifacts_are_selected_by_tag_and_by_what_they_are_attached_to() {
    let layout = TestLayout::new();
    let [a, b] = ["//a", "//b"].map(|id| artifact(&layout, &list(&[mount(id)]), ARCHIVE));
    layout.index(&[annotated(a.clone(), REF_NAME, "main"), b]);
    let error = select(&layout, &Reference::Default).unwrap_err();
    assert!(matches!(error, ReadMountsError::Several { .. }), "{error}");
    assert!(error.to_string().ends_with("; name one by its tag or digest"), "{error}");
    let main = select(&layout, &Reference::Tag("main".to_owned())).unwrap();
    assert_eq!(main.mounts[0].id, "//a");
    let digest: Digest = a["digest"].as_str().unwrap().parse().unwrap();
    assert_eq!(select(&layout, &Reference::Digest(digest)).unwrap(), main);
    let error = select(&layout, &Reference::Tag("other".to_owned())).unwrap_err();
    assert!(matches!(error, ReadMountsError::None { .. }), "{error}");
    let expected = "has no cache mounts with the tag \"other\", or attached to what has it";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn malformed_lists_are_refused() {
    let refused = |list: &Value, media_type: &str| {
        let layout = TestLayout::new();
        let entry = artifact(&layout, list, media_type);
        layout.index(&[entry]);
        let error = select(&layout, &Reference::Default).unwrap_err();
        assert!(error.class().is_of_input(), "{error}");
        error
    };
    let many: Vec<_> = ["/a::b", "", "/a\u{1b}b"].map(mount).into();
    for odd in many {
        let error = refused(&list(&[odd]), ARCHIVE);
        assert!(matches!(error, ReadMountsError::Id { .. }), "{error}");
    }
    let error = refused(&list(&[mount("//a"), mount("//a")]), ARCHIVE);
    assert!(matches!(&error, ReadMountsError::Twice { id, .. } if id == "//a"), "{error}");
    let mut far = mount("//a");
    far["layer"] = 7.into();
    for (list, media_type) in
        [(list(&[far]), ARCHIVE), (list(&[mount("//a")]), "application/vnd.oci.image.layer.v1.tar")]
    {
        let error = refused(&list, media_type);
        assert!(matches!(error, ReadMountsError::Archive { .. }), "{error}");
        assert!(error.to_string().ends_with(" has no archive of a known type"), "{error}");
    }
    for owner in
        [json!({"uid": u32::MAX, "gid": 0, "mode": 0}), json!({"uid": 0, "gid": 0, "mode": 0o2770})]
    {
        let mut owned = mount("//a");
        owned["owner"] = owner;
        let error = refused(&list(&[owned]), ARCHIVE);
        assert!(matches!(error, ReadMountsError::Owner { .. }), "{error}");
    }
    let error = refused(&json!({"mediaType": MOUNTS_MEDIA_TYPE, "mounts": {}}), ARCHIVE);
    assert!(matches!(error, ReadMountsError::List { .. }), "{error}");
    let error = refused(&json!({"mediaType": "other", "mounts": []}), ARCHIVE);
    assert!(matches!(error, ReadMountsError::NoList { .. }), "{error}");
}

#[test]
fn lists_of_other_versions_are_named() {
    let layout = TestLayout::new();
    let config = layout.json("application/vnd.oci2bk.mounts.v2+json", &json!({}));
    let artifact_type = "application/vnd.oci2bk.mounts.v2+json";
    let manifest = json!({
        "schemaVersion": 2, "artifactType": artifact_type, "config": config, "layers": [],
    });
    let mut entry = layout.json(OCI_MANIFEST, &manifest);
    entry["artifactType"] = artifact_type.into();
    layout.index(&[entry]);
    let error = select(&layout, &Reference::Default).unwrap_err();
    assert!(matches!(error, ReadMountsError::Version { .. }), "{error}");
    assert!(error.to_string().ends_with("; a newer oci2bk may read them"), "{error}");
}

fn empty() -> State {
    State::empty(Worker::default(), WorkerId::derive("worker"))
}

fn seeder(state: &mut State) -> Seeder<'_> {
    Seeder { state, last_used: None }
}

#[test]
fn a_seeded_mount_is_what_a_daemon_looks_for() {
    let mut state = empty();
    let content = Digest::of("content");
    let record = seeder(&mut state).add_mount("//c1", None, 4, content, None);
    let stored = &state.records.by_id[&record];
    assert!(stored.is_mutable() && stored.is_retained());
    assert_eq!((stored.size, stored.committed), (None, None));
    assert!(state.records.index().contains(&format!("cache-dir://c1::{record}")));
    let snapshot = state.snapshots.by_name.values().next().unwrap();
    assert_eq!((snapshot.id, snapshot.kind), (4, SnapshotKind::Active));
    assert_eq!(state.snapshots.sequence, 4);
    let mounts = state.cache_mounts();
    assert_eq!((mounts[0].id.as_str(), mounts[0].directory), ("//c1", Some(4)));
    // The same input, the same record; another mount of the same content has its own.
    let mut again = empty();
    assert_eq!(seeder(&mut again).add_mount("//c1", None, 1, content, None), record);
    assert_ne!(seeder(&mut again).add_mount("//c2", None, 2, content, None), record);
}

#[test]
fn a_mount_with_an_owner_is_on_the_result_of_its_step() {
    let mut state = empty();
    let step = KeyId::from(Digest::of("mkdir"));
    let usage = Usage { size: 8192, inodes: 2 };
    let base = seeder(&mut state).add_base(&step, 1, usage);
    let mount = seeder(&mut state).add_mount("//c4", Some(&base), 2, Digest::of("x"), None);
    let stored = &state.records.by_id[&mount];
    assert_eq!(stored.cache_dir, Some(key("//c4", Some(&base))));
    assert_eq!(stored.parent.as_ref(), Some(&base));
    let results = &state.solver.results[&step];
    assert!(results.iter().any(|(result, _)| result.record.as_ref() == Some(&base)));
    let namespace = state.worker.namespace_of(&state.metadata).unwrap();
    let rows = &state.worker.table_of(namespace).unwrap().rows;
    assert_eq!(rows[mount.as_str()].parent.as_deref(), Some(base.as_str()));
    assert!(rows[base.as_str()].children.contains(mount.as_str()));
}

#[test]
fn a_replaced_mount_keeps_its_record_and_nothing_else() {
    let mut state = empty();
    let record = seeder(&mut state).add_mount("//c1", None, 1, Digest::of("old"), None);
    let twin = RecordId::derive("twin");
    let measured =
        Record { committed: Some(true), equal_mutable: Some(record.clone()), ..Record::default() };
    state.records.by_id.insert(twin.clone(), measured);
    state.records.external.insert(record.clone(), [("hash".to_owned(), Vec::new())].into());
    let before = state.snapshots.by_name.clone();
    let kept =
        seeder(&mut state).add_mount("//c1", None, 2, Digest::of("new"), Some(record.clone()));
    assert_eq!(kept, record);
    assert!(!state.records.by_id.contains_key(&twin) && state.records.external.is_empty());
    assert_eq!(state.snapshots.by_name.len(), 1);
    assert!(before.keys().all(|name| !state.snapshots.by_name.contains_key(name)));
    assert_eq!(state.cache_mounts()[0].directory, Some(2));
}

#[test]
fn what_is_asked_for_must_be_there() {
    let layout = TestLayout::new();
    let entry = artifact(&layout, &list(&[mount("//c1")]), ARCHIVE);
    layout.index(&[entry]);
    let source = MountsSource::Layout(layout.path().display().to_string().parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let import = |source: &MountsSource, wanted: &[&str], owner: Option<Owner>| {
        let wanted = wanted.iter().map(|word| word.parse().unwrap()).collect();
        let selection = Selection { wanted, ..Selection::default() };
        Importer::new().import(source, &selection, owner, root.path().join("root")).unwrap_err()
    };
    let error = import(&source, &["target=/other"], None);
    assert!(matches!(&error, MountsError::NotThere { id, .. } if id == "//other"), "{error}");
    assert!(error.to_string().ends_with(" has no cache mount \"//other\""), "{error}");
    let owner = Owner::new(Some(1), None, None);
    let error = import(&source, &[], owner);
    assert!(matches!(error, MountsError::OwnerGiven), "{error}");
    let tar = MountsSource::Tar(layout.path().join("index.json"));
    for (wanted, count) in [(&[][..], 0), (&["//a", "//b"], 2)] {
        let error = import(&tar, wanted, None);
        assert!(matches!(error, MountsError::One { count: c, .. } if c == count), "{error}");
    }
    let error = import(&tar, &["/a::b"], None);
    assert!(matches!(error, MountsError::Id { source: OddId::Separator, .. }), "{error}");
    let error = import(&MountsSource::Tar("absent".into()), &["//a"], None);
    assert!(matches!(error, MountsError::Source { .. }), "{error}");
    assert!(!root.path().join("root").exists());
}

/// Nothing but an artifact of ours counts as one.
#[test]
fn other_artifacts_are_not_mounts() {
    let layout = TestLayout::new();
    layout.index(&[]);
    assert_eq!(MountsArtifact::all(&layout.open()).unwrap(), []);
    let opened = Layout::open(Path::new("fixtures/min/cache"), &Limits::default()).unwrap();
    assert_eq!(MountsArtifact::all(&opened).unwrap(), []);
    assert!(fs::metadata(layout.path()).is_ok());
}

#[test]
fn an_archive_that_is_not_the_one_of_its_list_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let layout = TestLayout::new();
    let mut other = mount("//a");
    other["diffID"] = json!(Digest::of("other"));
    layout.index(&[artifact(&layout, &list(&[other]), ARCHIVE)]);
    let source = format!("oci:{}", layout.path().display()).parse().unwrap();
    let root = tempfile::tempdir().unwrap();
    let imported = Importer::new().import(&source, &Selection::default(), None, root.path());
    let error = imported.unwrap_err();
    assert!(error.class().is_of_input(), "{error}");
    let MountsError::Unpack { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, UnpackError::WrongDiffId { .. }), "{source}");
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map_while(Result::ok).collect();
    assert!(left.iter().all(|entry| entry.file_name() == "buildkitd.lock"), "{left:?}");
}

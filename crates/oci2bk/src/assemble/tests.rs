use std::fs::File;
use std::io::Read as _;
use std::io::Seek as _;

use bkstate::encode::EncodeError;
use bkstate::layers;
use bkstate::state::Existing;
use serde_json::json;

use super::*;

const NAMESPACE: &str = "buildkit";
const SNAPSHOTTER: &str = "overlayfs";
use crate::plan::testing::*;

const TOC: &str = "containerd.io/snapshot/stargz/toc.digest";

/// `b` and `c` on top of `a`, of the steps `x` and `y`, both on the root `r`; `c` and the times of `b` and
/// `c` are unknown.
fn plan() -> Plan {
    let a = with_annotation(described("a"), TOC, "sha256:toc");
    planned(
        &[a, plain("b"), plain("c")],
        &[("a", -1), ("b", 0), ("c", 0)],
        &json!([
            {"digest": record("r")},
            {
                "digest": record("x"),
                "inputs": [[{"link": 0}]],
                "layers": [{"layer": 1, "createdAt": "2026-01-02T03:04:05Z"}],
            },
            {"digest": record("y"), "inputs": [[{"link": 1}]], "layers": [{"layer": 2}]},
        ]),
        &["x", "y"],
    )
}

fn usages() -> Vec<Usage> {
    (1..=3).map(|n| Usage { size: 4096 * n, inodes: n }).collect()
}

/// Returns the state of a new root with `plan` in it; unpacked, if there are `usages`.
fn assembled(plan: &Plan, usages: Option<&[Usage]>, last_used: Option<Time>) -> State {
    let existing = Existing::nothing(Worker::default(), plan.worker_id.clone());
    let places = Places::new(plan, &existing, scope(usages.is_some()));
    let labels = BTreeMap::from([("oci2bk.witness.whiteout".to_owned(), "gone".to_owned())]);
    let tree = |usage: &Usage| Tree { usage: *usage, labels: labels.clone() };
    let trees = (0..).map(SnapshotIndex).zip(usages.into_iter().flatten().map(tree)).collect();
    assemble(plan, &places, &existing.state, &trees, last_used).unwrap()
}

fn namespace(state: &State) -> &Namespace {
    &state.metadata.namespaces[NAMESPACE]
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

#[test]
fn steps_become_keys_links_and_results() {
    let plan = plan();
    let cache = assembled(&plan, None, None).solver;
    let [root, x, y] = plan.steps.as_slice() else { panic!("{:?}", plan.steps) };
    assert_eq!(cache.links.keys().collect::<std::collections::BTreeSet<_>>(), {
        [&root.key, &x.key, &y.key].into()
    });
    let (link, target) = cache.links[&root.key].first().unwrap();
    assert_eq!((link.digest.text(), target), (op("x").as_str().into(), &x.key));
    assert_eq!(cache.backlinks[&y.key], [x.key.clone()].into_iter().collect());
    assert!(!cache.results.contains_key(&root.key));
    let (result, created_at) = cache.results[&x.key].iter().next().unwrap();
    assert_eq!(result.worker, plan.worker_id);
    assert_eq!(result.record.as_ref(), Some(&plan.layers[1].record));
    assert_eq!(*created_at, time("2026-01-02T03:04:05Z"));
    // Go's zero time, which an exporter without a time also writes.
    assert_eq!(*cache.results[&y.key].iter().next().unwrap().1, Time::ZERO);
    assert_eq!(cache.by_result.len(), 2);
}

#[test]
fn layers_become_records_that_hold_their_blob_and_their_snapshot() {
    let plan = plan();
    let state = assembled(&plan, Some(&usages()), None);
    let [a, b, _] = plan.layers.as_slice() else { panic!("{:?}", plan.layers) };
    let record = &state.records.by_id[&b.record];
    assert_eq!(record.committed, Some(true));
    assert_eq!(record.parent.as_ref(), Some(&a.record));
    assert_eq!(record.blob, Some(blob("b")));
    assert_eq!(record.diff_id, Some(diff_id("b")));
    assert_eq!(record.blob_chain_id, Some(b.blob_chain_id));
    assert_eq!(record.layer_identity, Some(diff_id("b")));
    assert_eq!(record.snapshot, record.chain_id.map(|chain| layers::snapshot_key(&chain)));
    assert!(layers::depend_on_legacy(&state.records).is_empty());
    assert_eq!(record.blob_only, None);
    assert_eq!(record.created_at, time("2026-01-02T03:04:05Z").unix_nanos());
    assert_eq!(record.description.as_deref(), Some("RUN x"));
    let lease = &namespace(&state).leases[b.record.as_str()];
    assert_eq!(lease.content, [blob("b")].into());
    assert_eq!(lease.snapshots[SNAPSHOTTER], [record.snapshot.clone().unwrap()].into());
    assert_eq!(lease.labels[LABEL_GC_FLAT], "2026-01-02T03:04:05Z");
}

#[test]
fn snapshots_agree_in_both_databases() {
    let plan = plan();
    let state = assembled(&plan, Some(&usages()), None);
    let table = &namespace(&state).snapshots[SNAPSHOTTER];
    assert_eq!((table.sequence, state.snapshots.sequence), (3, 3));
    let key = |index: usize| layers::snapshot_key(&plan.snapshots[index].chain_id);
    let base = &table.rows[&key(0)];
    assert_eq!(base.children, [key(1), key(2)].into());
    assert_eq!(base.name, format!("buildkit/1/{}", key(0)));
    let top = &state.snapshots.by_name[&table.rows[&key(2)].name];
    assert_eq!((top.id, top.kind), (3, Kind::Committed));
    assert_eq!(top.parent.as_ref(), Some(&base.name));
    assert_eq!(top.labels["oci2bk.witness.whiteout"], "gone");
    assert_eq!((top.size, top.inodes), (Some(3 * 4096), Some(3)));
}

#[test]
fn what_is_not_unpacked_has_no_snapshot_but_a_lease_on_it() {
    let plan = plan();
    let state = assembled(&plan, None, None);
    assert!(state.snapshots.by_name.is_empty() && namespace(&state).snapshots.is_empty());
    for layer in &plan.layers {
        let record = &state.records.by_id[&layer.record];
        assert_eq!(record.blob_only, Some(true));
        let lease = &namespace(&state).leases[layer.record.as_str()];
        assert_eq!(lease.snapshots[SNAPSHOTTER], [record.snapshot.clone().unwrap()].into());
    }
}

#[test]
fn content_tells_the_diff_id_and_keeps_annotations() {
    let state = assembled(&plan(), None, None);
    let labels = |name: &str| &namespace(&state).content[&blob(name)].labels;
    assert_eq!(labels("a")[LABEL_UNCOMPRESSED], diff_id("a").to_string());
    assert_eq!(labels("a")[&format!("buildkit.io/blob/annotation.{TOC}")], "sha256:toc");
    assert_eq!(
        labels("a")["buildkit.io/blob/mediatype"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    assert_eq!(labels("a").len(), 3);
    assert_eq!(labels("b").len(), 1);
}

#[test]
fn what_a_cache_says_of_a_blob_does_not_change_what_the_root_says_of_it() {
    let plan = plan();
    let mut before = assembled(&plan, None, None);
    let labels = |state: &mut State| {
        let namespace = state.metadata.namespaces.get_mut(NAMESPACE).unwrap();
        std::mem::take(&mut namespace.content.get_mut(&blob("a")).unwrap().labels)
    };
    labels(&mut before);
    let existing = Existing::nothing(Worker::default(), plan.worker_id.clone());
    let places = Places::new(&plan, &existing, scope(false));
    let mut after = assemble(&plan, &places, &before, &BTreeMap::new(), None).unwrap();
    let diff_id = (LABEL_UNCOMPRESSED.to_owned(), diff_id("a").to_string());
    assert_eq!(labels(&mut after), BTreeMap::from([diff_id]));
}

#[test]
fn times_that_the_export_does_not_tell_are_the_epoch() {
    let plan = plan();
    let state = assembled(&plan, Some(&usages()), None);
    let content = &namespace(&state).content;
    assert_eq!(content[&blob("a")].created_at, Some(time("2026-11-21T20:27:19.5Z")));
    assert_eq!(content[&blob("c")].created_at, Some(Time::UNIX_EPOCH));
    let c = &plan.layers[2].record;
    assert_eq!(namespace(&state).leases[c.as_str()].created_at, Some(Time::UNIX_EPOCH));
    // The daemon would replace a missing time by its start time.
    assert_eq!(state.records.by_id[c].created_at, Some(0));
}

#[test]
fn the_time_of_the_last_use_comes_with_a_count() {
    let plan = plan();
    for record in assembled(&plan, None, Some(Time::from_unix_seconds(7))).records.by_id.values() {
        assert_eq!((record.last_used_at, record.usage_count), (Some(7_000_000_000), Some(1)));
    }
    for record in assembled(&plan, None, None).records.by_id.values() {
        assert_eq!((record.last_used_at, record.usage_count), (None, None));
    }
    // Nothing else in a record depends on it.
    let mut state = assembled(&plan, None, Some(Time::UNIX_EPOCH));
    for record in state.records.by_id.values_mut() {
        record.last_used_at = None;
        record.usage_count = None;
    }
    assert_eq!(state, assembled(&plan, None, None));
}

#[test]
fn the_same_plan_is_the_same_bytes() {
    let bytes = |write: &dyn Fn(&File) -> Result<(), EncodeError>| {
        let mut file = tempfile::tempfile().unwrap();
        write(&file).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let databases = || {
        let state = assembled(&plan(), Some(&usages()), None);
        [
            bytes(&|file| state.solver.write(file)),
            bytes(&|file| state.records.write(file)),
            bytes(&|file| state.metadata.write(file)),
            bytes(&|file| state.snapshots.write(file)),
        ]
    };
    assert!(databases() == databases());
}

#[test]
fn documents_of_images_are_labelled_with_their_repositories_and_leased_by_their_layers() {
    let mut plan = plan();
    let names = ["base", "docker.io/team/other", "127.0.0.1:5000/base"];
    let document = Document {
        size: 2,
        repositories: names.iter().map(|name| name.parse().unwrap()).collect(),
        layers: [LayerIndex(0), LayerIndex(2)].into(),
        references: BTreeMap::new(),
        content: b"{}".as_slice().into(),
    };
    let digest = Digest::of("{}");
    plan.documents.insert(digest, document);
    let state = assembled(&plan, None, None);
    let row = &namespace(&state).content[&digest];
    assert_eq!((row.size, row.created_at), (2, Some(time("2026-11-21T20:27:19.5Z"))));
    let labels = row.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    assert_eq!(
        labels.collect::<Vec<_>>(),
        [
            ("containerd.io/distribution.source.127.0.0.1", "base"),
            ("containerd.io/distribution.source.docker.io", "library/base,team/other"),
        ]
    );
    let keeps = plan
        .layers
        .iter()
        .map(|layer| namespace(&state).leases[layer.record.as_str()].content.contains(&digest));
    assert_eq!(keeps.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_document_that_is_there_is_completed_by_more_repositories() {
    let plan_with = |names: &[&str]| {
        let mut plan = plan();
        let document = Document {
            size: 2,
            repositories: names.iter().map(|name| name.parse().unwrap()).collect(),
            layers: [LayerIndex(0)].into(),
            references: BTreeMap::new(),
            content: b"{}".as_slice().into(),
        };
        plan.documents.insert(Digest::of("{}"), document);
        plan
    };
    let add = |before: &State, plan: &Plan| {
        let mut existing = Existing::nothing(Worker::default(), plan.worker_id.clone());
        existing.state = before.clone();
        let places = Places::new(plan, &existing, scope(false));
        assemble(plan, &places, before, &BTreeMap::new(), None).unwrap()
    };
    let (one, other) =
        (plan_with(&["base"]), plan_with(&["docker.io/team/other", "reg.example/a"]));
    let state = add(&add(&State::empty(Worker::default(), one.worker_id.clone()), &one), &other);
    let labels = &namespace(&state).content[&Digest::of("{}")].labels;
    assert_eq!(labels["containerd.io/distribution.source.docker.io"], "library/base,team/other");
    assert_eq!(labels["containerd.io/distribution.source.reg.example"], "a");
    assert_eq!(add(&add(&state, &one), &other), state);
}

#[test]
fn a_named_image_is_in_an_image_store_with_its_parts() {
    let name = "docker.io/library/base:1";
    let digest = Digest::of("{}");
    let part = Digest::of("a layer");
    let label = format!("{LABEL_REFERENCE}l.0");
    let mut plan = plan();
    let document = Document {
        size: 2,
        repositories: ["base".parse().unwrap()].into(),
        layers: [LayerIndex(0)].into(),
        references: [(label.clone(), part)].into(),
        content: b"{}".as_slice().into(),
    };
    plan.documents.insert(digest, document);
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let created_at = Some(time("2026-11-21T20:27:19.5Z"));
    plan.images.insert(name.to_owned(), NamedImage { digest, media_type, size: 2, created_at });
    let add = |worker: Worker, before: Option<&State>| {
        let mut existing = Existing::nothing(worker, plan.worker_id.clone());
        existing.state = before.unwrap_or(&existing.state).clone();
        let places = Places::new(&plan, &existing, scope(false));
        assemble(&plan, &places, &existing.state, &BTreeMap::new(), None).unwrap()
    };
    let store = |state: &State| state.worker.namespace_of(&state.metadata).unwrap().clone();

    let state = add(Worker::of_engine(None), None);
    assert_eq!(store(&state).image(name), Some(digest.to_string().as_str()));
    assert_eq!(store(&state).content[&digest].labels[&label], part.to_string());
    assert_eq!(add(Worker::of_engine(None), Some(&state)), state);

    // A daemon without an image store would not know what to do with it.
    let state = add(Worker::default(), None);
    assert_eq!(store(&state).images, None);
    assert!(!store(&state).content[&digest].labels.contains_key(&label));

    // A manifest that is there without the labels gets them.
    let mut before = add(Worker::of_engine(None), None);
    let namespace = before.worker.clone();
    let namespace = namespace.namespace_of_mut(&mut before.metadata).unwrap();
    namespace.images = None;
    namespace.content.get_mut(&digest).unwrap().labels.remove(&label);
    assert_eq!(add(Worker::of_engine(None), Some(&before)), add(Worker::of_engine(None), None));
}

#[test]
fn what_has_no_place_and_needs_one_is_named() {
    let plan = plan();
    let (base, top) = (LayerIndex(0), LayerIndex(1));
    let nothing = || Existing::nothing(Worker::default(), plan.worker_id.clone());
    let fault = |existing: &Existing, extract, trees: &[usize], change: &dyn Fn(&mut Places)| {
        let mut places = Places::new(&plan, existing, scope(extract));
        change(&mut places);
        let tree = Tree { usage: usages()[0], labels: BTreeMap::new() };
        let trees = trees.iter().map(|index| (SnapshotIndex(*index), tree.clone())).collect();
        let error = assemble(&plan, &places, &existing.state, &trees, None).unwrap_err();
        let message = error.to_string();
        assert!(message.ends_with("this is a fault of oci2bk; report it"), "{message}");
        (error, message.split(';').next().unwrap().to_owned())
    };
    let packed = |change: &dyn Fn(&mut Places)| fault(&nothing(), false, &[], change);
    let record = plan.layers[top].record.clone();
    let mut unleased = nothing();
    unleased.state = assembled(&plan, None, None);
    let leases = &mut unleased.state.metadata.namespaces.get_mut(NAMESPACE).unwrap().leases;
    leases.remove(record.as_str()).unwrap();

    // The layer of a result, the layer below another one, and one that should exist already.
    let unneeded = packed(&|places| places.layers[top] = LayerPlace::Unneeded);
    assert_eq!(unneeded, (NoPlace::Record(top), "layer 1 of the plan has no record".to_owned()));
    let below = packed(&|places| places.layers[base] = LayerPlace::Unneeded);
    assert_eq!(below.0, NoPlace::Record(base));
    let there = || LayerPlace::Existing { record: record.clone(), twins: Vec::new() };
    let absent = packed(&|places| places.layers[top] = there());
    assert_eq!(absent.0, NoPlace::Record(top));
    let lease = "the record of layer 1 of the plan has no lease".to_owned();
    assert_eq!(fault(&unleased, false, &[], &|_| {}), (NoPlace::Lease(top), lease));

    let unpacked = "snapshot 0 of the plan has no place to be unpacked into".to_owned();
    let of_packed = fault(&nothing(), false, &[0], &|_| {});
    assert_eq!(of_packed, (NoPlace::Unpacked(SnapshotIndex(0)), unpacked));
    let below = "snapshot 1 of the plan lies on nothing".to_owned();
    let of_no_base = fault(&nothing(), true, &[1], &|_| {});
    assert_eq!(of_no_base, (NoPlace::Below(SnapshotIndex(1)), below));
}

mod anew;
mod blobless;
mod joined;
mod packed;

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Time;
use bkstate::ids::{KeyId, ResultId, WorkerId};
use bkstate::metadata::Namespace;
use bkstate::records::Records;
use bkstate::snapshots::Kind;
use bkstate::solver::SolverCache;
use bkstate::state::State;
use bkstate::worker::Worker;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str = "buildkit";
const SNAPSHOTTER: &str = "overlayfs";
use crate::assemble::{Tree, assemble};
use crate::plan::testing::*;
use crate::unpack::Usage;

const USED: Option<Time> = Some(Time::from_unix_seconds(1000));

fn nothing() -> Existing {
    Existing::nothing(Worker::default(), WorkerId::derive("worker"))
}

/// Returns the state of a root after `plan` was converted into it, and how much of it is new.
fn merged(existing: &Existing, plan: &Plan, extract: bool) -> (Existing, Places) {
    merged_with(existing, plan, scope(extract))
}

fn merged_with(existing: &Existing, plan: &Plan, scope: Scope) -> (Existing, Places) {
    let places = Places::new(plan, existing, scope);
    let usage = Usage { size: 4096, inodes: 1 };
    let new = |place: &SnapshotPlace| matches!(place, SnapshotPlace::New { .. });
    let new = places.snapshots.iter_enumerated().filter(|(_, place)| new(place));
    let trees: BTreeMap<_, _> =
        new.map(|(index, _)| (index, Tree { usage, labels: BTreeMap::new() })).collect();
    let mut after = nothing();
    after.state = assemble(plan, &places, &existing.state, &trees, USED).unwrap();
    after.blobs = existing.blobs.clone();
    after.blobs.extend(places.blobs.iter().map(|blob| (*blob, plan.blobs[blob].size)));
    after.trees = existing.trees.clone();
    after.trees.extend(trees.keys().filter_map(|index| places.snapshots[*index].id()));
    (after, places)
}

fn namespace(existing: &Existing) -> &Namespace {
    &existing.state.metadata.namespaces[NAMESPACE]
}

/// Renames the records, snapshots and keys of `existing` to ids like a daemon's.
fn naturalised(mut existing: Existing) -> Existing {
    let record = |id: &RecordId| RecordId::derive(&format!("drawn {id}"));
    let key = |id: &KeyId| match id.text().starts_with("sha256:") {
        true => id.clone(),
        false => KeyId::derive(&format!("drawn {id}")),
    };
    let snapshot = |key: &str| RecordId::derive(&format!("snapshot {key}")).to_string();
    let name = |name: &str| {
        let (number, key) = name.rsplit_once('/').unwrap();
        format!("{number}/{}", snapshot(key))
    };
    let mut by_id = BTreeMap::new();
    for (id, entry) in &existing.state.records.by_id {
        let mut entry = entry.clone();
        entry.parent = entry.parent.as_ref().map(record);
        entry.snapshot = entry.snapshot.as_deref().map(snapshot);
        by_id.insert(record(id), entry);
    }
    existing.state.records = Records { by_id, external: BTreeMap::new() };
    let namespace = existing.state.metadata.namespaces.get_mut(NAMESPACE).unwrap();
    let leases = std::mem::take(&mut namespace.leases);
    namespace.leases = leases
        .into_iter()
        .map(|(id, mut lease)| {
            for keys in lease.snapshots.values_mut() {
                *keys = keys.iter().map(|key| snapshot(key)).collect();
            }
            (record(&RecordId::new(id).unwrap()).to_string(), lease)
        })
        .collect();
    for table in namespace.snapshots.values_mut() {
        let rows = std::mem::take(&mut table.rows);
        table.rows = rows
            .into_iter()
            .map(|(key, mut row)| {
                row.name = name(&row.name);
                row.parent = row.parent.as_deref().map(snapshot);
                row.children = row.children.iter().map(|key| snapshot(key)).collect();
                (snapshot(&key), row)
            })
            .collect();
    }
    let by_name = std::mem::take(&mut existing.state.snapshots.by_name);
    existing.state.snapshots.by_name = by_name
        .into_iter()
        .map(|(key, mut snapshot)| {
            snapshot.parent = snapshot.parent.as_deref().map(name);
            (name(&key), snapshot)
        })
        .collect();
    let before = std::mem::take(&mut existing.state.solver);
    let solver = &mut existing.state.solver;
    for (from, links) in &before.links {
        solver.add_key(&key(from));
        for (link, to) in links {
            solver.add_link(&key(from), link.clone(), &key(to));
        }
    }
    for (from, results) in &before.results {
        for (result, time) in results {
            let id = ResultId {
                worker: result.worker.clone(),
                record: result.record.as_ref().map(record),
            };
            solver.add_result(&key(from), id, *time);
        }
    }
    existing
}

/// Checks the invariants of every state into which `plan` was converted.
fn assert_whole(existing: &Existing, plan: &Plan, places: &Places, extract: bool) {
    let State { records, snapshots, solver, .. } = &existing.state;
    let namespace = namespace(existing);
    let table = namespace.snapshots.get(SNAPSHOTTER).cloned().unwrap_or_default();
    for (id, record) in &records.by_id {
        assert!(record.parent.as_ref().is_none_or(|parent| records.by_id.contains_key(parent)));
        let lease = &namespace.leases[id.as_str()];
        let key = record.snapshot.as_ref().unwrap();
        assert!(lease.snapshots[SNAPSHOTTER].contains(key), "{id}");
        let blob = record.blob.unwrap();
        assert!(lease.content.contains(&blob) && namespace.content.contains_key(&blob), "{id}");
        assert!(existing.blobs.contains_key(&blob), "{id}");
        // A packed one may share the key of another, unpacked one, as in a daemon.
        assert!(record.blob_only.is_some() || table.rows.contains_key(key), "{id}");
    }
    let mut ids = BTreeSet::new();
    for (key, row) in &table.rows {
        let snapshot = &snapshots.by_name[&row.name];
        assert!(ids.insert(snapshot.id) && existing.trees.contains(&snapshot.id), "{key}");
        let parent = row.parent.as_ref().map(|parent| &table.rows[parent]);
        assert_eq!(snapshot.parent.as_ref(), parent.map(|parent| &parent.name));
        assert!(parent.is_none_or(|parent| parent.children.contains(key)));
        let number: u64 = row.name.split('/').nth(1).unwrap().parse().unwrap();
        assert!(number <= table.sequence && snapshot.id <= snapshots.sequence);
    }
    assert_eq!(ids.len(), snapshots.by_name.len());
    for results in solver.results.values() {
        let known = |id: &ResultId| records.by_id.contains_key(id.record.as_ref().unwrap());
        assert!(results.keys().all(known));
    }
    // Every step can be reached from all its inputs, and has the plan's results.
    let keys = steps::keys(plan, solver);
    for (step, key) in plan.steps.iter().zip(&keys) {
        assert!(solver.links.contains_key(key));
        for edge in &step.links {
            assert!(solver.has_link(&keys[edge.from], &edge.link, key), "{step:?}");
        }
        let has = |chain| {
            solver.results[key].keys().any(|id| {
                let record = &records.by_id[id.record.as_ref().unwrap()];
                record.blob_chain_id == Some(chain) && (!extract || record.blob_only.is_none())
            })
        };
        assert!(step.results.iter().all(|result| has(plan.layers[result.layer].blob_chain_id)));
    }
    for (layer, place) in plan.layers.iter().zip(&places.layers) {
        let Some(id) = place.record() else { continue };
        assert_eq!(records.by_id[id].blob_chain_id, Some(layer.blob_chain_id));
    }
}

/// Checks that everything in `before` is in `after`, except for the times of the last use and later
/// unpacking.
fn assert_kept(before: &Existing, after: &Existing) {
    let (old, new) = (&before.state, &after.state);
    assert_eq!(old.worker_id, new.worker_id);
    for (id, record) in &old.records.by_id {
        let mut kept = new.records.by_id[id].clone();
        assert!(kept.last_used_at >= record.last_used_at);
        assert!(kept.usage_count >= record.usage_count);
        kept.last_used_at = record.last_used_at;
        kept.usage_count = record.usage_count;
        if record.blob_only.is_some() && kept.blob_only.is_none() {
            kept.blob_only = record.blob_only;
            kept.snapshot.clone_from(&record.snapshot);
        }
        assert_eq!(kept, *record);
    }
    let contains = |new: &SolverCache, old: &SolverCache| {
        old.links.iter().all(|(key, links)| links.iter().all(|link| new.links[key].contains(link)))
            && old.results.iter().all(|(key, results)| {
                results.iter().all(|(id, time)| new.results[key].get(id) >= Some(time))
            })
    };
    assert!(contains(&new.solver, &old.solver));
    let Some(kept) = old.metadata.namespaces.get(NAMESPACE) else { return };
    for (digest, row) in &kept.content {
        assert_eq!(namespace(after).content[digest], *row);
    }
    for (id, lease) in &kept.leases {
        assert!(namespace(after).leases[id].content.is_superset(&lease.content));
    }
    for (key, row) in kept.snapshots.get(SNAPSHOTTER).iter().flat_map(|table| &table.rows) {
        let now = &namespace(after).snapshots[SNAPSHOTTER].rows[key];
        assert_eq!((&now.name, &now.parent), (&row.name, &row.parent));
        assert!(now.children.is_superset(&row.children));
        assert_eq!(new.snapshots.by_name[&row.name], old.snapshots.by_name[&row.name]);
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STEPS: [&str; 6] = ["u", "v", "w", "x", "y", "z"];

/// A plan from a few numbers: nodes on earlier ones, and steps on earlier ones with them as results. All use
/// the same few layers and steps, so two plans overlap.
fn any_plan() -> impl Strategy<Value = Plan> {
    let nodes = vec((0..NAMES.len(), any::<bool>(), any::<prop::sample::Index>()), 1..6);
    let inputs = vec(vec(any::<prop::sample::Index>(), 1..3), 1..3);
    let steps = vec((inputs, prop::option::of(any::<prop::sample::Index>())), 0..STEPS.len());
    (nodes, steps, any::<prop::sample::Index>()).prop_map(|(nodes, steps, start)| {
        let names: Vec<_> = nodes
            .iter()
            .map(|(name, zstd, _)| match zstd {
                true => format!("zstd of {}", NAMES[*name]),
                false => NAMES[*name].to_owned(),
            })
            .collect();
        let layers: BTreeMap<_, _> = names
            .iter()
            .zip(&nodes)
            .map(|(text, (name, zstd, _))| {
                (text, if *zstd { recompressed(NAMES[*name]) } else { plain(NAMES[*name]) })
            })
            .collect();
        let below = |index: usize, parent: &prop::sample::Index| {
            i64::try_from(parent.index(index + 1)).unwrap() - 1
        };
        let nodes: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(index, (_, _, parent))| (names[index].as_str(), below(index, parent)))
            .collect();
        let mut records = vec![json!({"digest": record("r")}), json!({"digest": record("s")})];
        for (number, (inputs, result)) in steps.iter().enumerate() {
            let link = |index: &prop::sample::Index| json!({"link": index.index(records.len())});
            let inputs: Vec<Vec<Value>> =
                inputs.iter().map(|input| input.iter().map(link).collect()).collect();
            let name = STEPS[(number + start.index(STEPS.len())) % STEPS.len()];
            let mut entry = json!({"digest": record(name), "inputs": inputs});
            let node = result.map(|result| result.index(nodes.len()));
            entry["layers"] = node.map_or(json!([]), super::super::plan::testing::result);
            records.push(entry);
        }
        let layers: Vec<_> = layers.into_values().collect();
        planned(&layers, &nodes, &Value::from(records), &STEPS)
    })
}

proptest! {
    // A case makes up to seven states.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_there_stays_and_what_is_new_is_whole(
        plans in vec((any_plan(), any::<bool>()), 1..4),
        natural in any::<bool>(),
    ) {
        let mut existing = nothing();
        for (plan, extract) in &plans {
            let (after, places) = merged(&existing, plan, *extract);
            assert_kept(&existing, &after);
            assert_whole(&after, plan, &places, *extract);
            let (again, places) = merged(&after, plan, *extract);
            prop_assert!(places.need_no_files());
            prop_assert_eq!(&again.state, &after.state);
            existing = if natural { naturalised(after) } else { after };
        }
    }

    #[test]
    fn what_a_daemon_made_itself_is_not_added_again(plan in any_plan(), extract in any::<bool>()) {
        let natural = naturalised(merged(&nothing(), &plan, extract).0);
        let (after, places) = merged(&natural, &plan, extract);
        prop_assert!(places.need_no_files());
        prop_assert_eq!(after.state, natural.state);
    }
}

/// Layers `b` and `c` on top of `a`, of the steps `x` and `y` on the root `r`.
fn plan() -> Plan {
    let records = json!([
        {"digest": record("r")},
        {"digest": record("x"), "inputs": [[{"link": 0}]], "layers": result(1)},
        {"digest": record("y"), "inputs": [[{"link": 0}]], "layers": result(2)},
    ]);
    planned(&["a", "b", "c"].map(plain), &[("a", -1), ("b", 0), ("c", 0)], &records, &["x", "y"])
}

/// Only `x` of [`plan`], with its layers compressed by another program.
fn recompressed_plan() -> Plan {
    let records = json!([
        {"digest": record("r")},
        {"digest": record("x"), "inputs": [[{"link": 0}]], "layers": result(1)},
    ]);
    let nodes = [("zstd of a", -1), ("zstd of b", 0)];
    planned(&["a", "b"].map(recompressed), &nodes, &records, &["x"])
}

fn record_of<'e>(
    existing: &'e mut Existing,
    plan: &Plan,
    layer: usize,
) -> &'e mut bkstate::records::Record {
    existing.state.records.by_id.get_mut(&plan.layers[layer].record).unwrap()
}

#[test]
fn a_layer_that_is_compressed_differently_shares_the_snapshot() {
    let (existing, _) = merged(&nothing(), &plan(), true);
    let (after, places) = merged(&existing, &recompressed_plan(), true);
    assert!(places.snapshots.iter().all(|s| matches!(s, SnapshotPlace::Existing { .. })));
    assert_eq!(places.blobs.len(), 2);
    assert_eq!(after.state.snapshots, existing.state.snapshots);
    assert_eq!(after.state.records.by_id.len(), existing.state.records.by_id.len() + 2);
}

#[test]
fn what_was_packed_is_unpacked_from_the_blob_that_is_there() {
    let plan = plan();
    let (packed, _) = merged(&nothing(), &plan, false);
    assert!(packed.trees.is_empty());
    let (after, places) = merged(&packed, &plan, true);
    assert!(places.blobs.is_empty() && !places.need_no_files());
    assert_eq!(after.trees.len(), 3);
    assert_kept(&packed, &after);
    assert_whole(&after, &plan, &places, true);
    // The other way round, unpacked ones stay unpacked.
    assert_eq!(merged(&after, &plan, false).0.state, after.state);
}

#[test]
fn below_what_is_there_nothing_is_needed() {
    let plan = plan();
    let (mut existing, _) = merged(&nothing(), &plan, true);
    // As in a merge, which is a chain of layers without records.
    let base = plan.layers[0].record.clone();
    record_of(&mut existing, &plan, 0).blob_chain_id = None;
    record_of(&mut existing, &plan, 0).chain_id = None;
    let places = Places::new(&plan, &existing, scope(true));
    assert_eq!(places.layers[LayerIndex(0)], LayerPlace::Unneeded);
    let there = LayerPlace::Existing { record: plan.layers[1].record.clone(), twins: Vec::new() };
    assert_eq!(places.layers[LayerIndex(1)], there);
    // But as soon as something new is on top of it.
    existing.state.records.by_id.remove(&plan.layers[2].record);
    let places = Places::new(&plan, &existing, scope(true));
    let LayerPlace::New(new) = &places.layers[LayerIndex(0)] else { panic!("{places:?}") };
    assert_ne!(*new, base, "an id that is taken");
}

#[test]
fn a_snapshot_that_is_not_committed_or_has_no_directory_is_made_anew_under_another_key() {
    let plan = plan();
    for has_directory in [false, true] {
        let (mut existing, places) = merged(&nothing(), &plan, true);
        let SnapshotPlace::New { id, key, .. } = places.snapshots.raw[1].clone() else { panic!() };
        if has_directory {
            let name = namespace(&existing).snapshots[SNAPSHOTTER].rows[&key].name.clone();
            existing.state.snapshots.by_name.get_mut(&name).unwrap().kind = Kind::View;
        } else {
            existing.trees.remove(&id);
        }
        record_of(&mut existing, &plan, 1).blob_only = Some(true);
        let (after, places) = merged(&existing, &plan, true);
        let SnapshotPlace::New { key: other, .. } = &places.snapshots.raw[1] else { panic!() };
        assert_ne!(*other, key);
        assert_eq!(record_of(&mut existing, &plan, 2).blob_only, None);
        let record = &after.state.records.by_id[&plan.layers[1].record];
        assert_eq!((record.snapshot.as_ref(), record.blob_only), (Some(other), None));
        let lease = &namespace(&after).leases[plan.layers[1].record.as_str()];
        assert!(lease.snapshots[SNAPSHOTTER].contains(other));
    }
}

#[test]
fn a_blob_that_a_daemon_left_at_the_registry_is_stored() {
    let plan = plan();
    let (mut existing, _) = merged(&nothing(), &plan, false);
    existing.blobs.remove(&blob("b"));
    let namespace = existing.state.metadata.namespaces.get_mut(NAMESPACE).unwrap();
    namespace.content.remove(&blob("b"));
    let lease = namespace.leases.get_mut(plan.layers[1].record.as_str()).unwrap();
    lease.content.clear();
    let (after, places) = merged(&existing, &plan, false);
    assert_eq!(places.blobs, [blob("b")].into());
    assert_whole(&after, &plan, &places, false);
}

#[test]
fn times_of_use_are_raised_and_never_lowered() {
    let plan = plan();
    let (mut existing, _) = merged(&nothing(), &plan, true);
    let used = USED.unwrap().unix_nanos();
    record_of(&mut existing, &plan, 0).last_used_at = used.map(|time| time + 1);
    record_of(&mut existing, &plan, 0).usage_count = Some(7);
    record_of(&mut existing, &plan, 1).last_used_at = used.map(|time| time - 1);
    record_of(&mut existing, &plan, 2).last_used_at = None;
    record_of(&mut existing, &plan, 2).usage_count = None;
    let (after, _) = merged(&existing, &plan, true);
    let times = |layer: usize| {
        let record = &after.state.records.by_id[&plan.layers[layer].record];
        (record.last_used_at, record.usage_count)
    };
    assert_eq!(times(0), (used.map(|time| time + 1), Some(7)));
    assert_eq!(times(1), (used, Some(1)));
    assert_eq!(times(2), (used, Some(1)));
}

#[test]
fn of_two_records_with_the_same_content_the_one_that_is_a_result_stays_the_only_one() {
    let plan = plan();
    let (mut existing, _) = merged(&nothing(), &plan, true);
    // A twin that sorts first.
    let twin = RecordId::new("0").unwrap();
    let copy = record_of(&mut existing, &plan, 1).clone();
    let leases = &mut existing.state.metadata.namespaces.get_mut(NAMESPACE).unwrap().leases;
    leases.insert(twin.to_string(), leases[plan.layers[1].record.as_str()].clone());
    existing.state.records.by_id.insert(twin, copy);
    let (after, _) = merged(&existing, &plan, true);
    assert_eq!(after.state.solver, existing.state.solver);
}

#[test]
fn a_step_that_is_known_by_one_of_its_alternatives_is_that_step() {
    let step = |inputs: Value| {
        let records = json!([
            {"digest": record("r")},
            {"digest": record("s")},
            {"digest": record("x"), "inputs": inputs, "layers": result(0)},
        ]);
        planned(&[plain("a")], &[("a", -1)], &records, &["x"])
    };
    let narrow = step(json!([[{"link": 0}]]));
    let wide = step(json!([[{"link": 0}, {"link": 1}]]));
    let (existing, _) = merged(&nothing(), &narrow, false);
    let (after, _) = merged(&existing, &wide, false);
    let keys = steps::keys(&wide, &after.state.solver).raw;
    assert_eq!(keys[2], narrow.steps[2].key);
    assert_eq!(after.state.solver.links.len(), 3);
    assert_eq!(after.state.solver.backlinks[&keys[2]].len(), 2);
    // Another op on the same input is another step.
    let other = planned(
        &[plain("a")],
        &[("a", -1)],
        &json!([
            {"digest": record("r")},
            {"digest": record("y"), "inputs": [[{"link": 0}]], "layers": result(0)},
        ]),
        &["y"],
    );
    let (after, _) = merged(&existing, &other, false);
    assert_eq!(steps::keys(&other, &after.state.solver).raw[1], other.steps[1].key);
}

#[test]
fn shares_tell_what_is_there_and_what_is_new() {
    let (existing, places) = merged(&nothing(), &recompressed_plan(), true);
    let fresh = places.shares(&recompressed_plan(), &nothing());
    assert_eq!((fresh.records.existing, fresh.records.added), (0, 2));
    let plan = plan();
    let shares = Places::new(&plan, &existing, scope(true)).shares(&plan, &existing);
    assert_eq!((shares.records.existing, shares.records.added), (0, 3));
    assert_eq!((shares.snapshots.existing, shares.snapshots.added), (2, 1));
    assert_eq!((shares.blobs.existing, shares.blobs.added), (0, 3));
    let (existing, _) = merged(&nothing(), &plan, true);
    let again = Places::new(&plan, &existing, scope(true)).shares(&plan, &existing);
    for share in [again.records, again.snapshots, again.blobs] {
        assert_eq!((share.existing, share.added), (3, 0));
    }
}

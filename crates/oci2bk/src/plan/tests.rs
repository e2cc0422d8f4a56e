mod several;

use serde_json::{Value, json};

use super::testing::*;
use super::*;

/// Returns a root record.
fn root(name: &str) -> Value {
    json!({"digest": record(name)})
}

/// Returns a record on top of the record at `link`, without a result.
fn step(name: &str, link: usize) -> Value {
    json!({"digest": record(name), "inputs": [[{"link": link}]]})
}

fn step_with(name: &str, link: usize, top: usize) -> Value {
    let mut step = step(name, link);
    step["layers"] = result(top);
    step
}

fn lost(plan: &Plan) -> Vec<(Digest, LostReason)> {
    plan.lost.iter().map(|lost| (lost.digest, lost.reason)).collect()
}

fn time(text: &str) -> Option<Time> {
    Some(text.parse().unwrap())
}

#[test]
fn one_blob_on_two_parents_is_two_layers_and_two_snapshots_of_one_blob() {
    let plan = planned(
        &[plain("a"), plain("b"), plain("c")],
        &[("a", -1), ("b", -1), ("c", 0), ("c", 1)],
        &json!([root("r"), step_with("x", 0, 2), step_with("y", 0, 3)]),
        &["x", "y"],
    );
    assert_eq!(plan.blobs.len(), 3);
    assert_eq!(plan.layers.len(), 4);
    assert_eq!(plan.snapshots.len(), 4);
    let of_c: Vec<_> = plan.layers.iter().filter(|layer| layer.blob == blob("c")).collect();
    assert_eq!(of_c.len(), 2);
    assert_ne!(of_c[0].blob_chain_id, of_c[1].blob_chain_id);
    assert_ne!(of_c[0].record, of_c[1].record);
    let below = of_c.iter().map(|layer| plan.layers[layer.parent.unwrap()].blob);
    assert_eq!(below.collect::<Vec<_>>(), [blob("a"), blob("b")]);
    assert!(plan.lost.is_empty() && plan.dropped.is_empty());
}

#[test]
fn one_layer_compressed_twice_is_two_records_of_one_snapshot() {
    let nodes = json!([
        {"blob": blob("a"), "parent": -1},
        {"blob": Digest::of("zstd of a"), "parent": -1},
    ]);
    assert_eq!(nodes[1]["blob"], recompressed("a")["digest"]);
    let plan = planned(
        &[plain("a"), recompressed("a")],
        &[("a", -1), ("zstd of a", -1)],
        &json!([root("r"), step_with("x", 0, 0), step_with("y", 0, 1)]),
        &["x", "y"],
    );
    assert_eq!(plan.blobs.len(), 2);
    assert_eq!(plan.layers.len(), 2);
    assert_ne!(plan.layers[0].record, plan.layers[1].record);
    assert_eq!(plan.snapshots.len(), 1);
    assert_eq!(plan.snapshots[0].chain_id, diff_id("a"));
    // The first blob is unpacked.
    assert_eq!(plan.snapshots[0].blob, blob("a"));
    assert!(plan.layers.iter().all(|layer| layer.snapshot == SnapshotIndex(0)));
}

#[test]
fn chains_are_named_as_image_spec_names_them() {
    let plan = planned(
        &[plain("a"), plain("b")],
        &[("a", -1), ("b", 0)],
        &json!([root("r"), step_with("x", 0, 1)]),
        &["x"],
    );
    let chain = Digest::of(format!("{} {}", diff_id("a"), diff_id("b")));
    assert_eq!(plan.snapshots[1].chain_id, chain);
    assert_eq!(plan.snapshots[1].parent, Some(SnapshotIndex(0)));
    let pair = |name: &str| Digest::of(format!("{} {}", blob(name), diff_id(name)));
    assert_eq!(plan.layers[0].blob_chain_id, pair("a"));
    let chain = Digest::of(format!("{} {}", pair("a"), pair("b")));
    assert_eq!(plan.layers[1].blob_chain_id, chain);
    assert_eq!(plan.layers[1].parent, Some(LayerIndex(0)));
}

#[test]
fn an_explicit_chain_is_stacked_in_its_own_order() {
    // c is on top of b by its node, but not in the chain.
    let explicit = json!({
        "digest": record("x"),
        "inputs": [[{"link": 0}]],
        "chains": [{"layers": [2, 0], "createdAt": "2026-11-21T20:27:19Z"}],
    });
    let plan = planned(
        &[plain("a"), plain("b"), plain("c")],
        &[("a", -1), ("b", -1), ("c", 1)],
        &json!([root("r"), explicit, step_with("y", 0, 2)]),
        &["x", "y"],
    );
    let stack = |mut layer: LayerIndex| {
        let mut blobs = vec![plan.layers[layer].blob];
        while let Some(parent) = plan.layers[layer].parent {
            layer = parent;
            blobs.insert(0, plan.layers[layer].blob);
        }
        blobs
    };
    assert_eq!(stack(plan.steps[1].results[0].layer), [blob("c"), blob("a")]);
    assert_eq!(plan.steps[1].results[0].created_at, time("2026-11-21T20:27:19Z"));
    assert_eq!(stack(plan.steps[2].results[0].layer), [blob("b"), blob("c")]);
    assert_eq!(plan.layers.len(), 4);
}

#[test]
fn an_explicit_chain_shares_layers_with_nodes_of_the_same_order() {
    let explicit = json!({
        "digest": record("x"), "inputs": [[{"link": 0}]], "chains": [{"layers": [0, 1]}],
    });
    let plan = planned(
        &[plain("a"), plain("b")],
        &[("a", -1), ("b", 0)],
        &json!([root("r"), explicit, step_with("y", 0, 1)]),
        &["x", "y"],
    );
    assert_eq!(plan.layers.len(), 2);
    assert_eq!(plan.steps[1].results[0].layer, plan.steps[2].results[0].layer);
}

#[test]
fn layers_that_no_result_needs_are_left_out() {
    let plan = planned(
        &[plain("a"), plain("b")],
        &[("a", -1), ("b", 0)],
        &json!([root("r"), step_with("x", 0, 0)]),
        &["x"],
    );
    assert_eq!(plan.layers.len(), 1);
    assert_eq!(plan.blobs.keys().collect::<Vec<_>>(), [&blob("a")]);
}

#[test]
fn without_a_key_a_step_and_all_above_are_lost_and_its_siblings_kept() {
    let plan = planned(
        &[plain("a"), described("b")],
        &[("a", -1), ("b", 0)],
        &json!([
            root("r"),
            step_with("kept", 0, 0),
            step_with("no key", 1, 1),
            step("above", 2),
            step("higher", 3),
            step("sibling", 1),
        ]),
        &["kept", "above", "higher", "sibling"],
    );
    assert_eq!(
        lost(&plan),
        [
            (record("no key"), LostReason::NoKey),
            (record("above"), LostReason::LostInput),
            (record("higher"), LostReason::LostInput),
        ]
    );
    assert_eq!(plan.unkeyed().map(|lost| lost.digest).collect::<Vec<_>>(), [record("no key")]);
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_deref()).collect();
    assert_eq!(names, [None, Some("RUN kept"), Some("RUN sibling")]);
    // Their descriptions: that of a layer, the name of the step.
    let hints: Vec<_> = plan.lost.iter().map(|lost| lost.hint.as_deref()).collect();
    assert_eq!(hints, [Some("RUN b"), Some("RUN above"), Some("RUN higher")]);
}

#[test]
fn a_lost_step_about_which_nothing_is_known_is_named_by_what_it_builds_on() {
    let plan = planned(
        &[],
        &[],
        &json!([root("r"), step("known", 0), step("lost", 1), step("first", 0)]),
        &["known"],
    );
    let hints: Vec<_> = plan.lost.iter().map(|lost| lost.hint.as_deref()).collect();
    assert_eq!(hints, [Some("a step after RUN known"), None]);
}

#[test]
fn a_result_that_lacks_a_layer_is_dropped_and_the_step_is_kept() {
    let plan = planned(
        &[plain("a")],
        &[("a", -1), ("missing", 0), ("top", 1)],
        &json!([root("r"), step_with("x", 0, 2), step_with("y", 1, 0)]),
        &["x", "y"],
    );
    let [dropped] = plan.dropped.as_slice() else { panic!("{:?}", plan.dropped) };
    assert_eq!((dropped.record, dropped.missing), (record("x"), blob("missing")));
    assert_eq!(dropped.name.as_deref(), Some("RUN x"));
    assert!(plan.steps[1].results.is_empty());
    assert_eq!(plan.steps[2].results.len(), 1);
    assert_eq!(plan.layers.len(), 1);
}

#[test]
fn the_same_step_on_other_inputs_is_another_key() {
    let plan = planned(
        &[],
        &[],
        &json!([root("r"), root("s"), step("x", 0), step("x", 1), step("y", 2), step("y", 3)]),
        &["x", "y"],
    );
    let keys: std::collections::BTreeSet<_> = plan.steps.iter().map(|step| &step.key).collect();
    assert_eq!(keys.len(), 6);
    // And so is one that only uses another part of its input.
    let part = json!({"digest": record("x"), "inputs": [[{"link": 0, "selector": "sha256:a"}]]});
    let plan = planned(&[], &[], &json!([root("r"), step("x", 0), part]), &["x"]);
    assert_ne!(plan.steps[1].key, plan.steps[2].key);
}

#[test]
fn records_that_say_the_same_are_one_step_with_the_results_of_all() {
    let plan = planned(
        &[plain("a"), plain("b")],
        &[("a", -1), ("b", -1)],
        &json!([root("r"), step_with("x", 0, 0), step_with("x", 0, 1), step_with("x", 0, 1),]),
        &["x"],
    );
    assert_eq!(plan.steps.len(), 2);
    let layers: Vec<_> = plan.steps[1].results.iter().map(|result| result.layer).collect();
    assert_eq!(layers, [0, 1].map(LayerIndex));
}

#[test]
fn the_key_of_a_root_is_the_digest_in_the_export() {
    let plan = planned(&[], &[], &json!([root("r")]), &[]);
    assert_eq!(plan.steps[0].key.text(), record("r").to_string());
}

#[test]
fn links_carry_the_op_digest_the_input_and_the_selector() {
    let two_inputs = json!({
        "digest": record("x"),
        "inputs": [[{"link": 0}, {"link": 1, "selector": "sha256:a"}], [{"link": 1}]],
    });
    let plan = planned(&[], &[], &json!([root("r"), root("s"), two_inputs]), &["x"]);
    let link = |from, input, selector: &str| {
        let digest = op("x").as_str().into();
        let link = Link { input, output: 0, digest, selector: selector.to_owned() };
        (StepIndex(from), link)
    };
    let links = plan.steps[2].links.iter().map(|edge| (edge.from, edge.link.clone()));
    assert_eq!(links.collect::<Vec<_>>(), [link(0, 0, ""), link(1, 0, "sha256:a"), link(1, 1, "")]);
}

#[test]
fn an_alternative_that_is_lost_does_not_lose_the_step() {
    let either =
        json!({"digest": record("x"), "inputs": [[{"link": 0}, {"link": 1}], [{"link": 0}]]});
    let both = json!({"digest": record("y"), "inputs": [[{"link": 0}], [{"link": 1}]]});
    let plan = planned(&[], &[], &json!([root("r"), step("lost", 0), either, both]), &["x", "y"]);
    assert_eq!(
        lost(&plan),
        [(record("lost"), LostReason::NoKey), (record("y"), LostReason::LostInput)]
    );
    let links: Vec<_> =
        plan.steps[1].links.iter().map(|edge| (edge.from.0, edge.link.input)).collect();
    assert_eq!(links, [(0, 0), (0, 1)]);
}

#[test]
fn times_and_descriptions_come_from_the_layer_and_else_from_the_step() {
    let dated = |name: &str, link: usize, top: usize| {
        let mut step = step(name, link);
        step["layers"] = json!([{"layer": top, "createdAt": "2026-01-02T03:04:05Z"}]);
        step
    };
    let plan = planned(
        &[described("a"), plain("b"), plain("c")],
        &[("a", -1), ("b", -1), ("c", -1)],
        &json!([root("r"), dated("x", 0, 0), dated("y", 0, 1), step_with("z", 0, 2)]),
        &["x", "y", "z"],
    );
    let told: Vec<_> =
        plan.layers.iter().map(|l| (l.created_at, l.description.as_deref())).collect();
    let of_step = time("2026-01-02T03:04:05Z");
    assert_eq!(
        told,
        [
            (time("2026-11-21T20:27:19.5Z"), Some("RUN a")),
            (of_step, Some("RUN y")),
            (None, Some("RUN z")),
        ]
    );
    assert_eq!(plan.blobs[&blob("b")].created_at, None);
    assert_eq!(plan.newest(), time("2026-11-21T20:27:19.5Z"));
    // A layer of unknown time gets the time of the first step on top of it.
    let plan = planned(
        &["a", "b", "c"].map(plain),
        &[("a", -1), ("b", 0), ("c", 0)],
        &json!([root("r"), dated("x", 0, 1), step_with("y", 0, 2)]),
        &["x", "y"],
    );
    let times: Vec<_> = plan.layers.iter().map(|layer| layer.created_at).collect();
    assert_eq!(times, [of_step, of_step, None]);
    assert_eq!(planned(&[], &[], &json!([root("r")]), &[]).newest(), None);
}

#[test]
fn annotations_are_kept_except_those_that_the_daemon_derives() {
    let toc = "containerd.io/snapshot/stargz/toc.digest";
    // And those for which a daemon's label has no space.
    let longest = "v".repeat(4096 - layers::LABEL_ANNOTATION.len() - toc.len());
    for (value, is_kept) in
        [("sha256:toc", true), (&longest, true), (&(longest.clone() + "v"), false)]
    {
        let plan = planned(
            &[with_annotation(described("a"), toc, value)],
            &[("a", -1)],
            &json!([root("r"), step_with("x", 0, 0)]),
            &["x"],
        );
        let kept = is_kept.then(|| (toc.to_owned(), value.to_owned()));
        assert_eq!(plan.blobs[&blob("a")].annotations, BTreeMap::from_iter(kept));
    }
}

#[test]
fn a_plan_is_the_same_every_time_and_in_any_order_of_the_records() {
    let layers = [described("a"), plain("b"), plain("c")];
    let nodes = [("a", -1), ("b", 0), ("c", 0)];
    let records = json!([root("r"), step_with("x", 0, 1), step_with("y", 1, 2), step("z", 1)]);
    let json = |records: &Value| {
        let plan = planned(&layers, &nodes, records, &["x", "y"]);
        let mut json = serde_json::to_value(&plan).unwrap();
        // The path of the layout, and the digest of its manifest.
        json["sources"][0].take();
        json["worker_id"].take();
        json
    };
    assert_eq!(json(&records).to_string(), json(&records).to_string());
    let backwards = json!([step("z", 2), step_with("y", 2, 2), step_with("x", 3, 1), root("r")]);
    let keys = |plan: &Value| {
        let steps = plan["steps"].as_array().unwrap();
        steps.iter().map(|step| step["key"].to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(keys(&json(&records)), keys(&json(&backwards)));
}

#[test]
fn the_json_of_a_plan_has_the_names_of_its_fields() {
    let plan = planned(
        &[plain("a")],
        &[("a", -1)],
        &json!([root("r"), step_with("x", 0, 0), step("lost", 0)]),
        &["x"],
    );
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["steps"][1]["name"], "RUN x");
    assert_eq!(json["steps"][1]["links"][0]["op_digest"], op("x").as_str());
    assert_eq!(json["steps"][1]["results"][0]["layer"], 0);
    assert_eq!(json["lost"][0]["reason"], "no-key");
    assert_eq!(json["sources"][0]["style"], "image-manifest");
}

/// A chain of layers and steps, and as many results of one step, so that anything non-linear would take
/// minutes.
#[test]
fn ten_thousand_layers_and_steps_are_planned() {
    const DEPTH: usize = 10_000;
    let names: Vec<_> = (0..DEPTH).map(|n| n.to_string()).collect();
    let layers: Vec<_> = names.iter().map(|name| plain(name)).collect();
    let nodes: Vec<_> = (-1..).zip(&names).map(|(parent, name)| (name.as_str(), parent)).collect();
    let mut records = vec![root("root")];
    records.extend(names.iter().enumerate().map(|(n, name)| step_with(name, n, n)));
    let all: Vec<_> = (0..DEPTH).map(|layer| json!({"layer": layer})).collect();
    let mut wide = step("wide", 0);
    wide["layers"] = Value::from(vec![all; 50].concat());
    records.push(wide);
    let (_layout, export) = export(&layers, &nodes, &Value::from(records));
    let mut keys: Vec<_> = names.iter().map(String::as_str).collect();
    keys.push("wide");
    let keyring = keyring(&keys);
    let plan = Plan::new(&[export], &keyring).unwrap();
    assert_eq!((plan.layers.len(), plan.steps.len()), (DEPTH, DEPTH + 2));
    assert_eq!(plan.steps.last().unwrap().results.len(), DEPTH);
}

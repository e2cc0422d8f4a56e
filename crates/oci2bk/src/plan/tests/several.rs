//! Plans of several exports.

use super::*;

#[test]
fn what_two_exports_have_in_common_is_planned_once() {
    let layers = [plain("a"), plain("b"), plain("c")];
    let first = export(
        &layers[..2],
        &[("a", -1), ("b", 0)],
        &json!([root("r"), step_with("x", 0, 0), step_with("y", 1, 1)]),
    );
    let second = export(
        &layers,
        &[("c", 1), ("a", -1)],
        &json!([step_with("z", 1, 0), step_with("x", 2, 1), root("r")]),
    );
    let plan = Plan::new(&[first.1, second.1], &keyring(&["x", "y", "z"])).unwrap();
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_deref()).collect();
    assert_eq!(names, [None, Some("RUN x"), Some("RUN y"), Some("RUN z")]);
    assert_eq!(plan.layers.len(), 3);
    assert_eq!(plan.snapshots.len(), 3);
    assert_eq!(plan.steps[1].results.len(), 1);
    let sources: Vec<_> = ["a", "b", "c"].map(|name| plan.blobs[&blob(name)].source).into();
    assert_eq!(sources, [0, 0, 1].map(SourceIndex));
    assert_eq!(plan.sources.len(), 2);
}

/// Returns the plan of two exports with the layer `a`, each with another descriptor.
fn described_twice(first: Value, second: Value) -> Result<Plan, PlanError> {
    let records = json!([root("r"), step_with("x", 0, 0)]);
    let of = |layer: Value| export(&[layer], &[("a", -1)], &records);
    let ((_first, first), (_second, second)) = (of(first), of(second));
    Plan::new(&[first, second], &keyring(&["x"]))
}

#[test]
fn exports_that_contradict_each_other_about_a_blob_are_refused_and_both_named() {
    let with = |name: &str, value: Value| {
        let mut layer = plain("a");
        layer[name] = value;
        layer
    };
    let other_diff_id = json!({"containerd.io/uncompressed": diff_id("b")});
    let size = plain("a")["size"].as_u64().unwrap();
    let cases = [
        (with("annotations", other_diff_id), "diffID"),
        (with("size", json!(size + 1)), "bytes"),
        (with("mediaType", json!("application/vnd.oci.image.layer.v1.tar")), "not compressed"),
    ];
    for (other, about) in cases {
        for [first, second] in [[plain("a"), other.clone()], [other.clone(), plain("a")]] {
            let error = described_twice(first, second).unwrap_err();
            let PlanError::Conflict { layer, what, first, second } = &error else {
                panic!("{error}")
            };
            assert_eq!(*layer, blob("a"));
            assert!(what.to_string().contains(about), "{what}");
            assert_ne!(first, second);
            assert!(error.to_string().contains(&format!("{first} and {second}")), "{error}");
        }
    }
}

#[test]
fn an_export_that_was_changed_and_lacks_a_layer_of_a_result_is_refused() {
    let [node, chain] = [json!({"layers": result(1)}), json!({"chains": [{"layers": [1, 0]}]})];
    for (mut record, lost) in [(&node, "a"), (&node, "b"), (&chain, "a"), (&chain, "b")]
        .map(|(record, lost)| (record.clone(), lost))
    {
        record["digest"] = json!(Digest::of("r"));
        let nodes = [("a", -1), ("b", 0)];
        let (_layout, mut export) = export(&["a", "b"].map(plain), &nodes, &json!([record]));
        export.manifest.layers.remove(&blob(lost));
        let error = Plan::new(&[export], &keyring(&[])).unwrap_err();
        assert!(matches!(&error, PlanError::Undescribed { layer, .. } if *layer == blob(lost)));
        assert!(error.to_string().contains("which it does not describe"), "{error}");
    }
}

#[test]
fn a_blob_on_which_exports_do_not_disagree_has_what_all_say() {
    let said = |name: &str, value: &str| with_annotation(plain("a"), name, value);
    let annotations = |first: Value, second: Value| {
        let plan = described_twice(first, second).unwrap();
        plan.blobs[&blob("a")].annotations.clone()
    };
    assert_eq!(annotations(said("toc", "1"), said("toc", "1")).len(), 1);
    for other in [plain("a"), said("toc", "2"), said("title", "1")] {
        assert!(annotations(said("toc", "1"), other.clone()).is_empty());
        assert!(annotations(other, said("toc", "1")).is_empty());
    }
    let time = |first: Value, second: Value| {
        described_twice(first, second).unwrap().blobs[&blob("a")].created_at
    };
    let made = |day: &str| said("buildkit/createdat", &format!("2026-11-{day}T00:00:00Z"));
    assert_eq!(time(made("02"), made("01")), time(made("01"), made("02")));
    assert_eq!(time(made("02"), plain("a")), time(plain("a"), made("02")));
}

#[test]
fn a_blob_that_exports_call_by_several_media_types_gets_the_plain_one() {
    let called = |media_type: &str| {
        let mut layer = plain("a");
        layer["mediaType"] = media_type.into();
        layer
    };
    let oci = "application/vnd.oci.image.layer.v1.tar+gzip";
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (first, second, expected) in
        [(docker, docker, docker), (docker, oci, oci), (oci, foreign, oci), (foreign, docker, oci)]
    {
        let plan = described_twice(called(first), called(second)).unwrap();
        assert_eq!(plan.blobs[&blob("a")].media_type, expected);
    }
}

#[test]
fn the_worker_id_follows_from_all_exports() {
    let make = |name: &str| export(&[], &[], &json!([root(name)])).1;
    let worker = |names: &[&str]| {
        let exports: Vec<_> = names.iter().map(|name| make(name)).collect();
        Plan::new(&exports, &keyring(&[])).unwrap().worker_id
    };
    assert_eq!(worker(&["a", "b"]), worker(&["a", "b"]));
    assert_ne!(worker(&["a", "b"]), worker(&["a"]));
    assert_ne!(worker(&["a"]), worker(&["b"]));
}

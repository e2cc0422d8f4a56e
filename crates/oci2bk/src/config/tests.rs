use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn blob(name: &str) -> Digest {
    Digest::of(name)
}

/// Returns descriptors for the layer blobs with these names.
fn blobs(names: &[&str]) -> BTreeMap<Digest, LayerBlob> {
    let describe = |name: &&str| {
        let digest = blob(name);
        let descriptor = serde_json::from_value(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest,
            "size": 1,
            "annotations": {"containerd.io/uncompressed": digest},
        }));
        (digest, LayerBlob::from_descriptor(descriptor.unwrap()).unwrap())
    };
    names.iter().map(describe).collect()
}

fn parse(config: &Value) -> Result<CacheConfig, ConfigError> {
    CacheConfig::parse(config.to_string().as_bytes(), &blobs(&["a", "b", "c"]))
}

/// Parses a config with three layers, c on b on a, and these records.
fn with_records(records: Value) -> Result<CacheConfig, ConfigError> {
    parse(&json!({
        "layers": [
            {"blob": blob("a"), "parent": -1},
            {"blob": blob("b")},
            {"blob": blob("c"), "parent": 1},
        ],
        "records": records,
    }))
}

fn record(members: Value) -> Value {
    let mut record = json!({"digest": Digest::of("record")});
    record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    record
}

#[test]
fn a_config_as_buildkit_writes_it() {
    let config = with_records(json!([
        {"digest": Digest::of("root")},
        {
            "digest": Digest::of("run"),
            "layers": [
                {"layer": 2, "createdAt": "2026-11-21T20:27:19.5Z"},
                {"layer": 0, "createdAt": "0001-01-01T00:00:00Z"},
            ],
            "inputs": [[{"link": 0}, {"selector": "sha256:sel", "link": 0}], [{"link": 0}]],
            "unknown": {"members": "are ignored"},
        },
    ]))
    .unwrap();
    let node = |name, parent| Node { blob: blob(name), parent };
    assert_eq!(
        config.nodes,
        [node("a", None), node("b", Some(NodeIndex(0))), node("c", Some(NodeIndex(1)))]
    );
    let root = Record { digest: Digest::of("root"), results: vec![], inputs: vec![] };
    assert_eq!(config.records[0], root);
    let run = &config.records[1];
    let time = "2026-11-21T20:27:19.5Z".parse().ok();
    let result = |top, created_at| ResultChain { chain: Chain::Top(NodeIndex(top)), created_at };
    assert_eq!(run.results, [result(2, time), result(0, None)]);
    let input = |selector: &str| Input { selector: selector.to_owned(), record: RecordIndex(0) };
    assert_eq!(run.inputs, [vec![input(""), input("sha256:sel")], vec![input("")]]);
    assert_eq!(config.layers(&run.results[0].chain), [0, 1, 2].map(NodeIndex));
    assert_eq!(config.layers(&run.results[1].chain), [NodeIndex(0)]);
    assert!(config.dropped.is_empty());
}

#[test]
fn an_explicit_chain_ignores_parents() {
    let config = with_records(json!([record(json!({"chains": [{"layers": [2, 0, 2]}]}))])).unwrap();
    let result = &config.records[0].results[0];
    let nodes = [2, 0, 2].map(NodeIndex);
    let lower = nodes[..2].to_vec();
    assert_eq!(result.chain, Chain::Explicit { lower, top: NodeIndex(2) });
    assert_eq!(result.created_at, None);
    assert_eq!(config.layers(&result.chain), nodes);
}

#[test]
fn absent_and_null_lists_are_empty() {
    for text in ["{}", r#"{"layers":null,"records":null}"#] {
        let config = CacheConfig::parse(text.as_bytes(), &BTreeMap::new()).unwrap();
        assert!(config.nodes.is_empty() && config.records.is_empty());
    }
    let null = json!({"layers": null, "chains": null, "inputs": null});
    assert!(with_records(json!([record(null)])).unwrap().records[0].results.is_empty());
}

#[test]
fn an_absent_parent_is_layer_0_so_layer_0_without_one_is_a_loop() {
    let error = parse(&json!({"layers": [{"blob": blob("a")}]})).unwrap_err();
    assert!(matches!(error, ConfigError::ParentLoop { layer: NodeIndex(0) }), "{error}");
    assert_eq!(error.to_string(), "layer 0 of the cache config is its own ancestor");
}

#[test]
fn parent_loops_are_refused() {
    let layer = |parent: i64| json!({"blob": blob("a"), "parent": parent});
    let layers = [layer(-1), layer(3), layer(1), layer(2), layer(0)];
    let error = parse(&json!({"layers": layers})).unwrap_err();
    assert!(matches!(error, ConfigError::ParentLoop { layer: NodeIndex(1..=3) }), "{error}");
    assert_eq!(error.to_string(), "layer 1 of the cache config is its own ancestor");
}

#[test]
fn indexes_out_of_range_are_refused() {
    for wrong in [-2, 1, i64::MAX, i64::MIN] {
        let error = parse(&json!({"layers": [{"blob": blob("a"), "parent": wrong}]})).unwrap_err();
        assert!(
            matches!(error, ConfigError::NoParent { layer: NodeIndex(0), parent } if parent == wrong),
            "{error}"
        );
        assert!(
            error.to_string().starts_with("layer 0 of the cache config has the parent "),
            "{error}"
        );
    }
    for wrong in [-1, 3, i64::MAX, i64::MIN] {
        for members in
            [json!({"layers": [{"layer": wrong}]}), json!({"chains": [{"layers": [0, wrong]}]})]
        {
            let error = with_records(json!([record(members)])).unwrap_err();
            assert!(
                matches!(error, ConfigError::NoLayer { record: RecordIndex(0), layer, .. } if layer == wrong),
                "{error}"
            );
            assert!(error.to_string().contains(") has a result with layer "), "{error}");
        }
        let members = json!({"inputs": [[{"link": wrong}]]});
        let error = with_records(json!([record(members)])).unwrap_err();
        assert!(
            matches!(error, ConfigError::NoRecord { record: RecordIndex(0), link, .. } if link == wrong),
            "{error}"
        );
        assert!(error.to_string().contains(") links to record "), "{error}");
    }
}

#[test]
fn record_loops_are_refused() {
    let to = |links: &[usize]| {
        let inputs: Vec<_> = links.iter().map(|link| json!([{"link": link}])).collect();
        record(json!({"inputs": inputs}))
    };
    for records in [
        json!([to(&[0])]),
        json!([to(&[1]), to(&[0])]),
        json!([to(&[]), to(&[0, 2]), to(&[0, 3]), to(&[0, 1])]),
    ] {
        let error = with_records(records).unwrap_err();
        assert!(matches!(error, ConfigError::RecordLoop { .. }), "{error}");
        assert!(error.to_string().ends_with(") is an input of itself"), "{error}");
    }
    // Two paths to the same record are not a loop.
    with_records(json!([to(&[]), to(&[0, 0]), to(&[0, 1]), to(&[1, 2])])).unwrap();
}

#[test]
fn an_input_or_a_result_of_nothing_is_refused() {
    let empty = record(json!({"inputs": [[{"link": 0}], []]}));
    let error = with_records(json!([{"digest": blob("root")}, empty])).unwrap_err();
    assert!(
        matches!(error, ConfigError::EmptyInput { record: RecordIndex(1), input: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().ends_with(") has nothing to match its input 1"), "{error}");
    let error = with_records(json!([record(json!({"chains": [{"layers": []}]}))])).unwrap_err();
    assert!(matches!(error, ConfigError::EmptyChain { record: RecordIndex(0), .. }), "{error}");
    assert!(error.to_string().ends_with(") has a result without layers"), "{error}");
}

#[test]
fn malformed_configs_are_refused() {
    let digest = blob("a");
    for text in [
        "".to_owned(),
        "null".to_owned(),
        r#"{"layers":[{"blob":"#.to_owned(),
        r#"{"layers":[],"layers":[]}"#.to_owned(),
        r#"{"layers":[{"parent":-1}]}"#.to_owned(),
        r#"{"layers":[{"blob":"sha256:../../etc/passwd","parent":-1}]}"#.to_owned(),
        format!(r#"{{"layers":[{{"blob":"{digest}","parent":-1,"parent":0}}]}}"#),
        format!(r#"{{"layers":[{{"blob":"{digest}","parent":0.5}}]}}"#),
        format!(r#"{{"layers":[{{"blob":"{digest}","parent":9223372036854775808}}]}}"#),
        r#"{"records":[{}]}"#.to_owned(),
        r#"{"records":[{"digest":"random:x"}]}"#.to_owned(),
        format!(r#"{{"records":[{{"digest":"{digest}","layers":[{{}}]}}]}}"#),
        format!(r#"{{"records":[{{"digest":"{digest}","chains":[{{}}]}}]}}"#),
        format!(r#"{{"records":[{{"digest":"{digest}","inputs":[[{{}}]]}}]}}"#),
        format!(
            r#"{{"records":[{{"digest":"{digest}","layers":[{{"layer":0,"createdAt":""}}]}}]}}"#
        ),
    ] {
        let error = CacheConfig::parse(text.as_bytes(), &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, ConfigError::Json(_)), "{text}: {error}");
        assert_eq!(error.to_string(), "the JSON of the cache config is malformed");
    }
}

#[test]
fn results_that_lack_a_layer_are_dropped_and_reported() {
    let config = json!({
        "layers": [
            {"blob": blob("a"), "parent": -1},
            {"blob": blob("gone")},
            {"blob": blob("b"), "parent": 1},
            {"blob": blob("gone too"), "parent": 2},
        ],
        "records": [record(json!({
            "layers": [{"layer": 3}, {"layer": 0}, {"layer": 2}],
            "chains": [{"layers": [0, 2]}, {"layers": [2, 3, 1]}],
        }))],
    });
    let config = parse(&config).unwrap();
    let chains: Vec<_> = config.records[0].results.iter().map(|result| &result.chain).collect();
    let explicit = Chain::Explicit { lower: vec![NodeIndex(0)], top: NodeIndex(2) };
    assert_eq!(chains, [&Chain::Top(NodeIndex(0)), &explicit]);
    let dropped =
        |missing| DroppedResult { record: RecordIndex(0), digest: Digest::of("record"), missing };
    let gone = || dropped(blob("gone"));
    assert_eq!(config.dropped, [gone(), gone(), dropped(blob("gone too"))]);
}

#[test]
fn records_with_one_digest_are_kept_apart() {
    let run = |link: usize| record(json!({"inputs": [[{"link": link}]]}));
    let root = |name| json!({"digest": blob(name)});
    let config = with_records(json!([root("x"), root("y"), run(0), run(1), root("x")])).unwrap();
    assert_eq!(config.records.len(), 5);
    assert_eq!(config.records[2].digest, config.records[3].digest);
}

#[test]
fn a_chain_10000_layers_deep_under_each_of_10000_results_stays_linear() {
    const DEPTH: usize = 10_000;
    // Each parent comes after its child, which is the worst order for the walk.
    let layer = |n: usize| {
        let parent = if n + 1 == DEPTH { -1 } else { n as i64 + 1 };
        json!({"blob": blob("a"), "parent": parent})
    };
    let layers: Vec<_> = (0..DEPTH).map(layer).collect();
    let results: Vec<_> = (0..DEPTH).map(|layer| json!({"layer": layer})).collect();
    let records = [record(json!({"layers": results}))];
    let config = parse(&json!({"layers": layers, "records": records})).unwrap();
    assert_eq!(config.records[0].results.len(), DEPTH);
    let layers = config.layers(&config.records[0].results[0].chain);
    assert!(layers.into_iter().eq((0..DEPTH).rev().map(NodeIndex)));
}

#[test]
fn a_million_records_in_one_chain_are_ordered_without_recursion() {
    const COUNT: usize = 1_000_000;
    let link = |record| vec![vec![Input { selector: String::new(), record: RecordIndex(record) }]];
    let record = |n| Record {
        digest: Digest::of("record"),
        results: vec![],
        inputs: if n + 1 == COUNT { vec![] } else { link(n + 1) },
    };
    let records: Vec<_> = (0..COUNT).map(record).collect();
    let order = order::inputs_first(&records).unwrap();
    assert!(order.into_iter().eq((0..COUNT).rev().map(RecordIndex)));
}

proptest! {
    #[test]
    fn orders_put_what_is_referred_to_first(
        parents in proptest::collection::vec(any::<u16>(), 1..50),
        links in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 0..4), 1..50),
        reversed in any::<bool>(),
    ) {
        // All references point downwards, or upwards if reversed, so that there is no loop.
        let below = |n: usize, of: usize, pick: u16| {
            let target = if n == 0 { return None } else { usize::from(pick) % n };
            Some(if reversed { of - 1 - target } else { target })
        };
        let place = |n: usize, of: usize| if reversed { of - 1 - n } else { n };
        let mut layers = vec![Value::Null; parents.len()];
        for (n, &pick) in parents.iter().enumerate() {
            let parent = below(n, parents.len(), pick).map_or(-1, |parent| parent as i64);
            layers[place(n, parents.len())] = json!({"blob": blob("a"), "parent": parent});
        }
        let mut records = vec![Value::Null; links.len()];
        for (n, picks) in links.iter().enumerate() {
            let inputs: Vec<_> = picks
                .iter()
                .filter_map(|&pick| below(n, links.len(), pick))
                .map(|link| json!([{"link": link}]))
                .collect();
            records[place(n, links.len())] = record(json!({"inputs": inputs}));
        }
        let config = parse(&json!({"layers": layers, "records": records})).unwrap();

        let mut done = vec![false; config.nodes.len()];
        for &node in config.nodes_parents_first() {
            prop_assert!(config.nodes[node].parent.is_none_or(|parent| done[parent.0]));
            prop_assert!(!std::mem::replace(&mut done[node.0], true));
        }
        prop_assert!(done.into_iter().all(|done| done));
        let mut done = vec![false; config.records.len()];
        for &record in config.records_inputs_first() {
            prop_assert!(config.records[record].inputs.iter().flatten().all(|i| done[i.record.0]));
            prop_assert!(!std::mem::replace(&mut done[record.0], true));
        }
        prop_assert!(done.into_iter().all(|done| done));
    }

    #[test]
    fn any_references_give_a_config_or_an_error(
        parents in proptest::collection::vec(-2..8_i64, 0..8),
        links in proptest::collection::vec(proptest::collection::vec(-1..8_i64, 0..3), 0..8),
        tops in proptest::collection::vec(-1..8_i64, 0..8),
    ) {
        let layer = |parent: &i64| json!({"blob": blob("a"), "parent": parent});
        let layers: Vec<_> = parents.iter().map(layer).collect();
        let results: Vec<_> = tops.iter().map(|layer| json!({"layer": layer})).collect();
        let with_links = |links: &Vec<i64>| {
            let alternatives: Vec<_> = links.iter().map(|link| json!({"link": link})).collect();
            record(json!({"inputs": [alternatives], "layers": results}))
        };
        let records: Vec<_> = links.iter().map(with_links).collect();
        if let Ok(config) = parse(&json!({"layers": layers, "records": records})) {
            for result in config.records.iter().flat_map(|record| &record.results) {
                prop_assert!(config.layers(&result.chain).len() <= config.nodes.len());
            }
        }
    }
}

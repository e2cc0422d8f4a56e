//! Cache configs with circular or dangling references.

use bkstate::Digest;
use oci2bk::config::{ConfigError, MAX_SELECTOR, NodeIndex, RecordIndex};
use oci2bk::export::ExportError;
use serde_json::{Value, json};

use super::*;

fn digest(n: usize) -> Digest {
    Digest::of(n.to_string())
}

/// Returns why a layout with this cache config, and a layer, is rejected.
fn refused(config: impl AsRef<[u8]>) -> ConfigError {
    let layout = Layout::new();
    let layer = layout.layer("file");
    layout.cache(&[layer], config);
    match export_error(layout.path()) {
        ExportError::Config { source, .. } => source,
        error => panic!("{error:?}"),
    }
}

fn layers(parents: &[i64]) -> Value {
    let layers = parents.iter().map(|parent| json!({"blob": digest(0), "parent": parent}));
    json!({"layers": layers.collect::<Vec<_>>()})
}

/// Returns a record for each list of inputs.
fn records(links: &[&[i64]]) -> Value {
    let record = |(n, links): (usize, &&[i64])| {
        let inputs: Vec<_> = links.iter().map(|link| json!([{"link": link}])).collect();
        json!({"digest": digest(n), "inputs": inputs})
    };
    json!({"records": links.iter().enumerate().map(record).collect::<Vec<_>>()})
}

#[test]
fn parents_in_circles() {
    for parents in [&[0][..], &[1, 0], &[1, 2, 0], &[-1, 2, 1], &[1, 1]] {
        let error = refused(layers(parents).to_string());
        assert!(matches!(error, ConfigError::ParentLoop { .. }), "{parents:?}: {error:?}");
        assert!(error.to_string().ends_with(" of the cache config is its own ancestor"), "{error}");
    }
    // A cycle of ten thousand.
    let parents: Vec<_> = (1..10_000).chain([0]).collect();
    let error = refused(layers(&parents).to_string());
    assert!(matches!(error, ConfigError::ParentLoop { .. }), "{error}");
    assert_eq!(error.to_string(), "layer 0 of the cache config is its own ancestor");
    // A missing parent means layer 0.
    let error = refused(json!({"layers": [{"blob": digest(0)}]}).to_string());
    assert!(matches!(error, ConfigError::ParentLoop { layer: NodeIndex(0) }), "{error:?}");
    assert_eq!(error.to_string(), "layer 0 of the cache config is its own ancestor");
}

#[test]
fn records_in_circles() {
    for links in [&[&[0][..]][..], &[&[1], &[0]], &[&[1], &[2], &[0]], &[&[], &[0, 1]]] {
        let error = refused(records(links).to_string());
        assert!(matches!(error, ConfigError::RecordLoop { .. }), "{links:?}: {error:?}");
        assert!(error.to_string().ends_with(") is an input of itself"), "{error}");
    }
    let links: Vec<Vec<i64>> = (1..10_000).chain([0]).map(|link| vec![link]).collect();
    let links: Vec<&[i64]> = links.iter().map(Vec::as_slice).collect();
    let error = refused(records(&links).to_string());
    assert!(matches!(error, ConfigError::RecordLoop { .. }), "{error}");
    assert!(error.to_string().ends_with(") is an input of itself"), "{error}");
}

#[test]
fn references_out_of_range() {
    for wrong in [1, 2, -2, i64::MAX, i64::MIN, 1 << 32, (1 << 32) - 1] {
        let error = refused(layers(&[wrong]).to_string());
        assert!(
            matches!(error, ConfigError::NoParent { layer: NodeIndex(0), .. }),
            "{wrong}: {error:?}"
        );
        assert!(
            error.to_string().starts_with("layer 0 of the cache config has the parent "),
            "{error}"
        );
        let error = refused(records(&[&[wrong]]).to_string());
        assert!(
            matches!(error, ConfigError::NoRecord { record: RecordIndex(0), .. }),
            "{wrong}: {error:?}"
        );
        assert!(error.to_string().contains(") links to record "), "{error}");
        let results = [
            json!({"digest": digest(0), "layers": [{"layer": wrong}]}),
            json!({"digest": digest(0), "chains": [{"layers": [0, wrong]}]}),
        ];
        for record in results {
            let mut config = layers(&[-1]);
            config["records"] = json!([record]);
            let error = refused(config.to_string());
            assert!(
                matches!(error, ConfigError::NoLayer { record: RecordIndex(0), .. }),
                "{wrong}: {error:?}"
            );
            assert!(error.to_string().contains(") has a result with layer "), "{error}");
        }
    }
    // -1 means no parent, but it is not a valid layer or record.
    let error = refused(records(&[&[-1]]).to_string());
    assert!(matches!(error, ConfigError::NoRecord { .. }), "{error}");
    assert!(error.to_string().ends_with(") links to record -1, which is not there"), "{error}");
}

#[test]
fn numbers_that_are_none() {
    for number in [
        "1.5",
        "1e0",
        "NaN",
        "-NaN",
        "Infinity",
        "1e999",
        "0x0",
        "00",
        "+0",
        "\"0\"",
        "9223372036854775808",
        "-9223372036854775809",
        "null",
        "[0]",
        "true",
        "",
    ] {
        for config in [
            format!(r#"{{"layers":[{{"blob":"{}","parent":{number}}}]}}"#, digest(0)),
            format!(
                r#"{{"records":[{{"digest":"{}","inputs":[[{{"link":{number}}}]]}}]}}"#,
                digest(0)
            ),
            format!(
                r#"{{"records":[{{"digest":"{}","layers":[{{"layer":{number}}}]}}]}}"#,
                digest(0)
            ),
        ] {
            let error = refused(&config);
            assert!(matches!(error, ConfigError::Json(_)), "{config}");
            assert_eq!(error.to_string(), "the JSON of the cache config is malformed");
        }
    }
}

#[test]
fn inputs_and_results_of_nothing() {
    for (record, empty) in [
        (json!({"digest": digest(0), "inputs": [[]]}), "input"),
        (json!({"digest": digest(0), "chains": [{"layers": []}]}), "chain"),
        (json!({"digest": digest(0), "chains": [{"layers": null}]}), "chain"),
    ] {
        let error = refused(json!({"records": [record]}).to_string());
        match (&error, empty) {
            (ConfigError::EmptyInput { .. }, "input")
            | (ConfigError::EmptyChain { .. }, "chain") => {}
            _ => panic!("{record}: {error:?}"),
        }
    }
    for record in [json!({}), json!({"digest": digest(0), "layers": [{}]}), json!(null), json!([])]
    {
        let error = refused(json!({"records": [record]}).to_string());
        assert!(matches!(error, ConfigError::Json(_)), "{record}: {error:?}");
        assert_eq!(error.to_string(), "the JSON of the cache config is malformed");
    }
}

#[test]
fn times_that_are_none() {
    for time in ["yesterday", "", "2026-13-01T00:00:00Z", "99999-01-01T00:00:00Z", "-1"] {
        let mut config = layers(&[-1]);
        config["records"] =
            json!([{"digest": digest(0), "layers": [{"layer": 0, "createdAt": time}]}]);
        let error = refused(config.to_string());
        assert!(matches!(error, ConfigError::Json(_)), "{time}");
        assert_eq!(error.to_string(), "the JSON of the cache config is malformed");
    }
}

#[test]
fn times_at_the_ends_of_the_calendar() {
    for time in [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "1677-01-01T00:00:00Z",
        "2263-01-01T00:00:00+23:59",
        "0000-01-01T00:00:00Z",
    ] {
        let layout = Layout::new();
        let mut layer = layout.layer("file");
        layer["annotations"]["buildkit/createdat"] = time.into();
        let record = json!({"digest": digest(0), "layers": [{"layer": 0, "createdAt": time}]});
        let nodes = json!([{"blob": layer["digest"], "parent": -1}]);
        layout.cache(&[layer], json!({"layers": nodes, "records": [record]}).to_string());
        // Values that a daemon cannot store count as missing, and nothing overflows.
        match converted(layout.path()) {
            Ok((plan, _)) => assert_eq!(plan.layers.len(), 1),
            Err(Fault::Export(_)) => {}
            Err(fault) => panic!("{time}: {fault:?}"),
        }
    }
}

#[test]
fn a_selector_longer_than_a_database_could_hold() {
    let config = |length: usize| {
        let inputs = json!([[{"link": 0, "selector": "\u{1}".repeat(length)}]]);
        json!({"records": [{"digest": digest(0)}, {"digest": digest(1), "inputs": inputs}]})
    };
    let error = refused(config(MAX_SELECTOR + 1).to_string());
    assert!(
        matches!(error, ConfigError::SelectorTooLong { record: RecordIndex(1), .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().ends_with(") has a selector of 1025 bytes; they have up to 1024"),
        "{error}"
    );
    // The longest selector is stored, also in the form that takes the most space.
    let layout = Layout::new();
    let op = Digest::of("op");
    let mut longest = config(MAX_SELECTOR);
    longest["records"][1]["digest"] = Digest::of(format!("{op}@0")).to_string().into();
    layout.cache(&[], longest.to_string());
    let keys = keys::file_of(&[&op.to_string()]);
    let (plan, _) = converted_with(layout.path(), &[keys.path()]).unwrap();
    assert_eq!(plan.steps[1].links[0].link.selector.len(), MAX_SELECTOR);
}

// Each list is short; their product is not.
#[test]
fn chains_that_multiply() {
    let layout = Layout::new();
    let layer = layout.layer("file");
    let nodes = json!([{"blob": layer["digest"], "parent": -1}]);
    let chain = json!({"layers": vec![0; 1000]});
    let record = json!({"digest": digest(0), "chains": vec![chain; 251]});
    layout.cache(&[layer], json!({"layers": nodes, "records": [record]}).to_string());
    let error = export_error(layout.path());
    assert!(matches!(error, ExportError::TooManyLayers { .. }), "{error:?}");
    assert!(error.to_string().contains(" lists more than 250000 layers"), "{error}");
}

#[test]
fn a_description_of_a_layer_that_thousands_of_nodes_share() {
    let layout = Layout::new();
    let mut layer = layout.layer("file");
    layer["annotations"]["buildkit/description"] = "x".repeat(1 << 20).into();
    // A chain of one blob: each node is a separate layer, with the description.
    let node = |parent: i64| json!({"blob": layer["digest"], "parent": parent});
    let nodes: Vec<_> = (-1..1999).map(node).collect();
    let record = json!({"digest": digest(0), "layers": [{"layer": 1999}]});
    layout.cache(&[layer], json!({"layers": nodes, "records": [record]}).to_string());
    let exports = oci2bk::export::CacheExport::read_all(
        &layout.path().to_str().unwrap().parse().unwrap(),
        &Default::default(),
    );
    let plan = oci2bk::plan::Plan::new(&exports.unwrap(), &Default::default()).unwrap();
    let bytes: usize =
        plan.layers.iter().filter_map(|layer| layer.description.as_ref()).map(String::len).sum();
    assert!(plan.layers.len() == 2000 && bytes < 2000 * 1100, "{bytes}");
}

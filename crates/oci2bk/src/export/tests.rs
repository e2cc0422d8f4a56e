use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::config::{NodeIndex, RecordIndex};
use crate::layout::testing::{TestLayout, digest_of, inline_cache};
use crate::manifest::{CACHE_CONFIG, Style};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Creates a layout with one cache, and the descriptor of its config.
fn exported(style: Style) -> (TestLayout, Value) {
    let layout = TestLayout::new();
    let mut layer = layout.blob(LAYER, "layer");
    layer["annotations"] = json!({"containerd.io/uncompressed": Digest::of("tar")});
    let digest = Digest::of("record");
    let config = json!({
        "layers": [{"blob": digest_of(&layer), "parent": -1}],
        "records": [{"digest": digest, "layers": [{"layer": 0}]}],
    });
    let config = layout.cache(style, &[layer], &config);
    (layout, config)
}

fn read(layout: &TestLayout) -> Result<CacheExport, ExportError> {
    let exports = CacheExport::read_all(
        &layout.path().to_str().unwrap().parse().unwrap(),
        &Limits::default(),
    );
    exports.map(|mut exports| exports.remove(0))
}

#[test]
fn both_styles_are_read() {
    for style in [Style::Index, Style::ImageManifest] {
        let (layout, config) = exported(style);
        let export = read(&layout).unwrap();
        assert_eq!(export.manifest.style, style);
        assert_eq!(export.manifest.config.digest, digest_of(&config));
        let blob = export.config.nodes[0].blob;
        let layer = &export.manifest.layers[&blob];
        export.layout.verify_blob(&layer.descriptor).unwrap();
    }
}

#[test]
fn a_missing_or_damaged_config_is_named() {
    let (layout, config) = exported(Style::ImageManifest);
    let path = layout.blob_path(digest_of(&config));
    let content = fs::read_to_string(&path).unwrap();
    fs::write(&path, content.replace("-1", "-2")).unwrap();
    let error = read(&layout).unwrap_err();
    assert!(
        matches!(&error, ExportError::ConfigBlob { source: BlobError::Digest { .. }, path } if path == layout.path()),
        "{error}"
    );
    assert!(error.to_string().starts_with("cannot read the config of the cache in "), "{error}");
    fs::remove_file(&path).unwrap();
    let error = read(&layout).unwrap_err();
    let ExportError::ConfigBlob { source: BlobError::Missing { digest }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(digest, digest_of(&config));
}

#[test]
fn results_whose_layers_are_not_there_are_dropped_and_the_rest_stays() {
    let layout = TestLayout::new();
    let layers = ["a", "b", "c"].map(|name| {
        let mut layer = layout.blob(LAYER, name);
        layer["annotations"] = json!({"containerd.io/uncompressed": Digest::of("tar")});
        layer
    });
    let nodes: Vec<_> = layers
        .iter()
        .zip(-1..)
        .map(|(layer, parent)| json!({"blob": digest_of(layer), "parent": parent}))
        .collect();
    let record = |layer: usize| json!({"digest": Digest::of(layer.to_string()), "layers": [{"layer": layer}]});
    let config = json!({"layers": nodes, "records": [record(0), record(1), record(2)]});
    layout.cache(Style::ImageManifest, &layers, &config);
    fs::remove_file(layout.blob_path(digest_of(&layers[1]))).unwrap();
    let export = read(&layout).unwrap();
    let results: Vec<_> = export.config.records.iter().map(|r| r.results.len()).collect();
    assert_eq!(results, [1, 0, 0]);
    let dropped: Vec<_> = export.config.dropped.iter().map(|d| (d.record.0, d.missing)).collect();
    assert_eq!(dropped, [(1, digest_of(&layers[1])), (2, digest_of(&layers[1]))]);
    assert!(!export.manifest.layers.contains_key(&digest_of(&layers[1])));
}

#[test]
fn each_platform_of_an_inline_cache_is_an_export() {
    let layout = TestLayout::new();
    let platform = |name: &str| {
        let layers = [layout.blob(LAYER, name), layout.blob(LAYER, "shared")];
        let records = json!([
            {"digest": Digest::of("root")},
            {"digest": Digest::of(name), "inputs": [[{"link": 0}]], "layers": [{"layer": 1}]},
            {"digest": Digest::of("copy"), "inputs": [[{"link": 1}]],
             "chains": [{"layers": [1, 0], "createdAt": "2026-11-21T20:27:19Z"}]},
        ]);
        layout.image(
            &layers,
            &json!({
                "moby.buildkit.cache.v0": inline_cache(&records),
                "rootfs": {"diff_ids": [Digest::of("x"), Digest::of("y")]},
            }),
        )
    };
    let platforms = [platform("amd64"), platform("arm64")];
    layout.index(&[layout.json("", &json!({"manifests": platforms}))]);
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let exports = CacheExport::read_all(&source, &Limits::default()).unwrap();
    for (export, name) in exports.iter().zip(["amd64", "arm64"]) {
        let config = &export.config;
        let blobs: Vec<_> = config.nodes.iter().map(|node| (node.blob, node.parent)).collect();
        assert_eq!(blobs, [(Digest::of(name), None), (Digest::of("shared"), Some(NodeIndex(0)))]);
        let chains = config.records.iter().flat_map(|record| &record.results);
        let chains: Vec<_> = chains.map(|result| config.layers(&result.chain)).collect();
        assert_eq!(chains, [[0, 1], [1, 0]].map(|chain| chain.map(NodeIndex)));
    }
    assert_eq!(exports.len(), 2);
    assert!(Arc::ptr_eq(&exports[0].layout, &exports[1].layout));
}

#[test]
fn invalid_records_of_an_inline_cache_are_named() {
    for (records, layers) in [
        (json!([{"digest": Digest::of("r"), "layers": [{"layer": 1}]}]), 1),
        (json!([{"digest": Digest::of("r"), "layers": [{"layer": 0}]}]), 0),
        (json!({"records": []}), 1),
    ] {
        let layout = TestLayout::new();
        let layer = layout.blob(LAYER, "a");
        let members = json!({
            "moby.buildkit.cache.v0": inline_cache(&records),
            "rootfs": {"diff_ids": vec![Digest::of("x"); layers]},
        });
        layout.index(&[layout.image(&vec![layer; layers], &members)]);
        let error = read(&layout).unwrap_err();
        assert!(matches!(error, ExportError::Config { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot use the cache config "), "{error}");
    }
}

#[test]
fn a_cache_without_records_is_refused() {
    for config in [json!({}), json!({"records": null}), json!({"layers": [], "records": []})] {
        let layout = TestLayout::new();
        layout.cache(Style::ImageManifest, &[], &config);
        let error = read(&layout).unwrap_err();
        assert!(matches!(error, ExportError::NoRecords { .. }), "{config}");
        assert!(
            error.to_string().contains(" has no records, so no step would be cached"),
            "{error}"
        );
    }
    let of =
        |records: &Value| json!({"moby.buildkit.cache.v0": inline_cache(records), "rootfs": {}});
    let layout = TestLayout::new();
    // Go's empty list.
    let empty = layout.image(&[], &of(&Value::Null));
    layout.index(std::slice::from_ref(&empty));
    let error = read(&layout).unwrap_err();
    assert!(matches!(error, ExportError::NoRecords { .. }), "{error}");
    assert!(error.to_string().contains(" has no records, so no step would be cached"), "{error}");
    // One of the platforms of an image may have none.
    let full = layout.image(&[], &of(&json!([{"digest": Digest::of("root")}])));
    layout.index(&[layout.json("", &json!({"manifests": [empty, full]}))]);
    assert_eq!(read(&layout).unwrap().config.records.len(), 0);
}

#[test]
fn a_config_that_buildkits_own_importer_refuses_for_its_size_is_read() {
    // BuildKit v0.32 `cache/remotecache/import.go` `readBlob`: 1 MiB.
    let record = |n: usize| match n {
        0 => json!({"digest": Digest::of("root")}),
        n => json!({"digest": Digest::of(n.to_string()), "inputs": [[{"link": n - 1}]]}),
    };
    let records: Vec<_> = (0..20_000).map(record).collect();
    let layout = TestLayout::new();
    let config = layout.cache(Style::ImageManifest, &[], &json!({"records": records}));
    assert!(config["size"].as_u64().unwrap() > 2 << 20);
    let export = read(&layout).unwrap();
    assert_eq!(export.config.records.len(), 20_000);
    assert_eq!(export.config.records_inputs_first().last(), Some(&RecordIndex(19_999)));
}

#[test]
fn an_oversized_config_is_not_read() {
    let layout = TestLayout::new();
    let digest = Digest::of("config");
    let size = Limits::default().config + 1;
    fs::File::create(layout.blob_path(digest)).unwrap().set_len(size).unwrap();
    let config = json!({"mediaType": CACHE_CONFIG, "digest": digest, "size": size});
    layout.index(&[layout.json("", &json!({"config": config, "layers": []}))]);
    let error = read(&layout).unwrap_err();
    let ExportError::ConfigBlob { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, BlobError::TooLarge { .. }), "{source}");
    assert!(
        source.to_string().contains(
            " has 268435457 bytes, but 268435456 is all that a document of its kind \
             may have"
        ),
        "{source}"
    );
}

#[test]
fn an_invalid_config_is_named() {
    let layout = TestLayout::new();
    let config = layout.json(CACHE_CONFIG, &json!({"layers": [{"blob": Digest::of("a")}]}));
    layout.index(&[layout.json("", &json!({"config": config, "layers": []}))]);
    let error = read(&layout).unwrap_err();
    let ExportError::Config { digest, source, .. } = error else { panic!("{error}") };
    assert_eq!(digest, digest_of(&config));
    assert!(matches!(source, ConfigError::ParentLoop { layer: NodeIndex(0) }), "{source}");
    assert_eq!(source.to_string(), "layer 0 of the cache config is its own ancestor");
}

#[test]
fn a_layout_without_a_cache_is_named() {
    let layout = TestLayout::new();
    let error = read(&layout).unwrap_err();
    assert!(matches!(error, ExportError::Select(_)), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 0 manifests looked at"),
        "{error}"
    );
    fs::remove_file(layout.path().join("index.json")).unwrap();
    let error = read(&layout).unwrap_err();
    assert!(matches!(error, ExportError::Layout(LayoutError::NoIndex { .. })), "{error}");
    assert!(
        error.to_string().contains(
            " is neither an OCI layout (it has no index.json) nor the mirror of a cache "
        ),
        "{error}"
    );
}

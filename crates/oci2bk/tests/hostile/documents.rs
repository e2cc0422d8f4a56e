//! Damaged, duplicate or ambiguous manifests, indexes and configs.

use std::fs;

use bkstate::Digest;
use oci2bk::config::ConfigError;
use oci2bk::export::ExportError;
use oci2bk::layout::LayoutError;
use oci2bk::manifest::{DocumentError, ManifestError, SelectError};
use oci2bk::plan::PlanError;
use serde_json::{Value, json};

use super::layout::{CACHE_CONFIG, INDEX, MANIFEST, config_of};
use super::*;

/// Returns why the manifest of the layout is invalid.
fn refused(layout: &Layout) -> DocumentError {
    let ExportError::Select(error) = export_error(layout.path()) else { panic!() };
    let SelectError::Manifest { source, .. } = *error else { panic!("{error:?}") };
    let ManifestError::Document { source, .. } = *source else { panic!("{source:?}") };
    source
}

/// Returns a layer, and the JSON of a manifest and a config that use it.
fn parts(layout: &Layout) -> (Value, String) {
    let layer = layout.layer("file");
    let config = config_of(std::slice::from_ref(&layer)).to_string();
    (layer, config)
}

#[test]
fn an_index_cut_off_at_every_byte() {
    let (layout, _) = one_layer();
    let whole = fs::read(layout.path().join("index.json")).unwrap();
    for length in 0..whole.len() {
        layout.file("index.json", &whole[..length]);
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{length}") };
        let LayoutError::Index { source: Some(source), .. } = error else { panic!("{error:?}") };
        assert!(matches!(source, DocumentError::Json(_)), "{length}: {source:?}");
        assert_eq!(source.to_string(), "the JSON of the document is malformed");
    }
}

#[test]
fn a_manifest_cut_off_at_every_byte() {
    let layout = Layout::new();
    let (layer, config) = parts(&layout);
    let config = layout.blob(CACHE_CONFIG, config);
    let whole = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    for length in 0..whole.len() {
        layout.index(&[layout.blob(MANIFEST, &whole[..length])]);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::Json(_)), "{length}");
        assert_eq!(error.to_string(), "the JSON of the document is malformed");
    }
}

#[test]
fn a_config_cut_off_at_every_byte() {
    let layout = Layout::new();
    let (layer, whole) = parts(&layout);
    for length in 0..whole.len() {
        layout.cache(std::slice::from_ref(&layer), &whole[..length]);
        let ExportError::Config { source, .. } = export_error(layout.path()) else {
            panic!("{length}")
        };
        assert!(matches!(source, ConfigError::Json(_)), "{length}: {source:?}");
        assert_eq!(source.to_string(), "the JSON of the cache config is malformed");
    }
}

// With corrected digests and sizes, so that only the document itself can be rejected.
#[test]
fn an_index_manifest_or_config_with_any_byte_flipped() {
    let layout = Layout::new();
    let (layer, config) = parts(&layout);
    let layers = std::slice::from_ref(&layer);
    layout.cache(layers, &config);
    let (expected, _) = converted(layout.path()).unwrap();
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let flipped = |text: &[u8], at: usize, bit: usize| {
        let mut text = text.to_vec();
        text[at] ^= 1 << bit;
        text
    };
    let check = |what: &str, damaged: &[u8]| match converted(layout.path()) {
        // A layer with another digest is missing, so there are none.
        Err(Fault::Export(_) | Fault::Plan(PlanError::Sparse { .. })) => {}
        // Some bytes have no effect, such as the case of an escape or the name of an unknown member; others
        // lead to less, such as a member that is not recognised any more.
        Ok((plan, _)) => {
            let same = serde_json::to_value(&plan.steps).unwrap()
                == serde_json::to_value(&expected.steps).unwrap();
            let text = String::from_utf8_lossy(damaged);
            let blobs: Vec<_> = plan.blobs.keys().map(Digest::hex).collect();
            assert!(
                same || !plan.dropped.is_empty() || blobs.is_empty() || {
                    // Another digest of a record is a record of another step.
                    plan.steps.iter().all(|step| text.contains(&step.key.to_string()))
                },
                "{what}: {text}"
            );
        }
        // For example a diffID other than the layer's.
        Err(Fault::Convert(error)) if error.is_input() => {}
        Err(fault) => panic!("{what}: {fault:?}\n{}", String::from_utf8_lossy(damaged)),
    };
    for (at, bit) in (0..index.len()).map(|at| (at, at % 8)) {
        let damaged = flipped(&index, at, bit);
        layout.file("index.json", &damaged);
        check("index", &damaged);
    }
    let descriptor = layout.blob(CACHE_CONFIG, &config);
    let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": layers}).to_string();
    for (at, bit) in (0..manifest.len()).map(|at| (at, at % 8)) {
        let damaged = flipped(manifest.as_bytes(), at, bit);
        layout.index(&[layout.blob(MANIFEST, &damaged)]);
        check("manifest", &damaged);
    }
    for (at, bit) in (0..config.len()).map(|at| (at, at % 8)) {
        let damaged = flipped(config.as_bytes(), at, bit);
        layout.cache(layers, &damaged);
        check("config", &damaged);
    }
}

// CVE-2021-41190: one reader takes it for a manifest, another for an index.
#[test]
fn a_manifest_that_is_an_index_too() {
    let layout = Layout::new();
    let (layer, config) = parts(&layout);
    let config = layout.blob(CACHE_CONFIG, config);
    let other = layout.blob(CACHE_CONFIG, "{}");
    for (index, config, layers) in [
        (json!([other]), json!(config), json!([layer])),
        (json!([]), json!(config), json!([layer])),
        (json!(null), json!(config), json!([layer])),
        (json!([config, layer]), json!(null), json!(null)),
        (json!([config, layer]), json!(other), json!([])),
    ] {
        for media_type in [MANIFEST, INDEX, ""] {
            let both = json!({
                "mediaType": media_type, "manifests": index, "config": config, "layers": layers,
            });
            layout.manifest(&both);
            let error = refused(&layout);
            assert!(matches!(error, DocumentError::Ambiguous), "{both}");
            assert_eq!(
                error.to_string(),
                "the document is ambiguous: it has the members of an index and of a \
                 manifest"
            );
            layout.file("index.json", both.to_string());
            let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{both}") };
            let LayoutError::Index { source: Some(source), .. } = error else {
                panic!("{error:?}")
            };
            assert!(matches!(source, DocumentError::Ambiguous), "{both}");
            assert_eq!(
                source.to_string(),
                "the document is ambiguous: it has the members of an index and of a \
                 manifest"
            );
        }
    }
}

#[test]
fn a_document_that_calls_itself_what_it_is_not() {
    let layout = Layout::new();
    let (layer, config) = parts(&layout);
    let config = layout.blob(CACHE_CONFIG, config);
    let manifest = json!({"mediaType": INDEX, "config": config, "layers": [layer]});
    let index = json!({"mediaType": MANIFEST, "manifests": [config, layer]});
    for document in [manifest, index] {
        layout.manifest(&document);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::MediaType { .. }), "{document}");
        assert!(error.to_string().ends_with(", but has the members of the other kind"), "{error}");
    }
    for neither in ["{}", r#"{"mediaType":"","layer":[]}"#, r#"{"schemaVersion":2}"#] {
        layout.index(&[layout.blob(MANIFEST, neither)]);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::Neither), "{neither}");
        assert_eq!(error.to_string(), "the document is neither an index nor a manifest");
    }
    for no_object in [
        "[]",
        "[null,null,[]]",
        "null",
        "1",
        "\"\"",
        "[[]]",
        "nothing",
        "NaN",
        "{\"manifests\":{}}",
    ] {
        layout.index(&[layout.blob(MANIFEST, no_object)]);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::Json(_)), "{no_object}");
        assert_eq!(error.to_string(), "the JSON of the document is malformed");
    }
}

#[test]
fn members_that_are_there_twice() {
    let layout = Layout::new();
    let (layer, config) = parts(&layout);
    let config = layout.blob(CACHE_CONFIG, config);
    for doubled in [
        format!(r#"{{"config":{config},"config":{config},"layers":[]}}"#),
        format!(r#"{{"config":{config},"layers":[],"layers":[{layer}]}}"#),
        format!(r#"{{"manifests":[{config}],"manifests":[]}}"#),
        format!(r#"{{"mediaType":"{INDEX}","mediaType":"{MANIFEST}","config":{config}}}"#),
        format!(r#"{{"config":{config},"\u0063onfig":{config}}}"#),
        format!(
            r#"{{"manifests":[{{"digest":"{d}","digest":"{d}","size":1}}]}}"#,
            d = Digest::of("")
        ),
        format!(r#"{{"manifests":[{{"digest":"{}","size":1,"size":2}}]}}"#, Digest::of("")),
    ] {
        layout.index(&[layout.blob(MANIFEST, &doubled)]);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::Json(_)), "{doubled}");
        assert_eq!(error.to_string(), "the JSON of the document is malformed");
        layout.file("index.json", &doubled);
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{doubled}") };
        assert!(matches!(error, LayoutError::Index { source: Some(_), .. }), "{error:?}");
        assert!(error.to_string().ends_with(" is not an index of manifests"), "{error}");
    }
    let digest = Digest::of("r");
    for doubled in [
        r#"{"layers":[],"layers":[]}"#.to_owned(),
        r#"{"records":[],"records":null}"#.to_owned(),
        format!(r#"{{"records":[{{"digest":"{digest}","digest":"{digest}"}}]}}"#),
        format!(r#"{{"layers":[{{"blob":"{digest}","parent":-1,"parent":0}}]}}"#),
    ] {
        layout.cache(&[], &doubled);
        let ExportError::Config { source, .. } = export_error(layout.path()) else {
            panic!("{doubled}")
        };
        assert!(matches!(source, ConfigError::Json(_)), "{doubled}: {source:?}");
        assert_eq!(source.to_string(), "the JSON of the cache config is malformed");
    }
}

#[test]
fn bytes_that_no_json_has() {
    let whole = r#"{"manifests":[]}"#;
    for bytes in [
        // A byte order mark, NUL bytes, invalid UTF-8, UTF-16, more than one document, comments.
        [b"\xEF\xBB\xBF", whole.as_bytes()].concat(),
        [whole.as_bytes(), b"\0"].concat(),
        vec![0; 16],
        b"{\"manifests\":[],\"x\":\"\xFF\xFE\",\"mediaType\":\"\xFF\"}".to_vec(),
        b"{\"manifests\":[],\"mediaType\":\"\xED\xA0\x80\"}".to_vec(),
        b"{\"manifests\":[],\"mediaType\":\"\\ud800\"}".to_vec(),
        whole.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        [whole.as_bytes(), whole.as_bytes()].concat(),
        format!("{whole},").into_bytes(),
        format!("/**/{whole}").into_bytes(),
        b"{\"manifests\":[],}".to_vec(),
        b"{\"manifests\":[".to_vec(),
        b"{\"manifests\":[],\"annotations\":{\"a\":\"\n\"}}".to_vec(),
    ] {
        let (layout, _) = one_layer();
        layout.file("index.json", &bytes);
        let ExportError::Layout(error) = export_error(layout.path()) else { panic!("{bytes:?}") };
        let LayoutError::Index { source: Some(source), .. } = error else { panic!("{error:?}") };
        assert!(matches!(source, DocumentError::Json(_)), "{bytes:?}: {source:?}");
        assert_eq!(source.to_string(), "the JSON of the document is malformed");
    }
}

#[test]
fn json_nested_100_000_deep() {
    const DEEP: usize = 100_000;
    for (open, close) in
        [("[", "]"), (r#"{"manifests":"#, "}"), (r#"{"x":"#, "}"), ("[{\"a\":", "}]")]
    {
        for closed in [false, true] {
            let close = if closed { close.repeat(DEEP) } else { String::new() };
            let nested = format!("{}0{close}", open.repeat(DEEP));
            let (layout, _) = one_layer();
            layout.index(&[layout.blob(MANIFEST, &nested)]);
            // Unused members are skipped at any depth.
            let error = refused(&layout);
            let named = matches!(error, DocumentError::Json(_) | DocumentError::Neither);
            assert!(named, "{open}: {error:?}");
            let inside = format!(r#"{{"records":{nested}}}"#);
            layout.cache(&[], inside);
            let error = export_error(layout.path());
            assert!(
                matches!(error, ExportError::Config { source: ConfigError::Json(_), .. }),
                "{error}"
            );
            assert!(error.to_string().starts_with("cannot use the cache config "), "{error}");
        }
    }
}

#[test]
fn strings_of_megabytes() {
    let huge = "x".repeat(4 << 20);
    let layout = Layout::new();
    let (mut layer, config) = parts(&layout);
    for change in [
        json!({"mediaType": huge}),
        json!({"annotations": {layout::DIFF_ID: huge}}),
        json!({"annotations": {layout::DIFF_ID: Digest::of(""), "buildkit/createdat": huge}}),
    ] {
        let mut layer = layer.clone();
        for (member, value) in change.as_object().unwrap() {
            layer[member] = value.clone();
        }
        layout.cache(&[layer], &config);
        let ExportError::Select(error) = export_error(layout.path()) else { panic!() };
        let SelectError::Manifest { source, .. } = *error else { panic!() };
        let ManifestError::Layer { source, .. } = *source else { panic!() };
        assert!(source.to_string().len() < 1000, "{}", source.to_string().len());
    }
    layer["annotations"]["buildkit/description"] = huge.clone().into();
    layer["annotations"][&huge] = "".into();
    layer["annotations"]["long"] = huge.into();
    layout.cache(&[layer], &config);
    let (plan, _) = converted(layout.path()).unwrap();
    let description = plan.layers[0].description.as_ref().unwrap();
    assert_eq!(description.chars().count(), oci2bk::manifest::MAX_DESCRIPTION);
    assert!(description.ends_with('…'));
    // A daemon could not store such annotations.
    assert!(plan.blobs.values().all(|blob| blob.annotations.is_empty()));
}

// A reader might take these for the members' values in order.
#[test]
fn lists_in_the_place_of_objects() {
    let digest = Digest::of("{}");
    let layout = Layout::new();
    for manifest in [
        format!(r#"["{INDEX}",null,[{{"digest":"{digest}","size":2}}]]"#),
        format!(r#"{{"manifests":[["{CACHE_CONFIG}","{digest}",2]]}}"#),
        format!(r#"{{"config":["{CACHE_CONFIG}","{digest}",2],"layers":[]}}"#),
        format!(
            r#"{{"manifests":[{{"digest":"{digest}","size":2,"platform":["amd64","linux"]}}]}}"#
        ),
    ] {
        layout.index(&[layout.blob(MANIFEST, &manifest)]);
        let error = refused(&layout);
        assert!(matches!(error, DocumentError::Json(_)), "{manifest}");
        assert_eq!(error.to_string(), "the JSON of the document is malformed");
    }
    for config in [
        "[[],[]]".to_owned(),
        format!(r#"{{"layers":[["{digest}",-1]]}}"#),
        format!(r#"{{"records":[["{digest}"]]}}"#),
        format!(
            r#"{{"records":[{{"digest":"{digest}"}},{{"digest":"{digest}","inputs":[[["",0]]]}}]}}"#
        ),
    ] {
        layout.cache(&[], &config);
        let error = export_error(layout.path());
        assert!(
            matches!(error, ExportError::Config { source: ConfigError::Json(_), .. }),
            "{config}"
        );
        assert!(error.to_string().starts_with("cannot use the cache config "), "{error}");
    }
}

use serde_json::{Value, json};

use super::*;
use crate::layout::BlobError;
use crate::layout::testing::{TestLayout, annotated, digest_of, inline_cache};
use crate::manifest::{
    CACHE_CONFIG, LayerError, OCI_INDEX, OCI_MANIFEST, SelectError, Selected, select,
};
use crate::source::Reference;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Returns a layer descriptor as in an image: without annotations.
fn plain(name: &str) -> Value {
    json!({"mediaType": GZIP, "digest": Digest::of(name), "size": name.len()})
}

fn diff_id(name: &str) -> Digest {
    Digest::of(format!("tar of {name}"))
}

/// Returns the members of an image config for layers with these names, with an inline cache.
fn config(names: &[&str]) -> Value {
    let diff_ids: Vec<_> = names.iter().map(|name| diff_id(name)).collect();
    json!({
        "moby.buildkit.cache.v0": inline_cache(&json!([])),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// Creates an image of layers with these names, with an inline cache.
fn image(layout: &TestLayout, names: &[&str]) -> Value {
    let layers: Vec<_> = names.iter().map(|name| plain(name)).collect();
    layout.image(&layers, &config(names))
}

fn tagged(descriptor: &Value, tag: &str) -> Value {
    annotated(descriptor.clone(), REF_NAME, tag)
}

/// Returns the inline caches of `reference`.
fn inline(layout: &TestLayout, reference: Reference) -> Result<Vec<InlineCache>, SelectError> {
    select(&layout.open(), &reference).map(|selected| match selected {
        Selected::Inline { platforms, .. } => platforms,
        Selected::Cache { manifest, .. } => panic!("{manifest:?}"),
    })
}

fn digests(caches: &[InlineCache]) -> Vec<Digest> {
    caches.iter().map(|cache| cache.manifest.digest).collect()
}

/// Returns the error for the only image, whose config has `members`.
fn refused(layers: &[Value], members: &Value) -> ManifestError {
    let layout = TestLayout::new();
    layout.index(&[layout.image(layers, members)]);
    match inline(&layout, Reference::Default) {
        Err(SelectError::Manifest { source, .. }) => *source,
        result => panic!("{result:?}"),
    }
}

#[test]
fn layers_are_described_by_the_image_config() {
    let layout = TestLayout::new();
    let mut members = config(&["a", "b", "c"]);
    members["history"] = json!([
        {"created": "2026-11-21T20:27:19.5Z", "created_by": "ADD a"},
        {"created": "2026-11-21T20:28:19Z", "created_by": "ENV X=Y", "empty_layer": true},
        {"created": "0001-01-01T00:00:00Z"},
        {"created_by": "RUN c", "empty_layer": false},
    ]);
    members["moby.buildkit.cache.v0"] = inline_cache(&json!([{"digest": Digest::of("r")}])).into();
    let layers = [plain("a"), plain("b"), annotated(plain("c"), DIFF_ID, "not used")];
    layout.index(&[layout.image(&layers, &members)]);
    let caches = inline(&layout, Reference::Default).unwrap();
    let [InlineCache { manifest, blobs, records }] = &*caches else { panic!("{caches:?}") };
    assert_eq!(manifest.style, Style::Inline);
    assert_eq!(*blobs, ["a", "b", "c"].map(Digest::of));
    assert_eq!(*records, json!([{"digest": Digest::of("r")}]).to_string().into_bytes());
    let told = |name: &str| {
        let layer = &manifest.layers[&Digest::of(name)];
        assert_eq!(layer.diff_id, diff_id(name));
        (layer.created_at.map(|time| time.to_string()), layer.description.clone())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(told("a"), (text("2026-11-21T20:27:19.5Z"), text("ADD a")));
    assert_eq!(told("b"), (None, None));
    assert_eq!(told("c"), (None, text("RUN c")));
}

#[test]
fn a_history_that_does_not_fit_the_layers_is_not_used() {
    let layout = TestLayout::new();
    let mut members = config(&["a", "b"]);
    members["history"] = json!([{"created_by": "RUN something"}]);
    layout.index(&[layout.image(&[plain("a"), plain("b")], &members)]);
    let caches = inline(&layout, Reference::Default).unwrap();
    assert!(caches[0].manifest.layers.values().all(|layer| layer.description.is_none()));
}

#[test]
fn the_platforms_of_an_image_belong_together() {
    let layout = TestLayout::new();
    let (amd64, arm64) = (image(&layout, &["a"]), image(&layout, &["b"]));
    // As BuildKit writes it: an empty image config.
    let attestation = json!({"architecture": "unknown", "os": "unknown", "rootfs": {}});
    let attestation = layout.image(
        &[json!({
            "mediaType": "application/vnd.in-toto+json", "digest": Digest::of("s"), "size": 1,
        })],
        &attestation,
    );
    let absent = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of("?"), "size": 1});
    let other = layout.image(&[plain("o")], &json!({}));
    let platforms = [absent, amd64.clone(), attestation, arm64.clone()];
    let index = layout.json(OCI_INDEX, &json!({"manifests": platforms}));
    layout.index(&[tagged(&other, "other"), tagged(&index, "app")]);
    let expected = [digest_of(&amd64), digest_of(&arm64)];
    let tag = Reference::Tag("app".to_owned());
    for reference in [Reference::Default, tag, Reference::Digest(digest_of(&index))] {
        assert_eq!(digests(&inline(&layout, reference).unwrap()), expected);
    }
    let one = inline(&layout, Reference::Digest(digest_of(&arm64))).unwrap();
    assert_eq!(digests(&one), expected[1..]);
    let none = inline(&layout, Reference::Tag("other".to_owned()));
    let error = none.unwrap_err();
    assert!(matches!(error, SelectError::NoCache { manifests: 1, .. }), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 1 manifests looked at"),
        "{error}"
    );
}

#[test]
fn several_images_need_a_tag_and_latest_is_the_default() {
    let layout = TestLayout::new();
    let (a, b) = (image(&layout, &["a"]), image(&layout, &["b"]));
    layout.index(&[tagged(&a, "main"), tagged(&b, "dev")]);
    let error = inline(&layout, Reference::Default).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, SelectError::SeveralCaches { .. }), "{message}");
    assert!(message.contains("(\"main\")") && message.contains("(\"dev\")"), "{message}");
    layout.index(&[tagged(&a, "latest"), tagged(&b, "dev"), tagged(&a, "main")]);
    let caches = inline(&layout, Reference::Default).unwrap();
    assert_eq!(digests(&caches), [digest_of(&a)]);
}

#[test]
fn a_cache_of_its_own_outweighs_an_inline_cache_of_the_same_tag() {
    let layout = TestLayout::new();
    let config = json!({"mediaType": CACHE_CONFIG, "digest": Digest::of("{}"), "size": 2});
    let cache = layout.json(OCI_MANIFEST, &json!({"config": config, "layers": []}));
    let image = image(&layout, &["a"]);
    layout.index(&[tagged(&image, "latest"), tagged(&cache, "latest")]);
    for reference in [Reference::Default, Reference::Tag("latest".to_owned())] {
        let selected = select(&layout.open(), &reference).unwrap();
        assert!(
            matches!(selected, Selected::Cache { manifest, .. } if manifest.digest == digest_of(&cache))
        );
    }
    let caches = inline(&layout, Reference::Digest(digest_of(&image))).unwrap();
    assert_eq!(digests(&caches), [digest_of(&image)]);
}

#[test]
fn an_absent_or_damaged_image_config_is_named() {
    let layout = TestLayout::new();
    let image = image(&layout, &["a"]);
    layout.index(&[image]);
    let config = Digest::of(config(&["a"]).to_string());
    std::fs::write(layout.blob_path(config), vec![b' '; config_size(&["a"])]).unwrap();
    let error = inline(&layout, Reference::Default).unwrap_err();
    let SelectError::Manifest { source, .. } = error else { panic!("{error}") };
    assert!(
        matches!(*source, ManifestError::Blob(BlobError::Digest { digest, .. }) if digest == config),
        "{source}"
    );
    assert!(source.to_string().contains(" is damaged: its content has the digest "), "{source}");
    std::fs::remove_file(layout.blob_path(config)).unwrap();
    let error = inline(&layout, Reference::Default).unwrap_err();
    let SelectError::Manifest { source, .. } = error else { panic!("{error}") };
    assert!(
        matches!(*source, ManifestError::Blob(BlobError::Missing { digest }) if digest == config),
        "{source}"
    );
    assert!(
        source.to_string().ends_with(" is not in the layout; copy or export the cache again"),
        "{source}"
    );
}

fn config_size(names: &[&str]) -> usize {
    config(names).to_string().len()
}

#[test]
fn fewer_or_more_diff_ids_than_layers_are_refused() {
    for names in [&["a"][..], &["a", "b", "c"], &[]] {
        let error = refused(&[plain("a"), plain("b")], &config(names));
        assert!(
            matches!(error, ManifestError::DiffIds { layers: 2, diff_ids, .. } if diff_ids == names.len()),
            "{error}"
        );
        assert!(error.to_string().contains(" has 2 layers, but its config has "), "{error}");
    }
    let mut without = config(&["a"]);
    without.as_object_mut().unwrap().remove("rootfs");
    let error = refused(&[plain("a")], &without);
    assert!(matches!(error, ManifestError::ImageConfig { .. }), "{error}");
    assert!(error.to_string().starts_with("the image config "), "{error}");
}

#[test]
fn a_layer_listed_twice_with_two_diff_ids_is_refused() {
    let error = refused(&[plain("a"), plain("a")], &config(&["a", "b"]));
    assert!(
        matches!(error, ManifestError::Layer { source: LayerError::Conflict { .. }, .. }),
        "{error}"
    );
    assert!(error.to_string().starts_with("cannot use a layer of cache "), "{error}");
}

#[test]
fn caches_that_are_no_base64_and_configs_that_are_no_json_are_refused() {
    let mut members = config(&["a"]);
    members["moby.buildkit.cache.v0"] = "W10=*".into();
    let error = refused(&[plain("a")], &members);
    assert!(matches!(error, ManifestError::InlineBase64 { .. }), "{error}");
    assert!(error.to_string().starts_with("the cache in the image config "), "{error}");
    members["moby.buildkit.cache.v0"] = json!(["W10="]);
    let error = refused(&[plain("a")], &members);
    assert!(matches!(error, ManifestError::ImageConfig { .. }), "{error}");
    assert!(error.to_string().starts_with("the image config "), "{error}");
    let mut members = config(&["a"]);
    members["rootfs"]["diff_ids"] = json!(["sha256:../../../etc/passwd"]);
    let error = refused(&[plain("a")], &members);
    assert!(matches!(error, ManifestError::ImageConfig { .. }), "{error}");
    assert!(error.to_string().starts_with("the image config "), "{error}");
}

#[test]
fn images_without_a_cache_may_have_any_config() {
    let layout = TestLayout::new();
    let odd = json!({"rootfs": "?", "history": {"created": 1}, "moby.buildkit.cache.v0": null});
    let odd = layout.image(&[], &odd);
    // A config of another type is not parsed.
    let chart = layout.blob("application/vnd.cncf.helm.config.v1+json", "no JSON");
    let chart = layout.json(OCI_MANIFEST, &json!({"config": chart, "layers": []}));
    let image = image(&layout, &["a"]);
    layout.index(&[odd, chart, image.clone()]);
    assert_eq!(digests(&inline(&layout, Reference::Default).unwrap()), [digest_of(&image)]);
}

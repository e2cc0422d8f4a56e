mod bounds;

use serde_json::{Value, json};

use super::document::*;
use super::*;
use crate::layout::testing::{TestLayout, annotated, digest_of, layer};
use crate::limits::MAX_INDEX_DEPTH;
use crate::source::Reference;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn config() -> Value {
    json!({"mediaType": CACHE_CONFIG, "digest": Digest::of("{}"), "size": 2})
}

fn index_of(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

/// Creates a cache in image-manifest style whose digest depends on `name`.
fn cache(layout: &TestLayout, name: &str) -> Value {
    let layers = [layer(name, GZIP)];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config(), "layers": layers,
    });
    layout.json(OCI_MANIFEST, &manifest)
}

/// Creates an ordinary image.
fn image(layout: &TestLayout, name: &str) -> Value {
    layout.image(&[], &json!({"author": name}))
}

fn tagged(descriptor: &Value, tag: &str) -> Value {
    annotated(descriptor.clone(), REF_NAME, tag)
}

fn parse(document: &Value) -> Result<CacheManifest, ManifestError> {
    let document = Document::parse(document.to_string().as_bytes()).unwrap();
    CacheManifest::from_document(Digest::of("top"), document)
}

fn with_layers(layers: &[Value]) -> Result<CacheManifest, ManifestError> {
    parse(&json!({"config": config(), "layers": layers}))
}

fn layer_error(layers: &[Value]) -> LayerError {
    match with_layers(layers) {
        Err(ManifestError::Layer { source, .. }) => source,
        result => panic!("{result:?}"),
    }
}

fn chosen(layout: &TestLayout, reference: Reference) -> Result<Digest, SelectError> {
    selected(layout, reference).map(|manifest| manifest.digest)
}

fn selected(layout: &TestLayout, reference: Reference) -> Result<CacheManifest, SelectError> {
    select(&layout.open(), &reference).map(|selected| match selected {
        Selected::Cache { manifest, .. } => *manifest,
        Selected::Inline { .. } => panic!("{selected:?}"),
    })
}

/// Returns the manifest error that makes the selection fail.
fn unusable(result: Result<Digest, SelectError>) -> ManifestError {
    match result {
        Err(SelectError::Manifest { source, .. }) => *source,
        result => panic!("{result:?}"),
    }
}

fn tag(tag: &str) -> Reference {
    Reference::Tag(tag.to_owned())
}

#[test]
fn both_styles_say_the_same_in_oci_and_docker_types() {
    let oci = [layer("a", GZIP), layer("b", TAR)];
    let docker =
        [layer("a", DOCKER_GZIP), layer("b", "application/vnd.docker.image.rootfs.diff.tar")];
    let with_config = |layers: &[Value]| [layers, &[config()]].concat();
    let image_manifest = json!({"mediaType": OCI_MANIFEST, "config": config(), "layers": oci});
    let list = json!({"mediaType": DOCKER_MANIFEST_LIST, "manifests": with_config(&docker)});
    for (document, style) in [
        (image_manifest, Style::ImageManifest),
        (index_of(&with_config(&oci)), Style::Index),
        (list, Style::Index),
        // Without a media type, as written by old exporters.
        (json!({"manifests": with_config(&docker)}), Style::Index),
        (json!({"config": config(), "layers": docker}), Style::ImageManifest),
    ] {
        let cache = parse(&document).unwrap();
        assert_eq!((cache.style, cache.config.digest), (style, Digest::of("{}")));
        let layers: Vec<_> = cache.layers.values().collect();
        assert_eq!(layers.len(), 2);
        let a = &cache.layers[&Digest::of("a")];
        assert_eq!(a.compression, Compression::Gzip);
        assert_eq!(a.diff_id, Digest::of("tar of a"));
        assert_eq!(a.created_at.unwrap().to_string(), "2026-11-21T20:27:19.5Z");
        assert_eq!(a.description.as_deref(), Some("RUN a"));
        assert_eq!(cache.layers[&Digest::of("b")].compression, Compression::None);
    }
}

#[test]
fn layer_types_have_their_compression_and_others_are_refused() {
    for (media_type, compression) in [
        ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::None),
    ] {
        let cache = with_layers(&[layer("a", media_type)]).unwrap();
        assert_eq!(cache.layers[&Digest::of("a")].compression, compression);
    }
    for media_type in ["", "application/json", OCI_MANIFEST, &format!("{GZIP}+encrypted")] {
        let error = layer_error(&[layer("a", media_type)]);
        assert!(matches!(error, LayerError::MediaType { .. }), "{media_type}: {error}");
        assert!(error.to_string().ends_with("\", which is not a known layer type"), "{error}");
    }
}

#[test]
fn missing_and_malformed_layer_annotations_are_refused() {
    const DIFF_ID: &str = "containerd.io/uncompressed";
    let mut without = layer("a", GZIP);
    without["annotations"].as_object_mut().unwrap().remove(DIFF_ID);
    let error = layer_error(&[without]);
    assert!(matches!(error, LayerError::NoDiffId { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " has no annotation containerd.io/uncompressed; a tool that copied the cache \
             may have dropped it, so export or copy the cache again"
        ),
        "{error}"
    );
    let mut null = layer("a", GZIP);
    null["annotations"] = Value::Null;
    let error = layer_error(&[null]);
    assert!(matches!(error, LayerError::NoDiffId { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            " has no annotation containerd.io/uncompressed; a tool that copied the cache \
             may have dropped it, so export or copy the cache again"
        ),
        "{error}"
    );
    let path = annotated(layer("a", GZIP), DIFF_ID, "sha256:../../etc/passwd");
    let error = layer_error(&[path]);
    assert!(matches!(error, LayerError::DiffId { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" has a malformed annotation containerd.io/uncompressed"),
        "{error}"
    );
    let time = annotated(layer("a", GZIP), "buildkit/createdat", "yesterday");
    let error = layer_error(&[time]);
    assert!(matches!(error, LayerError::CreatedAt { .. }), "{error}");
    assert!(
        error.to_string().ends_with(" has a malformed annotation buildkit/createdat"),
        "{error}"
    );
}

#[test]
fn an_unknown_time_is_none() {
    let zero = annotated(layer("a", GZIP), "buildkit/createdat", "0001-01-01T00:00:00Z");
    assert_eq!(with_layers(&[zero]).unwrap().layers[&Digest::of("a")].created_at, None);
}

#[test]
fn a_blob_may_be_listed_twice_if_both_agree() {
    let later = annotated(layer("a", GZIP), "buildkit/description", "later");
    let cache = with_layers(&[layer("a", GZIP), later]).unwrap();
    assert_eq!(cache.layers[&Digest::of("a")].description.as_deref(), Some("later"));

    let diff_id = Digest::of("other").to_string();
    let other_diff_id = annotated(layer("a", GZIP), "containerd.io/uncompressed", &diff_id);
    let mut other_size = layer("a", GZIP);
    other_size["size"] = 99.into();
    for other in [other_diff_id, other_size, layer("a", TAR)] {
        let error = layer_error(&[layer("a", GZIP), other]);
        assert!(matches!(error, LayerError::Conflict { .. }), "{error}");
        assert!(error.to_string().starts_with("the descriptors of layer "), "{error}");
    }
}

#[test]
fn an_index_with_two_configs_is_refused() {
    let mut other = config();
    other["digest"] = Digest::of("[]").to_string().into();
    let error = parse(&index_of(&[config(), other])).unwrap_err();
    assert!(matches!(error, ManifestError::TwoConfigs { .. }), "{error}");
    assert!(error.to_string().contains(" lists two cache configs, "), "{error}");
    parse(&index_of(&[config(), config()])).unwrap();
}

#[test]
fn ambiguous_documents_are_refused() {
    let parse = |text: &str| Document::parse(text.as_bytes()).unwrap_err();
    for text in [
        r#"{"manifests":[],"layers":[]}"#,
        r#"{"manifests":null,"layers":null}"#,
        &json!({"manifests": [], "config": config()}).to_string(),
        &json!({"mediaType": OCI_INDEX, "manifests": [config()], "config": config()}).to_string(),
    ] {
        let error = parse(text);
        assert!(matches!(error, DocumentError::Ambiguous), "{text}");
        assert_eq!(
            error.to_string(),
            "the document is ambiguous: it has the members of an index and of a manifest"
        );
    }
    for media_type in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
        let error = parse(&json!({"mediaType": media_type, "layers": []}).to_string());
        assert!(matches!(error, DocumentError::MediaType { .. }), "{error}");
        assert!(
            error.to_string().ends_with("+json, but has the members of the other kind"),
            "{error}"
        );
    }
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
        let error = parse(&json!({"mediaType": media_type, "manifests": []}).to_string());
        assert!(matches!(error, DocumentError::MediaType { .. }), "{error}");
        assert!(
            error.to_string().ends_with("+json, but has the members of the other kind"),
            "{error}"
        );
    }
}

#[test]
fn malformed_documents_are_refused() {
    let parse = |text: &str| Document::parse(text.as_bytes()).unwrap_err();
    for text in ["", "{", "null", "[", r#"{"layers":[{}]}"#, r#"{"layers":{}}"#, "\u{0}"] {
        let error = parse(text);
        assert!(matches!(error, DocumentError::Json(_)), "{text}");
        assert_eq!(error.to_string(), "the JSON of the document is malformed");
    }
    let duplicate = format!(r#"{{"layers":[],"config":{0},"config":{0}}}"#, config());
    let error = parse(&duplicate);
    assert!(matches!(error, DocumentError::Json(_)), "{error}");
    assert_eq!(error.to_string(), "the JSON of the document is malformed");
    let error = parse(r#"{"schemaVersion":1,"fsLayers":[]}"#);
    assert!(matches!(error, DocumentError::Neither), "{error}");
    assert_eq!(error.to_string(), "the document is neither an index nor a manifest");
}

#[test]
fn the_only_cache_needs_no_name() {
    let layout = TestLayout::new();
    let cache = cache(&layout, "a");
    layout.index(&[image(&layout, "i"), tagged(&cache, "x"), tagged(&cache, "y")]);
    assert_eq!(chosen(&layout, Reference::Default).unwrap(), digest_of(&cache));
}

#[test]
fn among_several_caches_the_latest_is_the_default() {
    let layout = TestLayout::new();
    let (a, b) = (cache(&layout, "a"), cache(&layout, "b"));
    layout.index(&[tagged(&a, "main"), tagged(&b, "latest")]);
    assert_eq!(chosen(&layout, Reference::Default).unwrap(), digest_of(&b));

    layout.index(&[tagged(&a, "main"), tagged(&b, "dev"), tagged(&b, "dev2")]);
    let error = chosen(&layout, Reference::Default).unwrap_err();
    let SelectError::SeveralCaches { caches, .. } = &error else { panic!("{error}") };
    assert_eq!(caches[0].digest, digest_of(&a));
    assert_eq!(caches[1].tags, ["dev".to_owned(), "dev2".to_owned()].into());
    assert!(error.to_string().contains(r#"("dev", "dev2")"#), "{error}");
}

#[test]
fn a_tag_chooses_by_ref_name_then_by_image_name() {
    let layout = TestLayout::new();
    let (a, b) = (cache(&layout, "a"), cache(&layout, "b"));
    let name = "docker.io/library/app:main";
    let named = annotated(b.clone(), "io.containerd.image.name", name);
    layout.index(&[tagged(&a, "main"), named]);
    assert_eq!(chosen(&layout, tag("main")).unwrap(), digest_of(&a));
    assert_eq!(chosen(&layout, tag(name)).unwrap(), digest_of(&b));
    let error = chosen(&layout, tag("other")).unwrap_err();
    assert!(
        error.to_string().ends_with(
            " has no entry with the tag \"other\"; it has \
             \"docker.io/library/app:main\", \"main\""
        ),
        "{error}"
    );
    let SelectError::NoTag { known, .. } = error else { panic!("{error}") };
    assert_eq!(known, ["main".to_owned(), name.to_owned()].into());
}

#[test]
fn an_image_with_the_tag_of_a_cache_is_passed_over() {
    let layout = TestLayout::new();
    let cache = cache(&layout, "a");
    let image = image(&layout, "i");
    layout.index(&[tagged(&image, "latest"), tagged(&cache, "latest"), tagged(&image, "app")]);
    assert_eq!(chosen(&layout, tag("latest")).unwrap(), digest_of(&cache));
    let error = chosen(&layout, tag("app")).unwrap_err();
    assert!(matches!(error, SelectError::NoCache { manifests: 1, .. }), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 1 manifests looked at"),
        "{error}"
    );
}

#[test]
fn a_digest_chooses_also_what_has_lost_its_tag() {
    let layout = TestLayout::new();
    let (old, new) = (cache(&layout, "old"), cache(&layout, "new"));
    layout.index(&[tagged(&new, "latest")]);
    let by = |digest| chosen(&layout, Reference::Digest(digest));
    assert_eq!(by(digest_of(&old)).unwrap(), digest_of(&old));
    assert_eq!(by(digest_of(&new)).unwrap(), digest_of(&new));
    let missing = unusable(by(Digest::of("?")));
    assert!(matches!(missing, ManifestError::Blob(BlobError::Missing { .. })), "{missing}");
    assert!(
        missing.to_string().ends_with(" is not in the layout; copy or export the cache again"),
        "{missing}"
    );
    let image = image(&layout, "i");
    let error = by(digest_of(&image)).unwrap_err();
    assert!(matches!(error, SelectError::NoCache { .. }), "{error}");
    assert!(
        error.to_string().contains(" has no cache and no image among the 1 manifests looked at"),
        "{error}"
    );
    let blob = layout.blob("", "not JSON");
    let error = unusable(by(digest_of(&blob)));
    assert!(matches!(error, ManifestError::Document { .. }), "{error}");
    assert!(error.to_string().ends_with(" is not a usable manifest or index"), "{error}");
}

#[test]
fn an_index_style_cache_is_found_by_its_content_whatever_its_descriptor_says() {
    let layout = TestLayout::new();
    let index = index_of(&[layer("a", GZIP), config()]);
    for media_type in ["", OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST_LIST] {
        let cache = layout.json(media_type, &index);
        layout.index(&[cache]);
        let cache = selected(&layout, Reference::Default).unwrap();
        assert_eq!(cache.style, Style::Index);
    }
}

#[test]
fn a_cache_is_found_in_nested_indexes_even_if_other_manifests_are_absent() {
    let layout = TestLayout::new();
    let cache = cache(&layout, "a");
    let absent = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of("?"), "size": 1});
    let inner = layout.json(OCI_INDEX, &index_of(&[absent.clone(), cache.clone()]));
    let outer = layout.json(OCI_INDEX, &index_of(&[image(&layout, "i"), inner.clone()]));
    layout.index(&[tagged(&outer, "app")]);
    for reference in [Reference::Default, tag("app"), Reference::Digest(digest_of(&inner))] {
        assert_eq!(chosen(&layout, reference).unwrap(), digest_of(&cache));
    }
    // If the missing one could have been the cache, the error says that it is missing.
    layout.index(&[tagged(&absent, "app")]);
    for reference in [Reference::Default, tag("app")] {
        let error = chosen(&layout, reference).unwrap_err();
        let SelectError::Gone { digest: missing, whole, .. } = error else { panic!("{error}") };
        assert_eq!((missing, whole), (Digest::of("?"), Vec::new()));
    }
    layout.index(&[absent]);
    let error = unusable(chosen(&layout, Reference::Default));
    assert!(matches!(error, ManifestError::Blob(BlobError::Missing { .. })), "{error}");
    assert!(
        error.to_string().ends_with(" is not in the layout; copy or export the cache again"),
        "{error}"
    );
}

#[test]
fn no_other_cache_is_taken_in_place_of_one_that_is_gone() {
    let layout = TestLayout::new();
    let (a, b) = (cache(&layout, "a"), cache(&layout, "b"));
    let absent = json!({"mediaType": OCI_INDEX, "digest": Digest::of("?"), "size": 1});
    let gone = |reference: Reference, entries: &[Value], of: &str, whole: &[&Value]| {
        layout.index(entries);
        let error = chosen(&layout, reference).unwrap_err();
        let text = error.to_string();
        let SelectError::Gone { tag, digest: missing, whole: found, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((&*tag, missing), (of, Digest::of("?")));
        let found: Vec<_> = found.iter().map(|cache| cache.digest).collect();
        assert_eq!(found, whole.iter().map(|cache| digest_of(cache)).collect::<Vec<_>>());
        assert!(whole.iter().all(|cache| text.contains(&digest_of(cache).to_string())), "{text}");
    };
    let latest = tagged(&absent, "latest");
    let other = tagged(&a, "feature-x");
    let both = [other.clone(), latest.clone()];
    gone(Reference::Default, &both, "latest", &[&a]);
    gone(tag("latest"), &both, "latest", &[&a]);
    gone(
        Reference::Default,
        &[other.clone(), tagged(&b, "b"), latest.clone()],
        "latest",
        &[&a, &b],
    );
    // It was not named, but it may be the wanted one.
    gone(Reference::Default, &[other.clone(), tagged(&absent, "main")], "main", &[&a]);
    // It is ambiguous which of the two with the tag is meant.
    gone(tag("main"), &[tagged(&a, "main"), tagged(&absent, "main")], "main", &[&a]);
    // In an existing index.
    let index = layout.json(OCI_INDEX, &index_of(std::slice::from_ref(&absent)));
    gone(Reference::Default, &[other.clone(), tagged(&index, "latest")], "latest", &[&a]);

    // The requested one exists.
    layout.index(&both);
    assert_eq!(chosen(&layout, tag("feature-x")).unwrap(), digest_of(&a));
    assert_eq!(chosen(&layout, Reference::Digest(digest_of(&a))).unwrap(), digest_of(&a));
    layout.index(&[tagged(&a, "latest"), tagged(&absent, "feature-x")]);
    assert_eq!(chosen(&layout, Reference::Default).unwrap(), digest_of(&a));
    // Keys of a missing cache, and the list of them.
    let mut keys = tagged(&absent, "main-keys");
    keys["artifactType"] = "application/vnd.oci2bk.keys".into();
    let list = tagged(&absent, &format!("sha256-{}", Digest::of("old").hex()));
    layout.index(&[other, keys, list]);
    assert_eq!(chosen(&layout, Reference::Default).unwrap(), digest_of(&a));
}

#[test]
fn other_manifests_are_listed_once_and_layers_are_not_opened() {
    let layout = TestLayout::new();
    let (app, tool) = (image(&layout, "app"), image(&layout, "tool"));
    let index = layout.json(OCI_INDEX, &index_of(&[app.clone(), tool.clone()]));
    // A layer blob in index.json, which does not even exist.
    layout.index(&[index, cache(&layout, "a"), layer("l", GZIP), app.clone()]);
    let others = other_manifests(&layout.open()).unwrap();
    let digests: Vec<_> = others.iter().map(|other| other.digest).collect();
    assert_eq!(digests, [digest_of(&app), digest_of(&tool)]);
}

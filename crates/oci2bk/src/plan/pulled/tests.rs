use llb::Platform;
use serde_json::{Value, json};

use super::super::testing::*;
use super::super::{BrokenPlan, SnapshotIndex};
use super::*;
use crate::degree::Degree;
use crate::image::{BaseImage, ImageError};
use crate::keys::Keyring;
use crate::layout::testing::{TestLayout, annotated, digest_of};
use crate::limits::Limits;
use crate::manifest::OCI_INDEX;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const NAME: &str = "io.containerd.image.name";

/// Returns a layer without annotations, as an image lists it, with its blob.
fn layer(layout: &TestLayout, name: &str) -> Value {
    layout.blob(GZIP, name)
}

fn image(layout: &TestLayout, names: &[&str], platform: [&str; 2]) -> Value {
    let layers: Vec<_> = names.iter().map(|name| layer(layout, name)).collect();
    let diff_ids: Vec<_> = names.iter().map(|name| diff_id(name)).collect();
    let [os, architecture] = platform;
    layout.image(
        &layers,
        &json!({
            "os": os,
            "architecture": architecture,
            "created": "2026-11-21T20:27:19Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "ADD a"}, {"created_by": "RUN b"}],
        }),
    )
}

/// Creates a layout with an index of an image of the layers `a` and `b` for amd64, and one for arm64.
fn layout() -> TestLayout {
    let layout = TestLayout::new();
    let manifests = [("amd64", ["a", "b"]), ("arm64", ["c", "d"])].map(|(architecture, names)| {
        let mut image = image(&layout, &names, ["linux", architecture]);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    });
    let index = layout.json(OCI_INDEX, &json!({"manifests": manifests}));
    layout.index(&[annotated(index, NAME, "docker.io/library/base:1.2")]);
    layout
}

fn read(layout: &TestLayout) -> BaseImage {
    let word = layout.path().to_str().unwrap().parse().unwrap();
    BaseImage::read(&word, &Limits::default()).unwrap().remove(0)
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn empty() -> Plan {
    Plan::new(&[], &Keyring::for_exports(&[])).unwrap()
}

#[test]
fn an_image_alone_is_layers_and_a_source_with_each_of_its_keys() {
    let layout = layout();
    let whole = read(&layout).whole(&amd64()).unwrap();
    let mut plan = empty();
    let without = plan.worker_id.clone();
    plan.add_layers(&whole).unwrap();
    assert!(plan.add_images(std::slice::from_ref(&whole.image)).is_empty());

    let blobs: Vec<_> = plan.layers.iter().map(|layer| layer.blob).collect();
    assert_eq!(blobs, ["a", "b"].map(blob));
    let name = whole.name().unwrap();
    let index = layout.open().entries()[0].digest;
    assert_eq!(name, format!("docker.io/library/base:1.2@{index}"));
    for layer in &plan.layers {
        assert_eq!(layer.description, Some(format!("pulled from {name}")));
        assert_eq!(layer.image.as_ref(), Some(&name));
        assert_eq!(layer.created_at.unwrap().to_string(), "2026-11-21T20:27:19Z");
    }
    // Of the index, of the manifest and of the layers.
    assert_eq!(plan.steps.len(), 3);
    assert!(
        plan.steps
            .iter()
            .all(|step| step.links.is_empty() && step.results[0].layer == LayerIndex(1))
    );
    // Index, manifest and config are kept with the topmost layer.
    assert_eq!(plan.documents.len(), 3);
    assert!(
        plan.documents.values().all(|document| document.layers == BTreeSet::from([LayerIndex(1)]))
    );
    assert_eq!(plan.degree(), Some(Degree::Layers));
    assert_eq!(plan.sources[0].style, Style::Image);
    assert_ne!(plan.worker_id, without);
}

#[test]
fn layers_that_a_cache_has_are_planned_once_and_say_what_the_cache_says() {
    let records = json!([{"digest": record("x"), "layers": result(0)}]);
    let (_cache, export) = export(&["a"].map(described), &[("a", -1)], &records);
    let mut plan = Plan::new(&[export], &keyring(&["x"])).unwrap();
    let worker = plan.worker_id.clone();
    let described = plan.layers[0].description.clone();
    plan.add_layers(&read(&layout()).whole(&amd64()).unwrap()).unwrap();
    assert_eq!(plan.layers.len(), 2);
    assert_eq!(plan.layers[0].description, described);
    assert!(plan.layers[0].image.is_some());
    assert_eq!(plan.blobs[&blob("a")].source, SourceIndex(0));
    assert_eq!(plan.blobs[&blob("b")].source, SourceIndex(1));
    assert_eq!(plan.worker_id, worker);
}

#[test]
fn an_image_that_contradicts_a_cache_is_refused_by_name() {
    let records = json!([{"digest": record("x"), "layers": result(0)}]);
    let mut lying = plain("a");
    lying["annotations"]["containerd.io/uncompressed"] = diff_id("other").to_string().into();
    let (_cache, export) = export(&[lying], &[("a", -1)], &records);
    let mut plan = Plan::new(&[export], &keyring(&["x"])).unwrap();
    let image = read(&layout()).whole(&amd64()).unwrap();
    let error = plan.add_layers(&image).unwrap_err();
    let PlanError::Conflict { layer, second, .. } = &error else { panic!("{error}") };
    assert_eq!(*layer, blob("a"));
    assert!(second.starts_with(&format!("the image {}", image.manifest)), "{second}");
}

fn named(layout: &TestLayout, name: &str) -> BaseImage {
    let word = format!("{name}={}", layout.path().display()).parse().unwrap();
    BaseImage::read(&word, &Limits::default()).unwrap().remove(0)
}

#[test]
fn a_name_with_a_tag_is_that_of_the_top_object_which_keeps_all_platforms() {
    let layout = layout();
    let image = named(&layout, "base:2");
    let mut plan = empty();
    for platform in ["linux/amd64", "linux/arm64"] {
        plan.add_layers(&image.whole(&platform.parse().unwrap()).unwrap()).unwrap();
    }
    assert!(plan.add_images(std::slice::from_ref(&image)).is_empty());
    assert_eq!(plan.images.keys().collect::<Vec<_>>(), ["docker.io/library/base:2"]);
    let index = layout.open().entries()[0].digest;
    let found = &plan.images["docker.io/library/base:2"];
    assert_eq!((found.digest, found.media_type.as_str()), (index, OCI_INDEX));
    assert_eq!(found.size, plan.documents[&index].size);

    // Everything is reached from it.
    let mut reached = BTreeSet::from([index]);
    let mut waiting = vec![index];
    while let Some(digest) = waiting.pop() {
        let references = plan.documents.get(&digest).map(|document| &document.references);
        let parts = references.into_iter().flat_map(|references| references.values());
        waiting.extend(parts.filter(|part| reached.insert(**part)));
    }
    let parts = plan.documents.keys().chain(plan.blobs.keys());
    assert_eq!(reached, parts.copied().collect());
    assert_eq!((plan.documents.len(), plan.blobs.len()), (5, 4));
}

#[test]
fn a_name_without_a_tag_is_in_no_image_store() {
    let mut plan = empty();
    plan.add_layers(&named(&layout(), "base").whole(&amd64()).unwrap()).unwrap();
    assert!(plan.images.is_empty());
    assert!(plan.documents.values().all(|document| document.references.is_empty()));
}

#[test]
fn an_image_without_layers_can_have_a_name() {
    let layout = TestLayout::new();
    layout.index(&[image(&layout, &[], ["linux", "amd64"])]);
    let mut plan = empty();
    plan.add_layers(&named(&layout, "empty:1").whole(&amd64()).unwrap()).unwrap();
    assert_eq!(plan.images.len(), 1);
    assert!(plan.documents.contains_key(&plan.images["docker.io/library/empty:1"].digest));
    assert_eq!(plan.documents.len(), 2);
}

#[test]
fn two_images_of_one_name_are_refused() {
    let (first, second) = (layout(), TestLayout::new());
    second.index(&[image(&second, &["b"], ["linux", "amd64"])]);
    let mut plan = empty();
    plan.add_layers(&named(&first, "base:1").whole(&amd64()).unwrap()).unwrap();
    let second = named(&second, "base:1").whole(&amd64()).unwrap();
    let error = plan.add_layers(&second).unwrap_err();
    let PlanError::TwoImages { name, first, second: refused } = &error else { panic!("{error}") };
    assert_eq!(name, "docker.io/library/base:1");
    assert_eq!((*refused, *first), (second.manifest, plan.images[name].digest));
    let message = format!(
        "{first} and {refused} cannot both be the image {name}; name one image of the layout, as in NAME:TAG=LAYOUT:TAG"
    );
    assert_eq!(error.to_string(), message);
}

#[test]
fn nothing_is_added_to_a_plan_that_does_not_fit_together() {
    let mut plan = empty();
    let image = read(&layout()).whole(&amd64()).unwrap();
    plan.add_layers(&image).unwrap();
    plan.layers[1].snapshot = SnapshotIndex(7);
    let before = plan.sources.len();
    let error = plan.add_layers(&image).unwrap_err();
    assert!(matches!(error, PlanError::Plan(BrokenPlan::Reference { index: 1, .. })), "{error}");
    assert!(error.to_string().starts_with("layer 1 of the plan refers to snapshot 7"), "{error}");
    assert_eq!(plan.sources.len(), before);
}

#[test]
fn an_image_without_a_name_has_no_documents_that_nobody_would_find() {
    let layout = TestLayout::new();
    layout.index(&[image(&layout, &["a", "b"], ["linux", "amd64"])]);
    let open = Arc::new(layout.open());
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let image = BaseImage::named_by(&source, &open).unwrap().remove(0);
    let whole = image.whole(&amd64()).unwrap();
    assert_eq!(whole.name(), None);
    let mut plan = empty();
    plan.add_layers(&whole).unwrap();
    plan.add_images(&[image]);
    assert!(plan.documents.is_empty());
    assert_eq!(plan.layers[1].description.as_deref(), Some("RUN b"));
}

#[test]
fn what_is_missing_is_named() {
    let layout = layout();
    let image = read(&layout);
    let error = image.whole(&"linux/s390x".parse().unwrap()).unwrap_err();
    let ImageError::NoPlatform { wanted, platforms, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (wanted.as_str(), platforms.as_slice()),
        ("linux/s390x", &["linux/amd64", "linux/arm64"].map(str::to_owned)[..])
    );

    std::fs::remove_file(layout.blob_path(blob("b"))).unwrap();
    let error = image.whole(&amd64()).unwrap_err();
    assert!(matches!(&error, ImageError::NoLayer { layer, .. } if *layer == blob("b")), "{error}");
    assert!(error.to_string().ends_with("; copy the image again, with all its layers"), "{error}");
    std::fs::write(layout.blob_path(blob("b")), "longer than b").unwrap();
    let error = image.whole(&amd64()).unwrap_err();
    assert!(matches!(error, ImageError::Blob { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot read the images in "), "{error}");

    let manifest = image.whole(&"linux/arm64".parse().unwrap()).unwrap().manifest;
    std::fs::remove_file(layout.blob_path(manifest)).unwrap();
    let error = read(&layout).whole(&"linux/arm64".parse().unwrap()).unwrap_err();
    let ImageError::NoManifest { what, digest, platform, .. } = &error else { panic!("{error}") };
    assert_eq!((*what, *digest, platform.as_str()), ("manifest", manifest, "linux/arm64"));
}

#[test]
fn a_config_with_other_layers_than_the_manifest_is_refused() {
    let layout = TestLayout::new();
    let layers = [layer(&layout, "a")];
    let config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [diff_id("a"), diff_id("b")]}});
    let image = layout.image(&layers, &config);
    let digest = digest_of(&image);
    layout.index(&[annotated(image, NAME, "docker.io/library/base:1")]);
    let error = read(&layout).whole(&amd64()).unwrap_err();
    let ImageError::Layer { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains(&format!("{digest} has 1 layers")), "{source}");
}

#[test]
fn an_image_without_layers_adds_nothing_but_a_source() {
    let layout = TestLayout::new();
    let config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": []}});
    let image = layout.image(&[], &config);
    layout.index(&[annotated(image, NAME, "docker.io/library/scratch-like:1")]);
    let mut plan = empty();
    plan.add_layers(&read(&layout).whole(&amd64()).unwrap()).unwrap();
    assert!(plan.layers.is_empty() && plan.steps.is_empty());
    assert_eq!((plan.degree(), plan.sources.len()), (None, 1));
}

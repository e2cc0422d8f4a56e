//! Small states with images. The end-to-end suite compares whole ones with real daemons.

use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::bolt::Db;
use crate::bolt::{Node, Tree};
use crate::dir::Dir;
use crate::ids::WorkerId;
use crate::metadata::{Content, Metadata};
use crate::records::Record;
use crate::usage::Usage;
use crate::worker::Worker;

const MANIFEST: &str = MANIFESTS[0];
const INDEX: &str = INDEXES[0];

fn id(name: &str) -> RecordId {
    RecordId::new(name).unwrap()
}

/// Returns a record with the blob of this name, on the record of that name.
fn layer(blob: &str, parent: Option<&str>) -> Record {
    let blob = Some(Digest::of(blob));
    Record {
        committed: Some(true),
        blob,
        parent: parent.map(id),
        size: Some(1),
        ..Record::default()
    }
}

/// A state with an image store.
struct Bench {
    state: State,
    temp: TempDir,
    store: BlobStore,
    images: Tree,
}

impl Bench {
    fn new(records: impl IntoIterator<Item = (&'static str, Record)>) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = BlobStore::create(&Dir::open(temp.path()).unwrap()).unwrap();
        let worker = Worker::of_containerd(None);
        let mut state = State::empty(worker, WorkerId::derive("worker"));
        state.records.by_id =
            records.into_iter().map(|(name, record)| (id(name), record)).collect();
        Self { state, temp, store, images: Tree::default() }
    }

    /// Stores a document of an image, and returns its descriptor.
    fn document(&mut self, media_type: &str, document: &Value) -> Value {
        let text = document.to_string();
        let digest = Digest::of(&text);
        self.store.create_blob(&digest).unwrap().write_all(text.as_bytes()).unwrap();
        let content = Content { size: 1, ..Content::default() };
        let namespace = self.state.worker.namespace_entry(&mut self.state.metadata);
        namespace.content.insert(digest, content);
        json!({"mediaType": media_type, "digest": digest.to_string()})
    }

    fn manifest(&mut self, layers: &[&str]) -> Value {
        let layer = |name: &&str| json!({"digest": Digest::of(name).to_string()});
        let layers: Vec<_> = layers.iter().map(layer).collect();
        self.document(MANIFEST, &json!({"layers": layers}))
    }

    fn image(&mut self, name: &str, target: &Value) {
        let value = |name: &str| Node::Value(target[name].as_str().unwrap().into());
        let target = [("digest", value("digest")), ("mediatype", value("mediaType"))];
        let target = target.map(|(name, value)| (name.into(), value)).into();
        let target = Node::Bucket(Tree { sequence: 0, entries: target });
        let row = Tree { sequence: 0, entries: [(b"target".to_vec(), target)].into() };
        self.images.entries.insert(name.into(), Node::Bucket(row));
    }

    /// Returns the records that are listed as shared, after the metadata was written and read.
    fn shared(&self) -> Vec<String> {
        let mut state = self.state.clone();
        let namespace = state.worker.namespace_entry(&mut state.metadata);
        namespace.images = Some(self.images.clone());
        let file = tempfile::tempfile_in(self.temp.path()).unwrap();
        state.metadata.write(&file).unwrap();
        state.metadata = Metadata::read(&Db::open(file).unwrap(), &state.worker).unwrap();
        let images = Images::read(&state, Some(&self.store));
        let Ok(usages) = state.usage_of(&images, |_| Ok::<_, std::convert::Infallible>(0));
        // Each record has one byte.
        let private = usages.iter().filter(|usage| !usage.shared).count();
        assert_eq!(state.collected_bytes(Some(&self.store)), private as u64);
        let shared = usages.into_iter().filter(|usage: &Usage| usage.shared);
        shared.map(|usage| usage.id.to_string()).collect()
    }
}

#[test]
fn the_layers_of_an_image_are_shared_and_so_is_what_adds_none() {
    let composed = |record| Record { committed: Some(true), size: Some(1), ..record };
    let upper = composed(Record {
        lower_diff_parent: Some(id("base")),
        upper_diff_parent: Some(id("top")),
        ..Record::default()
    });
    let merged = |parents: [&str; 2]| {
        let merge_parents = Some(parents.map(id).into());
        composed(Record { merge_parents, ..Record::default() })
    };
    let own = Record { blob: Some(Digest::of("c")), ..upper.clone() };
    let unnamed = Record { blob: None, ..layer("", Some("top")) };
    let mut bench = Bench::new([
        ("base", layer("a", None)),
        ("top", layer("b", Some("base"))),
        ("over", layer("c", Some("top"))),
        ("same-blob", layer("b", None)),
        ("unnamed", unnamed),
        ("difference", upper),
        ("own-difference", own),
        ("merge", merged(["base", "same-blob"])),
        ("other-merge", merged(["same-blob", "base"])),
    ]);
    assert!(bench.shared().is_empty());
    let manifest = bench.manifest(&["a", "b"]);
    let missing = json!({"mediaType": MANIFEST, "digest": Digest::of("another platform")});
    let index = bench.document(INDEX, &json!({"manifests": [missing, manifest]}));
    bench.image("docker.io/library/image:1", &index);
    // The last one builds on its two parents, so these are shared, too.
    let expected = ["base", "difference", "merge", "same-blob", "top", "unnamed"];
    assert_eq!(bench.shared(), expected);
    let empty = bench.manifest(&[]);
    bench.image("docker.io/library/empty:1", &empty);
    assert_eq!(bench.shared(), expected);

    bench.state.worker = Worker::default();
    assert!(bench.shared().is_empty(), "the OCI worker has no images");
}

#[test]
fn images_behind_an_unusable_one_are_not_looked_at() {
    let mut bench = Bench::new([
        ("one", layer("a", None)),
        ("two", layer("b", None)),
        ("three", layer("c", None)),
    ]);
    for (name, layer) in [("a", "a"), ("c", "c")] {
        let manifest = bench.manifest(&[layer]);
        bench.image(name, &manifest);
    }
    assert_eq!(bench.shared(), ["one", "three"]);
    let config = "application/vnd.oci.image.config.v1+json";
    let nonsense = bench.document(MANIFEST, &json!([]));
    let unusable = bench.document(config, &json!({}));
    let inside = bench.document(INDEX, &json!({"manifests": [unusable.clone()]}));
    for target in [nonsense, unusable, inside] {
        bench.image("b", &target);
        assert_eq!(bench.shared(), ["one"], "{target}");
    }
    // Those that are missing, damaged or too large are passed over.
    let large = "x".repeat(usize::try_from(MAX_DOCUMENT_BYTES).unwrap());
    let large = bench.document(MANIFEST, &json!({"layers": [], "annotations": large}));
    let foreign = json!({"mediaType": MANIFEST, "digest": "sha512:ab"});
    let missing = json!({"mediaType": MANIFEST, "digest": Digest::of("missing")});
    let itself = Digest::of("itself");
    let own = json!({"mediaType": INDEX, "digest": itself.to_string()});
    let circle = json!({"manifests": [own.clone()]}).to_string();
    bench.store.create_blob(&itself).unwrap().write_all(circle.as_bytes()).unwrap();
    let namespace = bench.state.worker.namespace_entry(&mut bench.state.metadata);
    namespace.content.insert(itself, Content { size: 1, ..Content::default() });
    for target in [large, foreign, missing, own] {
        bench.image("b", &target);
        assert_eq!(bench.shared(), ["one", "three"], "{target}");
    }
}

#[test]
fn chains_that_are_longer_than_any_image_cost_nothing() {
    let names: Vec<&'static str> =
        (0..1000_u32).map(|n| &*Box::leak(format!("r{n:04}").into_boxed_str())).collect();
    let below = [None].into_iter().chain(names.iter().copied().map(Some));
    let records = names.iter().copied().zip(below).map(|(name, below)| (name, layer(name, below)));
    let mut bench = Bench::new(records);
    let manifest = bench.manifest(&names[..2]);
    bench.image("image", &manifest);
    assert_eq!(bench.shared(), names[..2]);
    let state = &bench.state;
    assert_eq!(chains(state, &super::super::loaded::load(state), 2).len(), 2);
}

//! Hand-made layouts on disk.

use std::fs;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const DIFF_ID: &str = "containerd.io/uncompressed";

/// A layout in a temporary directory.
pub(super) struct Layout {
    dir: TempDir,
}

impl Layout {
    /// Creates a layout without blobs, with an empty index.
    pub(super) fn new() -> Self {
        let layout = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        layout.index(&[]);
        layout
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file by its path below the layout.
    pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// Returns the path of the blob of `descriptor`.
    pub(super) fn blob_path(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap();
        self.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    /// Adds a blob and returns its descriptor.
    pub(super) fn blob(&self, media_type: &str, content: impl AsRef<[u8]>) -> Value {
        let content = content.as_ref();
        let descriptor =
            json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()});
        fs::write(self.blob_path(&descriptor), content).unwrap();
        descriptor
    }

    /// Adds a layer of one file and returns its descriptor.
    pub(super) fn layer(&self, name: &str) -> Value {
        let tar = tar_of(name, name.as_bytes());
        let mut layer = self.blob(TAR, &tar);
        layer["annotations"] = json!({DIFF_ID: Digest::of(&tar)});
        layer
    }

    /// Writes an `index.json` of `entries`.
    pub(super) fn index(&self, entries: &[Value]) {
        self.file("index.json", json!({"schemaVersion": 2, "manifests": entries}).to_string());
    }

    /// Makes a cache of these layers and this config the only one of the layout.
    pub(super) fn cache(&self, layers: &[Value], config: impl AsRef<[u8]>) {
        let config = self.blob(CACHE_CONFIG, config);
        self.manifest(&json!({"schemaVersion": 2, "config": config, "layers": layers}));
    }

    /// Makes this manifest the only one of the layout.
    pub(super) fn manifest(&self, manifest: &Value) {
        self.index(&[self.blob(MANIFEST, manifest.to_string())]);
    }
}

/// Returns a tar archive of one file.
pub(super) fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

pub(super) fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

/// Returns a config whose only record is a root with the result `layers`, nodes on top of each other.
pub(super) fn config_of(layers: &[Value]) -> Value {
    let nodes: Vec<_> = layers
        .iter()
        .zip(-1..)
        .map(|(layer, parent)| json!({"blob": layer["digest"], "parent": parent}))
        .collect();
    let top = layers.len() - 1;
    let record = json!({"digest": Digest::of("root"), "layers": [{"layer": top}]});
    json!({"layers": nodes, "records": [record]})
}

/// Creates a sound layout with a cache of one layer; also returns the layer's descriptor.
pub(super) fn one_layer() -> (Layout, Value) {
    let layout = Layout::new();
    let layer = layout.layer("file");
    let config = config_of(std::slice::from_ref(&layer));
    layout.cache(std::slice::from_ref(&layer), config.to_string());
    (layout, layer)
}

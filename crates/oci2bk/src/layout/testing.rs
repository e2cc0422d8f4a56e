//! Hand-made layouts, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Layout;
use crate::limits::Limits;
use crate::manifest::{CACHE_CONFIG, OCI_MANIFEST, Style};

/// A layout in a temporary directory.
pub(crate) struct TestLayout {
    dir: TempDir,
}

impl TestLayout {
    /// Creates a layout without blobs and with an empty index.
    pub(crate) fn new() -> Self {
        let layout = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout.write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        layout.index(&[]);
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    /// Writes a file at the top.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, content: impl AsRef<[u8]>) -> Value {
        let content = content.as_ref();
        let digest = Digest::of(content);
        fs::write(self.blob_path(digest), content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Adds a JSON blob and returns its descriptor.
    pub(crate) fn json(&self, media_type: &str, content: &Value) -> Value {
        self.blob(media_type, content.to_string())
    }

    /// Writes `index.json`.
    pub(crate) fn index(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        self.write("index.json", &index.to_string());
    }

    /// Makes a cache of the descriptors `layers` and of `config` the only one of the layout; returns the
    /// descriptor of the config.
    pub(crate) fn cache(&self, style: Style, layers: &[Value], config: &Value) -> Value {
        let config = self.json(CACHE_CONFIG, config);
        let top = if style == Style::Index {
            json!({"manifests": ([layers, std::slice::from_ref(&config)].concat())})
        } else {
            json!({"config": config, "layers": layers})
        };
        self.index(&[self.json("", &top)]);
        config
    }

    /// Adds an image of the descriptors `layers`, whose config has `members`, and returns the descriptor of
    /// its manifest.
    pub(crate) fn image(&self, layers: &[Value], members: &Value) -> Value {
        let config = self.json("application/vnd.oci.image.config.v1+json", members);
        self.json(OCI_MANIFEST, &json!({"config": config, "layers": layers}))
    }

    pub(crate) fn open(&self) -> Layout {
        Layout::open(self.path(), &Limits::default()).unwrap()
    }
}

/// Returns a layer descriptor as BuildKit writes it, whose blob is missing.
pub(crate) fn layer(name: &str, media_type: &str) -> Value {
    json!({
        "mediaType": media_type,
        "digest": Digest::of(name),
        "size": name.len(),
        "annotations": {
            "containerd.io/uncompressed": Digest::of(format!("tar of {name}")),
            "buildkit/createdat": "2026-11-21T20:27:19.5Z",
            "buildkit/description": format!("RUN {name}"),
        },
    })
}

/// Returns `descriptor` with another annotation.
pub(crate) fn annotated(mut descriptor: Value, name: &str, value: &str) -> Value {
    descriptor["annotations"][name] = value.into();
    descriptor
}

/// Returns the digest in `descriptor`.
pub(crate) fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

/// Returns `records` in the base64 form of an image config.
pub(crate) fn inline_cache(records: &Value) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(records.to_string())
}

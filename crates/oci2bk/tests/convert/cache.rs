//! Caches of layers made for a test.

use std::fs;

use oci2bk::Digest;
use oci2bk::export::{CacheExport, ExportError};
use oci2bk::keys::{Candidate, KeySource, Keyring, SourceDescription, SourceKind};
use oci2bk::limits::Limits;
use oci2bk::plan::Plan;
use serde_json::{Value, json};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A cache in a directory.
pub(super) struct Cache {
    temp: tempfile::TempDir,
    /// The digests of the layers, in the order of the nodes.
    pub(super) layers: Vec<Digest>,
}

fn op(name: &str) -> Digest {
    Digest::of(format!("op {name}"))
}

/// Returns the digest of the record of the step `name`.
pub(super) fn record(name: &str) -> Digest {
    Digest::of(format!("{}@0", op(name)))
}

impl Cache {
    /// Creates a cache with layers as nodes: the archive, and the index of the parent.
    pub(super) fn new(layers: &[(Vec<u8>, i64)], records: &Value) -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("blobs/sha256")).unwrap();
        fs::write(temp.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let blob = |media_type: &str, content: &[u8]| {
            let digest = Digest::of(content);
            fs::write(temp.path().join("blobs/sha256").join(digest.hex()), content).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": content.len()})
        };
        let (mut descriptors, mut nodes, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for (layer, parent) in layers {
            let digest = Digest::of(layer);
            if !digests.contains(&digest) {
                let mut descriptor = blob(PLAIN, layer);
                descriptor["annotations"] = json!({"containerd.io/uncompressed": digest});
                descriptors.push(descriptor);
            }
            nodes.push(json!({"blob": digest, "parent": parent}));
            digests.push(digest);
        }
        let config = json!({"layers": nodes, "records": records}).to_string();
        let config = blob("application/vnd.buildkit.cacheconfig.v0", config.as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors,
        });
        let manifest = blob(media_type, manifest.to_string().as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        fs::write(temp.path().join("index.json"), index).unwrap();
        Self { temp, layers: digests }
    }

    /// Reads it, if it is within the limits.
    pub(super) fn export(&self, limits: &Limits) -> Result<CacheExport, ExportError> {
        let source = self.temp.path().to_str().unwrap().parse().unwrap();
        Ok(CacheExport::read_all(&source, limits)?.remove(0))
    }

    /// Returns its plan with keys of the steps with these names.
    pub(super) fn plan(&self, names: &[&str]) -> Plan {
        let exports = vec![self.export(&Limits::default()).unwrap()];
        let candidates = names.iter().map(|name| Candidate {
            op_digest: op(name).into(),
            outputs: 1,
            name: Some((*name).to_owned()),
            encoding: None,
            vertex: None,
            builder: None,
        });
        let description =
            SourceDescription { path: "keys".into(), kind: SourceKind::CacheDb, part: None };
        let mut keyring = Keyring::for_exports(&exports);
        let source = KeySource::from_digests(candidates.collect(), description);
        keyring.add(source, &Limits::default()).unwrap();
        let plan = Plan::new(&exports, &keyring).unwrap();
        assert!(plan.lost.is_empty(), "{:?}", plan.lost);
        plan
    }
}

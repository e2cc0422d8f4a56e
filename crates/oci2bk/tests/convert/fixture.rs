//! The fixtures, and copies of them to damage.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use oci2bk::config::{Node, NodeIndex};
use oci2bk::export::CacheExport;
use oci2bk::keys::Keyring;
use oci2bk::limits::Limits;
use oci2bk::source::{Reference, Source};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of `fixtures/`.
pub(super) struct Fixture {
    pub(super) name: &'static str,
    /// The source of its op digests.
    pub(super) keys: &'static str,
}

pub(super) const ALL: &[Fixture] = &[
    Fixture { name: "index", keys: "keys/provenance.json" },
    Fixture { name: "manifest", keys: "keys/image" },
    Fixture { name: "zstd", keys: "keys/cache.db" },
    Fixture { name: "min", keys: "keys/metadata.json" },
];

impl Fixture {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(self.name)
    }

    pub(super) fn layout(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub(super) fn export(&self) -> CacheExport {
        read(&self.layout())
    }

    /// Copies the export to a temporary directory.
    pub(super) fn copy(&self) -> Copy {
        let temp = tempfile::tempdir().unwrap();
        let blobs = temp.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let cache = self.layout();
        fs::copy(cache.join("index.json"), temp.path().join("index.json")).unwrap();
        for blob in fs::read_dir(cache.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::write(blobs.join(blob.file_name()), fs::read(blob.path()).unwrap()).unwrap();
        }
        Copy { temp }
    }
}

fn read(layout: &Path) -> CacheExport {
    let source = Source { path: layout.to_owned(), reference: Reference::Default };
    CacheExport::read_all(&source, &Limits::default()).unwrap().remove(0)
}

/// Returns what the keys of `fixtures` resolve in `exports`.
pub(super) fn keyring(exports: &[CacheExport], fixtures: &[&Fixture]) -> Keyring {
    let mut keyring = Keyring::for_exports(exports);
    for fixture in fixtures {
        keyring.read(fixture.path().join(fixture.keys), &Limits::default()).unwrap();
    }
    keyring
}

/// A copy of an export in the image-manifest style.
pub(super) struct Copy {
    temp: TempDir,
}

impl Copy {
    pub(super) fn export(&self) -> CacheExport {
        read(self.temp.path())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.temp.path().to_owned()
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.temp.path().join("blobs/sha256").join(digest.hex())
    }

    /// Returns the largest layer blob.
    pub(super) fn largest_layer(&self) -> Digest {
        let layers = self.export().manifest.layers;
        layers.into_values().max_by_key(|layer| layer.descriptor.size).unwrap().descriptor.digest
    }

    /// Returns a layer that has a layer below it and none above.
    pub(super) fn top_layer(&self) -> Digest {
        let nodes = self.export().config.nodes;
        let below: BTreeSet<_> = nodes.iter().filter_map(|node| node.parent).collect();
        let is_top = |(index, node): &(NodeIndex, &Node)| {
            let times = nodes.iter().filter(|other| other.blob == node.blob).count();
            times == 1 && !below.contains(index) && node.parent.is_some()
        };
        (0..).map(NodeIndex).zip(&nodes).find(is_top).unwrap().1.blob
    }

    /// Changes the manifest and makes the changed one the only cache of the layout.
    pub(super) fn edit_manifest(&self, change: impl FnOnce(&mut Value)) {
        let digest = self.export().manifest.digest;
        let mut manifest = serde_json::from_slice(&fs::read(self.blob(&digest)).unwrap()).unwrap();
        change(&mut manifest);
        let content = manifest.to_string();
        let digest = Digest::of(&content);
        fs::write(self.blob(&digest), &content).unwrap();
        let media_type = &manifest["mediaType"];
        let entry = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        fs::write(self.temp.path().join("index.json"), index).unwrap();
    }
}

/// Returns whether layers can be unpacked, which requires root. A suite that must be complete sets
/// `OCI2BK_REQUIRE_ORACLE`.
pub(super) fn can_extract() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "unpacking layers takes root");
        eprintln!("not unpacked: that takes root");
    }
    root
}

//! Uploads: layouts in tar archives.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use archives::Member;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci2bk::keys::{KeysFile, attach, read_source};
use oci2bk::{CacheExport, Digest, Limits};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns a cache of `fixtures` with its keys attached, as `oci2bk keys attach` does it.
pub(crate) fn fixture(name: &str, keys: &str) -> Vec<u8> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fixtures").join(name);
    let temp = tempfile::tempdir().unwrap();
    let blobs = temp.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::copy(fixture.join("cache/index.json"), temp.path().join("index.json")).unwrap();
    for blob in fs::read_dir(fixture.join("cache/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::write(blobs.join(blob.file_name()), fs::read(blob.path()).unwrap()).unwrap();
    }
    let limits = Limits::default();
    let source = temp.path().to_str().unwrap().parse().unwrap();
    let export = CacheExport::read_all(&source, &limits).unwrap().remove(0);
    let keys = read_source(&fixture.join(keys), &limits).unwrap();
    attach(&export, &KeysFile::from_sources(&keys), None).unwrap();
    tar_of(temp.path())
}

pub(crate) fn index() -> Vec<u8> {
    fixture("index", "keys/provenance.json")
}

pub(crate) fn min() -> Vec<u8> {
    fixture("min", "keys/metadata.json")
}

fn tar_of(layout: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", layout).unwrap();
    archive.into_inner().unwrap()
}

/// A layout with one cache.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("blobs/sha256")).unwrap();
        fs::write(temp.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(temp)
    }

    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        fs::write(self.0.path().join("blobs/sha256").join(digest.hex()), content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Ends with a manifest with this config and these layers.
    fn manifest(self, config: &Value, layers: &[Value]) -> Vec<u8> {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        let manifest = self.blob(media_type, manifest.to_string().as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        fs::write(self.0.path().join("index.json"), index).unwrap();
        tar_of(self.0.path())
    }
}

/// Returns a cache of one step with this layer in gzip.
pub(crate) fn of_layer(gzip: &[u8]) -> Vec<u8> {
    let made = Made::new();
    let mut layer = made.blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip);
    layer["annotations"] = json!({"containerd.io/uncompressed": diff_id(gzip)});
    let record = json!({"digest": Digest::of("step"), "layers": [{"layer": 0}]});
    let node = json!({"blob": layer["digest"], "parent": -1});
    let config = json!({"layers": [node], "records": [record]}).to_string();
    let config = made.blob("application/vnd.buildkit.cacheconfig.v0", config.as_bytes());
    made.manifest(&config, &[layer])
}

/// Returns a cache with the descriptor of a config that is this digest.
pub(crate) fn of_digest(digest: &str) -> Vec<u8> {
    let media_type = "application/vnd.buildkit.cacheconfig.v0";
    Made::new().manifest(&json!({"mediaType": media_type, "digest": digest, "size": 100}), &[])
}

/// Returns the digest of the content; of a large one, which is not to be unpacked, any other.
fn diff_id(gzip: &[u8]) -> Digest {
    use std::io::Read as _;
    let mut content = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(gzip);
    decoder.take(1 << 20).read_to_end(&mut content).unwrap();
    Digest::of(content)
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Returns the archive of a file of 2.7 GB of zeros, in 2.7 MB.
pub(crate) fn zeros() -> Vec<u8> {
    const PIECE: usize = 64 << 20;
    const PIECES: usize = 41;
    // A gzip file may have any number of members, one after another.
    let piece = gzip(&vec![0; PIECE]);
    let header: Member = archives::file("zeros", "").size((PIECE * PIECES) as i64);
    let mut bomb = gzip(&header.bytes());
    (0..PIECES).for_each(|_| bomb.extend(&piece));
    bomb.extend(gzip(&[0; 1024]));
    bomb
}

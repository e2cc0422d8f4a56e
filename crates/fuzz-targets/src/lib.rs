//! The fuzz targets: plain functions, which ordinary tests also call for every file of `fuzz/corpus` and
//! `fuzz/crashes` (`tests/corpus.rs`).
//!
//! None of them may panic, run out of memory or take long. Most input causes errors.
#![allow(clippy::expect_used, clippy::panic, reason = "what is wrong has to end the program")]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

use archives::{archive, file};
use bkstate::Digest;
use bkstate::bolt::{Bucket, Db, Entry, Tree, check};
use bkstate::worker::Worker;
use oci2bk::export::CacheExport;
use oci2bk::keys::{Keyring, KeysFile, read_source};
use oci2bk::limits::Limits;
use oci2bk::llb::{Encoding, Platform, digest};
use oci2bk::plan::Plan;
use oci2bk::source::{Reference, Source};
use oci2bk::unpack::{Layer, Placement, unpack as unpack_layer};
use serde_json::{Value, json};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("bolt", bolt),
    ("unpack", unpack),
    ("stream", stream),
    ("layout", layout),
    ("manifest", manifest),
    ("config", config),
    ("provenance", key_source),
    ("definition", key_source),
    ("history", key_source),
    ("bundle", key_source),
    ("keys_file", key_source),
    ("cache_debug", key_source),
    ("dockerfile", dockerfile),
];

/// A file in memory, and a path to it.
fn in_memory(content: &[u8]) -> (File, PathBuf) {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let fd = rustix::fs::memfd_create("input", flags).expect("memory for a file");
    let mut file = File::from(fd);
    file.write_all(content).expect("memory for a file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

/// A BoltDB file: the reader, the checker and the walk over all buckets.
fn bolt(data: &[u8]) {
    let (file, _) = in_memory(data);
    let Ok(db) = Db::open(file) else { return };
    let damage = check(&db);
    let walked = walk(db.root());
    let tree = Tree::read(&db.root());
    if damage.is_empty() {
        // Whatever passes the checker can be read.
        assert!(walked && tree.is_ok());
    }
}

/// Returns whether everything could be read. Nested buckets wait in a list.
fn walk(root: Bucket<'_>) -> bool {
    let mut pending = vec![root];
    let mut visited = 0;
    while let Some(bucket) = pending.pop() {
        visited += 1;
        // Damaged files can refer to one bucket from many places.
        if visited > 1000 {
            return true;
        }
        for entry in bucket.entries() {
            match entry {
                Ok((_, Entry::Bucket(bucket))) => pending.push(bucket),
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
    true
}

/// Low limits, so that hostile sizes have an effect without gigabytes.
fn limits() -> Limits {
    Limits {
        layer_entries: 2000,
        layer_size: 1 << 20,
        layer_directories: 1 << 18,
        config: 1 << 20,
        ..Limits::default()
    }
}

/// A plain archive, as the lowest layer and on top of itself. The checksums of its headers are corrected,
/// because almost no input would pass otherwise.
fn unpack(data: &[u8]) {
    let mut tar = data.to_vec();
    for block in tar.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    apply(&tar, "application/vnd.oci.image.layer.v1.tar");
}

/// A compressed archive.
fn stream(data: &[u8]) {
    apply(data, "application/vnd.oci.image.layer.v1.tar+gzip");
}

fn apply(blob: &[u8], media_type: &str) {
    let shared = PathBuf::from("/dev/shm");
    let base = if shared.is_dir() { shared } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(base).expect("a directory");
    let (file, _) = in_memory(blob);
    let mut lowers: Vec<File> = Vec::new();
    for (name, placement) in [("base", Placement::Base), ("overlay", Placement::Overlay)] {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        let fs = File::open(&path).expect("a directory");
        let digest = Digest::of(blob);
        let layer =
            Layer { blob: &file, digest, size: blob.len() as u64, media_type, diff_id: digest };
        let unpacked =
            unpack_layer(&layer, fs.as_fd(), placement, &Worker::default(), &limits(), &|_| ());
        if let Ok(unpacked) = unpacked {
            let _ = unpacked.implied.settle(fs.as_fd(), &lowers);
        }
        lowers.push(fs);
    }
    let beside = std::fs::read_dir(directory.path()).expect("the directory").count();
    assert_eq!(beside, 2, "something was made outside");
}

/// A tar archive of a layout.
fn layout(data: &[u8]) {
    export(data);
}

/// The manifest of a cache, in a layout with the blobs that it names.
fn manifest(data: &[u8]) {
    let config = json!({"layers": [], "records": []}).to_string();
    let mut blobs = vec![config.into_bytes(), data.to_vec()];
    let mentioned = mentioned(data);
    let index = index(data);
    export_of(&mut blobs, &mentioned, &index);
}

/// The config of a cache, in a layout with the layers that it names; valid input is planned.
fn config(data: &[u8]) {
    let mentioned = mentioned(data);
    let layers: Vec<_> = mentioned
        .iter()
        .map(|digest| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest,
                "size": 1, "annotations": {"containerd.io/uncompressed": digest},
            })
        })
        .collect();
    let config = json!({
        "mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": Digest::of(data),
        "size": data.len(),
    });
    let manifest = json!({"config": config, "layers": layers}).to_string().into_bytes();
    let index = index(&manifest);
    export_of(&mut vec![data.to_vec(), manifest], &mentioned, &index);
}

/// Returns the digests in `layers[].blob` and in descriptors, up to a limit.
fn mentioned(data: &[u8]) -> Vec<Digest> {
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return Vec::new() };
    let lists = [&document["layers"], &document["manifests"]];
    let entries = lists.into_iter().filter_map(Value::as_array).flatten();
    let digests = entries.flat_map(|entry| [&entry["blob"], &entry["digest"]]);
    let mut digests: Vec<Digest> =
        digests.filter_map(|digest| digest.as_str()?.parse().ok()).take(100).collect();
    digests.sort();
    digests.dedup();
    digests
}

fn index(manifest: &[u8]) -> Vec<u8> {
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(manifest), "size": manifest.len(),
    });
    json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes()
}

/// Reads an archive of a layout with these blobs, an index, and empty files for other blobs.
fn export_of(blobs: &mut Vec<Vec<u8>>, others: &[Digest], index: &[u8]) {
    blobs.sort();
    blobs.dedup();
    let name = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
    let present: Vec<_> = blobs.iter().map(Digest::of).collect();
    let mut members = vec![file("index.json", index)];
    members.extend(blobs.iter().map(|blob| file(name(Digest::of(blob)), blob)));
    let others = others.iter().filter(|digest| !present.contains(digest));
    members.extend(others.map(|digest| file(name(*digest), "")));
    export(&archive(&members));
}

fn export(tar: &[u8]) {
    let (_file, path) = in_memory(tar);
    let source = Source { path, reference: Reference::Default };
    let Ok(exports) = CacheExport::read_all(&source, &limits()) else { return };
    let Ok(plan) = Plan::new(&exports, &Keyring::default()) else { return };
    // The output depends on the whole plan.
    assert!(format!("{plan:?}").len() > 1);
}

/// Any key source for `--keys`; the type is detected from the content.
fn key_source(data: &[u8]) {
    let (_file, path) = in_memory(data);
    let Ok(sources) = read_source(&path, &limits()) else { return };
    let keys = KeysFile::from_sources(&sources);
    if keys.is_empty() {
        return;
    }
    // Encoded keys can be read again.
    let json = keys.encode().expect("an encoding");
    let (_file, path) = in_memory(&json);
    assert!(read_source(&path, &limits()).is_ok());
}

/// A Dockerfile, for every release of the frontend that makes other operations of it. Each step comes after its inputs,
/// and has a digest.
fn dockerfile(data: &[u8]) {
    let limits = ::dockerfile::Limits { growth: 4 << 20, ..::dockerfile::Limits::default() };
    for frontend in ::dockerfile::Frontend::classes() {
        let platform = Platform::of_machine();
        let options = ::dockerfile::Options::new(frontend, platform.clone());
        let images = ::dockerfile::Images::default();
        let Ok(conversion) = ::dockerfile::convert(data, &options, &images, &limits) else {
            continue;
        };
        for (index, step) in conversion.steps.iter().enumerate() {
            assert_eq!(step.inputs.len(), step.op.inputs);
            assert!(step.inputs.iter().filter_map(|input| input.step()).all(|input| input < index));
            digest(&step.op, Encoding::NEWEST, &platform).expect("a digest");
        }
        for (index, stage) in conversion.stages.iter().enumerate() {
            assert!(stage.needs.iter().all(|&stage| stage < conversion.stages.len()));
            let steps = conversion.steps_of(index);
            assert!(steps.iter().all(|&step| step < conversion.steps.len()));
            let graph = conversion.graph(index, &platform);
            assert!(graph.steps.iter().all(|step| step.inputs.len() == step.op.inputs));
        }
    }
}

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.0 == name).expect("a target");
    (target.1)(data);
}

//! Generates caches of very many records: of five builds that differ in every step and produce the same
//! layers, as when an argument changes that does not affect any file.
//!
//! ```text
//! DIR/layout              the cache export
//! DIR/provenance.json     the keys
//! ```
//! The layers form chains of a hundred. For each, five steps are known, each with the content hash of its
//! files from the build context: ten records. Layers are tars of one small file, because their content does
//! not matter here.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bkstate::Digest;
use oci2bk::llb::{Encoding, Op, Platform, digest};
use serde_json::json;

use crate::layout::{CREATED, finish_layout};

/// Number of builds with each layer.
const BUILDS: u64 = 5;
/// Number of records of each layer: a step and its content, for every build.
pub(crate) const RECORDS_PER_LAYER: u64 = 2 * BUILDS;
/// Length of a chain of layers.
const CHAIN: u64 = 100;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A generated cache.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) layout: PathBuf,
    pub(crate) keys: PathBuf,
}

/// Writes a cache of `layers` layers into the empty directory `dir`.
pub(crate) fn generate(dir: &Path, layers: u64) -> Result<Cache> {
    let cache = Cache { layout: dir.join("layout"), keys: dir.join("provenance.json") };
    fs::create_dir_all(cache.layout.join("blobs/sha256"))?;
    let blobs = (0..layers).map(|layer| write_layer(&cache.layout, layer));
    let blobs: Vec<_> = blobs.collect::<Result<_>>()?;
    let steps = write_provenance(&cache.keys, layers)?;
    write_config(&dir.join("config"), &blobs, &steps)?;
    let layers = blobs.iter().map(|(digest, size)| {
        let created = json!({"buildkit/createdat": CREATED, "containerd.io/uncompressed": digest});
        json!({"mediaType": LAYER, "digest": digest, "size": size, "annotations": created})
    });
    let config = fs::read(dir.join("config"))?;
    let config_type = "application/vnd.buildkit.cacheconfig.v0";
    finish_layout(&cache.layout, config_type, &config, &layers.collect::<Vec<_>>())?;
    fs::remove_file(dir.join("config"))?;
    Ok(cache)
}

/// Writes the uncompressed blob of a layer; returns its digest, which is also the diffID, and its size.
fn write_layer(layout: &Path, layer: u64) -> Result<(Digest, u64)> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    tar.append_data(&mut header, format!("file-{layer}"), std::io::empty())?;
    let tar = tar.into_inner()?;
    let digest = Digest::of(&tar);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &tar)?;
    Ok((digest, tar.len() as u64))
}

/// Writes the provenance of all builds. Returns the names of the steps in a cache, by layer, then by build.
fn write_provenance(path: &Path, layers: u64) -> Result<Vec<Digest>> {
    let platform: Platform = "linux/amd64".parse()?;
    let mut records = Vec::new();
    let mut file = BufWriter::new(File::create(path)?);
    write!(
        file,
        r#"{{"invocation":{{"environment":{{"platform":"{platform}"}}}},"buildConfig":{{"llbDefinition":["#
    )?;
    for number in 0..layers * BUILDS {
        let op = op(number);
        let parsed = Op { inputs: 2, ..serde_json::from_value(op.clone())? };
        let digest = digest(&parsed, Encoding::NEWEST, &platform).context("the generated step")?;
        records.push(digest.record(0));
        let comma = if number == 0 { "" } else { "," };
        let inputs = json!([format!("step{}:0", number.saturating_sub(BUILDS)), "context:0"]);
        let step = json!({"id": format!("step{number}"), "op": op, "inputs": inputs});
        write!(file, "{comma}{step}")?;
    }
    write!(file, "]}}}}")?;
    file.flush()?;
    Ok(records)
}

/// Returns step `number`: half of the steps run a command, the others copy.
fn op(number: u64) -> serde_json::Value {
    let (layer, build) = (number / BUILDS, number % BUILDS);
    let op = if layer.is_multiple_of(2) {
        let args = ["/bin/sh", "-c", &format!("make -C /src part-{layer} && install part-{layer}")];
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", &format!("RELEASE={build}")];
        json!({"exec": {
            "meta": {"args": args, "env": env, "cwd": "/work"},
            "mounts": [
                {"dest": "/"},
                {"input": 1, "dest": "/src", "output": -1, "readonly": true},
            ],
        }})
    } else {
        let copy = json!({
            "src": format!("/part-{layer}"), "dest": format!("/opt/release-{build}/part-{layer}"),
            "mode": -1, "createDestPath": true, "timestamp": -1,
        });
        let action = json!({"secondaryInput": 1, "Action": {"copy": copy}});
        json!({"file": {"actions": [action]}})
    };
    json!({"Op": op, "platform": {"Architecture": "amd64", "OS": "linux"}, "constraints": {}})
}

/// Writes the config of the cache directly. As a JSON value it would take some hundred times the memory.
fn write_config(path: &Path, blobs: &[(Digest, u64)], steps: &[Digest]) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, r#"{{"layers":["#)?;
    for (layer, (blob, _)) in (0_u64..).zip(blobs) {
        let comma = if layer == 0 { "" } else { "," };
        let parent = if layer.is_multiple_of(CHAIN) { -1 } else { layer as i64 - 1 };
        write!(file, r#"{comma}{{"blob":"{blob}","parent":{parent}}}"#)?;
    }
    write!(file, r#"],"records":["#)?;
    for (number, step) in (0..).zip(steps) {
        let comma = if number == 0 { "" } else { "," };
        let contents = Digest::of(format!("contents {number}"));
        let layer = number / BUILDS;
        // The content is before its step, and the step below it is one layer before.
        let root = 2 * number;
        let below = if layer.is_multiple_of(CHAIN) { root } else { root + 1 - RECORDS_PER_LAYER };
        write!(
            file,
            r#"{comma}{{"digest":"{contents}"}},{{"digest":"{step}","inputs":[[{{"link":{below}}}],[{{"link":{root}}}]],"layers":[{{"layer":{layer},"createdAt":"{CREATED}"}}]}}"#
        )?;
    }
    write!(file, "]}}")?;
    Ok(file.flush()?)
}

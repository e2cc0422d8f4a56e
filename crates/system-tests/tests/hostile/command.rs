//! Layers through `oci2bk convert`, in a cache that has only them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use bkstate::Digest;
use serde_json::{Value, json};

use crate::case::{Blob, Case, OWNERS, Outcome};
use crate::sandbox::{Sandbox, names};
use crate::unpacker::check;

/// Memory limit for the data of the command, in KiB. Memory mapped for reading is not included.
const MEMORY: u32 = 96 << 10;
/// Limit on its processor time, in seconds.
const SECONDS: u32 = 60;

/// Converts a cache with the layers of a case.
pub(crate) fn prove(case: &Case) -> Result<()> {
    // For a rootless daemon, nothing is unpacked in memory.
    let sandbox = if case.rootless { Sandbox::on_disk()? } else { Sandbox::new()? };
    let layout = sandbox.snapshot("cache")?;
    let layers = (case.layers)(&sandbox.outside());
    write_layout(&layout, &layers)?;
    let root = sandbox.target("root");
    // ulimit limits the process itself, so exceeding memory or time is an error.
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -d "$1" && ulimit -t "$2" && shift 2 && exec "$@""#, "sh"])
        .args([MEMORY.to_string(), SECONDS.to_string()])
        .args([env!("CARGO_BIN_EXE_oci2bk-under-test"), "convert", "--progress=quiet", "--jobs=1"])
        .args(case.limits.iter().map(|setting| format!("--limit={setting}")))
        .args(case.rootless.then(|| format!("--map={OWNERS}")))
        .arg(format!("--keys={}", layout.join("keys.json").display()))
        .args([&layout, &root])
        .stdin(Stdio::null())
        .output()?;
    sandbox.ensure_untouched()?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    let outcome = match output.status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(messages),
        _ => anyhow::bail!("{}: {messages}", output.status),
    };
    if outcome.is_err() && matches!(case.outcome, Outcome::Refused(_)) {
        let left = names(&root)?;
        ensure!(left == ["buildkitd.lock"], "it left {left:?}");
    }
    // The last one of a chain.
    let fs = root.join(format!("runc-overlayfs/snapshots/snapshots/{}/fs", layers.len()));
    check(&case.outcome, outcome, &fs)
}

/// Writes a cache in image-manifest style of one step, whose result is a chain of these layers: a RUN step,
/// so that a daemon has unpacked them. Its key is beside them.
fn write_layout(layout: &Path, layers: &[Blob]) -> Result<()> {
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let blob = |media_type: &str, content: &[u8]| -> Result<Value> {
        let digest = Digest::of(content);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), content)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    };
    let mut descriptors = Vec::new();
    let mut nodes = Vec::new();
    for (layer, parent) in layers.iter().zip(-1..) {
        let mut descriptor = blob(layer.media_type, &layer.bytes)?;
        descriptor["annotations"] = json!({"containerd.io/uncompressed": Digest::of(&layer.tar)});
        nodes.push(json!({"blob": descriptor["digest"], "parent": parent}));
        descriptors.push(descriptor);
    }
    let last = layers.len().checked_sub(1).context("no layer")?;
    let source = json!({"digest": Digest::of("source")});
    let op = Digest::of("op");
    let step = json!({
        "digest": Digest::of(format!("{op}@0")),
        "layers": [{"layer": last}],
        "inputs": [[{"link": 0}]],
    });
    let keys = json!({
        "mediaType": "application/vnd.oci2bk.keys.v1+json",
        "ops": [{"digests": [{"digest": op}], "outputs": 1}],
    });
    fs::write(layout.join("keys.json"), keys.to_string())?;
    let config = json!({"layers": nodes, "records": [source, step]}).to_string();
    let config = blob("application/vnd.buildkit.cacheconfig.v0", config.as_bytes())?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors,
    });
    let manifest = blob(media_type, manifest.to_string().as_bytes())?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string())?;
    Ok(())
}

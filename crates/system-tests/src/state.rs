//! A state directory as the reference tools see it: the databases through bbolt, the rest as files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use testkit::process::{run, wait_until};
use testkit::{Daemon, Tools};

/// The databases that a conversion writes, relative to the root.
const DATABASES: [&str; 4] = [
    "cache.db",
    "runc-overlayfs/metadata_v2.db",
    "runc-overlayfs/containerdmeta.db",
    "runc-overlayfs/snapshots/metadata.db",
];

/// The `snapshot.size` of a record that was not measured yet.
const SIZE_UNKNOWN: &str = r#"{"value":-1}"#;

/// An extracted layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// The directory of its files.
    pub fs: PathBuf,
    /// The usage that containerd measured (or would have) when it committed the snapshot.
    pub inodes: u64,
    /// The same in bytes.
    pub size: u64,
}

/// A link from one key of the solver to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Link {
    /// The index of the op's input.
    pub input: i64,
    /// The op digest.
    pub digest: String,
    /// The part of the input that the op uses.
    pub selector: String,
}

/// Maximum number of changes in a failure message.
const SHOWN: usize = 25;

const BLOBS: &str = "runc-overlayfs/content/blobs/sha256";
const SNAPSHOTS: &str = "runc-overlayfs/snapshots/snapshots";

/// The content of a state, without the contents of blobs and snapshots.
#[derive(Debug, PartialEq)]
pub struct State {
    databases: BTreeMap<&'static str, Value>,
    blobs: BTreeSet<String>,
    snapshots: BTreeSet<String>,
}

impl State {
    /// Reads the state of a stopped daemon.
    pub fn read(tools: &Tools, root: &Path) -> Result<Self> {
        let mut databases = BTreeMap::new();
        for name in DATABASES {
            let json = run(Command::new(&tools.refstate).arg("dump").arg(root.join(name)))?;
            databases.insert(name, serde_json::from_str(&json)?);
        }
        Ok(Self {
            databases,
            blobs: names_in(&root.join(BLOBS))?,
            snapshots: names_in(&root.join(SNAPSHOTS))?,
        })
    }

    /// Returns the ids of all cache records.
    pub fn records(&self) -> BTreeSet<String> {
        self.record_map().map(|(id, _)| id.clone()).collect()
    }

    /// Returns the ids of the solver's keys.
    pub fn keys(&self) -> BTreeSet<&str> {
        self.solver_links().map(|(key, _)| key.as_str()).collect()
    }

    /// Returns the links between them.
    pub fn links(&self) -> Result<BTreeSet<Link>> {
        let links = self.solver_links().filter_map(|(_, links)| links["keys"].as_object());
        let links = links.flatten().map(|(link, _)| {
            let (json, _) = link.rsplit_once('@').with_context(|| format!("the link {link}"))?;
            serde_json::from_str(json).with_context(|| link.clone())
        });
        links.collect()
    }

    fn solver_links(&self) -> impl Iterator<Item = (&String, &Value)> {
        let keys = self.databases["cache.db"]["buckets"]["_links"]["buckets"].as_object();
        keys.into_iter().flatten()
    }

    /// Returns the number of results of each key of the solver.
    pub fn results_by_key(&self) -> BTreeMap<&str, usize> {
        let keys = self.databases["cache.db"]["buckets"]["_result"]["buckets"].as_object();
        let results = |key: &Value| key["keys"].as_object().map_or(0, |results| results.len());
        keys.into_iter().flatten().map(|(id, key)| (id.as_str(), results(key))).collect()
    }

    /// Returns the hex digests of the layers in records.
    pub fn layer_blobs(&self) -> BTreeSet<String> {
        self.record_map()
            .filter_map(|(_, record)| record_value(record, "cache.blob"))
            .filter_map(|digest| Some(digest.as_str()?.strip_prefix("sha256:")?.to_owned()))
            .collect()
    }

    /// Returns every chain id in a record, with the record's snapshot (record, snapshot key, the containerd
    /// name of the key, the id of the name), or `None` if the record says that the layer is not extracted.
    pub fn snapshots_by_chain(&self, root: &Path) -> Result<BTreeMap<String, Option<Snapshot>>> {
        let mut found = BTreeMap::new();
        let rows = &self.databases["runc-overlayfs/containerdmeta.db"]["buckets"]["v1"]["buckets"]
            ["buildkit"]["buckets"]["snapshots"]["buckets"]["overlayfs"]["buckets"];
        let names = &self.databases["runc-overlayfs/snapshots/metadata.db"]["buckets"]["v1"]["buckets"]
            ["snapshots"]["buckets"];
        for (id, record) in self.record_map() {
            let Some(chain) = record_value(record, "cache.chainID") else { continue };
            let chain = chain.as_str().context("a chain id that is no string")?.to_owned();
            if record_value(record, "cache.blobonly") == Some(Value::Bool(true)) {
                found.entry(chain).or_insert(None);
                continue;
            }
            let key = record_value(record, "cache.snapshot").context("no snapshot key")?;
            let key = key.as_str().with_context(|| format!("record {id} has no snapshot key"))?;
            let name = rows[key]["keys"]["name"]
                .as_str()
                .with_context(|| format!("containerd has no snapshot {key} of record {id}"))?;
            let row = &names[name]["keys"];
            let number = |key: &str| {
                row[key]
                    .as_str()
                    .and_then(decode_uvarint)
                    .with_context(|| format!("the snapshot {name} has no {key}"))
            };
            let fs = root.join(SNAPSHOTS).join(number("id")?.to_string()).join("fs");
            // Signed varints: non-negative values are doubled.
            let snapshot =
                Snapshot { fs, inodes: number("inodes")? / 2, size: number("size")? / 2 };
            if let Some(Some(other)) = found.insert(chain, Some(snapshot.clone())) {
                ensure!(other == snapshot, "records of one chain lead to {other:?}, {snapshot:?}");
            }
        }
        Ok(found)
    }

    fn record_map(&self) -> impl Iterator<Item = (&String, &Value)> {
        let records =
            &self.databases["runc-overlayfs/metadata_v2.db"]["buckets"]["_main"]["buckets"];
        records.as_object().into_iter().flatten()
    }

    /// Fails with the changes unless `self` and `later` are the same state. Unknown sizes of records may
    /// become known, as they do when the records are first listed.
    pub fn ensure_unchanged(&self, later: &Self) -> Result<()> {
        for (name, before) in &self.databases {
            let mut changes = Vec::new();
            difference(name, before, &later.databases[name], &mut changes);
            let more = changes.len().saturating_sub(SHOWN);
            changes.truncate(SHOWN);
            let list = changes.join("\n  ");
            ensure!(changes.is_empty(), "the daemon changed:\n  {list}\n  ({more} more)");
        }
        ensure!(
            self.blobs == later.blobs,
            "the blobs changed: {:?}",
            self.blobs.symmetric_difference(&later.blobs)
        );
        ensure!(
            self.snapshots == later.snapshots,
            "the snapshot directories changed: {:?}",
            self.snapshots.symmetric_difference(&later.snapshots)
        );
        Ok(())
    }
}

/// Runs `bbolt check` on every database of a stopped daemon.
pub fn ensure_sound(tools: &Tools, root: &Path) -> Result<()> {
    for name in DATABASES {
        run(Command::new(&tools.bbolt).arg("check").arg(root.join(name)))
            .with_context(|| format!("bbolt check of {name}"))?;
    }
    Ok(())
}

/// Runs the verification under test on the root of a stopped daemon: it must not find anything.
pub fn ensure_verified(tools: &Tools, root: &Path, trees: bool) -> Result<()> {
    let mut command = Command::new(&tools.oci2bk);
    command.args(["verify", "--progress=quiet"]).arg(root);
    if trees {
        command.arg("--trees");
    }
    run(&mut command).map(drop).with_context(|| format!("verify of {}", root.display()))
}

/// Prunes everything, and checks that nothing is left.
pub fn ensure_prunable(tools: &Tools, daemon: Daemon, root: &Path) -> Result<()> {
    daemon.prune_all()?;
    let records = daemon.du()?;
    ensure!(records.is_empty(), "prune --all leaves the records {records:?}");
    let empty = || snapshot_directories(root).is_ok_and(|left| left.is_empty());
    wait_until(Duration::from_secs(20), empty);
    let left = snapshot_directories(root)?;
    ensure!(left.is_empty(), "prune --all leaves the snapshots {left:?}");
    daemon.stop()?;
    ensure_sound(tools, root)
}

/// Returns the ids of the existing snapshot directories; the daemon may be running.
pub fn snapshot_directories(root: &Path) -> Result<BTreeSet<String>> {
    names_in(&root.join(SNAPSHOTS))
}

/// Returns the hex digests of the existing blobs; the daemon may be running.
pub fn blob_files(root: &Path) -> Result<BTreeSet<String>> {
    names_in(&root.join(BLOBS))
}

fn names_in(dir: &Path) -> Result<BTreeSet<String>> {
    if !dir.exists() {
        return Ok(BTreeSet::new());
    }
    fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Reads a value of a record: `{"value": <JSON>, "index": …}` (buildkit's `cache/metadata`).
fn record_value(record: &Value, key: &str) -> Option<Value> {
    let text = record["keys"][key].as_str()?;
    let mut value: Value = serde_json::from_str(text).ok()?;
    Some(value["value"].take())
}

/// Decodes an unsigned varint that `refstate dump` prints as text, or as 0x and hex if it is not UTF-8.
fn decode_uvarint(text: &str) -> Option<u64> {
    let bytes: Vec<u8> = match text.strip_prefix("0x") {
        Some(hex) => (0..hex.len())
            .step_by(2)
            .map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()?,
        None => text.bytes().collect(),
    };
    let mut number = 0;
    for (position, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(position).ok()?)?;
    }
    Some(number)
}

/// Lists the paths at which two dumps differ.
fn difference(path: &str, before: &Value, after: &Value, changes: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let child = format!("{path} / {key}");
                difference(&child, &before[key], &after[key], changes);
            }
        }
        _ if before == after => {}
        _ if path.ends_with("/ snapshot.size") && before == SIZE_UNKNOWN => {}
        _ => changes.push(format!("{path}: {before} -> {after}")),
    }
}

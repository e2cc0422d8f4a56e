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
use testkit::{Daemon, Tools, daemon};

use crate::host::Host;

/// Short names of the databases that a conversion writes: that of the solver, that of the records, that of
/// containerd and that of its snapshotter.
const SOLVER: &str = "cache.db";
const RECORDS: &str = "metadata_v2.db";
const METADATA: &str = "meta.db";
const SNAPSHOTTER: &str = "snapshots/metadata.db";

/// The location of the state of a builder.
#[derive(Clone, Debug)]
pub struct Place {
    /// The databases by their short names.
    databases: BTreeMap<&'static str, PathBuf>,
    /// The directory of the worker's own files.
    pub worker: PathBuf,
    blobs: PathBuf,
    snapshots: PathBuf,
    /// The builder's namespace in containerd's database.
    pub namespace: &'static str,
}

impl Place {
    /// Returns the location for a buildkitd with the OCI worker.
    #[must_use]
    pub fn of_oci_worker(root: &Path) -> Self {
        let worker = root.join("runc-overlayfs");
        Self {
            databases: BTreeMap::from([
                (SOLVER, root.join("cache.db")),
                (RECORDS, worker.join("metadata_v2.db")),
                (METADATA, worker.join("containerdmeta.db")),
                (SNAPSHOTTER, worker.join("snapshots/metadata.db")),
            ]),
            blobs: worker.join("content/blobs/sha256"),
            snapshots: worker.join("snapshots/snapshots"),
            worker,
            namespace: daemon::NAMESPACE,
        }
    }

    /// Returns the location for a builder with layers in the containerd root `containerd`.
    #[must_use]
    pub fn on_containerd(root: &Path, containerd: &Path, namespace: &'static str) -> Self {
        let worker = root.join("containerd-overlayfs");
        let snapshotter = containerd.join("io.containerd.snapshotter.v1.overlayfs");
        Self {
            databases: BTreeMap::from([
                (SOLVER, root.join("cache.db")),
                (RECORDS, worker.join("metadata_v2.db")),
                (METADATA, containerd.join("io.containerd.metadata.v1.bolt/meta.db")),
                (SNAPSHOTTER, snapshotter.join("metadata.db")),
            ]),
            blobs: containerd.join("io.containerd.content.v1.content/blobs/sha256"),
            snapshots: snapshotter.join("snapshots"),
            worker,
            namespace,
        }
    }

    /// Returns the path of containerd's database.
    #[must_use]
    pub fn metadata(&self) -> &Path {
        &self.databases[METADATA]
    }
}

impl From<&Self> for Place {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    /// Returns the location for a buildkitd with the OCI worker.
    fn from(root: &P) -> Self {
        Self::of_oci_worker(root.as_ref())
    }
}

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

/// The content of a state, without the contents of blobs and snapshots.
#[derive(Debug, PartialEq)]
pub struct State {
    databases: BTreeMap<&'static str, Value>,
    blobs: BTreeSet<String>,
    snapshots: BTreeSet<String>,
}

impl State {
    /// Reads the state of a stopped daemon.
    pub fn read(tools: &Tools, place: impl Into<Place>) -> Result<Self> {
        let place = place.into();
        let mut databases = BTreeMap::new();
        for (name, path) in &place.databases {
            databases.insert(*name, dump(tools, path)?);
        }
        Ok(Self {
            databases,
            blobs: names_in(&place.blobs)?,
            snapshots: names_in(&place.snapshots)?,
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
        let keys = self.databases[SOLVER]["buckets"]["_links"]["buckets"].as_object();
        keys.into_iter().flatten()
    }

    /// Returns the number of results of each key of the solver.
    pub fn results_by_key(&self) -> BTreeMap<&str, usize> {
        let keys = self.databases[SOLVER]["buckets"]["_result"]["buckets"].as_object();
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
    pub fn snapshots_by_chain(
        &self,
        place: impl Into<Place>,
    ) -> Result<BTreeMap<String, Option<Snapshot>>> {
        let place = place.into();
        let mut found = BTreeMap::new();
        let rows = &self.namespace(place.namespace)["buckets"]["snapshots"]["buckets"]["overlayfs"]
            ["buckets"];
        let names =
            &self.databases[SNAPSHOTTER]["buckets"]["v1"]["buckets"]["snapshots"]["buckets"];
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
            let fs = place.snapshots.join(number("id")?.to_string()).join("fs");
            // Signed varints: non-negative values are doubled.
            let snapshot =
                Snapshot { fs, inodes: number("inodes")? / 2, size: number("size")? / 2 };
            if let Some(Some(other)) = found.insert(chain, Some(snapshot.clone())) {
                ensure!(other == snapshot, "records of one chain lead to {other:?}, {snapshot:?}");
            }
        }
        Ok(found)
    }

    /// Returns the content of a namespace in containerd's database.
    pub fn namespace(&self, name: &str) -> &Value {
        &self.databases[METADATA]["buckets"]["v1"]["buckets"][name]
    }

    fn record_map(&self) -> impl Iterator<Item = (&String, &Value)> {
        let records = &self.databases[RECORDS]["buckets"]["_main"]["buckets"];
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
pub fn ensure_sound(tools: &Tools, place: impl Into<Place>) -> Result<()> {
    for path in place.into().databases.values() {
        run(Command::new(&tools.bbolt).arg("check").arg(path))
            .with_context(|| format!("bbolt check of {}", path.display()))?;
    }
    Ok(())
}

/// Returns a database as JSON. Bytes that are not UTF-8 are printed as 0x and hex.
pub fn dump(tools: &Tools, database: &Path) -> Result<Value> {
    let json = run(Command::new(&tools.refstate).arg("dump").arg(database))?;
    serde_json::from_str(&json).with_context(|| database.display().to_string())
}

/// Runs the verification under test on the root of a stopped daemon: it must not find anything.
pub fn ensure_verified(tools: &Tools, root: &Path, trees: bool) -> Result<()> {
    ensure_verified_on(Host::Buildkitd, tools, root, trees)
}

/// Same, for any kind of builder.
pub fn ensure_verified_on(host: Host, tools: &Tools, root: &Path, trees: bool) -> Result<()> {
    let mut command = Command::new(&tools.oci2bk);
    command.args(["verify", "--progress=quiet"]).args(host.arguments(root));
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
pub fn snapshot_directories(place: impl Into<Place>) -> Result<BTreeSet<String>> {
    names_in(&place.into().snapshots)
}

/// Returns the hex digests of the existing blobs; the daemon may be running.
pub fn blob_files(place: impl Into<Place>) -> Result<BTreeSet<String>> {
    names_in(&place.into().blobs)
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

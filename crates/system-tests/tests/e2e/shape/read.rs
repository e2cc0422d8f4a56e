//! Reads the shape of a root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::Shape;
use super::pattern::{self, Names};
use crate::process::run;
use crate::tools::Tools;

/// The maker of a state. A conversion writes records as if the daemon had imported them, independent of the
/// steps; packed ones as if they were pulled, because a daemon unpacks imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Daemon,
    Conversion,
}

const RECORDS: &str = "runc-overlayfs/metadata_v2.db";
const CONTAINERD: &str = "runc-overlayfs/containerdmeta.db";
const SNAPSHOTS: &str = "runc-overlayfs/snapshots/metadata.db";

/// The directories of layers' files, and of blobs being written.
const UNREAD: [&str; 2] =
    ["runc-overlayfs/snapshots/snapshots/<n>/", "runc-overlayfs/content/ingest/"];

/// The buckets of leases and snapshots in containerd's database, by which a row is assigned to a record.
const LEASES: [&str; 3] = ["v1", "buildkit", "leases"];
const ROWS: [&str; 4] = ["v1", "buildkit", "snapshots", "overlayfs"];
const NAMES: [&str; 2] = ["v1", "snapshots"];

/// Things that a daemon removes when it starts, or a day later, and can leave when it stops: suffixes of
/// names of views for reading, leases with this label, and blobs being written.
const VIEW: &str = "-view";
const TEMPORARY: &str = "buildkit/lease.temporary";
const INGESTS: &str = "ingests";

/// Reads the root of a stopped daemon.
pub(super) fn read(tools: &Tools, root: &Path, origin: Origin) -> Result<Shape> {
    let mut shape = Shape::default();
    let mut databases = Vec::new();
    list(root, "", &mut shape, &mut databases)?;
    let mut dumps = BTreeMap::new();
    for name in databases {
        let json = run(Command::new(&tools.refstate).arg("dump").arg(root.join(&name)))?;
        let dump: Value = serde_json::from_str(&json).with_context(|| name.clone())?;
        dumps.insert(name, dump);
    }
    let records = Records::new(&dumps, origin)?;
    for (name, dump) in &dumps {
        let section = name.strip_prefix("runc-overlayfs/").unwrap_or(name);
        let containerd = [CONTAINERD, SNAPSHOTS].contains(&name.as_str());
        each(dump, &mut Vec::new(), &mut |path, key, value| {
            if records.is_passing(name, path) || key.ends_with(VIEW) || value.ends_with(VIEW) {
                return;
            }
            let Some(owner) = records.owner(name, path) else {
                let line = line("", path, key, value, &Names::default(), containerd);
                return shape.add(section, line);
            };
            // The place, without the content.
            shape.add(section, path[..path.len() - owner.path.len() - 1].join(" / "));
            for (record, names) in &owner.records {
                shape.add(record, line(owner.label, &owner.path, key, value, names, containerd));
            }
        });
    }
    Ok(shape)
}

/// Lists the files in a root.
pub(super) fn files(root: &Path) -> Result<Shape> {
    let mut shape = Shape::default();
    list(root, "", &mut shape, &mut Vec::new())?;
    Ok(shape)
}

/// Lists files, except those of layers, and the databases among them.
fn list(root: &Path, below: &str, shape: &mut Shape, databases: &mut Vec<String>) -> Result<()> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        let name = pattern::name(&path, &Names::default());
        if entry.file_type()?.is_dir() {
            shape.add("files", format!("{name}/"));
            if !UNREAD.contains(&format!("{name}/").as_str()) {
                list(root, &format!("{path}/"), shape, databases)?;
            }
        } else {
            shape.add("files", name);
            if path.ends_with(".db") {
                databases.push(path);
            }
        }
    }
    Ok(())
}

/// Visits every key of a dump with the names of the buckets above it; for an empty bucket, an empty key.
fn each<'a>(
    bucket: &'a Value,
    path: &mut Vec<&'a str>,
    visit: &mut impl FnMut(&[&'a str], &'a str, &'a str),
) {
    let members = |name: &str| bucket[name].as_object().into_iter().flatten();
    for (key, value) in members("keys") {
        visit(path, key, value.as_str().unwrap_or_default());
    }
    for (name, child) in members("buckets") {
        path.push(name);
        each(child, path, visit);
        path.pop();
    }
    if members("keys").next().is_none() && members("buckets").next().is_none() {
        visit(path, "", "");
    }
}

/// Formats one line of the text.
fn line(
    label: &str,
    path: &[&str],
    key: &str,
    value: &str,
    names: &Names,
    containerd: bool,
) -> String {
    let preferred = match key {
        "cache.diffID" | "cache.layerIdentity" => "diffID",
        _ => "chainID",
    };
    let names = &names.preferring(preferred);
    let mut parts: Vec<_> = (!label.is_empty()).then(|| label.to_owned()).into_iter().collect();
    parts.extend(path.iter().map(|name| pattern::name(name, names)));
    if !key.is_empty() || !value.is_empty() {
        parts.push(pattern::value(key, names));
    }
    let value = match key {
        "cache.description" => "{\"value\":\"<text>\"}".to_owned(),
        _ if containerd => pattern::containerd(key, value, names),
        _ => pattern::value(value, names),
    };
    let separator = if value.is_empty() { "" } else { " = " };
    format!("{}{separator}{value}", parts.join(" / "))
}

/// The owners of a row: records, each with its section and names, and the path below the owner's part.
struct Owner<'a> {
    records: Vec<(String, Names)>,
    label: &'static str,
    path: Vec<&'a str>,
}

/// The records of a state, with their other rows.
struct Records<'a> {
    /// The section and the names of each record.
    all: BTreeMap<&'a str, (String, Names)>,
    /// The records of each snapshot, by its key in containerd and by its name in the snapshotter.
    by_snapshot: BTreeMap<String, Vec<&'a str>>,
    /// The temporary leases, by namespace and id.
    temporary: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Records<'a> {
    fn new(dumps: &'a BTreeMap<String, Value>, origin: Origin) -> Result<Self> {
        let records = bucket(dumps.get(RECORDS).context("no records")?, &["_main"]);
        let containerd = dumps.get(CONTAINERD).context("no database of containerd")?;
        let rows = bucket(containerd, &ROWS);
        let blobs = bucket(containerd, &["v1", "buildkit", "content", "blob"]);
        let merged: Vec<String> =
            records.values().flat_map(|record| list_of(record, "cache.mergeParents")).collect();
        let mut all = BTreeMap::new();
        let mut by_snapshot: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (id, record) in records {
            let is_link = merged.contains(id) && text_of(record, "cache.parent").is_empty();
            let kind = kind(record, origin, is_link, blobs);
            let mut names = Names::default();
            names.add(id, "own");
            for (key, name) in [
                ("cache.blob", "blob"),
                ("cache.chainID", "chainID"),
                ("cache.diffID", "diffID"),
                ("cache.blobChainID", "blobChainID"),
                ("cache.parent", "parent"),
            ] {
                names.add(&text_of(record, key), name);
            }
            if let Some(parent) = records.get(&text_of(record, "cache.parent")) {
                names.add(&text_of(parent, "cache.chainID"), "parent's chainID");
            }
            all.insert(id.as_str(), (format!("record {kind}"), names));
            let key = text_of(record, "cache.snapshot");
            if let Some(name) = rows.get(&key).and_then(|row| row["keys"]["name"].as_str()) {
                by_snapshot.entry(name.to_owned()).or_default().push(id);
            }
            by_snapshot.entry(key).or_default().push(id);
        }
        let temporary = bucket(containerd, &["v1"]).iter().flat_map(|(space, rows)| {
            let leases = bucket(rows, &["leases"]).iter();
            leases
                .filter(|(_, lease)| !lease["buckets"]["labels"]["keys"][TEMPORARY].is_null())
                .map(move |(id, _)| (space.as_str(), id.as_str()))
        });
        Ok(Self { all, by_snapshot, temporary: temporary.collect() })
    }

    /// Returns whether a row is temporary and belongs to no record.
    fn is_passing(&self, database: &str, path: &[&str]) -> bool {
        match (database, path) {
            (CONTAINERD, [_, _, "content", INGESTS, _, ..]) => true,
            (CONTAINERD, [_, space, "leases", lease, ..]) => {
                self.temporary.contains(&(*space, *lease))
            }
            // A snapshot without a record is a view, which has the key of its reader.
            (CONTAINERD, [_, _, "snapshots", _, key, ..]) => !self.by_snapshot.contains_key(*key),
            (SNAPSHOTS, [_, "snapshots", name, ..]) => !self.by_snapshot.contains_key(*name),
            _ => false,
        }
    }

    fn owner<'b>(&self, database: &str, path: &[&'b str]) -> Option<Owner<'b>> {
        let (ids, label, rest): (Vec<&str>, _, Vec<&'b str>) = match database {
            RECORDS => {
                let (id, rest) = below(path, &["_main"])?;
                (vec![id], "", rest.to_vec())
            }
            CONTAINERD => {
                if let Some((lease, rest)) = below(path, &LEASES) {
                    let (id, suffix) =
                        lease.split_at_checked(lease.find('-').unwrap_or(lease.len()))?;
                    let label = match suffix {
                        "" => "lease",
                        "-variants" => "lease -variants",
                        _ => return None,
                    };
                    (vec![id], label, rest.to_vec())
                } else {
                    let (key, rest) = below(path, &ROWS)?;
                    (self.by_snapshot.get(key)?.clone(), "snapshot", rest.to_vec())
                }
            }
            SNAPSHOTS => {
                let (name, rest) = below(path, &NAMES)?;
                (self.by_snapshot.get(name)?.clone(), "snapshotter", rest.to_vec())
            }
            _ => return None,
        };
        let records: Vec<_> = ids.iter().filter_map(|id| self.all.get(id).cloned()).collect();
        (!records.is_empty()).then_some(Owner { records, label, path: rest })
    }
}

/// Returns the part of a path after a place.
fn below<'p, 'b>(path: &'p [&'b str], place: &[&str]) -> Option<(&'b str, &'p [&'b str])> {
    let rest = path.starts_with(place).then(|| &path[place.len()..])?;
    rest.split_first().map(|(name, rest)| (*name, rest))
}

/// Returns the kind of a record.
fn kind(record: &Value, origin: Origin, is_link: bool, blobs: &Map<String, Value>) -> String {
    let keys = &record["keys"];
    let description = text_of(record, "cache.description");
    let blob = text_of(record, "cache.blob");
    let starts = |start: &str| description.starts_with(start);
    let record_type = text_of(record, "cache.recordType");
    let packed = keys["cache.blobonly"] == "{\"value\":true}";
    let made = match () {
        () if origin == Origin::Conversion && packed => "pulled",
        () if origin == Origin::Conversion && !blob.is_empty() => "imported",
        () if !keys["cache.mergeParents"].is_null() => "merge",
        () if !keys["cache.upperDiffParent"].is_null() => "diff",
        () if !keys["cache.lowerDiffParent"].is_null() => "diff",
        () if record_type == "exec.cachemount" => "cache mount",
        () if starts("local source") => "local source",
        () if starts("imported") => "imported",
        () if starts("pulled from") || !keys["cache.imageRefs"].is_null() => "pulled",
        () if is_link => "link",
        () if starts("mount / from exec") => "run",
        () => "copy",
    };
    let state = match () {
        () if keys["snapshot.committed"].is_null() => ", mutable",
        () if packed && !blobs.contains_key(&blob) => ", lazy",
        () if packed => ", not unpacked",
        () if ["pulled", "imported"].contains(&made) => "",
        () if keys["cache.blobChainID"].is_null() => "",
        () => ", exported",
    };
    format!("{made}{state}")
}

/// Returns the value of a record's key: a text, or an empty one.
fn text_of(record: &Value, key: &str) -> String {
    value_of(record, key).as_str().unwrap_or_default().to_owned()
}

fn list_of(record: &Value, key: &str) -> Vec<String> {
    serde_json::from_value(value_of(record, key)).unwrap_or_default()
}

fn value_of(record: &Value, key: &str) -> Value {
    let json = record["keys"][key].as_str().unwrap_or_default();
    serde_json::from_str::<Value>(json).map_or(Value::Null, |mut value| value["value"].take())
}

/// Returns the buckets in a bucket.
fn bucket<'a>(dump: &'a Value, path: &[&str]) -> &'a Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let bucket = path.iter().fold(dump, |bucket, name| &bucket["buckets"][*name]);
    bucket["buckets"].as_object().unwrap_or(&NONE)
}

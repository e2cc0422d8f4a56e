//! Tables of a root.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::ids::{KeyId, RecordId};
use bkstate::mounts;
use bkstate::snapshots::Kind;
use bkstate::{Digest, Time};
use graph::Graph;
use oci2bk::inspect::{Build, Key, Record, Root, count};
use oci2bk::text::{one_line, path, short_digest, shortened};

use crate::summary::legacy_note;
use crate::warmth::layers_note;

use crate::table::{Page, WIDE, bytes, name, signed, tally, time, unnamed, yes};

/// Formats the tables. `detailed` shows everything known about each record and key.
pub(super) fn table(root: &Root, detailed: bool) -> String {
    let order = Graph::from(root).in_order();
    let mut page = Page::default();
    page.line(path(&root.path));
    page.line(format!(
        "  {} keys: {}",
        root.keys.len(),
        tally(&count(root.keys.iter().map(|key| key.warmth)))
    ));
    if let Some(note) = layers_note(root.degree) {
        page.line(format!("  {note}"));
    }
    if let Some(note) = legacy_note(root.legacy, &root.path) {
        page.line(format!("  {note}"));
    }
    for worker in &root.workers {
        let id = worker.id.as_ref().map(|id| format!(" {}", one_line(id.as_str())));
        let other = if worker.is_ours { "" } else { ", not inspected" };
        let directory = one_line(&worker.directory);
        page.line(format!("  worker {directory}{}{other}", id.unwrap_or_default()));
    }
    if detailed {
        things(&mut page, root);
    } else {
        page.table(
            "keys",
            ["STEP", "STATE", "KEY", "RECORD", ">SIZE", ">INPUTS", "CREATED"],
            order.iter().map(|&key| key_row(root, &root.keys[key])),
        );
        page.table(
            "records",
            [
                "RECORD",
                "TYPE",
                "ON",
                "BLOB",
                ">PACKED",
                ">ON DISK",
                "UNPACKED",
                ">USED",
                "LAST USED",
                "DESCRIPTION",
            ],
            root.records.iter().filter(|record| !record.is_cache_mount()).map(record_row),
        );
        page.table(
            "cache mounts",
            ["RECORD", "ID", ">ON DISK", ">USED", "LAST USED", "DESCRIPTION"],
            root.records.iter().filter(|record| record.is_cache_mount()).map(mount_row),
        );
    }
    page.table(
        "snapshots",
        ["SNAPSHOT", "KIND", ">DIRECTORY", "THERE", "ON", ">SIZE", ">INODES", "RECORDS"],
        root.snapshots.iter().map(|snapshot| {
            let records: Vec<_> =
                snapshot.records.iter().map(|id| short_digest(id.as_str())).collect();
            [
                short_digest(&snapshot.key),
                snapshot.kind.map(Kind::name).unwrap_or_default().to_owned(),
                snapshot.id.map(|id| id.to_string()).unwrap_or_default(),
                match snapshot.packed {
                    Some(image) => format!("image {image}"),
                    None => yes(snapshot.is_there, "yes"),
                },
                snapshot.parent.as_deref().map(short_digest).unwrap_or_default(),
                bytes(signed(snapshot.bytes)),
                snapshot.inodes.map(|inodes| inodes.to_string()).unwrap_or_default(),
                shortened(&records.join(" "), WIDE),
            ]
        }),
    );
    page.table(
        "blobs",
        ["BLOB", "NAMESPACE", ">SIZE", "THERE", "CREATED"],
        root.blobs.iter().map(|blob| {
            [
                short_digest(&blob.digest.to_string()),
                shortened(&blob.namespace, WIDE),
                bytes(signed(Some(blob.bytes))),
                yes(blob.is_there, "yes"),
                time(blob.created_at),
            ]
        }),
    );
    page.table(
        "leases",
        ["LEASE", "NAMESPACE", "RECORD", ">BLOBS", ">SNAPSHOTS", "CREATED"],
        root.leases.iter().map(|lease| {
            [
                shortened(&lease.id, WIDE),
                shortened(&lease.namespace, WIDE),
                lease.record.as_ref().map(|id| short_digest(id.as_str())).unwrap_or_default(),
                lease.blobs.len().to_string(),
                lease.snapshots.len().to_string(),
                time(lease.created_at),
            ]
        }),
    );
    page.table(
        "builds",
        ["BUILD", "STARTED", ">SECONDS", ">STEPS", ">CACHED", "FRONTEND", "TARGET", "OUTCOME"],
        root.builds.iter().map(build_row),
    );
    page.finish()
}

fn key_row(root: &Root, key: &Key) -> [String; 7] {
    let there = key.results.iter().find(|result| result.is_there);
    let id = there.and_then(|result| result.id.record.as_ref());
    let record = id.and_then(|id| root.record(id.as_str()));
    [
        key.name.as_deref().map_or_else(|| unnamed(key.warmth), |text| name(Some(text))),
        key.warmth.word().to_owned(),
        short_digest(&key.id.text()),
        id.map(|id| short_digest(id.as_str())).unwrap_or_default(),
        bytes(record.and_then(Record::bytes)),
        key.inputs.len().to_string(),
        time(key.results.first().map(|result| result.created_at)),
    ]
}

fn record_row(record: &Record) -> [String; 10] {
    let stored = &record.stored;
    [
        short_digest(record.id.as_str()),
        shortened(record.kind(), WIDE),
        parents(record, short_digest),
        stored.blob.map(|blob| short_digest(&blob.to_string())).unwrap_or_default(),
        bytes(signed(stored.blob_size).filter(|_| stored.blob.is_some())),
        bytes(signed(stored.size)),
        yes(record.is_unpacked, "yes"),
        stored.usage_count.map(|count| count.to_string()).unwrap_or_default(),
        time(nanos(stored.last_used_at)),
        name(stored.description.as_deref()),
    ]
}

fn mount_row(record: &Record) -> [String; 6] {
    let stored = &record.stored;
    [
        short_digest(record.id.as_str()),
        name(mounts::id_of(stored)),
        bytes(signed(stored.size)),
        stored.usage_count.map(|count| count.to_string()).unwrap_or_default(),
        time(nanos(stored.last_used_at)),
        name(stored.description.as_deref()),
    ]
}

fn build_row(build: &Build) -> [String; 8] {
    let ended = build.completed_at.zip(build.created_at);
    let seconds = ended.map(|(end, start)| end.unix_seconds().saturating_sub(start.unix_seconds()));
    let option = |option: &str| build.options.get(option).map(String::as_str);
    let outcome = match (&build.error, build.completed_at) {
        (Some(error), _) => format!("failed: {error}"),
        (None, Some(_)) => "done".to_owned(),
        (None, None) => "not ended".to_owned(),
    };
    [
        shortened(&build.reference, WIDE),
        time(build.created_at),
        seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
        build.steps.to_string(),
        build.cached.to_string(),
        shortened(&build.frontend, WIDE),
        name(option("target")),
        shortened(&outcome, WIDE),
    ]
}

/// Adds each key and each record, with all details.
fn things(page: &mut Page, root: &Root) {
    let mut above: BTreeMap<&KeyId, BTreeSet<&KeyId>> = BTreeMap::new();
    for key in &root.keys {
        for input in &key.inputs {
            above.entry(&input.from).or_default().insert(&key.id);
        }
    }
    for key in Graph::from(root).in_order().into_iter().map(|key| &root.keys[key]) {
        key_thing(page, root, key, above.remove(&key.id).unwrap_or_default());
    }
    let mut above: BTreeMap<&RecordId, Vec<&RecordId>> = BTreeMap::new();
    for record in &root.records {
        record.parents().for_each(|parent| above.entry(parent).or_default().push(&record.id));
    }
    for record in &root.records {
        record_thing(page, record, above.remove(&record.id).unwrap_or_default());
    }
}

fn key_thing(page: &mut Page, root: &Root, key: &Key, above: BTreeSet<&KeyId>) {
    let called = |id: &KeyId| {
        let at = root.keys.binary_search_by(|key| key.id.cmp(id)).ok();
        let name = at.and_then(|at| root.keys[at].name.as_deref());
        format!("{} {}", one_line(&id.text()), shortened(name.unwrap_or_default(), WIDE))
    };
    let mut members = vec![
        ("key", one_line(&key.id.text())),
        ("state", format!("{}: {}", key.warmth.word(), key.warmth.meaning())),
    ];
    for result in &key.results {
        let there = if result.is_there { "" } else { ", which is not there" };
        let record = result.id.record.as_ref().map_or("an empty file system", |id| id.as_str());
        members.push(("result", format!("{}{there}, of {}", one_line(record), result.created_at)));
    }
    for input in &key.inputs {
        let part = if input.link.selector.is_empty() {
            String::new()
        } else {
            format!(" ({})", one_line(&input.link.selector))
        };
        members.push((
            "builds on",
            format!("input {}: {}{part}", input.link.input, called(&input.from)),
        ));
        members.push(("op digest", one_line(&input.link.digest.text())));
    }
    members.extend(above.into_iter().map(|id| ("is below", called(id))));
    page.thing(&key.name.as_deref().map_or_else(|| unnamed(key.warmth), one_line), &members);
}

fn record_thing(page: &mut Page, record: &Record, above: Vec<&RecordId>) {
    let stored = &record.stored;
    let digest = |digest: Option<Digest>| digest.map(|d| d.to_string()).unwrap_or_default();
    let mut members = vec![
        ("type", one_line(record.kind())),
        ("state", if stored.is_mutable() { "mutable" } else { "immutable" }.to_owned()),
        ("on", parents(record, one_line)),
        ("snapshot", record.snapshot.as_deref().map(one_line).unwrap_or_default()),
        ("unpacked", yes(record.is_unpacked, "yes")),
        ("blob", digest(stored.blob)),
        ("media type", stored.media_type.as_deref().map(one_line).unwrap_or_default()),
        ("packed", bytes(signed(stored.blob_size).filter(|_| stored.blob.is_some()))),
        ("on disk", bytes(signed(stored.size))),
        ("diffID", digest(stored.diff_id)),
        ("chainID", digest(stored.chain_id)),
        ("adds to the chainID", digest(stored.layer_identity)),
        ("cache mount", mounts::id_of(stored).map(one_line).unwrap_or_default()),
        ("source", stored.shared_key.as_deref().map(one_line).unwrap_or_default()),
        ("created", time(nanos(stored.created_at))),
        ("last used", time(nanos(stored.last_used_at))),
        ("used", stored.usage_count.map(|count| format!("{count} times")).unwrap_or_default()),
        ("description", stored.description.as_deref().map(one_line).unwrap_or_default()),
        ("to be removed", yes(stored.is_removed(), "when the daemon starts")),
    ];
    let keys = record.keys.iter();
    members.extend(keys.map(|key| ("result of", one_line(&key.text()))));
    members.extend(above.into_iter().map(|id| ("is below", one_line(id.as_str()))));
    page.thing(&format!("record {}", one_line(record.id.as_str())), &members);
}

fn parents(record: &Record, text: impl Fn(&str) -> String) -> String {
    let parents: Vec<_> = record.parents().map(|id| text(id.as_str())).collect();
    parents.join(" ")
}

fn nanos(time: Option<i64>) -> Option<Time> {
    time.map(Time::from_unix_nanos)
}

//! Both views as data, with the members of the schema `inspect-export.json` and `inspect-root.json`.

use bkstate::snapshots::Kind;
use bkstate::{Time, mounts};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::root::known;
use super::{Export, Record, Root, Warmth, count};

impl Serialize for Export {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        of_export(self).serialize(serializer)
    }
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        of_root(self).serialize(serializer)
    }
}

fn of_export(export: &Export) -> Value {
    let steps = export.steps.iter().map(|step| {
        let key = step.key.as_ref();
        let links = step.inputs.iter().map(
            |input| json!({"from": input.step, "input": input.input, "selector": input.selector}),
        );
        let results = step.results.iter().map(|result| {
            json!({
                "layer": result.layer,
                "explicit_layers": result.explicit,
                "layer_count": result.depth,
                "blob_size": result.bytes,
                "created_at": result.created_at,
            })
        });
        let misses =
            step.misses.iter().map(|miss| json!({"reason": miss.reason, "certain": miss.certain}));
        json!({
            "source": step.source,
            "number": step.number,
            "digest": step.digest,
            "name": step.name,
            "state": step.warmth.word(),
            "op_digest": key.map(|key| key.op_digest.as_str()),
            "output": key.map(|key| key.output),
            "key_source": key.map(|key| key.source),
            "misses": misses.collect::<Value>(),
            "missing_blobs": step.missing,
            "links": links.collect::<Value>(),
            "results": results.collect::<Value>(),
        })
    });
    let layers = export.layers.iter().map(|layer| {
        json!({
            "source": layer.source,
            "number": layer.number,
            "blob": layer.blob,
            "parent": layer.parent,
            "blob_size": layer.bytes,
            "compression": layer.compression_word(),
            "diff_id": layer.diff_id,
            "created_at": layer.created_at,
        })
    });
    json!({
        "kind": "export",
        "buildkit": export.target,
        "sources": export.sources,
        "key_sources": export.keys,
        "state_counts": state_counts(count(export.steps.iter().map(|step| step.warmth))),
        "steps": steps.collect::<Value>(),
        "layers": layers.collect::<Value>(),
        "sizes": export.sizes,
    })
}

fn of_root(root: &Root) -> Value {
    let workers = root.workers.iter().map(|worker| {
        json!({"directory": worker.directory, "id": worker.id, "inspected": worker.is_ours})
    });
    let steps = root.keys.iter().map(|key| {
        let results = key.results.iter().map(|result| {
            json!({
                "worker_id": result.id.worker,
                "record": result.id.record,
                "created_at": result.created_at,
                "present": result.is_there,
            })
        });
        let links = key.inputs.iter().map(|input| {
            json!({
                "from": input.from,
                "input": input.link.input,
                "output": input.link.output,
                "op_digest": input.link.digest,
                "selector": input.link.selector,
            })
        });
        json!({
            "key": key.id,
            "name": key.name,
            "state": key.warmth.word(),
            "results": results.collect::<Value>(),
            "links": links.collect::<Value>(),
        })
    });
    let snapshots = root.snapshots.iter().map(|snapshot| {
        json!({
            "snapshot_key": snapshot.key,
            "kind": snapshot.kind.map(Kind::name),
            "directory": snapshot.id,
            "present": snapshot.is_there,
            "packed_image": snapshot.packed.map(|image| image.to_string()),
            "parent": snapshot.parent,
            "disk_size": known(snapshot.bytes),
            "inode_count": known(snapshot.inodes),
            "records": snapshot.records,
        })
    });
    let blobs = root.blobs.iter().map(|blob| {
        json!({
            "namespace": blob.namespace,
            "digest": blob.digest,
            "size": blob.bytes,
            "diff_id": blob.diff_id,
            "present": blob.is_there,
            "created_at": blob.created_at,
        })
    });
    let leases = root.leases.iter().map(|lease| {
        json!({
            "namespace": lease.namespace,
            "id": lease.id,
            "record": lease.record,
            "blobs": lease.blobs,
            "snapshots": lease.snapshots,
            "labels": lease.labels,
            "created_at": lease.created_at,
        })
    });
    let builds = root.builds.iter().map(|build| {
        json!({
            "ref": build.reference,
            "frontend": build.frontend,
            "options": build.options,
            "exporters": build.exporters,
            "created_at": build.created_at,
            "completed_at": build.completed_at,
            "error": build.error,
            "step_count": build.steps,
            "cached_step_count": build.cached,
            "pinned": build.pinned,
            "blobs": build.blobs,
        })
    });
    let of = |mounts: bool| {
        let records = root.records.iter().filter(move |record| record.is_cache_mount() == mounts);
        records.map(record).collect::<Value>()
    };
    json!({
        "kind": "root",
        "root": root.path.to_string_lossy(),
        "damage_count": root.damage.len(),
        "warmth": root.degree,
        "legacy_record_count": root.legacy,
        "workers": workers.collect::<Value>(),
        "state_counts": state_counts(count(root.keys.iter().map(|key| key.warmth))),
        "steps": steps.collect::<Value>(),
        "records": of(false),
        "cache_mounts": of(true),
        "snapshots": snapshots.collect::<Value>(),
        "blobs": blobs.collect::<Value>(),
        "leases": leases.collect::<Value>(),
        "builds": builds.collect::<Value>(),
    })
}

fn record(record: &Record) -> Value {
    let stored = &record.stored;
    let time = |nanos: Option<i64>| nanos.map(Time::from_unix_nanos);
    json!({
        "id": record.id,
        "type": record.kind(),
        "mutable": stored.is_mutable(),
        "parents": record.parents().collect::<Vec<_>>(),
        "equal_mutable": stored.equal_mutable,
        "snapshot": record.snapshot,
        "unpacked": record.is_unpacked,
        "blob": stored.blob,
        "media_type": stored.media_type,
        "blob_size": known(stored.blob_size),
        "disk_size": known(stored.size),
        "diff_id": stored.diff_id,
        "layer_identity": stored.layer_identity,
        "chain_id": stored.chain_id,
        "cache_mount": mounts::id_of(stored),
        "local_source": stored.shared_key,
        "keys": record.keys,
        "created_at": time(stored.created_at),
        "last_used_at": time(stored.last_used_at),
        "usage_count": stored.usage_count,
        "description": stored.description,
        "deleted": stored.is_removed(),
    })
}

fn state_counts(counts: Vec<(Warmth, usize)>) -> Map<String, Value> {
    counts.into_iter().map(|(warmth, count)| (warmth.word().to_owned(), count.into())).collect()
}

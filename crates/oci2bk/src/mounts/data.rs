//! Cache mounts as data, with the members of the schema `mounts-*.json`.

use bkstate::Digest;
use bkstate::ids::RecordId;
use bkstate::mounts::form;
use serde::Serialize;
use serde::ser::Serializer;

use super::{
    Exported, ExportedMount, Imported, ImportedMount, ListedMount, MountBase, MountsArtifact,
    Owner, RootMount,
};

#[derive(Serialize)]
struct OfRoot<'m> {
    id: &'m str,
    dockerfile: Option<String>,
    namespace: &'m str,
    owner: Option<Owner>,
    from: Option<&'m RecordId>,
    record: &'m RecordId,
    copy: bool,
    disk_size: i64,
    last_used_at: Option<bkstate::Time>,
}

impl Serialize for RootMount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = form(&self.id);
        let mount = OfRoot {
            id: &self.id,
            dockerfile: form.name,
            namespace: form.namespace,
            owner: self.base.owner(),
            from: match &self.base {
                MountBase::Record(record) => Some(record),
                MountBase::Empty | MountBase::Owned(_) => None,
            },
            record: &self.record,
            copy: self.is_copy,
            disk_size: self.size.max(0),
            last_used_at: self.last_used_at,
        };
        mount.serialize(serializer)
    }
}

#[derive(Serialize)]
struct OfArtifact<'m> {
    id: &'m str,
    dockerfile: Option<String>,
    namespace: &'m str,
    owner: Option<Owner>,
    entry_count: u64,
    size: u64,
    diff_id: Digest,
    blob: Option<Digest>,
    blob_size: Option<u64>,
}

#[derive(Serialize)]
struct Artifact<'a> {
    manifest: Digest,
    subject: Option<Digest>,
    tags: Vec<&'a str>,
    mounts: Vec<OfArtifact<'a>>,
}

impl Serialize for MountsArtifact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mounts = self.mounts.iter().map(|mount| {
            let ListedMount { id, owner, diff_id, size, entries, .. } = mount;
            let form = form(id);
            let blob = self.blob(mount);
            OfArtifact {
                id,
                dockerfile: form.name,
                namespace: form.namespace,
                owner: *owner,
                entry_count: *entries,
                size: *size,
                diff_id: *diff_id,
                blob: blob.map(|(digest, _)| digest),
                blob_size: blob.map(|(_, size)| size),
            }
        });
        let artifact = Artifact {
            manifest: self.manifest,
            subject: self.subject,
            tags: self.tags.iter().map(String::as_str).collect(),
            mounts: mounts.collect(),
        };
        artifact.serialize(serializer)
    }
}

#[derive(Serialize)]
struct OfExport<'m> {
    id: &'m str,
    owner: Option<Owner>,
    record: &'m RecordId,
    entry_count: u64,
    size: u64,
    diff_id: Digest,
    blob: Option<Digest>,
    blob_size: Option<u64>,
    left_out_count: u64,
    credentials: &'m [String],
    credential_count: u64,
}

impl Serialize for ExportedMount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mount = OfExport {
            id: &self.id,
            owner: self.owner,
            record: &self.record,
            entry_count: self.entries,
            size: self.bytes,
            diff_id: self.diff_id,
            blob: self.blob.map(|(digest, _)| digest),
            blob_size: self.blob.map(|(_, size)| size),
            left_out_count: self.left_out,
            credentials: &self.credentials,
            credential_count: self.credential_count,
        };
        mount.serialize(serializer)
    }
}

#[derive(Serialize)]
struct LeftOut<'m> {
    id: &'m str,
    record: &'m RecordId,
}

#[derive(Serialize)]
struct Export<'m> {
    manifest: Option<Digest>,
    changed: bool,
    mounts: &'m [ExportedMount],
    left_out: Vec<LeftOut<'m>>,
}

impl Serialize for Exported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let left_out = self.left_out.iter();
        let export = Export {
            manifest: self.manifest,
            changed: self.changed,
            mounts: &self.mounts,
            left_out: left_out.map(|RootMount { id, record, .. }| LeftOut { id, record }).collect(),
        };
        export.serialize(serializer)
    }
}

#[derive(Serialize)]
struct OfImport<'m> {
    id: &'m str,
    owner: Option<Owner>,
    outcome: &'static str,
    record: &'m RecordId,
    entry_count: u64,
    size: u64,
}

impl Serialize for ImportedMount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mount = OfImport {
            id: &self.id,
            owner: self.owner,
            outcome: self.outcome.name(),
            record: &self.record,
            entry_count: self.entries,
            size: self.bytes,
        };
        mount.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Import<'m> {
    root: String,
    manifest: Option<Digest>,
    mounts: &'m [ImportedMount],
}

impl Serialize for Imported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let import = Import {
            root: self.root.to_string_lossy().into_owned(),
            manifest: self.manifest,
            mounts: &self.mounts,
        };
        import.serialize(serializer)
    }
}

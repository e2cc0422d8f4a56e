//! The root of a containerd that other programs have used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use bkstate::encode::EncodeError;
use bkstate::metadata::{
    Content, ImageRow, LABEL_REFERENCE, LABEL_UNCOMPRESSED, Metadata, SnapshotRow, VERSION,
};
use bkstate::snapshots::{Kind, Snapshot, Snapshots};
use bkstate::worker::Worker;
use bkstate::{Digest, Time};

/// Number of images that the other programs have.
pub(crate) const IMAGES: u64 = 50;
/// Number of layers of each.
pub(crate) const LAYERS: u64 = 10;

/// The databases, in the root.
const METADATA: &str = "io.containerd.metadata.v1.bolt/meta.db";
const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/metadata.db";

/// The namespace of the kubelet.
const NAMESPACE: &str = "k8s.io";

/// Makes the databases of a containerd with unpacked images, without the files in them. Returns their size in
/// bytes.
pub(crate) fn fill(root: &Path) -> Result<u64> {
    let worker = Worker::of_containerd(Some(NAMESPACE));
    let mut metadata = Metadata { version: VERSION, ..Metadata::default() };
    let namespace = worker.namespace_entry(&mut metadata);
    let mut snapshots = Snapshots::default();
    for image in 0..IMAGES {
        let manifest = Digest::of(format!("manifest {image}"));
        let mut labels = BTreeMap::new();
        let mut below: Option<(String, String)> = None;
        for layer in 0..LAYERS {
            let blob = Digest::of(format!("layer {layer} of {image}"));
            labels.insert(format!("{LABEL_REFERENCE}l.{layer}"), blob.to_string());
            let diff_id = (LABEL_UNCOMPRESSED.to_owned(), blob.to_string());
            let row = Content { size: 1 << 20, labels: [diff_id].into(), ..Content::default() };
            namespace.content.insert(blob, row);
            let key = Digest::of(format!("chain {layer} of {image}")).to_string();
            let id = image * LAYERS + layer + 1;
            let table = worker.table_entry(namespace);
            table.sequence = id;
            let name = worker.snapshot_name(id, &key);
            let (parent, parent_name) = below.take().unzip();
            if let Some(parent) = parent.as_ref().and_then(|parent| table.rows.get_mut(parent)) {
                parent.children.insert(key.clone());
            }
            let row = SnapshotRow { name: name.clone(), parent, ..SnapshotRow::default() };
            table.rows.insert(key.clone(), row);
            let snapshot = Snapshot {
                id,
                kind: Kind::Committed,
                parent: parent_name,
                created_at: Some(Time::UNIX_EPOCH),
                updated_at: Some(Time::UNIX_EPOCH),
                inodes: Some(100),
                size: Some(1 << 20),
                labels: BTreeMap::new(),
            };
            snapshots.by_name.insert(name.clone(), snapshot);
            snapshots.sequence = id;
            below = Some((key, name));
        }
        namespace.content.insert(manifest, Content { size: 1 << 10, labels, ..Content::default() });
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let created_at = Time::UNIX_EPOCH;
        let row = ImageRow { created_at, digest: manifest, media_type, size: 1 << 10 };
        namespace.add_image(&format!("docker.io/library/image-{image}:latest"), &row);
    }
    let metadata = write(&root.join(METADATA), |file| metadata.write(file))?;
    let snapshots = write(&root.join(SNAPSHOTS), |file| snapshots.write(file))?;
    Ok(metadata + snapshots)
}

/// Creates a database and its directory. Returns its size in bytes.
fn write(path: &Path, write: impl FnOnce(&File) -> Result<(), EncodeError>) -> Result<u64> {
    fs::create_dir_all(path.parent().context("a database without a directory")?)?;
    let file = File::create(path).with_context(|| path.display().to_string())?;
    write(&file)?;
    Ok(file.metadata()?.len())
}

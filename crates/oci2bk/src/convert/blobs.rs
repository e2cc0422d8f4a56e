//! Storing blobs and unpacking the layers in them, several at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use bkstate::Digest;
use bkstate::state::Staging;

use super::parallel::in_parallel;
use super::{ConvertError, Options};
use crate::assemble::snapshot_id;
use crate::export::CacheExport;
use crate::plan::{Blob, Plan};
use crate::progress::{Event, LayerWork, Progress};
use crate::unpack::{self, Placement, Unpacked};

/// Stores every blob of `plan` and, if asked to, unpacks every snapshot.
///
/// Returns what was unpacked in the order of the plan's snapshots, or nothing.
pub(super) fn store_and_unpack(
    plan: &Plan,
    exports: &[CacheExport],
    staging: &Staging<'_>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Unpacked>, ConvertError> {
    let tasks = tasks(plan, options.extract);
    let slots: Vec<Mutex<Option<Unpacked>>> =
        plan.snapshots.iter().map(|_| Mutex::new(None)).collect();
    in_parallel(&tasks, options.jobs, |task| {
        progress.event(Event::LayerStarted(&task.work));
        task.run(exports, staging, progress, |snapshot, unpacked| {
            if let Some(slot) = slots.get(snapshot)
                && let Ok(mut slot) = slot.lock()
            {
                *slot = Some(unpacked);
            }
        })?;
        progress.event(Event::LayerFinished(&task.work));
        Ok::<_, ConvertError>(())
    })?;
    Ok(slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect())
}

/// Stores the documents of base images.
pub(super) fn store_documents(plan: &Plan, staging: &Staging<'_>) -> Result<(), ConvertError> {
    for (&digest, document) in &plan.documents {
        let copy_error =
            |source| ConvertError::Copy { digest, root: staging.root().to_owned(), source };
        staging.blobs().create_blob(&digest)?.write_all(&document.content).map_err(copy_error)?;
    }
    Ok(())
}

/// One blob, and the snapshots that hold its files.
struct Task<'p> {
    blob: &'p Blob,
    work: LayerWork,
    snapshots: Vec<(usize, Placement)>,
}

/// The tasks of a plan, largest first, so that no large one is left over for one thread at the
/// end.
fn tasks(plan: &Plan, extract: bool) -> Vec<Task<'_>> {
    let mut tasks: BTreeMap<Digest, Task<'_>> = plan
        .blobs
        .iter()
        .map(|(digest, blob)| {
            let work = LayerWork {
                digest: *digest,
                size: blob.size,
                to_read: blob.size,
                description: None,
            };
            (*digest, Task { blob, work, snapshots: Vec::new() })
        })
        .collect();
    for layer in &plan.layers {
        if let Some(task) = tasks.get_mut(&layer.blob)
            && task.work.description.is_none()
        {
            task.work.description.clone_from(&layer.description);
        }
    }
    let snapshots = plan.snapshots.iter().enumerate().filter(|_| extract);
    for (index, snapshot) in snapshots {
        if let Some(task) = tasks.get_mut(&snapshot.blob) {
            let placement =
                if snapshot.parent.is_some() { Placement::Overlay } else { Placement::Base };
            task.snapshots.push((index, placement));
            task.work.to_read += task.blob.size;
        }
    }
    let mut tasks: Vec<_> = tasks.into_values().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work.to_read));
    tasks
}

impl Task<'_> {
    fn run(
        &self,
        exports: &[CacheExport],
        staging: &Staging<'_>,
        progress: &dyn Progress,
        unpacked: impl Fn(usize, Unpacked),
    ) -> Result<(), ConvertError> {
        let digest = self.work.digest;
        let stored = self.store(exports, staging)?;
        for (pass, &(index, placement)) in (1..).zip(&self.snapshots) {
            let before = self.blob.size * pass;
            let advance = |read| progress.event(Event::LayerAdvanced(&self.work, before + read));
            advance(0);
            let fs = staging.trees().create_snapshot(snapshot_id(index))?;
            let layer = unpack::Layer {
                blob: &stored,
                digest,
                size: self.blob.size,
                media_type: &self.blob.media_type,
                diff_id: self.blob.diff_id,
            };
            let result =
                unpack::unpack(&layer, fs.as_fd(), placement, &advance).map_err(|source| {
                    ConvertError::Unpack {
                        digest,
                        root: staging.root().to_owned(),
                        source: Box::new(source),
                    }
                })?;
            unpacked(index, result);
        }
        Ok(())
    }

    /// Copies the blob into the content store and returns the copy.
    ///
    /// Unpacking checks the digest of what it reads, which is the copy. Only a blob that will not
    /// be unpacked is checked here.
    fn store(&self, exports: &[CacheExport], staging: &Staging<'_>) -> Result<File, ConvertError> {
        let digest = self.work.digest;
        let export = exports.get(self.blob.source).ok_or(ConvertError::ForeignPlan { digest })?;
        let descriptor =
            export.manifest.layers.get(&digest).ok_or(ConvertError::ForeignPlan { digest })?;
        let descriptor = &descriptor.descriptor;
        let mut copy = staging.blobs().create_blob(&digest)?;
        let copy_error =
            |source| ConvertError::Copy { digest, root: staging.root().to_owned(), source };
        if self.snapshots.is_empty() {
            export
                .layout
                .stream_blob(descriptor, |piece| copy.write_all(piece).map_err(copy_error))?;
        } else {
            export.layout.open_blob(descriptor)?.copy_to(&mut copy).map_err(copy_error)?;
        }
        Ok(copy)
    }
}

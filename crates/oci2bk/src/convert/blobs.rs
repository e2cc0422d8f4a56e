//! Stores blobs and unpacks the layers in them, several in parallel.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use bkstate::Digest;
use bkstate::dir::if_there;

use super::copying::Stored;
use super::site::Site;
use super::store;
use super::{ConvertError, Run};
use crate::layout::{BadCopy, BlobError, Descriptor, Layout};
use crate::limits::{Limits, smaller};
use crate::parallel::in_parallel;
use crate::place::Places;
use crate::plan::{Blob, Plan, SnapshotIndex};
use crate::progress::{self, Event, LayerWork, Unpacking};
use crate::unpack::{self, Allowance, Placement, Stream, UnpackError, Unpacked, Watch as _};

/// The results for the blobs of a plan.
#[derive(Default)]
pub(super) struct Worked {
    /// The unpacked snapshots, and the errors of others, by their index in the plan.
    pub(super) snapshots: BTreeMap<SnapshotIndex, Result<Unpacked, UnpackError>>,
    /// The blobs with bytes after a gzip stream, and the number of bytes.
    pub(super) trailing: BTreeMap<Digest, u64>,
    /// The skipped copies of blobs.
    pub(super) bad_copies: BTreeSet<BadCopy>,
}

impl Worked {
    /// Adds the results for other blobs.
    fn and(mut self, other: Self) -> Self {
        self.snapshots.extend(other.snapshots);
        self.trailing.extend(other.trailing);
        self.bad_copies.extend(other.bad_copies);
        self
    }

    fn note_trailing(&mut self, blob: Digest, stream: Stream) {
        if stream.ignored > 0 {
            self.trailing.insert(blob, stream.ignored);
        }
    }
}

/// Stores the missing blobs of the root and unpacks its missing snapshots.
///
/// Layers that cannot be unpacked, and need not be, are not an error.
pub(super) fn store_and_unpack(site: &Site<'_>, run: &Run<'_>) -> Result<Worked, ConvertError> {
    let tasks = tasks(site);
    progress::counted(&**run.progress, tasks.iter().map(|task| &task.work));
    let worked = in_parallel(&tasks, run.options.jobs.min(unpack::MOST_AT_ONCE), |task| {
        run.check()?;
        run.progress.event(Event::LayerStarted(&task.work));
        let worked = task.run(site, run)?;
        run.progress.event(Event::LayerFinished(&task.work));
        Ok::<_, ConvertError>(worked)
    })?;
    Ok(worked.into_iter().fold(Worked::default(), Worked::and))
}

/// Returns the allowance for all layers of `plan` that will be read.
///
/// # Errors
/// Returns an error if it is known, without reading any, that they exceed it, because they are not
/// compressed.
pub(super) fn allowance(
    plan: &Plan,
    places: &Places,
    limits: &Limits,
) -> Result<Allowance, ConvertError> {
    let (mut bytes, mut unpacked) = (0_u64, 0_u64);
    for (digest, snapshots) in places.work(plan) {
        let blob = &plan.blobs[&digest];
        bytes = bytes.saturating_add(blob.size);
        if unpack::is_plain(&blob.media_type) {
            let passes = snapshots.len().max(1) as u64;
            unpacked = unpacked.saturating_add(blob.size.saturating_mul(passes));
        }
    }
    let limit = smaller(limits.of_all_unpacked(), limits.by_ratio(bytes));
    if unpacked > limit.value {
        return Err(ConvertError::TooLarge { bytes: unpacked, limit });
    }
    Ok(Allowance::of_run(limits, bytes))
}

/// Stores the documents of base images.
pub(super) fn store_documents(site: &Site<'_>) -> Result<(), ConvertError> {
    let documents = site.plan.documents.iter();
    for (&digest, document) in
        documents.filter(|(digest, _)| site.places.documents.contains(digest))
    {
        let mut file = site.staging.blobs().create_blob(&digest)?;
        let written = file.write_all(&document.content);
        written.map_err(|source| site.copy_error(digest, source))?;
    }
    Ok(())
}

/// One blob, and the snapshots into which it is unpacked.
struct Task<'p> {
    blob: &'p Blob,
    work: LayerWork,
    origin: Origin,
    snapshots: Vec<SnapshotIndex>,
}

/// The place of a blob to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the staging directory, where it has to be stored first.
    Stored,
    /// In the root already.
    Root,
    /// In the layout, because it is not to be stored.
    Layout,
}

/// Returns the tasks of a plan, largest first, so that no thread is left with a large one at the end.
fn tasks<'p>(site: &Site<'p>) -> Vec<Task<'p>> {
    let (plan, places) = (site.plan, site.places);
    let mut descriptions: BTreeMap<Digest, &String> = BTreeMap::new();
    for layer in &plan.layers {
        if let Some(description) = &layer.description {
            descriptions.entry(layer.blob).or_insert(description);
        }
    }
    let work = places.work(plan).into_iter();
    let tasks = work.map(|(digest, snapshots)| {
        let blob = &plan.blobs[&digest];
        let origin = if places.blobs.contains(&digest) {
            Origin::Stored
        } else if site.existing.blobs.contains_key(&digest) {
            Origin::Root
        } else {
            Origin::Layout
        };
        // A blob is stored while it is read.
        let passes = snapshots.len().max(1) as u64;
        let work = LayerWork {
            digest,
            size: blob.size,
            to_read: blob.size.saturating_mul(passes),
            description: descriptions.get(&digest).map(|text| (*text).clone()),
        };
        Task { blob, work, origin, snapshots }
    });
    let mut tasks: Vec<_> = tasks.collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work.to_read));
    tasks
}

impl Task<'_> {
    fn run(&self, site: &Site<'_>, run: &Run<'_>) -> Result<Worked, ConvertError> {
        let digest = self.work.digest;
        if self.origin == Origin::Root {
            return self.work_on(Stored::Whole(site.existing.blob(&digest)?), site, run);
        }
        let descriptor = &self.blob.descriptor(digest);
        let mut bad = Vec::new();
        let mut failure = ConvertError::Blob(BlobError::Missing { digest });
        for layout in site.plan.layouts_of(self.blob) {
            let stored = self.open(layout, descriptor, site);
            match stored.and_then(|stored| self.work_on(stored, site, run)) {
                Ok(mut worked) => {
                    worked.bad_copies.extend(bad);
                    return Ok(worked);
                }
                Err(ConvertError::Blob(BlobError::Missing { .. })) => {}
                Err(error) if error.is_of_copy() => {
                    bad.push(BadCopy::new(digest, layout, error.source().unwrap_or(&error)));
                    failure = error;
                    self.discard(site)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(if bad.len() > 1 { ConvertError::NoGoodCopy { copies: bad } } else { failure })
    }

    /// Removes the results of a copy that turned out to be bad.
    fn discard(&self, site: &Site<'_>) -> Result<(), ConvertError> {
        for index in &self.snapshots {
            if_there(site.staging.trees().remove(&site.id(*index)?.to_string()))?;
        }
        if_there(site.staging.blobs().remove(&self.work.digest))?;
        Ok(())
    }

    /// Unpacks or checks the blob.
    fn work_on(
        &self,
        mut stored: Stored,
        site: &Site<'_>,
        run: &Run<'_>,
    ) -> Result<Worked, ConvertError> {
        let digest = self.work.digest;
        let mut worked = Worked::default();
        for (pass, &index) in (0..).zip(&self.snapshots) {
            let before = self.blob.size.saturating_mul(pass);
            let (progress, cancel) = (&**run.progress, run.cancel);
            let unpacking = Unpacking { work: &self.work, before, progress, cancel };
            unpacking.read(0);
            let fs = site.staging.trees().create_snapshot(site.id(index)?)?;
            site.hand_down_owner(index, &fs)?;
            let below = site.plan.snapshots[index].parent;
            let placement = if below.is_some() { Placement::Overlay } else { Placement::Base };
            let layer = self.layer(&stored);
            let worker = &site.existing.state.worker;
            let (fs, allowance) = (fs.as_fd(), site.allowance);
            let result =
                unpack::unpack_within(&layer, fs, placement, worker, allowance, &unpacking);
            // Unpacking also fails if a copy cannot be written, without knowing the cause.
            stored = stored.after_reading().map_err(|source| site.copy_error(digest, source))?;
            match result {
                Err(error) if !site.can_stay_packed(index, &error) => {
                    return Err(self.unpack_error(site, error));
                }
                result => {
                    // A layer that stays packed was not read to its end.
                    if let Ok(unpacked) = &result {
                        worked.note_trailing(digest, unpacked.stream);
                    }
                    worked.snapshots.insert(index, result);
                }
            }
        }
        if self.snapshots.is_empty() {
            // No daemon before BuildKit v0.33.1 would ever check that the layer has its diffID.
            let (progress, cancel) = (&**run.progress, run.cancel);
            let unpacking = Unpacking { work: &self.work, before: 0, progress, cancel };
            let layer = self.layer(&stored);
            let result = unpack::check_within(&layer, site.allowance, &unpacking);
            stored.after_reading().map_err(|source| site.copy_error(digest, source))?;
            let stream = result.map_err(|source| self.check_error(source))?;
            worked.note_trailing(digest, stream);
        }
        Ok(worked)
    }

    fn layer<'a>(&'a self, stored: &'a Stored) -> unpack::Layer<'a> {
        let Blob { media_type, diff_id, .. } = self.blob;
        unpack::Layer::of(stored.blob(), &self.work, media_type, *diff_id)
    }

    fn unpack_error(&self, site: &Site<'_>, source: UnpackError) -> ConvertError {
        if matches!(source, UnpackError::Cancelled { .. }) {
            return ConvertError::Cancelled;
        }
        let (digest, source) = (self.work.digest, Box::new(source));
        let root = site.staging.root().to_owned();
        if self.origin == Origin::Root {
            ConvertError::UnpackExisting { digest, root, source }
        } else {
            ConvertError::Unpack { digest, root, source }
        }
    }

    fn check_error(&self, source: UnpackError) -> ConvertError {
        match source {
            UnpackError::Cancelled { .. } => ConvertError::Cancelled,
            UnpackError::WrongBlobDigest { layer, found } => {
                BlobError::Digest { digest: layer, actual: found }.into()
            }
            source => ConvertError::Check { digest: self.work.digest, source: Box::new(source) },
        }
    }

    /// Opens the blob in `layout`, to unpack or to check it.
    fn open(
        &self,
        layout: &Layout,
        descriptor: &Descriptor,
        site: &Site<'_>,
    ) -> Result<Stored, ConvertError> {
        if self.origin == Origin::Layout {
            return Ok(Stored::Left(layout.open_blob(descriptor)?));
        }
        store::store(site, layout, descriptor)
    }
}

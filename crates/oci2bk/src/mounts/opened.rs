//! The opened source of an import.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use bkstate::Digest;
use bkstate::digest::Hasher;
use bkstate::dir::Dir;
use bkstate::worker::Worker;

use super::MountsError;
use super::copy::copy;
use super::job::Job;
use crate::cancel::Cancel;
use crate::layout::{Descriptor, Layout};
use crate::limits::Limits;
use crate::pack::{Observer, PackError, View, pack};
use crate::progress::{Event, MountWork, Progress};
use crate::unpack::tree::{ChunkWriter, unpack_tree};
use crate::unpack::{Allowance, Blob, Layer, UnpackError, Watch};

/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

/// An opened source.
pub(super) enum Opened {
    Layout { layout: Box<Layout>, layers: Vec<Descriptor> },
    Tar { path: PathBuf, file: File, size: u64 },
    Directory(Dir),
}

impl Opened {
    /// Returns the limits on all archives together.
    pub(super) fn allowance(&self, jobs: &[Job], limits: &Limits) -> Allowance {
        match self {
            Self::Layout { layers, .. } => {
                let layers = jobs.iter().filter_map(|job| layers.get(job.archive?.0));
                let bytes = layers.fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
                Allowance::of_run(limits, bytes)
            }
            Self::Tar { size, .. } => Allowance::of_run(limits, *size),
            // The files take their space already.
            Self::Directory(_) => Allowance::of_run(limits, u64::MAX),
        }
    }

    /// Unpacks the archive of a mount. Returns the digest of its content, the number of its entries, and its
    /// size.
    pub(super) fn unpack(
        &self,
        job: &Job,
        fs: &Dir,
        worker: &Worker,
        allowance: &Allowance,
        (progress, cancel): (&dyn Progress, &Cancel),
    ) -> Result<(Digest, u64, u64), MountsError> {
        let size = match self {
            Self::Layout { layers, .. } => {
                job.archive.and_then(|(layer, _)| layers.get(layer)).map_or(0, |layer| layer.size)
            }
            Self::Tar { size, .. } => *size,
            Self::Directory(_) => 0,
        };
        let work = MountWork { id: job.id.clone(), size };
        progress.event(Event::MountStarted(&work));
        let mut watcher = Watcher { work: &work, progress, cancel, done: 0 };
        let tree = match self {
            Self::Layout { layout, layers } => {
                let none = || MountsError::NotThere { place: String::new(), id: job.id.clone() };
                let (layer, diff_id) = job.archive.ok_or_else(none)?;
                let descriptor = layers.get(layer).ok_or_else(none)?;
                let blob = layout.open_blob(descriptor)?;
                let layer = Layer {
                    blob: &blob,
                    digest: descriptor.digest,
                    size: descriptor.size,
                    media_type: &descriptor.media_type,
                    diff_id,
                };
                let tree = unpack_tree(&layer, fs.as_fd(), worker, allowance, &watcher)
                    .map_err(|source| job.failed(source))?;
                if tree.diff_id != diff_id {
                    let (layer, expected, found) = (layer.digest, diff_id, tree.diff_id);
                    return Err(job.failed(UnpackError::WrongDiffId { layer, expected, found }));
                }
                tree
            }
            Self::Tar { path, file, size } => {
                let digest = hash(file)
                    .map_err(|source| MountsError::Read { path: path.clone(), source })?;
                let layer =
                    Layer { blob: file, digest, size: *size, media_type: "", diff_id: digest };
                unpack_tree(&layer, fs.as_fd(), worker, allowance, &watcher)
                    .map_err(|source| job.failed(source))?
            }
            Self::Directory(dir) => {
                let pack = |out: &mut ChunkWriter| {
                    pack(dir, View::AS_IT_IS, out, &mut watcher).map_err(|error| match error {
                        PackError::Cancelled => MountsError::Cancelled,
                        source => MountsError::Pack { id: job.id.clone(), source },
                    })
                };
                copy(&job.id, pack, fs.as_fd(), worker, allowance)?.1
            }
        };
        progress.event(Event::MountFinished(&work));
        Ok((tree.diff_id, tree.entries, tree.bytes))
    }
}

/// Returns the digest of a file.
fn hash(file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut position = 0;
    loop {
        match Blob::read_at(file, &mut chunk, position) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&chunk[..length]);
                position += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reports progress, and ends the work on cancellation.
struct Watcher<'w> {
    work: &'w MountWork,
    progress: &'w dyn Progress,
    cancel: &'w Cancel,
    done: u64,
}

impl Watch for Watcher<'_> {
    fn read(&self, bytes: u64) {
        self.progress.event(Event::MountAdvanced { work: self.work, done: bytes });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl Observer for Watcher<'_> {
    fn file(&mut self, _path: &[u8]) {}

    fn read(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.event(Event::MountAdvanced { work: self.work, done: self.done });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

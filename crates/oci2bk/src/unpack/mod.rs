//! Unpacks layers into overlay snapshots, so that each tree equals the result of containerd's own applier.
//!
//! The archive is untrusted until its diffID has been verified, and even a correct diffID does not make it
//! harmless: every path is resolved inside the snapshot (see `paths`), every statement of the archive is
//! checked before it is used, and memory does not grow with the layer.
//!
//! Layers are unpacked independently and in any order. The attributes that a layer inherits from those below
//! it, those of directories without an entry in it, are recorded in [`ImpliedParents`] and settled after all
//! layers are unpacked.
//!
//! [`docs/format/unpack.md`] has the rules.
//!
//! ```
//! use std::fs::File;
//! use std::io;
//! use std::os::fd::AsFd as _;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use oci2bk::bkstate::worker::Worker;
//! use oci2bk::unpack::{
//!     Blob, ImpliedParents, Layer, Placement, Refusal, Stream, TarError, UnpackError, Unpacked, Usage,
//!     Watch, check, unpack, usage,
//! };
//! use oci2bk::{Digest, Limits};
//!
//! /// A blob in memory. A blob in a file is a [`File`].
//! #[derive(Debug)]
//! struct Memory(Vec<u8>);
//!
//! impl Blob for Memory {
//!     fn size(&self) -> io::Result<u64> {
//!         Ok(self.0.len() as u64)
//!     }
//!
//!     fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
//!         io::Read::read(&mut &self.0[position as usize..], buffer)
//!     }
//! }
//!
//! fn layer(blob: &Memory) -> Layer<'_> {
//!     let (size, digest) = (blob.0.len() as u64, Digest::of(&blob.0));
//!     let media_type = "application/vnd.oci.image.layer.v1.tar";
//!     Layer { blob, digest, size, media_type, diff_id: digest }
//! }
//!
//! let mut archive = tar::Builder::new(Vec::new());
//! let mut header = tar::Header::new_gnu();
//! header.set_size(6);
//! header.set_mode(0o644);
//! // Setting owners requires root.
//! header.set_uid(rustix::process::getuid().as_raw().into());
//! header.set_gid(rustix::process::getgid().as_raw().into());
//! archive.append_data(&mut header, "etc/motd", &b"hello\n"[..])?;
//! let mut blob = Memory(archive.into_inner()?);
//!
//! let limits = Limits::default();
//! let read = AtomicU64::new(0);
//! let watch = |bytes| read.store(bytes, Ordering::Relaxed);
//! let Stream { bytes, ignored, .. } = check(&layer(&blob), &limits, &watch)?;
//! assert_eq!((bytes, ignored), (layer(&blob).size, 0));
//! assert_eq!(read.into_inner(), layer(&blob).size);
//!
//! let directory = tempfile::tempdir()?;
//! let tree = File::open(directory.path())?;
//! let Unpacked { entries, implied, .. } =
//!     unpack(&layer(&blob), tree.as_fd(), Placement::Base, &Worker::default(), &limits, &|_| {})?;
//! assert_eq!(entries, 1);
//! let implied: ImpliedParents = implied;
//! // `etc` has the attributes in the layers below, topmost first. Here there are none.
//! assert!(!implied.is_empty());
//! implied.settle(tree.as_fd(), std::iter::empty::<File>())?;
//! assert_eq!(std::fs::read(directory.path().join("etc/motd"))?, b"hello\n");
//! let Usage { inodes, .. } = usage(tree.as_fd())?;
//! assert_eq!(inodes, 3);
//!
//! /// The layer is not needed any more.
//! struct Impatient;
//!
//! impl Watch for Impatient {
//!     fn read(&self, _bytes: u64) {}
//!
//!     fn is_cancelled(&self) -> bool {
//!         true
//!     }
//! }
//!
//! let error = check(&layer(&blob), &limits, &Impatient).unwrap_err();
//! assert!(matches!(error, UnpackError::Cancelled { .. }) && !error.is_input());
//!
//! blob.0.truncate(515);
//! let directory = tempfile::tempdir()?;
//! let tree = File::open(directory.path())?;
//! let worker = Worker::default();
//! let unpacked = unpack(&layer(&blob), tree.as_fd(), Placement::Base, &worker, &limits, &|_| {});
//! let error = unpacked.unwrap_err();
//! // The digests are right, so if its files are not needed, the layer can stay packed.
//! assert!(error.is_input() && error.can_stay_packed() && !error.is_denied());
//! let UnpackError::Entry { reason, .. } = error else { panic!("{error}") };
//! assert!(matches!(reason, Refusal::Archive(TarError::Truncated)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/unpack.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/unpack.md

mod allowance;
mod apply;
pub(crate) mod capability;
mod chunks;
mod complete;
mod create;
pub(crate) mod decompress;
mod error;
#[cfg(feature = "zstd")]
mod frames;
#[cfg(not(feature = "zstd"))]
#[path = "no_frames.rs"]
mod frames;
mod gzip;
mod implied;
pub(crate) mod paths;
mod pipeline;
mod remove;
mod rights;
mod tally;
pub(crate) mod tar;
mod times;
pub(crate) mod tree;
mod usage;
mod whiteout;
pub(crate) mod witness;
pub(crate) mod xattrs;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use bkstate::Digest;
use bkstate::worker::Worker;

use crate::limits::Limits;
use crate::progress::LayerWork;
pub(crate) use allowance::Allowance;
use apply::{Applier, Rules};
pub(crate) use complete::complete;
use decompress::Encoding;
pub use error::{EntryName, Refusal, UnpackError};
#[cfg(not(feature = "zstd"))]
pub(crate) use frames::unsupported as without_zstd;
pub use implied::ImpliedParents;
use pipeline::TarStream;
pub use rights::RightsError;
pub(crate) use rights::{check_marks, check_rights};
pub(crate) use tally::{Measured, measure};
pub use tar::TarError;
use tar::{Entry, Reader};
pub(crate) use usage::usage_while;
pub use usage::{Usage, usage};
pub(crate) use whiteout::hidden_names;

/// Maximum number of layers unpacked in parallel, so that the buffers of all take 30 MiB. Each keeps several
/// processors busy.
pub(crate) const MOST_AT_ONCE: NonZeroUsize =
    NonZeroUsize::new((30 << 20) / pipeline::BUFFERS).unwrap();

/// The bytes of a blob, which need not be verified.
pub trait Blob: fmt::Debug + Sync {
    /// Returns the number of bytes.
    ///
    /// # Errors
    /// Returns an error if the system does not report it.
    fn size(&self) -> io::Result<u64>;

    /// Reads bytes from `position` on into `buffer`; returns their number, 0 at the end.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
}

/// The whole file; its own position is neither used nor changed.
impl Blob for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }
}

/// A layer with the data of its descriptor, and its blob.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The blob. It is read once, from start to end.
    pub blob: &'a dyn Blob,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The media type, which says whether the blob may be compressed.
    pub media_type: &'a str,
    /// The digest of the uncompressed tar stream.
    pub diff_id: Digest,
}

impl<'a> Layer<'a> {
    /// Returns the layer of `work`.
    pub(crate) fn of(
        blob: &'a dyn Blob,
        work: &LayerWork,
        media_type: &'a str,
        diff_id: Digest,
    ) -> Self {
        Self { blob, digest: work.digest, size: work.size, media_type, diff_id }
    }
}

/// The position of a layer, which determines how its whiteouts are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// It has no layer below, so whiteouts can only remove files that the layer itself unpacked.
    Base,
    /// It is on top of others in an overlay: whiteouts become character devices 0:0, opaque directories get
    /// the extended attribute of the worker, such as `trusted.overlay.opaque=y`.
    Overlay,
}

/// The result of unpacking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// Number of entries in the archive, including global headers.
    pub entries: u64,
    /// The tar stream.
    pub stream: Stream,
    /// Number of entries that a rootless daemon leaves out: devices, which nobody may make in a user namespace
    /// (containerd v2.4.2 `pkg/archive/tar_unix.go` `skipFile`).
    pub left_out: u64,
    /// Directories whose attributes must be settled.
    pub implied: ImpliedParents,
    /// The labels for the snapshot, see [`witness`].
    pub(crate) labels: BTreeMap<String, String>,
}

/// The tar stream of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stream {
    /// Its size in bytes, uncompressed.
    pub bytes: u64,
    /// Bytes of the blob after a gzip stream. They are ignored, as by `unpigz`, which containerd uses if it
    /// is installed, as in BuildKit's own image. Other daemons reject such a layer.
    pub ignored: u64,
}

/// Follows the work on a layer, and can cancel it. It is called from another thread.
///
/// A function that takes the bytes implements it and never cancels.
pub trait Watch: Sync {
    /// Reports the number of bytes of the blob that have been read so far.
    fn read(&self, bytes: u64);

    /// Returns whether to end the work with [`UnpackError::Cancelled`]. It is called for every piece of the
    /// layer.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl<F: Fn(u64) + Sync> Watch for F {
    fn read(&self, bytes: u64) {
        self(bytes);
    }
}

/// Unpacks `layer` into the empty directory `fs`, as the daemon of `worker` would.
///
/// The blob's size and digest and the layer's diffID are verified, including bytes after the archive's end.
/// `limits` bound the cost. `watch` is told the progress, and can cancel.
///
/// Owner and mode of `fs` itself are the caller's, whatever the archive says. Times without an entry become
/// the Unix epoch: those of `fs`, implied directories and whiteout devices.
///
/// # Errors
/// See [`UnpackError`]. After any of them `fs` has an unknown part of the layer and must be discarded. Errors
/// about entries occur only for a layer with the correct diffID.
pub fn unpack(
    layer: &Layer<'_>,
    fs: BorrowedFd<'_>,
    placement: Placement,
    worker: &Worker,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Unpacked, UnpackError> {
    unpack_within(layer, fs, placement, worker, &Allowance::of_run(limits, layer.size), watch)
}

/// [Unpacks](unpack()) one of several layers.
pub(crate) fn unpack_within(
    layer: &Layer<'_>,
    fs: BorrowedFd<'_>,
    placement: Placement,
    worker: &Worker,
    allowance: &Allowance,
    watch: &dyn Watch,
) -> Result<Unpacked, UnpackError> {
    let encoding = encoding(layer)?;
    let (unpacked, ignored) = pipeline::run(layer, encoding, allowance, watch, |stream| {
        let applier = Applier::new(fs, Rules::Layer(placement), worker, layer.digest, allowance);
        unpack_stream(layer, stream, applier, allowance)
    })?;
    Ok(Unpacked { stream: Stream { ignored, ..unpacked.stream }, ..unpacked })
}

/// Verifies the blob's size and digest and the layer's diffID as [`unpack`] does, without parsing the archive
/// or writing anything.
///
/// # Errors
/// Returns an error if the blob cannot be read or decompressed, exceeds the limits, or does not match the
/// descriptor.
pub fn check(layer: &Layer<'_>, limits: &Limits, watch: &dyn Watch) -> Result<Stream, UnpackError> {
    check_within(layer, &Allowance::of_run(limits, layer.size), watch)
}

/// [Checks](check()) one of several layers.
pub(crate) fn check_within(
    layer: &Layer<'_>,
    allowance: &Allowance,
    watch: &dyn Watch,
) -> Result<Stream, UnpackError> {
    let finish = |stream| finish(layer, stream);
    let (bytes, ignored) = pipeline::run(layer, encoding(layer)?, allowance, watch, finish)?;
    Ok(Stream { bytes, ignored })
}

fn encoding(layer: &Layer<'_>) -> Result<Encoding, UnpackError> {
    Encoding::of(layer.media_type).ok_or_else(|| UnpackError::UnknownMediaType {
        layer: layer.digest,
        media_type: layer.media_type.chars().take(100).collect(),
    })
}

/// Returns whether the blobs of layers with this media type are uncompressed, so that their size is known.
pub(crate) fn is_plain(media_type: &str) -> bool {
    Encoding::of(media_type) == Some(Encoding::Plain)
}

/// Reads the rest after the archive and verifies the diffID; returns the size of the whole stream.
fn finish(layer: &Layer<'_>, stream: TarStream) -> Result<u64, UnpackError> {
    let (found, bytes) = stream.finish();
    if found != layer.diff_id {
        let (layer, expected) = (layer.digest, layer.diff_id);
        return Err(UnpackError::WrongDiffId { layer, expected, found });
    }
    Ok(bytes)
}

fn unpack_stream(
    layer: &Layer<'_>,
    stream: TarStream,
    applier: Result<Applier<'_>, Refusal>,
    allowance: &Allowance,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Reader::new(stream);
    match apply_all(layer.digest, &mut archive, applier, allowance) {
        Ok((unpacked, holes)) => {
            let bytes = finish(layer, archive.into_inner())?;
            check_size(layer.digest, &allowance.limits, holes.saturating_add(bytes))?;
            Ok(Unpacked { stream: Stream { bytes, ignored: 0 }, ..unpacked })
        }
        Err(error) => {
            // Check whether it is the right layer, which only cannot be unpacked.
            if error.can_stay_packed() {
                finish(layer, archive.into_inner())?;
            }
            Err(error)
        }
    }
}

/// Applies all entries; also counts the bytes of holes in them.
fn apply_all(
    digest: Digest,
    archive: &mut Reader<TarStream>,
    applier: Result<Applier<'_>, Refusal>,
    allowance: &Allowance,
) -> Result<(Unpacked, u64), UnpackError> {
    let refused = |name: &[u8], reason| refused(digest, name, reason);
    let mut applier = applier.map_err(|reason| refused(b"/", reason))?;
    let Walked { entries, holes } = walk(digest, archive, allowance, |archive, entry| {
        if applier.is_tree() {
            entry.xattrs.retain(|name, _| tree::keeps_attribute(name));
        }
        applier.apply(archive, entry)
    })?;
    let left_out = applier.left_out();
    let (implied, labels) = applier.finish().map_err(|(name, reason)| refused(&name, reason))?;
    let stream = Stream { bytes: 0, ignored: 0 };
    Ok((Unpacked { entries, stream, left_out, implied, labels }, holes))
}

/// The entries of an archive.
struct Walked {
    /// Their number.
    entries: u64,
    /// The bytes of holes in them.
    holes: u64,
}

/// Calls `each` for all entries of an archive, within the limits.
fn walk(
    digest: Digest,
    archive: &mut Reader<TarStream>,
    allowance: &Allowance,
    mut each: impl FnMut(&mut Reader<TarStream>, &mut Entry) -> Result<(), Refusal>,
) -> Result<Walked, UnpackError> {
    let limits = &allowance.limits;
    let mut entries = 0;
    let mut holes: u64 = 0;
    let mut last = Vec::new();
    while let Some(mut entry) = archive.next().map_err(|source| {
        let after = EntryName::new(&last);
        UnpackError::Archive { layer: digest, after, source }
    })? {
        if entries == limits.layer_entries {
            return Err(UnpackError::TooManyEntries { layer: digest, limit: limits.layer_entries });
        }
        allowance.take_entry(digest)?;
        holes = holes.saturating_add(entry.hole_bytes());
        check_size(digest, limits, holes.saturating_add(archive.stream().bytes()))?;
        allowance.take_hole(digest, entry.hole_bytes())?;
        each(archive, &mut entry).map_err(|reason| refused(digest, &entry.name, reason))?;
        entries += 1;
        last = entry.name;
    }
    Ok(Walked { entries, holes })
}

fn refused(layer: Digest, name: &[u8], reason: Refusal) -> UnpackError {
    UnpackError::Entry { layer, entry: EntryName::new(name), reason }
}

fn check_size(layer: Digest, limits: &Limits, bytes: u64) -> Result<(), UnpackError> {
    let (limit, name) = (limits.layer_size, "layer-size");
    if bytes > limit { Err(UnpackError::TooLarge { layer, limit, name }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;

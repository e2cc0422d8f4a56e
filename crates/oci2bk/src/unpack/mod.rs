//! Unpacks layers into overlay snapshots, so that each tree equals what containerd's own applier
//! makes of the layer.
//!
//! The archive is hostile until its diffID has been verified, and an honest diffID does not make
//! it friendly: every path is resolved inside the snapshot (see `paths`), nothing that the
//! archive says is believed before it is checked, and memory does not grow with the layer.
//!
//! Layers are unpacked independently of each other and in any order. What a layer takes over from
//! those below it, the attributes of directories that it does not name, is remembered in
//! [`ImpliedParents`] and settled once all of them are there.
//!
//! `docs/format/unpack.md` has the rules.
//!
//! ```
//! use std::fs::File;
//! use std::io;
//! use std::os::fd::AsFd as _;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use oci2bk::unpack::{
//!     Blob, ImpliedParents, Layer, Placement, Refusal, Stream, TarError, UnpackError, Unpacked, Usage,
//!     Watch, check, unpack, usage,
//! };
//! use oci2bk::{Digest, Limits};
//!
//! /// A blob that lies in memory. One that lies in a file is a [`File`].
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
//! // Giving files to others takes root.
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
//!     unpack(&layer(&blob), tree.as_fd(), Placement::Base, &limits, &|_| {})?;
//! assert_eq!(entries, 1);
//! let implied: ImpliedParents = implied;
//! // `etc` is what the layers below say, from the topmost down. There are none.
//! assert!(!implied.is_empty());
//! implied.settle(tree.as_fd(), std::iter::empty::<File>())?;
//! assert_eq!(std::fs::read(directory.path().join("etc/motd"))?, b"hello\n");
//! let Usage { inodes, .. } = usage(tree.as_fd())?;
//! assert_eq!(inodes, 3);
//!
//! /// Nobody waits for the layer any more.
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
//! let error = unpack(&layer(&blob), tree.as_fd(), Placement::Base, &limits, &|_| {}).unwrap_err();
//! // The digests are right, so where nobody needs the files, the layer will do as it is.
//! assert!(error.is_input() && error.can_stay_packed() && !error.is_denied());
//! let UnpackError::Entry { reason, .. } = error else { panic!("{error}") };
//! assert!(matches!(reason, Refusal::Archive(TarError::Truncated)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod allowance;
mod apply;
mod chunks;
mod create;
pub(crate) mod decompress;
mod error;
mod frames;
mod gzip;
mod implied;
pub(crate) mod paths;
mod pipeline;
mod remove;
mod rights;
pub(crate) mod tar;
mod times;
mod usage;
mod whiteout;
pub(crate) mod witness;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use bkstate::Digest;

use crate::limits::Limits;
use crate::progress::LayerWork;
pub(crate) use allowance::Allowance;
use apply::Applier;
use decompress::Encoding;
pub use error::{EntryName, Refusal, UnpackError};
pub use implied::ImpliedParents;
use pipeline::TarStream;
pub use rights::RightsError;
pub(crate) use rights::check_rights;
use tar::Reader;
pub use tar::TarError;
pub use usage::{Usage, usage};

/// How many layers are unpacked at a time at most, so that the buffers of all take 30 MiB. Each keeps
/// several processors busy.
pub(crate) const MOST_AT_ONCE: NonZeroUsize =
    NonZeroUsize::new((30 << 20) / pipeline::BUFFERS).unwrap();

/// The bytes of a blob, which need not be verified.
pub trait Blob: fmt::Debug + Sync {
    /// How many there are.
    ///
    /// # Errors
    /// The system refuses to tell.
    fn size(&self) -> io::Result<u64>;

    /// Reads some of those from `position` on into `buffer`; how many, of which 0 means that there are
    /// no more.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
}

/// The whole file, whose own position is neither used nor changed.
impl Blob for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }
}

/// A layer as its descriptor gives it, with its blob.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The blob. It is read once, from its beginning to its end.
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
    /// The layer that `work` is about.
    pub(crate) fn of(
        blob: &'a dyn Blob,
        work: &LayerWork,
        media_type: &'a str,
        diff_id: Digest,
    ) -> Self {
        Self { blob, digest: work.digest, size: work.size, media_type, diff_id }
    }
}

/// Where a layer lies, which decides what its whiteouts become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It has no layer below, so whiteouts can only remove what the layer itself unpacked.
    Base,
    /// It lies on others in an overlay: whiteouts become character devices 0:0, opaque
    /// directories get the extended attribute `trusted.overlay.opaque=y`.
    Overlay,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// Entries in the archive, global headers included.
    pub entries: u64,
    /// The tar stream.
    pub stream: Stream,
    /// Directories whose attributes have to be settled.
    pub implied: ImpliedParents,
    /// The labels that the snapshot is to have, see [`witness`].
    pub(crate) labels: BTreeMap<String, String>,
}

/// The tar stream of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stream {
    /// Its bytes, uncompressed.
    pub bytes: u64,
    /// Bytes of the blob behind a gzip stream. They are ignored, as by `unpigz`, which containerd uses
    /// where it is installed, as in BuildKit's own image. Elsewhere a daemon refuses such a layer.
    pub ignored: u64,
}

/// Follows the work on a layer, and may end it. Called from another thread.
///
/// A function that takes the bytes is one that never ends the work.
pub trait Watch: Sync {
    /// So many bytes of the blob have been read so far.
    fn read(&self, bytes: u64);

    /// Whether to end the work with [`UnpackError::Cancelled`]. Asked for every piece of the layer.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl<F: Fn(u64) + Sync> Watch for F {
    fn read(&self, bytes: u64) {
        self(bytes);
    }
}

/// Unpacks `layer` into the empty directory `fs`.
///
/// The blob's size and digest and the layer's diffID are verified; bytes after the archive's end
/// count. What the layer may cost is up to `limits`. `watch` is told what is done, and asked whether
/// to go on.
///
/// Owner and mode of `fs` itself are the caller's, whatever the archive says. Times that it does not
/// say become the Unix epoch: those of `fs`, implied directories and whiteout devices.
///
/// # Errors
/// See [`UnpackError`]. On any of them `fs` holds an unknown part of the layer and must be discarded. That
/// entries cannot be unpacked is only said of a layer that has its diffID.
pub fn unpack(
    layer: &Layer<'_>,
    fs: BorrowedFd<'_>,
    placement: Placement,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Unpacked, UnpackError> {
    unpack_within(layer, fs, placement, &Allowance::of_run(limits, layer.size), watch)
}

/// [Unpacks](unpack()) a layer as one of several.
pub(crate) fn unpack_within(
    layer: &Layer<'_>,
    fs: BorrowedFd<'_>,
    placement: Placement,
    allowance: &Allowance,
    watch: &dyn Watch,
) -> Result<Unpacked, UnpackError> {
    let encoding = encoding(layer)?;
    let (unpacked, ignored) = pipeline::run(layer, encoding, allowance, watch, |stream| {
        unpack_stream(layer, stream, fs, placement, allowance)
    })?;
    Ok(Unpacked { stream: Stream { ignored, ..unpacked.stream }, ..unpacked })
}

/// Verifies the blob's size and digest and the layer's diffID as [`unpack`] does, without looking
/// into the archive or writing anything.
///
/// # Errors
/// The blob cannot be read or decompressed, is larger than the limits allow, or is not what the
/// descriptor says.
pub fn check(layer: &Layer<'_>, limits: &Limits, watch: &dyn Watch) -> Result<Stream, UnpackError> {
    check_within(layer, &Allowance::of_run(limits, layer.size), watch)
}

/// [Checks](check()) a layer as one of several.
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

/// Whether the blobs of layers of this media type are not compressed, so that their size is known.
pub(crate) fn is_plain(media_type: &str) -> bool {
    Encoding::of(media_type) == Some(Encoding::Plain)
}

/// Takes what follows the archive and verifies the diffID; the bytes of the whole stream.
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
    fs: BorrowedFd<'_>,
    placement: Placement,
    allowance: &Allowance,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Reader::new(stream);
    match apply_all(layer, &mut archive, fs, placement, allowance) {
        Ok((unpacked, holes)) => {
            let bytes = finish(layer, archive.into_inner())?;
            check_size(layer, &allowance.limits, holes.saturating_add(bytes))?;
            Ok(Unpacked { stream: Stream { bytes, ignored: 0 }, ..unpacked })
        }
        Err(error) => {
            // Whether it is the right layer that cannot be unpacked.
            if error.can_stay_packed() {
                finish(layer, archive.into_inner())?;
            }
            Err(error)
        }
    }
}

/// Applies all entries; the bytes of holes in them, too.
fn apply_all(
    layer: &Layer<'_>,
    archive: &mut Reader<TarStream>,
    fs: BorrowedFd<'_>,
    placement: Placement,
    allowance: &Allowance,
) -> Result<(Unpacked, u64), UnpackError> {
    let (digest, limits) = (layer.digest, &allowance.limits);
    let refused = |name: &[u8], reason| {
        let entry = EntryName::new(name);
        UnpackError::Entry { layer: digest, entry, reason }
    };
    let mut applier =
        Applier::new(fs, placement, digest, allowance).map_err(|r| refused(b"/", r))?;
    let mut entries = 0;
    let mut holes: u64 = 0;
    let mut last = Vec::new();
    while let Some(entry) = archive.next().map_err(|source| {
        let after = EntryName::new(&last);
        UnpackError::Archive { layer: digest, after, source }
    })? {
        if entries == limits.layer_entries {
            return Err(UnpackError::TooManyEntries { layer: digest, limit: limits.layer_entries });
        }
        allowance.take_entry(digest)?;
        holes = holes.saturating_add(entry.hole_bytes());
        check_size(layer, limits, holes.saturating_add(archive.stream().bytes()))?;
        allowance.take_hole(digest, entry.hole_bytes())?;
        applier.apply(archive, &entry).map_err(|reason| refused(&entry.name, reason))?;
        entries += 1;
        last = entry.name;
    }
    let (implied, labels) = applier.finish().map_err(|(name, reason)| refused(&name, reason))?;
    let stream = Stream { bytes: 0, ignored: 0 };
    Ok((Unpacked { entries, stream, implied, labels }, holes))
}

fn check_size(layer: &Layer<'_>, limits: &Limits, bytes: u64) -> Result<(), UnpackError> {
    let (layer, limit, name) = (layer.digest, limits.layer_size, "layer-size");
    if bytes > limit { Err(UnpackError::TooLarge { layer, limit, name }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;

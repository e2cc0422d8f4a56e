//! Unpacks the archive of a whole tree, such as the files of a cache mount.
//!
//! It is not a layer: names such as `.wh.x` are ordinary, the entry `./` is the tree's own directory, and what
//! it cannot have made itself is refused: devices, absolute names, names with `..`, and paths through symbolic
//! links. Of extended attributes, those that belong to a mount of overlayfs are left out.

use std::io;
use std::os::fd::BorrowedFd;

use bkstate::Digest;
use bkstate::worker::Worker;

use super::allowance::Allowance;
use super::apply::{Applier, Rules};
use super::decompress::Encoding;
use super::error::UnpackError;
pub(crate) use super::pipeline::ChunkWriter;
use super::pipeline::{self, TarStream};
use super::tar::Reader;
use super::{Layer, Watch, apply_all, check_size};

/// An unpacked tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The digest of the tar stream.
    pub(crate) diff_id: Digest,
    /// Its size in bytes, uncompressed.
    pub(crate) bytes: u64,
    /// Number of entries.
    pub(crate) entries: u64,
}

/// Prefixes of extended attributes in the `user` namespace that belong to a mount of overlayfs or
/// fuse-overlayfs.
const OF_OVERLAYS: [&[u8]; 2] = [b"user.overlay.", b"user.fuseoverlayfs."];

/// Returns whether a tree keeps the extended attribute `name`.
pub(crate) fn keeps_attribute(name: &[u8]) -> bool {
    let is_of_user = name.starts_with(b"user.") && !OF_OVERLAYS.iter().any(|p| name.starts_with(p));
    is_of_user || name == b"security.capability"
}

/// The type of a socket in the archive of a snapshot. No other archive has sockets.
pub(crate) const SOCKET: u8 = b's';

/// Returns whether the extended attribute `name` belongs to a snapshot: not to the rules of its machine, such as
/// `security.selinux`.
pub(crate) fn keeps_attribute_of_snapshot(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|p| name.starts_with(p))
        || name == b"security.capability"
}

/// Same as [`copy_tree`], with the archive of a snapshot: it has devices, sockets and the marks of overlays.
///
/// # Errors
/// Returns an error if the thread of `produce` cannot be started.
#[cfg(feature = "zstd")]
pub(crate) fn copy_snapshot<P: Send>(
    produce: impl FnOnce(ChunkWriter) -> P + Send,
    fs: BorrowedFd<'_>,
    worker: &Worker,
    allowance: &Allowance,
) -> io::Result<(P, Result<Tree, UnpackError>)> {
    let none = Digest::of([]);
    let run = |stream| unpack_stream(none, stream, Rules::Snapshot, fs, worker, allowance);
    pipeline::copy(produce, run)
}

/// Unpacks the archive `layer`, which can be compressed, into the empty directory `fs`. Its blob is verified,
/// its [`Layer::diff_id`] is not.
///
/// # Errors
/// See [`UnpackError`]. After any of them `fs` has an unknown part of the tree and must be discarded.
pub(crate) fn unpack_tree(
    layer: &Layer<'_>,
    fs: BorrowedFd<'_>,
    worker: &Worker,
    allowance: &Allowance,
    watch: &dyn Watch,
) -> Result<Tree, UnpackError> {
    let run = |stream| unpack_stream(layer.digest, stream, Rules::Tree, fs, worker, allowance);
    Ok(pipeline::run(layer, Encoding::Detect, allowance, watch, run)?.0)
}

/// Unpacks the archive that `produce` writes into the empty directory `fs`. Returns its result, too.
///
/// # Errors
/// Returns an error if the thread of `produce` cannot be started.
pub(crate) fn copy_tree<P: Send>(
    produce: impl FnOnce(ChunkWriter) -> P + Send,
    fs: BorrowedFd<'_>,
    worker: &Worker,
    allowance: &Allowance,
) -> io::Result<(P, Result<Tree, UnpackError>)> {
    // There is no blob that errors could name.
    let none = Digest::of([]);
    let run = |stream| unpack_stream(none, stream, Rules::Tree, fs, worker, allowance);
    pipeline::copy(produce, run)
}

fn unpack_stream(
    layer: Digest,
    stream: TarStream,
    rules: Rules,
    fs: BorrowedFd<'_>,
    worker: &Worker,
    allowance: &Allowance,
) -> Result<Tree, UnpackError> {
    let mut archive = Reader::new(stream);
    let applier = Applier::new(fs, rules, worker, layer, allowance);
    let (unpacked, holes) = apply_all(layer, &mut archive, applier, allowance)?;
    let (diff_id, bytes) = archive.into_inner().finish();
    check_size(layer, &allowance.limits, holes.saturating_add(bytes))?;
    Ok(Tree { diff_id, bytes, entries: unpacked.entries })
}

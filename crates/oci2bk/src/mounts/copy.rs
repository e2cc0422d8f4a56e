//! Copies the files of a mount from one directory to another, as an archive that is never stored.

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;

use bkstate::worker::Worker;

use super::MountsError;
use crate::pack::PackError;
use crate::unpack::Allowance;
use crate::unpack::tree::{ChunkWriter, Tree, copy_tree};

/// Unpacks what `pack` writes into the empty directory `fs`.
pub(super) fn copy<T: Send>(
    id: &str,
    pack: impl FnOnce(&mut ChunkWriter) -> Result<T, MountsError> + Send,
    fs: BorrowedFd<'_>,
    worker: &Worker,
    allowance: &Allowance,
) -> Result<(T, Tree), MountsError> {
    let written = |source| {
        let source = PackError::Write(source);
        MountsError::Pack { id: id.to_owned(), source }
    };
    let produce = |mut out: ChunkWriter| {
        let packed = pack(&mut out)?;
        out.flush().map_err(written)?;
        Ok(packed)
    };
    let copied = copy_tree(produce, fs, worker, allowance);
    let (packed, unpacked) =
        copied.map_err(|source| MountsError::Copy { id: id.to_owned(), source })?;
    match (packed, unpacked) {
        (Ok(packed), Ok(tree)) => Ok((packed, tree)),
        // The end of the archive is missing because of it.
        (Err(error), _) if !is_unread(&error) => Err(error),
        (Err(error), Ok(_)) => Err(error),
        (_, Err(source)) => {
            Err(MountsError::Unpack { id: id.to_owned(), source: Box::new(source) })
        }
    }
}

/// Returns whether the archive could not be written because its reader had failed.
fn is_unread(error: &MountsError) -> bool {
    let MountsError::Pack { source: PackError::Write(error), .. } = error else { return false };
    error.kind() == io::ErrorKind::BrokenPipe
}

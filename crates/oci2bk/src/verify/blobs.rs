//! Hashes every blob of a state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;

use bkstate::Digest;
use bkstate::content::BlobStore;
use bkstate::digest::Hasher;
use bkstate::dir::{DirError, FileKind};
use bkstate::state::{ContentDamage, Parts, State};

use super::{Verifier, VerifyError};
use crate::parallel::in_parallel;
use crate::progress::{self, Event, LayerWork, Progress};

/// Size of reads from a blob.
const READ_BYTES: usize = 256 * 1024;

/// The results of hashing.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    pub(super) blobs: usize,
    pub(super) bytes: u64,
    pub(super) damage: Vec<ContentDamage>,
    /// The blobs that match their digest.
    pub(super) sound: BTreeSet<Digest>,
}

/// Hashes the blobs that have a row and a file of its size, in any namespace. The others have been reported.
pub(super) fn hash(
    state: &State,
    parts: &Parts,
    verifier: &Verifier<'_>,
) -> Result<Hashed, VerifyError> {
    let mut blobs = BTreeMap::new();
    for (blob, row) in rows(state) {
        if let Some(found) = find(blob, row, parts)? {
            blobs.insert(blob, found);
        }
    }
    let open = |blob: &Digest| match blobs.get(blob) {
        Some((store, _)) => store.blob(blob),
        None => Err(read_error(blob, io::ErrorKind::NotFound.into())),
    };
    let sizes: Vec<_> = blobs.iter().map(|(blob, (_, size))| (*blob, *size)).collect();
    let damage = hash_all(&sizes, open, verifier.jobs, &*verifier.progress, &|| verifier.check())?;
    Ok(Hashed {
        blobs: sizes.len(),
        bytes: sizes.iter().map(|(_, size)| size).sum(),
        sound: blobs.keys().filter(|blob| !damage.contains_key(blob)).copied().collect(),
        damage: damage.into_values().collect(),
    })
}

/// Hashes blobs of these sizes in bytes. Returns those that do not match their digest. `check` is called for
/// every piece and can stop.
pub(crate) fn hash_all<E: Send>(
    blobs: &[(Digest, u64)],
    open: impl Fn(&Digest) -> Result<File, DirError> + Sync,
    jobs: NonZeroUsize,
    progress: &dyn Progress,
    check: &(dyn Fn() -> Result<(), E> + Sync),
) -> Result<BTreeMap<Digest, ContentDamage>, E> {
    let work = |&(digest, size): &(Digest, u64)| LayerWork {
        digest,
        size,
        to_read: size,
        description: None,
    };
    let mut tasks: Vec<_> = blobs.iter().map(work).collect();
    // The largest first, so that no thread is left with a large one at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
    progress::counted(progress, tasks.iter());
    let found = in_parallel(&tasks, jobs, |task| {
        let blob = task.digest;
        progress.event(Event::LayerStarted(task));
        let advance = |done| {
            progress.event(Event::LayerAdvanced { work: task, done });
            check()
        };
        let found = match open(&blob) {
            Ok(file) => hash_file(&file, advance)?.map_err(|source| read_error(&blob, source)),
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(found) if found == blob => None,
            Ok(found) => Some(ContentDamage::Digest { blob, found }),
            Err(source) => Some(ContentDamage::Unreadable { blob, source }),
        };
        progress.event(Event::LayerFinished(task));
        Ok(found.map(|found| (blob, found)))
    })?;
    // In the order of the blobs, not of the tasks.
    Ok(found.into_iter().flatten().collect())
}

/// Returns the blobs with rows and their sizes, over all namespaces.
fn rows(state: &State) -> BTreeMap<Digest, i64> {
    let namespaces = state.metadata.namespaces.values();
    let rows = namespaces.flat_map(|namespace| &namespace.content);
    rows.map(|(blob, content)| (*blob, content.size)).collect()
}

/// Returns the store with the file of a blob, and its size if it matches the row.
fn find(blob: Digest, row: i64, parts: &Parts) -> Result<Option<(&BlobStore, u64)>, DirError> {
    for store in &parts.blobs {
        let whole = store
            .find(&blob)?
            .filter(|found| found.kind == FileKind::File && found.size.cast_signed() == row);
        if let Some(found) = whole {
            return Ok(Some((store, found.size)));
        }
    }
    Ok(None)
}

/// Returns the digest of a file, or why it cannot be read. `advance` is called with the number of bytes read,
/// and can stop the work.
pub(crate) fn hash_file<E>(
    file: &File,
    advance: impl Fn(u64) -> Result<(), E>,
) -> Result<io::Result<Digest>, E> {
    let size = match file.metadata() {
        Ok(metadata) => usize::try_from(metadata.len()).unwrap_or(READ_BYTES),
        Err(error) => return Ok(Err(error)),
    };
    let mut hasher = Hasher::new();
    // Not larger than the file: a state can have very many small blobs.
    let mut buffer = vec![0; size.clamp(1, READ_BYTES)];
    let mut done = 0;
    loop {
        match file.read_at(&mut buffer, done) {
            Ok(0) => return Ok(Ok(hasher.finish())),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                done += length as u64;
                advance(done)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn read_error(blob: &Digest, source: io::Error) -> DirError {
    DirError { action: "read the blob", path: blob.hex().into(), source }
}

//! Hashing every blob of a state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Mutex;

use bkstate::Digest;
use bkstate::content::BlobStore;
use bkstate::digest::Hasher;
use bkstate::dir::{DirError, FileKind};
use bkstate::state::{ContentDamage, Parts, State};

use super::{Verifier, VerifyError};
use crate::convert::parallel::in_parallel;
use crate::progress::{Event, LayerWork};

/// How much of a blob is read at a time.
const READ_BYTES: usize = 256 * 1024;

/// What was hashed.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    pub(super) blobs: usize,
    pub(super) bytes: u64,
    pub(super) damage: Vec<ContentDamage>,
}

/// Hashes the blobs that have a row and a file of its size, whatever the namespace. The others have
/// been reported.
pub(super) fn hash(
    state: &State,
    parts: &Parts,
    verifier: &Verifier<'_>,
) -> Result<Hashed, VerifyError> {
    let progress = verifier.progress;
    let mut tasks: Vec<_> =
        rows(state).into_iter().filter_map(|row| Task::find(row, parts)).collect();
    let mut hashed = Hashed { blobs: tasks.len(), ..Hashed::default() };
    hashed.bytes = tasks.iter().map(|task| task.work.size).sum();
    // The largest first, so that no large one is left over for one thread at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work.size));
    let damage = Mutex::new(Vec::new());
    in_parallel(&tasks, verifier.jobs, |task| {
        progress.event(Event::LayerStarted(&task.work));
        let found = task.run(verifier)?;
        progress.event(Event::LayerFinished(&task.work));
        if let Some(found) = found
            && let Ok(mut damage) = damage.lock()
        {
            damage.push((task.work.digest, found));
        }
        Ok::<_, VerifyError>(())
    })?;
    let mut damage = damage.into_inner().unwrap_or_default();
    // In the order of the blobs, whatever that of the threads.
    damage.sort_by_key(|(blob, _)| *blob);
    hashed.damage = damage.into_iter().map(|(_, damage)| damage).collect();
    Ok(hashed)
}

/// The blobs with rows and their sizes, over all namespaces.
fn rows(state: &State) -> BTreeMap<Digest, i64> {
    let namespaces = state.metadata.namespaces.values();
    let rows = namespaces.flat_map(|namespace| &namespace.content);
    rows.map(|(blob, content)| (*blob, content.size)).collect()
}

struct Task<'p> {
    store: &'p BlobStore,
    work: LayerWork,
}

impl<'p> Task<'p> {
    fn find((blob, row): (Digest, i64), parts: &'p Parts) -> Option<Self> {
        parts.blobs.iter().find_map(|store| {
            let found = store.find(&blob).ok().flatten()?;
            let size = found.size;
            let work = LayerWork { digest: blob, size, to_read: size, description: None };
            let whole = found.kind == FileKind::File && size.cast_signed() == row;
            whole.then_some(Self { store, work })
        })
    }

    fn run(&self, verifier: &Verifier<'_>) -> Result<Option<ContentDamage>, VerifyError> {
        let blob = self.work.digest;
        let read = match self.store.blob(&blob) {
            Ok(file) => self.hash(file, verifier)?,
            Err(source) => Err(source),
        };
        Ok(match read {
            Ok(found) if found == blob => None,
            Ok(found) => Some(ContentDamage::Digest { blob, found }),
            Err(source) => Some(ContentDamage::Unreadable { blob, source }),
        })
    }

    /// The digest of the file, or why it cannot be read.
    fn hash(
        &self,
        mut file: File,
        verifier: &Verifier<'_>,
    ) -> Result<Result<Digest, DirError>, VerifyError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut done = 0;
        loop {
            verifier.check()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Ok(hasher.finish())),
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                    done += length as u64;
                    verifier.progress.event(Event::LayerAdvanced(&self.work, done));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.work.digest.hex().into();
                    return Ok(Err(DirError { action: "read the blob", path, source }));
                }
            }
        }
    }
}

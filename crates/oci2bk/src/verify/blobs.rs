//! Hashing every blob of a state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use bkstate::Digest;
use bkstate::content::BlobStore;
use bkstate::digest::Hasher;
use bkstate::dir::{DirError, FileKind};
use bkstate::state::{ContentDamage, Parts, State};

use crate::convert::parallel::in_parallel;
use crate::progress::{Event, LayerWork, Progress};

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
    jobs: NonZeroUsize,
    progress: &dyn Progress,
) -> Hashed {
    let mut tasks: Vec<_> =
        rows(state).into_iter().filter_map(|row| Task::find(row, parts)).collect();
    let mut hashed = Hashed { blobs: tasks.len(), ..Hashed::default() };
    hashed.bytes = tasks.iter().map(|task| task.work.size).sum();
    // The largest first, so that no large one is left over for one thread at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work.size));
    let damage = Mutex::new(Vec::new());
    let outcome = in_parallel(&tasks, jobs, |task| {
        progress.event(Event::LayerStarted(&task.work));
        let found = task.run(progress);
        progress.event(Event::LayerFinished(&task.work));
        if let Some(found) = found
            && let Ok(mut damage) = damage.lock()
        {
            damage.push((task.work.digest, found));
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = outcome;
    let mut damage = damage.into_inner().unwrap_or_default();
    // In the order of the blobs, whatever that of the threads.
    damage.sort_by_key(|(blob, _)| *blob);
    hashed.damage = damage.into_iter().map(|(_, damage)| damage).collect();
    hashed
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

    fn run(&self, progress: &dyn Progress) -> Option<ContentDamage> {
        let blob = self.work.digest;
        let advance = |done| progress.event(Event::LayerAdvanced(&self.work, done));
        match self.store.blob(&blob).and_then(|file| self.hash(file, advance)) {
            Ok(found) if found == blob => None,
            Ok(found) => Some(ContentDamage::Digest { blob, found }),
            Err(source) => Some(ContentDamage::Unreadable { blob, source }),
        }
    }

    fn hash(&self, mut file: File, advance: impl Fn(u64)) -> Result<Digest, DirError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut done = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                    done += length as u64;
                    advance(done);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.work.digest.hex().into();
                    return Err(DirError { action: "read the blob", path, source });
                }
            }
        }
    }
}

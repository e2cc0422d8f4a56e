//! Replaces the content of an existing database in place, as one transaction of bbolt.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::bucket::Bucket;
use super::check::{Problem, check};
use super::entries::Entry;
use super::format::{META_PAGE, Meta, NO_FREELIST, PAGE_HEADER, PageHeader};
use super::reader::{Db, ReadError};
use super::writer::{BucketWriter, Output, WriteError};

/// The first page that is not a meta page.
const FIRST_DATA_PAGE: u64 = 2;

/// Why the content of a database cannot be replaced. Its old content is unchanged then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A database cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database to change is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(#[source] Box<Problem>),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Replaces the content of the database in `file` by that of `source`, and waits until it is on disk.
///
/// The new content is written to pages that the old one does not use, or appended, and then one meta page is
/// written. So the file keeps its inode, and a process that waits for its lock sees the new content. If writing
/// stops before the meta page is complete, the old content is in force. The pages of the old content are free
/// for the next transaction, of bbolt or of this function. bbolt finds them itself, because the database has no
/// list of free pages then (bbolt 1.5.0 `db.go` `loadFreelist`).
///
/// The caller holds bbolt's lock on the file.
///
/// ```
/// use bkstate::bolt::{self, CommitError, Db, Node, ReadError, Tree, check, commit};
///
/// let database = |value: &[u8]| -> Result<_, Box<dyn std::error::Error>> {
///     let file = tempfile::tempfile()?;
///     bolt::write(&file, |root| root.bucket(b"bucket", |bucket| bucket.put(b"key", value)))?;
///     Ok(file)
/// };
/// let (file, source) = (database(b"old")?, Db::open(database(b"new")?)?);
/// commit(&file, &source)?;
/// let db = Db::open(file)?;
/// assert_eq!(Tree::read(&db.root())?, Tree::read(&source.root())?);
/// assert_eq!(db.txid(), source.txid() + 1);
/// assert!(check(&db).is_empty());
///
/// let refused = commit(&tempfile::tempfile()?, &source);
/// assert!(matches!(refused, Err(CommitError::Read(ReadError::NoMeta { .. }))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error if one of the two is not a sound database, or the file cannot be written.
pub fn commit(file: &File, source: &Db) -> Result<(), CommitError> {
    let failed = |source| WriteError::Io { offset: 0, source };
    let target = Db::open(file.try_clone().map_err(failed)?)?;
    let mut output = Output::after(file, &target.meta, free_pages(&target)?)?;
    let mut root = BucketWriter::new(&mut output, 0);
    let sequence = source.root().sequence();
    copy(&source.root(), &mut root)?;
    let root = root.finish()?;
    let high_water = output.end()?;
    file.sync_data().map_err(failed)?;

    let txid = target.meta.txid + 1;
    let page = txid % 2;
    let meta = Meta {
        page_size: target.meta.page_size,
        root,
        sequence,
        freelist: NO_FREELIST,
        high_water,
        txid,
    };
    let header = PageHeader { id: page, flags: META_PAGE, count: 0, overflow: 0 };
    let mut bytes = header.encode().to_vec();
    debug_assert_eq!(bytes.len(), PAGE_HEADER);
    bytes.extend_from_slice(&meta.encode());
    let offset = page * u64::from(meta.page_size);
    let failed = |source| WriteError::Io { offset, source };
    file.write_all_at(&bytes, offset).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    Ok(())
}

/// Returns the runs of pages that the current content of `db` does not use: the first page, and their number.
/// The other meta page can still refer to them, but it is the one to be replaced.
fn free_pages(db: &Db) -> Result<Vec<(u64, u64)>, CommitError> {
    // Visits every page in use.
    let is_damage = |problem: &Problem| !matches!(problem, Problem::Meta { .. });
    if let Some(problem) = check(db).into_iter().find(is_damage) {
        return Err(CommitError::Damaged(problem.into()));
    }
    let (mut free, mut next) = (Vec::new(), FIRST_DATA_PAGE);
    for (first, last) in db.owners().runs() {
        free.extend((first > next).then(|| (next, first - next)));
        next = last + 1;
    }
    free.extend((db.page_count() > next).then(|| (next, db.page_count() - next)));
    Ok(free)
}

/// Copies everything in `bucket`. The recursion ends at `MAX_BUCKET_DEPTH`: deeper entries give an error.
fn copy(bucket: &Bucket<'_>, writer: &mut BucketWriter<'_>) -> Result<(), CommitError> {
    writer.set_sequence(bucket.sequence());
    for entry in bucket.entries() {
        match entry? {
            (key, Entry::Value(value)) => writer.put(&key, &value)?,
            (key, Entry::Bucket(inner)) => writer.bucket(&key, |bucket| copy(&inner, bucket))?,
        }
    }
    Ok(())
}

//! The databases of a builder, distinguished by their buckets.
//!
//! A daemon holds an exclusive `flock` on each of its databases while it runs, and readers take a shared one
//! (go.etcd.io/bbolt v1.5.0, `bolt_unix.go`). So do we, but without waiting: a database that is written while
//! it is read could show anything.

use std::fs::File;

use bkstate::bolt::{Bucket, Db, ReadError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The bucket of `cache.db` (`solver/bboltcachestorage/storage.go`).
const LINKS: &[u8] = b"_links";
/// The bucket of `cache-debug.db` (`util/cachedigest/db.go`).
const BY_HASH: &[u8] = b"byhash";
/// The bucket of `history.db` (`solver/llbsolver/history/buildhistory.go`).
const RECORDS: &[u8] = b"_records";

/// Why a database has no op digests.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// A daemon has it open.
    #[error(
        "it is in use by a running daemon; stop the daemon, or copy the file while it is stopped"
    )]
    InUse,
    /// The file is damaged, or was copied while it changed.
    #[error("it is damaged, or was copied while its daemon was running")]
    Read(#[from] ReadError),
    /// It is a database, but not of a builder.
    #[error(
        "it has neither _links nor byhash nor _records, so it has no keys; give the root of the builder, \
         or its cache.db"
    )]
    Unknown,
}

/// The kind of database of a builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseKind {
    /// `cache.db`.
    Cache,
    /// `cache-debug.db`.
    CacheDebug,
    /// `history.db`.
    History,
}

/// Opens the database in `file`, which stays locked until it is closed.
pub(super) fn open(file: File) -> Result<Db, DatabaseError> {
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Err(DatabaseError::InUse),
        // Where files cannot be locked, no daemon can run: bbolt refuses to work there.
        Ok(()) | Err(_) => Ok(Db::open(file)?),
    }
}

/// Returns the kind of `db`, and the bucket to read.
pub(super) fn recognise(db: &Db) -> Result<(DatabaseKind, Bucket<'_>), DatabaseError> {
    let kinds = [
        (DatabaseKind::Cache, LINKS),
        (DatabaseKind::CacheDebug, BY_HASH),
        (DatabaseKind::History, RECORDS),
    ];
    for (kind, name) in kinds {
        if let Some(bucket) = db.root().bucket(name)? {
            return Ok((kind, bucket));
        }
    }
    Err(DatabaseError::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_a_daemon_has_open_is_refused_at_once_and_read_once_it_is_free() {
        let real = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/provenance/cache.db");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.db");
        std::fs::copy(real, &path).unwrap();
        let daemon = File::open(&path).unwrap();
        flock(&daemon, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = open(File::open(&path).unwrap()).unwrap_err();
        assert!(matches!(refused, DatabaseError::InUse), "{refused}");
        assert_eq!(
            refused.to_string(),
            "it is in use by a running daemon; stop the daemon, or copy the file while \
             it is stopped"
        );
        drop(daemon);
        // Two readers do not conflict.
        let first = open(File::open(&path).unwrap()).unwrap();
        let second = open(File::open(&path).unwrap()).unwrap();
        for db in [first, second] {
            assert_eq!(recognise(&db).unwrap().0, DatabaseKind::Cache);
        }
    }
}

//! The BoltDB file format, as Go's `bbolt` 1.3 to 1.5 reads and writes it (format version 2).
//!
//! Every database of a BuildKit state is one such file. A file is a tree of *buckets*: sorted maps from keys
//! to values or nested buckets, each with a *sequence* number. The module has
//!
//! - [`Db`], a reader that reads pages with `pread` and trusts nothing in them,
//! - [`write()`], which writes a whole database in key order and in little memory; the same content always
//!   gives the same bytes,
//! - [`check()`], which finds every kind of damage that `bbolt check` finds,
//! - [`Tree`], a bucket as a value in memory, for small databases and for tests.
//!
//! To change a database, read it, write a new file, sync it and rename it over the old one. Where other
//! programs use the file, [`commit()`] replaces its content in place instead. The module does not take bbolt's
//! `flock` on the file: the owner of the state directory does.
//!
//! # Writing and reading
//! Buckets are filled in key order, and read in any order:
//!
//! ```
//! use bkstate::bolt::{
//!     self, Bucket, BucketWriter, Db, Entries, Entry, Node, ReadError, Tree, WRITTEN_TXID, check,
//! };
//!
//! let file = tempfile::tempfile()?;
//! bolt::write(&file, |root: &mut BucketWriter<'_>| {
//!     root.bucket(b"snapshots", |snapshots| {
//!         snapshots.set_sequence(2);
//!         snapshots.bucket(b"base", |base| base.put(b"id", b"\x01"))?;
//!         snapshots.bucket(b"top", |top| top.put(b"id", b"\x02"))
//!     })
//! })?;
//!
//! let db = Db::open(file)?;
//! assert!(check(&db).is_empty());
//! // Two meta pages, the freelist, and the two buckets that contain buckets; the others fit into
//! // their elements.
//! assert_eq!((db.page_size(), db.page_count(), db.txid()), (4096, 5, WRITTEN_TXID));
//!
//! let snapshots = db.root().bucket(b"snapshots")?.ok_or("no snapshots")?;
//! assert_eq!(snapshots.sequence(), 2);
//! let top = snapshots.bucket(b"top")?.ok_or("no top")?;
//! assert_eq!(top.get(b"id")?.as_deref(), Some(b"\x02".as_slice()));
//!
//! fn values(bucket: &Bucket<'_>) -> Result<usize, ReadError> {
//!     let mut entries: Entries<'_> = bucket.entries();
//!     entries.try_fold(0, |sum, entry| match entry?.1 {
//!         Entry::Value(_) => Ok(sum + 1),
//!         Entry::Bucket(bucket) => Ok(sum + values(&bucket)?),
//!     })
//! }
//! assert_eq!(values(&db.root())?, 2);
//!
//! // A small bucket can be changed as a value, and written again.
//! let mut tree = Tree::read(&snapshots)?;
//! let base = tree.entries.remove(b"base".as_slice());
//! let id = Tree { sequence: 0, entries: [(b"id".to_vec(), Node::Value(vec![1]))].into() };
//! assert_eq!(base, Some(Node::Bucket(id)));
//! let changed = tempfile::tempfile()?;
//! bolt::write(&changed, |root| root.bucket(b"snapshots", |bucket| tree.write(bucket)))?;
//! assert_eq!(values(&Db::open(changed)?.root())?, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Content that bbolt could not read is rejected:
//!
//! ```
//! use bkstate::bolt::{self, MAX_BUCKET_DEPTH, MAX_KEY_BYTES, MAX_NODE_BYTES, Node, Tree, WriteError};
//!
//! fn write(key: &[u8], node: Node) -> Result<(), WriteError> {
//!     let tree = Tree { sequence: 0, entries: [(key.to_vec(), node)].into() };
//!     let file = tempfile::tempfile().map_err(|source| WriteError::Io { offset: 0, source })?;
//!     bolt::write(&file, |root| tree.write(root))
//! }
//!
//! let long = write(&[b'k'; MAX_KEY_BYTES + 1], Node::Value(Vec::new()));
//! assert!(matches!(long, Err(WriteError::KeyLength { .. })));
//!
//! let large = write(b"k", Node::Value(vec![0; MAX_NODE_BYTES as usize]));
//! assert!(matches!(large, Err(WriteError::ValueLength { .. })));
//!
//! let nested = (0..MAX_BUCKET_DEPTH).fold(Tree::default(), |inner, _| Tree {
//!     sequence: 0,
//!     entries: [(b"k".to_vec(), Node::Bucket(inner))].into(),
//! });
//! assert!(matches!(write(b"k", Node::Bucket(nested)), Err(WriteError::BucketsTooDeep { .. })));
//! ```
//!
//! # Damaged and hostile files
//! Reading fails with a [`ReadError`]; it does not panic, loop or allocate more than [`MAX_NODE_BYTES`] for
//! one page. Three rules ensure that. A length is checked against its page before it is used. Every page has
//! one *owner*, the element that refers to it, and a second reference from elsewhere is an error, so a walk
//! cannot return to a page. The height of a tree ([`MAX_TREE_HEIGHT`]) and the nesting of buckets
//! ([`MAX_BUCKET_DEPTH`]) are bounded, so recursion over buckets is safe.
//!
//! An error names the damaged page and what refers to it:
//!
//! ```
//! use std::os::unix::fs::FileExt as _;
//!
//! use bkstate::bolt::{self, Db, MetaFault, Owner, Place, Problem, ReadError, Tree, check};
//!
//! let file = tempfile::tempfile()?;
//! bolt::write(&file, |root| {
//!     root.put(b"a", b"")?;
//!     root.put(b"b", b"")
//! })?;
//! let open = || Db::open(file.try_clone().map_err(|source| ReadError::Io { offset: 0, source })?);
//! let page = 3 * u64::from(open()?.page_size());
//!
//! // The first key follows the headers of the page and of its two elements.
//! file.write_all_at(b"c", page + 16 + 2 * 16)?;
//! let error = Tree::read(&open()?.root()).unwrap_err();
//! assert!(matches!(error, ReadError::KeyOrder { place: Place::Page(3), index: 1 }));
//! assert!(matches!(check(&open()?)[..], [Problem::Read(ReadError::KeyOrder { .. })]));
//!
//! // The last part of the header is the number of overflow pages.
//! file.write_all_at(&u32::MAX.to_le_bytes(), page + 12)?;
//! let error = open()?.root().get(b"a").unwrap_err();
//! assert!(matches!(error, ReadError::PageOutside { owner: Owner::Root, pages: 4, .. }));
//!
//! // The other meta page replaces the first one. Without both there is no database.
//! file.write_all_at(&[0; 64], 16)?;
//! let first = Problem::Meta { page: 0, fault: MetaFault::Magic { found: 0 } };
//! assert_eq!(check(&open()?)[0].to_string(), first.to_string());
//! file.set_len(0)?;
//! assert!(matches!(open(), Err(ReadError::NoMeta { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bucket;
mod check;
mod commit;
mod entries;
mod format;
mod node;
mod owners;
mod pack;
mod reader;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

pub use bucket::Bucket;
pub use check::{Problem, check};
pub use commit::{CommitError, commit};
pub use entries::{Entries, Entry};
pub use format::MetaFault;
pub use node::Place;
pub use owners::Owner;
pub use reader::{Db, ReadError};
pub use tree::{Node, Tree};
pub use writer::{BucketWriter, WriteError, write};

/// Maximum nesting of buckets. BuildKit's deepest are the labels that containerd stores, 6 deep.
pub const MAX_BUCKET_DEPTH: usize = 64;

/// Maximum number of pages on a lookup path within one bucket. A branch page has at least two children, so 32
/// levels hold more pages than any file:
///
/// ```
/// use bkstate::bolt::MAX_TREE_HEIGHT;
///
/// // the largest ext4 file has 16 TiB.
/// assert!(4096_u64 << MAX_TREE_HEIGHT >= 16 << 40);
/// ```
pub const MAX_TREE_HEIGHT: usize = 32;

/// Maximum size of a page in bytes, including its overflow pages. The largest values that BuildKit stores are
/// below 1 MB.
pub const MAX_NODE_BYTES: u64 = 64 << 20;

/// The transaction number of files that [`write()`] writes, which is also bbolt's for a new file. In a file
/// with a higher one, bbolt has changed something since.
pub const WRITTEN_TXID: u64 = 1;

/// Maximum length of a key, in bytes (bbolt `MaxKeySize`, bucket.go).
pub const MAX_KEY_BYTES: usize = 32_768;

//! The BoltDB file format, as Go's `bbolt` 1.3 to 1.5 reads and writes it (format version 2).
//!
//! Every database of a BuildKit state is one such file. A file is a tree of *buckets*: sorted maps
//! whose keys lead to values or to further buckets, each with a *sequence* number. The module has
//!
//! - [`Db`], a reader that looks pages up with `pread` and trusts nothing it finds,
//! - [`write()`], which writes a whole database in key order, in little memory, always to the same
//!   bytes for the same content,
//! - [`check()`], which finds every kind of damage that `bbolt check` finds,
//! - [`Tree`], a bucket as a value in memory, for small databases and for tests.
//!
//! Nothing here changes a file in place. To change a database, read it, write a new file, sync it
//! and rename it over the old one. Nothing here takes bbolt's `flock` on the file either: whoever
//! owns the state directory does that.
//!
//! # Damaged and hostile files
//! Reading ends with a [`ReadError`]; it does not panic, loop or allocate more than
//! [`MAX_NODE_BYTES`] for one page. Three rules make that so: a length is checked against the page
//! it lies in before it is used; every page has one *owner*, the element that refers to it, and a
//! second reference from elsewhere is an error, so no walk can come back to a page; and both the
//! height of a tree ([`MAX_TREE_HEIGHT`]) and the nesting of buckets ([`MAX_BUCKET_DEPTH`]) are
//! bounded, so recursion over buckets is safe.

mod bucket;
mod check;
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
pub use entries::{Entries, Entry};
pub use format::MetaFault;
pub use node::Place;
pub use owners::Owner;
pub use reader::{Db, ReadError};
pub use tree::{Node, Tree};
pub use writer::{BucketWriter, WriteError, write};

/// How many buckets may lie inside one another. BuildKit's deepest are the labels that
/// containerd stores, 6 deep.
pub const MAX_BUCKET_DEPTH: usize = 64;

/// How many pages a lookup within one bucket may pass. A branch page has at least two children,
/// so 32 levels hold more pages than any file.
pub const MAX_TREE_HEIGHT: usize = 32;

/// The size of the largest page, its overflow pages included. The largest values that BuildKit
/// stores are below 1 MB.
pub const MAX_NODE_BYTES: u64 = 64 << 20;

/// The transaction that [`write()`] writes a file in, and bbolt a new one. A file with a higher one
/// has been changed by bbolt since.
pub const WRITTEN_TXID: u64 = 1;

/// The longest key, in bytes (bbolt `MaxKeySize`, bucket.go).
pub const MAX_KEY_BYTES: usize = 32_768;

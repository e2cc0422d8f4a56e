//! The places and results of exports.

use std::fs::File;
use std::path::Path;

use bkstate::Digest;
use bkstate::ids::RecordId;

use super::Owner;
use super::list::RootMount;
use crate::export::CacheExport;

/// Where mounts are exported to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ExportTo<'a> {
    /// An artifact in the layout in a directory, which is created if it does not exist.
    Layout {
        /// The directory.
        path: &'a Path,
        /// The tag of the artifact; `mounts` if there is none.
        tag: Option<&'a str>,
        /// The cache to which it is attached.
        subject: Option<&'a CacheExport>,
    },
    /// A layout with the artifact, as a tar archive in an empty file.
    Archive {
        /// The file.
        file: &'a File,
        /// The tag of the artifact; `mounts` if there is none.
        tag: Option<&'a str>,
    },
    /// The files of one mount, as a tar archive in an empty file.
    Tar(&'a File),
    /// The files of one mount, in a new directory.
    Directory(&'a Path),
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The mounts, sorted by id and owner.
    pub mounts: Vec<ExportedMount>,
    /// The mounts that were left out because they are on the files of another record (`from=`).
    pub left_out: Vec<RootMount>,
    /// The manifest of the artifact, if one was written.
    pub manifest: Option<Digest>,
    /// Whether anything was changed: not if a layout has the same artifact already.
    pub changed: bool,
}

/// A mount that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedMount {
    /// Its id.
    pub id: String,
    /// Its owner, if it is one with `uid=`, `gid=` or `mode=`.
    pub owner: Option<Owner>,
    /// Its record.
    pub record: RecordId,
    /// Number of entries in the archive.
    pub entries: u64,
    /// The size of the uncompressed archive in bytes.
    pub bytes: u64,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The blob in a layout, and its size in bytes.
    pub blob: Option<(Digest, u64)>,
    /// Number of sockets and devices that were left out.
    pub left_out: u64,
    /// Files that hold credentials according to their names; the first ones.
    pub credentials: Vec<String>,
    /// The number of all such files.
    pub credential_count: u64,
}

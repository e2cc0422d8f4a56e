//! Errors of the work on cache mounts.

use std::io;
use std::path::PathBuf;

use bkstate::dir::DirError;
use bkstate::ids::RecordId;
use bkstate::input::InputError;
use bkstate::root::OpenRootError;
use bkstate::state::{Damage, ExistingError, ReadStateError, StagingError, VerifyError};
use bkstate::usage::UsageError;
use bkstate::worker::NoSuchOwner;

use super::document::ReadMountsError;
use super::id::OddId;
use crate::layout::{BlobError, LayoutError, NewDirectoryError, PutArtifactError, WriteError};
use crate::manifest::ManifestError;
use crate::pack::PackError;
use crate::unpack::{RightsError, UnpackError};

/// Why cache mounts cannot be listed, exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountsError {
    /// The root cannot be opened, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// The state in the root cannot be read.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The state in the root cannot be read.
    #[error(transparent)]
    State(#[from] ReadStateError),
    /// Nothing can be added to the root.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// A file or directory of the root cannot be used.
    #[error("cannot use the root")]
    Dir(#[from] DirError),
    /// The owner of a mount does not exist for the rootless daemon.
    #[error(transparent)]
    NoSuchOwner(#[from] NoSuchOwner),
    /// The owner of a directory does not exist for the rootless daemon.
    #[error("cannot tell which owner {} has", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: NoSuchOwner,
    },
    /// There is no cache mount with this id.
    #[error("{place} has no cache mount {id:?}")]
    NotThere {
        /// The root, or the source.
        place: String,
        /// What was asked for.
        id: String,
    },
    /// There are no cache mounts.
    #[error("{place} has no cache mounts that can be moved")]
    Nothing {
        /// The root, or the source.
        place: String,
    },
    /// The files of a mount are missing from the root.
    #[error("the files of the cache mount {id:?} (record {record}) are not there")]
    NoFiles {
        /// The id of the mount.
        id: String,
        /// Its record.
        record: RecordId,
    },
    /// The id could be taken for another one.
    #[error("the id {id:?} of a cache mount is refused")]
    Id {
        /// The id, shortened to 100 characters.
        id: String,
        /// The cause.
        #[source]
        source: OddId,
    },
    /// A mount with this base cannot be moved.
    #[error(
        "the cache mount {id:?} is on the files of the record {record} (from=), which do not travel with it"
    )]
    OnResult {
        /// The id of the mount.
        id: String,
        /// The record below it.
        record: RecordId,
    },
    /// Two selected mounts have one id.
    #[error("two cache mounts with the id {id:?} are named; name one by its record")]
    Twice {
        /// The id.
        id: String,
    },
    /// A form that has one mount was asked for several, or for none.
    #[error("{form} has the files of one cache mount, and {count} are named; name one")]
    One {
        /// The form of the place, such as `tar:`.
        form: &'static str,
        /// The number of mounts.
        count: usize,
    },
    /// An owner was given for mounts that have their own.
    #[error("the cache mounts of an artifact have their own owners; leave the owner out")]
    OwnerGiven,
    /// The mounts are in the root already.
    #[error("{} has the cache mounts already: {}", root.display(), quoted(ids))]
    Exists {
        /// The root.
        root: PathBuf,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A daemon was stopped while it made the directory below a mount.
    #[error(
        "the directory below the cache mount {id:?} is not complete in the root; start the daemon on it once"
    )]
    Unfinished {
        /// The id of the mount.
        id: String,
    },
    /// Files cannot be unpacked there, whatever they are.
    #[error("cannot unpack cache mounts into {}", root.display())]
    Rights {
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: RightsError,
    },
    /// The files of a mount cannot be packed.
    #[error("cannot export the cache mount {id:?}")]
    Pack {
        /// The id of the mount.
        id: String,
        /// The cause.
        #[source]
        source: PackError,
    },
    /// The archive of a mount cannot be unpacked.
    #[error("cannot import the cache mount {id:?}; nothing was changed")]
    Unpack {
        /// The id of the mount.
        id: String,
        /// The cause.
        #[source]
        source: Box<UnpackError>,
    },
    /// The files of a directory cannot be copied.
    #[error("cannot copy the files of the cache mount {id:?}")]
    Copy {
        /// The id of the mount.
        id: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// An archive cannot be opened, or is not a file.
    #[error("cannot open {}", path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: InputError,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The layout cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The mounts in a layout cannot be read.
    #[error(transparent)]
    Artifact(#[from] ReadMountsError),
    /// A blob of the layout cannot be read.
    #[error("cannot use a cache mount of the layout")]
    Blob(#[from] BlobError),
    /// The manifest of the cache cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The layout cannot be written.
    #[error(transparent)]
    WriteLayout(#[from] WriteError),
    /// The artifact cannot be put into the layout.
    #[error(transparent)]
    Put(#[from] PutArtifactError),
    /// The directory cannot be written.
    #[error(transparent)]
    NewDirectory(#[from] NewDirectoryError),
    /// The state cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The state cannot be read back before it is published.
    #[error("cannot read the state back")]
    Verify(#[from] VerifyError),
    /// The new state is not sound, so it is not published.
    #[error(
        "what was to be published is damaged, so nothing was; 1 of {}: {}",
        damage.len(), damage.first().map(ToString::to_string).unwrap_or_default()
    )]
    Damaged {
        /// The damage.
        damage: Vec<Damage>,
    },
    /// The work was cancelled.
    #[error("the work was cancelled; nothing was changed")]
    Cancelled,
}

fn quoted(ids: &[String]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("{id:?}")).collect();
    ids.join(", ")
}

//! Errors of exports and imports of states.

use std::io;
use std::path::PathBuf;

use bkstate::Digest;
use bkstate::dir::DirError;
use bkstate::root::OpenRootError;
use bkstate::state::{Damage, ExistingError, ReadStateError, StagingError, VerifyError};
use bkstate::worker::Worker;
use codec::FormatError;

use crate::layout::{BlobError, LayoutError, NewDirectoryError, PutArtifactError, WriteError};
use crate::manifest::ManifestError;
use crate::pack::PackError;
use crate::unpack::{RightsError, UnpackError};

/// Why a state cannot be exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateImageError {
    /// The root cannot be opened, is not a root, or is in use.
    #[error(transparent)]
    Open(#[from] OpenRootError),
    /// The state in the root cannot be read.
    #[error(transparent)]
    State(#[from] ReadStateError),
    /// The root cannot be examined.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// A file or directory of the root cannot be used.
    #[error("cannot use the root")]
    Dir(#[from] DirError),
    /// The layers of the builder are in a containerd, with those of others.
    #[error("cannot make an image of the state of {worker}: a part of it is in a containerd")]
    Shared {
        /// The worker.
        worker: Box<Worker>,
    },
    /// The state cannot be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The state is not sound.
    #[error(
        "the state is damaged, so nothing was written; 1 of {}: {}",
        damage.len(), damage.first().map(ToString::to_string).unwrap_or_default()
    )]
    Damaged {
        /// The damage.
        damage: Vec<Damage>,
    },
    /// The source has no image of a state.
    #[error("{place} has no image of a state")]
    NotThere {
        /// The source.
        place: String,
    },
    /// The source has several.
    #[error("{place} has several images of a state; name one by its digest: {}", known.join(", "))]
    Several {
        /// The source.
        place: String,
        /// Their digests.
        known: Vec<String>,
    },
    /// The image is for other machines.
    #[error(
        "{place} has a state for {found} only, and this machine is {here}; name it by its digest to \
         import it nevertheless"
    )]
    Architecture {
        /// The source.
        place: String,
        /// The architectures of the images.
        found: String,
        /// That of this machine.
        here: &'static str,
    },
    /// The form of the image is unknown.
    #[error("the image of a state has the form {found:?}, which this version does not know")]
    Version {
        /// The form, shortened to 100 characters.
        found: String,
    },
    /// The list of its content is malformed.
    #[error("the list of the state is malformed")]
    List(#[source] FormatError),
    /// A part of the state cannot be in an image, or contradicts the list.
    #[error("the image of the state is damaged: {name} {problem}")]
    Item {
        /// The file of the image.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The content of a part has another digest.
    #[error("the image of the state is damaged: {name} has the digest {found}, not {expected}")]
    Digest {
        /// The file of the image.
        name: String,
        /// The digest in the list.
        expected: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// The image is for a builder with another snapshotter.
    #[error("the state is that of a builder on {found}, and {} is for {wanted}", root.display())]
    Snapshotter {
        /// The root.
        root: PathBuf,
        /// The snapshotter of the image.
        found: String,
        /// The worker of the root.
        wanted: Box<Worker>,
    },
    /// The root has a state already.
    #[error(
        "{} has a state already, and a state is not imported into another; import into an empty root, and \
         put it in place of the old one",
        root.display()
    )]
    Exists {
        /// The root.
        root: PathBuf,
    },
    /// Snapshots cannot be unpacked there, whatever they are.
    #[error("cannot unpack a state into {}", root.display())]
    Rights {
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: RightsError,
    },
    /// The files of a snapshot cannot be packed.
    #[error("cannot export the snapshot {id}")]
    Pack {
        /// The id of its directory.
        id: u64,
        /// The cause.
        #[source]
        source: PackError,
    },
    /// A snapshot cannot be unpacked.
    #[error("cannot import {name}; nothing was changed")]
    Unpack {
        /// The file of the image.
        name: String,
        /// The cause.
        #[source]
        source: Box<UnpackError>,
    },
    /// The image is not a readable archive.
    #[error("cannot read the layer {layer} of the image")]
    Layer {
        /// The blob of the layer.
        layer: Digest,
        /// The error of the system, or of the archive.
        #[source]
        source: io::Error,
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
    /// The image cannot be written.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// A file of the root cannot be written.
    #[error("cannot write {name}; nothing was changed")]
    WriteItem {
        /// The file of the image.
        name: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The layout cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A document of the layout cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A blob of the layout cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The layout cannot be written.
    #[error(transparent)]
    WriteLayout(#[from] WriteError),
    /// The image cannot be put into the layout.
    #[error(transparent)]
    Put(#[from] PutArtifactError),
    /// The layout cannot be created.
    #[error(transparent)]
    NewDirectory(#[from] NewDirectoryError),
    /// The state cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The work was cancelled.
    #[error("the work was cancelled; nothing was changed")]
    Cancelled,
}

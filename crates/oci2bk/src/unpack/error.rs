//! Why a layer was not unpacked.

use std::fmt;
use std::io;

use bkstate::{Classified as _, Digest};
use rustix::io::Errno;

use super::tar::TarError;
use crate::limits::Bound;

/// Names in messages are cut after this many bytes; an archive may hold names of a megabyte.
const SHOWN_NAME_BYTES: usize = 200;

/// Why a layer could not be unpacked, settled or measured.
///
/// After any error the directory that was unpacked into holds an unknown part of the layer and
/// must be discarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The layer's media type is not one that a layer can have.
    #[error(
        "layer {layer} has the media type {media_type:?}, which is not a known layer type; known \
         are OCI and Docker layers as plain tar, gzip or zstd"
    )]
    UnknownMediaType {
        /// The layer's blob.
        layer: Digest,
        /// The media type, shortened.
        media_type: String,
    },
    /// The blob file could not be read.
    #[error("cannot read the blob of layer {layer}")]
    ReadBlob {
        /// The layer's blob.
        layer: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no more threads.
    #[error("cannot start the thread that reads the blob of layer {layer}")]
    Thread {
        /// The layer's blob.
        layer: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The blob is longer or shorter than its descriptor says.
    #[error("the blob of layer {layer} has {found} bytes, but its descriptor says {expected}")]
    WrongBlobSize {
        /// The layer's blob.
        layer: Digest,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The size of the file in bytes.
        found: u64,
    },
    /// The blob's content is not what its name says.
    #[error("the blob of layer {layer} is damaged: its content has the digest {found}")]
    WrongBlobDigest {
        /// The layer's blob.
        layer: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// The compressed stream is invalid or cut off.
    #[error("cannot decompress layer {layer}")]
    Decompress {
        /// The layer's blob.
        layer: Digest,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// The layer is larger than it may be when it is unpacked.
    #[error("layer {layer} has more than {limit} bytes when it is unpacked")]
    TooLarge {
        /// The layer's blob.
        layer: Digest,
        /// How many bytes it may have.
        limit: u64,
        /// The limit that says so, by its name on the command line.
        name: &'static str,
    },
    /// The layer has more entries than it may have.
    #[error("layer {layer} has more than {limit} entries")]
    TooManyEntries {
        /// The layer's blob.
        layer: Digest,
        /// How many it may have ([`Limits::layer_entries`](crate::Limits::layer_entries)).
        limit: u64,
    },
    /// All layers of the conversion together take more than they may.
    #[error(
        "with layer {layer}, all layers together have more than {} {what} when they are unpacked",
        limit.value
    )]
    TotalReached {
        /// The layer's blob.
        layer: Digest,
        /// Of what there is too much, for messages: `bytes` or `entries`.
        what: &'static str,
        /// The limit that says so.
        limit: Bound,
    },
    /// The uncompressed content is not the one that the layer is known by.
    #[error("layer {layer} unpacks to the diffID {found}, but its descriptor says {expected}")]
    WrongDiffId {
        /// The layer's blob.
        layer: Digest,
        /// The diffID in the descriptor.
        expected: Digest,
        /// The digest of the uncompressed content.
        found: Digest,
    },
    /// The archive is not valid.
    #[error("the archive in layer {layer} is malformed after entry {after}")]
    Archive {
        /// The layer's blob.
        layer: Digest,
        /// The last entry that was unpacked; empty at the start of the archive.
        after: EntryName,
        /// What is wrong.
        #[source]
        source: TarError,
    },
    /// An entry of the archive was refused or could not be created.
    #[error("cannot unpack entry {entry} of layer {layer}")]
    Entry {
        /// The layer's blob.
        layer: Digest,
        /// Which entry.
        entry: EntryName,
        /// Why.
        #[source]
        reason: Refusal,
    },
    /// A directory that the layer implies could not take over the attributes of the same
    /// directory in a layer below.
    #[error("cannot give directory {path} of layer {layer} the attributes it has in a lower layer")]
    Settle {
        /// The layer's blob.
        layer: Digest,
        /// The directory.
        path: EntryName,
        /// Why.
        #[source]
        reason: Refusal,
    },
    /// Whoever [watches](super::Watch) the work ended it.
    #[error("unpacking layer {layer} was cancelled")]
    Cancelled {
        /// The layer's blob.
        layer: Digest,
    },
    /// A snapshot directory could not be measured.
    #[error("cannot measure the snapshot at {path}")]
    Usage {
        /// The directory inside the snapshot.
        path: EntryName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// Whether the layer is to blame, rather than the machine it is unpacked on.
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }

    /// Whether the blob cannot be read or is not the one of the descriptor, whatever is in it.
    pub(crate) fn is_of_blob(&self) -> bool {
        matches!(
            self,
            Self::ReadBlob { .. } | Self::WrongBlobSize { .. } | Self::WrongBlobDigest { .. }
        )
    }

    /// Whether the layer is the right one, and only cannot be unpacked: it can stay packed where nobody
    /// needs its files.
    pub fn can_stay_packed(&self) -> bool {
        match self {
            Self::Archive { .. } | Self::TooManyEntries { .. } => true,
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => {
                reason.is_input() && !self.is_total()
            }
            _ => false,
        }
    }

    /// Whether it is not this layer, but all together that are too much.
    pub(crate) fn is_total(&self) -> bool {
        match self {
            Self::TotalReached { .. } => true,
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => {
                matches!(reason, Refusal::TooManyTotalLookups { .. })
            }
            _ => false,
        }
    }

    /// Whether the system refuses what takes privileges, or an owner that a user namespace lacks.
    pub fn is_denied(&self) -> bool {
        let (Self::Entry { reason, .. } | Self::Settle { reason, .. }) = self else { return false };
        matches!(reason, Refusal::Io { source, .. } | Refusal::Xattr { source, .. }
            if matches!(source.kind(), io::ErrorKind::PermissionDenied)
                || !reason.is_input() && source.kind() == io::ErrorKind::InvalidInput)
    }
}

/// Why one entry of a layer was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The archive is not valid within this entry.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The entry's type is one that containerd's applier does not know either ("unhandled tar
    /// header type", containerd v2.3.3 `pkg/archive/tar.go`).
    #[error("cannot unpack an entry of tar type {}", typeflag.escape_ascii())]
    UnsupportedType {
        /// The type flag in the header.
        typeflag: u8,
    },
    /// A number of a device that has more than 32 bits or is negative (containerd v2.4.2
    /// `pkg/archive/tar_unix.go`; releases before v2.4 take the lower bits).
    #[error("the device number {major}:{minor} is out of range")]
    DeviceNumber {
        /// The major number in the header.
        major: i64,
        /// The minor number.
        minor: i64,
    },
    /// An entry without a group of its own in a directory that is only implied. Whether the kernel would
    /// give it the group of that directory follows from the layers below, which are unpacked at the
    /// same time.
    #[error(
        "the entry leaves its group to the kernel (all ones) in a directory that the layer has no \
         entry for; give the entry a group"
    )]
    GroupOfImpliedDirectory,
    /// A whiteout that would remove its own directory or the one above.
    #[error("the whiteout names a directory instead of an entry in it")]
    WhiteoutEscapes,
    /// An overlay layer both contains and deletes a path, which the OCI specification forbids.
    #[error("the whiteout deletes a file of the same layer")]
    WhiteoutOfSameLayer,
    /// A component of the entry's path exists and is not a directory.
    #[error("a parent of the path is not a directory")]
    ParentNotDirectory,
    /// A directory was removed by a later entry of the layer that did not replace it. containerd
    /// fails like this too: it sets times after the last entry.
    #[error("the directory is not there any more when its times are set")]
    DirectoryGone,
    /// Symbolic links lead round in a circle or through too many steps.
    #[error("the path leads through too many symbolic links")]
    TooManySymlinks,
    /// A name or a link's target is longer than it may be.
    #[error("the name or the link's target has {bytes} bytes, more than {limit}")]
    NameTooLong {
        /// The length of the longer one.
        bytes: u64,
        /// How long it may be ([`Limits::path`](crate::Limits::path)).
        limit: u64,
    },
    /// The extended attributes together are larger than they may be.
    #[error("the extended attributes have {bytes} bytes, more than {limit}")]
    XattrsTooLarge {
        /// The bytes of their names and values.
        bytes: u64,
        /// How many they may have ([`Limits::xattrs`](crate::Limits::xattrs)).
        limit: u64,
    },
    /// The names of the layer's directories take more memory than they may.
    #[error("the names of the layer's directories take more than {limit} bytes of memory")]
    TooManyDirectories {
        /// How much they may take ([`Limits::layer_directories`](crate::Limits::layer_directories)).
        limit: u64,
    },
    /// Finding the paths of the layer costs more than it may.
    #[error(
        "finding the layer's paths, with the links in them and in the layers below, takes looking up more \
         than {limit} bytes of paths"
    )]
    TooManyLookups {
        /// How many bytes may be looked up ([`Limits::layer_lookups`](crate::Limits::layer_lookups)).
        limit: u64,
    },
    /// Finding the paths of all layers costs more than it may.
    #[error(
        "finding the paths of all layers so far, with the links in them and in the layers below, takes \
         looking up more than {limit} bytes of paths"
    )]
    TooManyTotalLookups {
        /// How many bytes may be looked up ([`Limits::total_lookups`](crate::Limits::total_lookups)).
        limit: u64,
    },
    /// The path or a name in it is longer than the system allows.
    #[error("the path is longer than 4095 bytes, or a name in it than 255")]
    PathTooLong,
    /// The hard link's target is not in this layer. Targets in lower layers cannot be linked:
    /// the layers are separate directories.
    #[error("the hard link's target {target} is not in the same layer")]
    HardLinkTargetMissing {
        /// The target as the header names it.
        target: EntryName,
    },
    /// The hard link's target is a directory.
    #[error("the hard link's target {target} is a directory")]
    HardLinkToDirectory {
        /// The target as the header names it.
        target: EntryName,
    },
    /// An extended attribute could not be set.
    #[error("cannot set the extended attribute {name}")]
    Xattr {
        /// The attribute.
        name: EntryName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no `openat2`, without which paths cannot be resolved safely.
    #[error("the kernel has no openat2 system call; Linux 5.6 or newer is needed")]
    NoOpenat2,
    /// The system refused an operation.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    fn is_input(&self) -> bool {
        self.class().is_of_input()
    }

    /// For `map_err`: the system refused `operation`.
    pub(super) fn io(operation: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| match errno {
            Errno::NAMETOOLONG => Self::PathTooLong,
            errno => Self::Io { operation, source: errno.into() },
        }
    }
}

/// A name from an archive, for messages.
///
/// Names are bytes; they are printed with escapes and shortened.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsFd as _;
///
/// use oci2bk::unpack::{EntryName, ImpliedParents, Layer, Placement, Refusal, UnpackError, unpack};
/// use oci2bk::{Digest, Limits};
///
/// // A link to a file that is not in its layer, with a name that would clear the screen.
/// let mut archive = tar::Builder::new(Vec::new());
/// let mut header = tar::Header::new_gnu();
/// header.set_entry_type(tar::EntryType::Link);
/// header.set_size(0);
/// archive.append_link(&mut header, "\x1b[2Jlink", "etc/shadow")?;
/// let tar = archive.into_inner()?;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("blob");
/// std::fs::write(&path, &tar)?;
/// std::fs::create_dir(directory.path().join("fs"))?;
/// let (blob, tree) = (File::open(&path)?, File::open(directory.path().join("fs"))?);
/// let (digest, size) = (Digest::of(&tar), tar.len() as u64);
/// let media_type = "application/vnd.oci.image.layer.v1.tar";
/// let layer = Layer { blob: &blob, digest, size, media_type, diff_id: digest };
/// let unpacked = unpack(&layer, tree.as_fd(), Placement::Base, &Limits::default(), &|_| {})
///     .map(|unpacked| -> ImpliedParents { unpacked.implied });
///
/// let Err(UnpackError::Entry { entry, reason: Refusal::HardLinkTargetMissing { target }, .. }) = unpacked
/// else {
///     panic!("{unpacked:?}");
/// };
/// assert_eq!(EntryName::as_bytes(&entry), b"\x1b[2Jlink");
/// assert_eq!(entry.to_string(), r#""\u{1b}[2Jlink""#);
/// assert_eq!(target.as_bytes(), b"etc/shadow");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName(Vec<u8>);

impl EntryName {
    pub(crate) fn new(name: &[u8]) -> Self {
        Self(name.to_vec())
    }

    /// The whole name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= SHOWN_NAME_BYTES {
            write!(f, "{:?}", String::from_utf8_lossy(&self.0))
        } else {
            let shown = String::from_utf8_lossy(&self.0[..SHOWN_NAME_BYTES]);
            write!(f, "{shown:?}... ({} bytes)", self.0.len())
        }
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

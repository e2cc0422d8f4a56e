//! Errors of unpacking a layer.

use std::fmt;
use std::io;

use bkstate::worker::NoSuchOwner;
use bkstate::{Classified as _, Digest};
use rustix::io::Errno;

use super::tar::TarError;
use crate::limits::Bound;

/// Maximum length of names in messages, in bytes; an archive may contain names of a megabyte.
const SHOWN_NAME_BYTES: usize = 200;

/// Why a layer cannot be unpacked, settled or measured.
///
/// After any error the target directory has an unknown part of the layer and must be discarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The layer's media type is unknown.
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
    /// The blob file cannot be read.
    #[error("cannot read the blob of layer {layer}")]
    ReadBlob {
        /// The layer's blob.
        layer: Digest,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The system has no more threads.
    #[error("cannot start the thread that reads the blob of layer {layer}")]
    Thread {
        /// The layer's blob.
        layer: Digest,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The size of the blob differs from its descriptor.
    #[error("the blob of layer {layer} has {found} bytes, but its descriptor says {expected}")]
    WrongBlobSize {
        /// The layer's blob.
        layer: Digest,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The size of the file in bytes.
        found: u64,
    },
    /// The blob's content does not match its digest.
    #[error("the blob of layer {layer} is damaged: its content has the digest {found}")]
    WrongBlobDigest {
        /// The layer's blob.
        layer: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// The compressed stream is invalid or truncated.
    #[error("cannot decompress layer {layer}")]
    Decompress {
        /// The layer's blob.
        layer: Digest,
        /// The error of the decompressor.
        #[source]
        source: io::Error,
    },
    /// The unpacked layer exceeds a limit on its size.
    #[error("layer {layer} has more than {limit} bytes when it is unpacked")]
    TooLarge {
        /// The layer's blob.
        layer: Digest,
        /// The limit in bytes.
        limit: u64,
        /// The name of the limit on the command line.
        name: &'static str,
    },
    /// The layer has more entries than the limit.
    #[error("layer {layer} has more than {limit} entries")]
    TooManyEntries {
        /// The layer's blob.
        layer: Digest,
        /// The limit ([`Limits::layer_entries`](crate::Limits::layer_entries)).
        limit: u64,
    },
    /// All layers of the conversion together exceed a limit.
    #[error(
        "with layer {layer}, all layers together have more than {} {what} when they are unpacked",
        limit.value
    )]
    TotalReached {
        /// The layer's blob.
        layer: Digest,
        /// The limited quantity, for messages: `bytes` or `entries`.
        what: &'static str,
        /// The limit.
        limit: Bound,
    },
    /// The uncompressed content does not match the layer's diffID.
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
        /// The cause.
        #[source]
        source: TarError,
    },
    /// An entry of the archive was rejected or cannot be created.
    #[error("cannot unpack entry {entry} of layer {layer}")]
    Entry {
        /// The layer's blob.
        layer: Digest,
        /// The entry.
        entry: EntryName,
        /// The cause.
        #[source]
        reason: Refusal,
    },
    /// A directory that the layer implies cannot get the attributes of the same directory in a layer below.
    #[error("cannot give directory {path} of layer {layer} the attributes it has in a lower layer")]
    Settle {
        /// The layer's blob.
        layer: Digest,
        /// The directory.
        path: EntryName,
        /// The cause.
        #[source]
        reason: Refusal,
    },
    /// The work was cancelled through [`Watch`](super::Watch).
    #[error("unpacking layer {layer} was cancelled")]
    Cancelled {
        /// The layer's blob.
        layer: Digest,
    },
    /// A snapshot directory cannot be measured.
    #[error("cannot measure the snapshot at {path}")]
    Usage {
        /// The directory inside the snapshot.
        path: EntryName,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// Returns whether the layer is the cause, and not the machine.
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }

    /// Returns whether the blob cannot be read or does not match the descriptor, whatever its content.
    pub(crate) fn is_of_blob(&self) -> bool {
        matches!(
            self,
            Self::ReadBlob { .. } | Self::WrongBlobSize { .. } | Self::WrongBlobDigest { .. }
        )
    }

    /// Returns whether the layer is the right one but cannot be unpacked: it can stay packed if its files are
    /// not needed.
    pub fn can_stay_packed(&self) -> bool {
        match self {
            Self::Archive { .. } | Self::TooManyEntries { .. } => true,
            // A rootless daemon cannot unpack it either.
            Self::Entry { reason: Refusal::NoSuchOwner(_), .. } => true,
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => {
                reason.is_input() && !self.is_total()
            }
            _ => false,
        }
    }

    /// Returns the owner that the user namespace of the daemon does not have, if that is the reason.
    ///
    /// ```
    /// use oci2bk::unpack::UnpackError;
    ///
    /// fn advice(error: &UnpackError) -> Option<String> {
    ///     error.missing_owner().map(|missing| format!("set a number aside for user {}", missing.user))
    /// }
    /// ```
    pub fn missing_owner(&self) -> Option<&NoSuchOwner> {
        match self {
            Self::Entry { reason: Refusal::NoSuchOwner(missing), .. } => Some(missing),
            _ => None,
        }
    }

    /// Returns whether not this layer, but all together exceed a limit.
    pub(crate) fn is_total(&self) -> bool {
        match self {
            Self::TotalReached { .. } => true,
            Self::Entry { reason, .. } | Self::Settle { reason, .. } => {
                matches!(reason, Refusal::TooManyTotalLookups { .. })
            }
            _ => false,
        }
    }

    /// Returns whether the system refused a privileged operation, or an owner that a user namespace lacks.
    pub fn is_denied(&self) -> bool {
        let (Self::Entry { reason, .. } | Self::Settle { reason, .. }) = self else { return false };
        matches!(reason, Refusal::Io { source, .. } | Refusal::Xattr { source, .. }
            if matches!(source.kind(), io::ErrorKind::PermissionDenied)
                || !reason.is_input() && source.kind() == io::ErrorKind::InvalidInput)
    }
}

/// Why one entry of a layer was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The archive is not valid within this entry.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// containerd's applier does not know the entry's type either ("unhandled tar header type", containerd
    /// v2.3.3 `pkg/archive/tar.go`).
    #[error("cannot unpack an entry of tar type {}", typeflag.escape_ascii())]
    UnsupportedType {
        /// The type flag in the header.
        typeflag: u8,
    },
    /// A device number has more than 32 bits or is negative (containerd v2.4.2 `pkg/archive/tar_unix.go`;
    /// releases before v2.4 take the lower bits).
    #[error("the device number {major}:{minor} is out of range")]
    DeviceNumber {
        /// The major number in the header.
        major: i64,
        /// The minor number in the header.
        minor: i64,
    },
    /// An entry without a group is in a directory that is only implied. Whether the kernel would give it the
    /// group of that directory depends on the layers below, which are unpacked at the same time.
    #[error(
        "the entry leaves its group to the kernel (all ones) in a directory that the layer has no \
         entry for; give the entry a group"
    )]
    GroupOfImpliedDirectory,
    /// A whiteout would remove its own directory or the one above.
    #[error("the whiteout names a directory instead of an entry in it")]
    WhiteoutEscapes,
    /// An overlay layer both contains and deletes a path, which the OCI specification forbids.
    #[error("the whiteout deletes a file of the same layer")]
    WhiteoutOfSameLayer,
    /// A component of the entry's path exists and is not a directory.
    #[error("a parent of the path is not a directory")]
    ParentNotDirectory,
    /// A later entry of the layer removed the directory without replacing it. containerd fails like this too:
    /// it sets times after the last entry.
    #[error("the directory is not there any more when its times are set")]
    DirectoryGone,
    /// Symbolic links form a cycle or too long a chain.
    #[error("the path leads through too many symbolic links")]
    TooManySymlinks,
    /// A name or a link's target exceeds the limit on its length.
    #[error("the name or the link's target has {bytes} bytes, more than {limit}")]
    NameTooLong {
        /// The length of the longer one.
        bytes: u64,
        /// The limit in bytes ([`Limits::path`](crate::Limits::path)).
        limit: u64,
    },
    /// The extended attributes together exceed the limit.
    #[error("the extended attributes have {bytes} bytes, more than {limit}")]
    XattrsTooLarge {
        /// The bytes of their names and values.
        bytes: u64,
        /// The limit in bytes ([`Limits::xattrs`](crate::Limits::xattrs)).
        limit: u64,
    },
    /// The names of the layer's directories exceed the limit on memory.
    #[error("the names of the layer's directories take more than {limit} bytes of memory")]
    TooManyDirectories {
        /// The limit in bytes ([`Limits::layer_directories`](crate::Limits::layer_directories)).
        limit: u64,
    },
    /// Looking up the paths of the layer exceeds the limit.
    #[error(
        "finding the layer's paths, with the links in them and in the layers below, takes looking up more \
         than {limit} bytes of paths"
    )]
    TooManyLookups {
        /// The limit, in bytes of paths ([`Limits::layer_lookups`](crate::Limits::layer_lookups)).
        limit: u64,
    },
    /// Looking up the paths of all layers exceeds the limit.
    #[error(
        "finding the paths of all layers so far, with the links in them and in the layers below, takes \
         looking up more than {limit} bytes of paths"
    )]
    TooManyTotalLookups {
        /// The limit, in bytes of paths ([`Limits::total_lookups`](crate::Limits::total_lookups)).
        limit: u64,
    },
    /// The path or a name in it is longer than the system allows.
    #[error("the path is longer than 4095 bytes, or a name in it than 255")]
    PathTooLong,
    /// The hard link's target is not in this layer. Targets in lower layers cannot be linked:
    /// the layers are separate directories.
    #[error("the hard link's target {target} is not in the same layer")]
    HardLinkTargetMissing {
        /// The target in the header.
        target: EntryName,
    },
    /// The hard link's target is a directory.
    #[error("the hard link's target {target} is a directory")]
    HardLinkToDirectory {
        /// The target in the header.
        target: EntryName,
    },
    /// The owner of the entry does not exist for the rootless daemon.
    #[error(transparent)]
    NoSuchOwner(#[from] NoSuchOwner),
    /// A file has capabilities that count in one user namespace only, which is not that of the daemon.
    #[error("the capabilities of the file are those of another user namespace")]
    CapabilityOfNamespace,
    /// A name in the archive of a cache mount is absolute or leads upwards.
    #[error("the name {name} is absolute, or leads upwards out of the cache mount")]
    LeavesTree {
        /// The name, or the target of a hard link.
        name: EntryName,
    },
    /// A path in the archive of a cache mount has a symbolic link in it.
    #[error("the path leads through a symbolic link")]
    ThroughLink,
    /// The archive of a cache mount has a device.
    #[error("it is a device, and a cache mount may not have any")]
    Device,
    /// The archive of a cache mount has something else than a directory as the mount itself.
    #[error("it names the cache mount itself, and is not a directory")]
    TopNotDirectory,
    /// An extended attribute cannot be set.
    #[error("cannot set the extended attribute {name}")]
    Xattr {
        /// The attribute.
        name: EntryName,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The kernel does not have `openat2`, without which paths cannot be resolved safely.
    #[error("the kernel has no openat2 system call; Linux 5.6 or newer is needed")]
    NoOpenat2,
    /// The system refused an operation.
    #[error("cannot {operation}")]
    Io {
        /// The operation.
        operation: &'static str,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    fn is_input(&self) -> bool {
        self.class().is_of_input()
    }

    /// Returns a function for `map_err`: the system refused `operation`.
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
/// use oci2bk::bkstate::worker::Worker;
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
/// let (worker, limits) = (Worker::default(), Limits::default());
/// let unpacked = unpack(&layer, tree.as_fd(), Placement::Base, &worker, &limits, &|_| {})
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

    /// Returns the whole name.
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

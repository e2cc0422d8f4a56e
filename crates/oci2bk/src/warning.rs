//! What a caller may want to know although the work goes on.
//!
//! Warnings are [events](crate::Event::Warning): while a conversion is prepared, and while it runs. Most of them
//! are in a report, too. A warning has a kind, a word that does not change, and a message without options of any
//! command.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use oci2bk::plan::Shortfall;
//! use oci2bk::warning::Warning;
//! use oci2bk::{Event, Preparer};
//!
//! let seen = Arc::new(Mutex::new(Vec::new()));
//! let noted = Arc::clone(&seen);
//! let note = move |event: Event<'_>| {
//!     if let Event::Warning(warning) = event {
//!         println!("{}: {warning}", warning.kind());
//!         if let Warning::Incomplete { shortfalls } = warning {
//!             noted.lock().unwrap().extend(shortfalls.iter().map(Shortfall::clone));
//!         }
//!     }
//! };
//! // Without its keys, no step of the cache is known.
//! let prepared = Preparer::new().progress(Arc::new(note)).prepare(&["fixtures/min/cache".parse()?])?;
//! assert_eq!(*seen.lock().unwrap(), prepared.plan.shortfalls());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bkstate::root::Stranger;
use bkstate::{Digest, Time};
use llb::release::{Target, Version};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::convert::{LeftPacked, PackedReason};
use crate::keys::{SourceDescription, SourceError, UnreadHistory};
use crate::layout::BadCopy;
use crate::plan::Shortfall;
use crate::text::one_line;

/// Something that does not stop the work.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Warning<'a> {
    /// A file beside a cache has no keys that can be read. Nobody named it, so it is left out.
    KeySource {
        /// Why it cannot be read.
        error: &'a SourceError,
    },
    /// A key source has a signature. It is not checked, because the hashes in the cache prove each key.
    Signature {
        /// The key source.
        source: &'a SourceDescription,
    },
    /// Frontends refuse an instruction of a Dockerfile that is a key source. The others have keys.
    Dockerfile {
        /// The key source.
        source: &'a SourceDescription,
        /// The instruction, and what is wrong with it.
        error: &'a dockerfile::ParseError,
    },
    /// The provenance of a builder's history is elsewhere.
    UnreadHistory {
        /// The history.
        history: &'a UnreadHistory,
    },
    /// An image was given without its name, so a daemon cannot find it by its digest: only its layers are warm.
    NamelessImage {
        /// The image, as it was named.
        reference: &'a str,
    },
    /// No step of the caches uses the image, so its documents are left out.
    UnusedImage {
        /// The image, as it was named.
        reference: &'a str,
    },
    /// The daemon has no image store, so the name of an image is of no use to it.
    NoImageStore {
        /// The name.
        name: &'a str,
    },
    /// The state has less than the caches, or more than its steps need.
    Incomplete {
        /// What it is ([`Plan::shortfalls`](crate::Plan::shortfalls)); at least one.
        shortfalls: &'a [Shortfall],
    },
    /// The release of the daemon is newer than all known ones.
    PresumedRelease {
        /// The release, which counts as the newest known one.
        target: Target,
    },
    /// Results are dated after the [current time](crate::Preparer::now).
    DatedAhead {
        /// Their number.
        results: usize,
        /// The latest date.
        latest: Time,
    },
    /// Another user can replace the root, through a directory on its path.
    Stranger {
        /// The root.
        root: &'a Path,
        /// The directory.
        stranger: &'a Stranger,
    },
    /// A blob of the root was damaged. That of the cache replaces it.
    DamagedBlob {
        /// The root.
        root: &'a Path,
        /// The blob.
        blob: Digest,
    },
    /// A layer that a daemon before v0.33.1 unpacked differs from that of the cache, which is stored beside it.
    DifferentLayer {
        /// The root.
        root: &'a Path,
        /// Its chainID.
        chain_id: Digest,
    },
    /// Bytes after the gzip stream of a layer were ignored.
    TrailingData {
        /// The blob.
        blob: Digest,
        /// Their number.
        bytes: u64,
    },
    /// A copy of a layer cannot be used, and another one is good.
    BadCopy {
        /// The copy.
        copy: &'a BadCopy,
    },
    /// Blobs are hard links, and the kernel does not tell whether other processes have them open for writing.
    UnleasedBlobs {
        /// Their number.
        blobs: usize,
    },
    /// A layer stays packed.
    LeftPacked {
        /// The layer.
        layer: &'a LeftPacked,
    },
    /// Devices of layers were left out, as a rootless daemon does.
    LeftOut {
        /// Their number.
        entries: u64,
    },
}

impl Warning<'_> {
    /// Returns what it is about, in a word that does not change between releases.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::KeySource { .. } => "key-source",
            Self::Signature { .. } => "signature",
            Self::Dockerfile { .. } => "dockerfile",
            Self::UnreadHistory { .. } => "unread-history",
            Self::NamelessImage { .. } => "nameless-image",
            Self::UnusedImage { .. } => "unused-image",
            Self::NoImageStore { .. } => "no-image-store",
            Self::Incomplete { .. } => "incomplete",
            Self::PresumedRelease { .. } => "presumed-release",
            Self::DatedAhead { .. } => "dated-ahead",
            Self::Stranger { .. } => "stranger",
            Self::DamagedBlob { .. } => "damaged-blob",
            Self::DifferentLayer { .. } => "different-layer",
            Self::TrailingData { .. } => "trailing-data",
            Self::BadCopy { .. } => "bad-copy",
            Self::UnleasedBlobs { .. } => "unleased-blobs",
            Self::LeftPacked { .. } => "left-packed",
            Self::LeftOut { .. } => "left-out",
        }
    }
}

/// The message, in one line.
impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeySource { error } => {
                let message = crate::text::with_causes(*error);
                write!(f, "{message}; it was found with the cache, and is left out")
            }
            Self::Signature { source } => {
                write!(f, "the signature of the {source} is not checked; its keys need no trust")
            }
            Self::Dockerfile { source, error } => {
                write!(f, "{source}: {}; this instruction has no key", one_line(&error.to_string()))
            }
            Self::UnreadHistory { history } => write!(f, "{history}"),
            Self::NamelessImage { reference } => {
                let reference = one_line(reference);
                write!(f, "the image in {reference} has no name, so only its layers are warm")
            }
            Self::UnusedImage { reference } => {
                let reference = one_line(reference);
                write!(f, "no step of the caches uses the image in {reference}; it is left out")
            }
            Self::NoImageStore { name } => write!(
                f,
                "a buildkitd with the OCI worker has no image store, so FROM {} asks the registry; FROM with the \
                 digest of the image does not",
                one_line(name)
            ),
            Self::Incomplete { shortfalls } => {
                let mut counts = BTreeMap::new();
                for shortfall in *shortfalls {
                    *counts.entry(shortfall.kind.name()).or_insert(0_usize) += 1;
                }
                let counts: Vec<_> =
                    counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
                write!(f, "the state is not all of the caches: {}", counts.join(", "))
            }
            Self::PresumedRelease { target } => write!(
                f,
                "BuildKit {target} is newer than {}, the newest known release; its keys are assumed to be the same",
                Version::NEWEST
            ),
            Self::DatedAhead { results, latest } => write!(
                f,
                "{results} of the results are dated in the future, up to {latest}; until then a daemon prefers them \
                 to what it builds itself"
            ),
            Self::Stranger { root, stranger } => write!(
                f,
                "{stranger}; users who can write there can replace {}, and a daemon would trust the replacement",
                root.display()
            ),
            Self::DamagedBlob { root, blob } => write!(
                f,
                "the blob {blob} in {} was damaged; that of the cache replaces it",
                root.display()
            ),
            Self::DifferentLayer { root, chain_id } => write!(
                f,
                "{} has a layer that a BuildKit before v0.33.1 unpacked and that is not what the cache has (chainID \
                 {chain_id}); the layer of the cache is stored beside it",
                root.display()
            ),
            Self::TrailingData { blob, bytes } => write!(
                f,
                "{bytes} bytes behind the gzip stream of layer {blob} were ignored; a daemon without unpigz refuses \
                 such a layer"
            ),
            Self::BadCopy { copy } => write!(
                f,
                "the copy of layer {} in {} was skipped for a good one: {}",
                copy.blob,
                copy.layout.display(),
                one_line(&copy.why)
            ),
            Self::UnleasedBlobs { blobs } => write!(
                f,
                "the file system of the cache has no leases: a process that has one of the {blobs} hard-linked blobs \
                 open for writing can still change it"
            ),
            Self::LeftPacked { layer } => left_packed(layer, f),
            Self::LeftOut { entries } => {
                write!(f, "{entries} devices of layers were left out, as a rootless buildkitd does")
            }
        }
    }
}

fn left_packed(left: &LeftPacked, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let LeftPacked { layer, reason, .. } = left;
    match reason {
        PackedReason::CannotUnpack(why) => write!(
            f,
            "layer {layer} stays packed: it cannot be unpacked, and no step of the cache needs its files: {}",
            one_line(why)
        ),
        PackedReason::LiesOn(below) => {
            write!(f, "layer {layer} stays packed, as it lies on layer {below}")
        }
    }
}

/// As in the JSON documents of the command: kind and message.
impl Serialize for Warning<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut warning = serializer.serialize_struct("Warning", 2)?;
        warning.serialize_field("kind", self.kind())?;
        warning.serialize_field("message", &self.to_string())?;
        warning.end()
    }
}

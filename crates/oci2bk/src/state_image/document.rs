//! The list of the content of an image, and the names of its files.

use bkstate::Digest;
use bkstate::worker::StateFile;
use serde::{Deserialize, Serialize};

/// The form of the image, as the value of [`LABEL`] and in the list.
pub(super) const FORM: &str = "application/vnd.oci2bk.state.v1+json";
/// The label in the config of the image.
pub(super) const LABEL: &str = "io.github.oci2bk.state";
/// The directory of all files in the image.
pub(super) const TOP: &str = "oci2bk";
/// The file with the list.
pub(super) const LIST: &str = "oci2bk/state.json";
/// The default tag of the image.
pub(super) const DEFAULT_TAG: &str = "state";

/// The databases, with their names in the image.
pub(super) const FILES: [(StateFile, &str); 7] = [
    (StateFile::WorkerId, "worker-id"),
    (StateFile::Metadata, "metadata"),
    (StateFile::Snapshots, "snapshots"),
    (StateFile::Records, "records"),
    (StateFile::SolverDebug, "solver-debug"),
    (StateFile::History, "history"),
    (StateFile::Solver, "solver"),
];

/// What is in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    pub(super) media_type: String,
    /// The snapshotter of the builder.
    pub(super) snapshotter: String,
    /// The directories of snapshots, by their ids.
    pub(super) trees: Vec<Tree>,
    /// The blobs of the content store.
    pub(super) blobs: Vec<Blob>,
    pub(super) databases: Vec<Database>,
}

/// The archive of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) stream: Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Database {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) stream: Stream,
}

/// What is stored compressed, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stream {
    /// The digest of the uncompressed content.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The number of parts.
    pub(super) parts: u64,
}

/// An item of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Tree(u64),
    Blob(Digest),
    /// By its place in [`FILES`].
    Database(usize),
}

impl Item {
    /// Returns the name of its file, or of its part `part`.
    pub(super) fn file(self, part: u64) -> String {
        match self {
            Self::Tree(id) => format!("{TOP}/trees/{id}/{part:06}"),
            Self::Blob(digest) => format!("{TOP}/blobs/{}", digest.hex()),
            Self::Database(at) => format!("{TOP}/databases/{}/{part:06}", word(at)),
        }
    }

    /// Returns the item and the part with this name; only a name in exactly the form of [`file`](Self::file) has one.
    pub(super) fn of_file(name: &str) -> Option<(Self, u64)> {
        let mut words = name.strip_prefix(TOP)?.strip_prefix('/')?.split('/');
        let found = match (words.next()?, words.next()?, words.next()) {
            ("trees", id, Some(part)) => (Self::Tree(id.parse().ok()?), part.parse().ok()?),
            ("blobs", hex, None) => (Self::Blob(format!("sha256:{hex}").parse().ok()?), 0),
            ("databases", word, Some(part)) => {
                let at = FILES.iter().position(|(_, known)| *known == word)?;
                (Self::Database(at), part.parse().ok()?)
            }
            _ => return None,
        };
        (found.0.file(found.1) == name).then_some(found)
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tree(id) => write!(f, "the snapshot {id}"),
            Self::Blob(digest) => write!(f, "the blob {digest}"),
            Self::Database(at) => write!(f, "the database {}", word(*at)),
        }
    }
}

fn word(at: usize) -> &'static str {
    FILES.get(at).map_or("", |(_, word)| word)
}

/// Returns the architecture of this machine, in the words of OCI.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

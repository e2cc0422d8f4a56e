//! The build history of a builder.
//!
//! `history.db` has a `BuildHistoryRecord` in protobuf for each build, which names the provenance of each
//! result by digest (BuildKit v0.32.2 `solver/llbsolver/history/buildhistory.go`,
//! `api/services/control/control.proto`). The daemon records it with `mode=max`, whatever the build requested
//! (`solver/llbsolver/history.go`). The documents are blobs of the content store, in a separate namespace;
//! their files are beside all others, so `containerdmeta.db` is not needed.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;

use bkstate::bolt::{Bucket, Entry, ReadError};
use bkstate::content::BlobStore;
use bkstate::dir::{Dir, DirError, if_there};
use bkstate::worker::{Bases, Part, Worker};
use bkstate::{Digest, Root};
use codec::FormatError;
use prost::Message;

use super::attestation::is_provenance;
use super::containerds::Containerds;
use crate::json::{self, TooComplex};
use crate::limits::{Bound, Limits};

/// Why a build history cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The database is damaged.
    #[error("the database is damaged")]
    Database(#[from] ReadError),
    /// The content store cannot be searched.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A record is malformed.
    #[error("the record of the build {reference:?} is malformed")]
    Record {
        /// The build.
        reference: String,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// A record names a blob by an invalid digest.
    #[error("the record of the build {reference:?} names a blob that cannot be: {digest:?}")]
    Digest {
        /// The build.
        reference: String,
        /// The invalid digest, shortened to 100 characters.
        digest: String,
    },
    /// A blob cannot be read.
    #[error("cannot read the blob {path}")]
    Io {
        /// Its file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A blob does not match its digest.
    #[error("the blob {path} is damaged: its content has the digest {actual}")]
    Corrupt {
        /// Its file.
        path: PathBuf,
        /// Its actual digest.
        actual: Digest,
    },
    /// Provenance exceeds the limit, in one blob or in all.
    #[error(
        "the blob {path} has more than {} bytes, or all provenance up to it has", limit.value
    )]
    TooLarge {
        /// Its file.
        path: PathBuf,
        /// The limit in bytes.
        limit: Bound,
    },
    /// A blob is a document with more content than any real one.
    #[error("the blob {path} is not a document of a build")]
    TooComplex {
        /// Its file.
        path: PathBuf,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "10")]
    result: Option<BuildResult>,
    /// The results by platform.
    #[prost(btree_map = "string, message", tag = "11")]
    results: BTreeMap<String, BuildResult>,
}

#[derive(Clone, PartialEq, Message)]
struct BuildResult {
    #[prost(message, repeated, tag = "2")]
    attestations: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "1")]
    media_type: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(btree_map = "string, string", tag = "5")]
    annotations: BTreeMap<String, String>,
}

/// The provenance of one result of a build.
#[derive(Debug)]
pub(super) struct Build {
    /// The build, and the platform if it had several.
    pub(super) name: String,
    /// The blob with the bare predicate.
    pub(super) provenance: Digest,
}

/// Returns the provenance of all builds in `records`.
pub(super) fn builds(records: &Bucket<'_>) -> Result<Vec<Build>, HistoryError> {
    let mut builds = Vec::new();
    for entry in records.entries() {
        let (key, Entry::Value(value)) = entry? else { continue };
        let reference: String = String::from_utf8_lossy(&key).chars().take(100).collect();
        let record = match Record::decode(value.as_slice()) {
            Ok(record) => record,
            Err(error) => {
                let source = FormatError::new(error);
                return Err(HistoryError::Record { reference, source });
            }
        };
        let single = record.result.iter().map(|result| (None, result));
        let several = record.results.iter().map(|(platform, result)| (Some(platform), result));
        for (platform, result) in single.chain(several) {
            let of_provenance = |descriptor: &&Descriptor| {
                is_provenance(&descriptor.media_type, &descriptor.annotations)
            };
            for descriptor in result.attestations.iter().filter(of_provenance) {
                let provenance = descriptor.digest.parse().map_err(|_| HistoryError::Digest {
                    reference: reference.clone(),
                    digest: descriptor.digest.chars().take(100).collect(),
                })?;
                let name = match platform {
                    Some(platform) => format!("{reference} {platform}"),
                    None => reference.clone(),
                };
                builds.push(Build { name, provenance });
            }
        }
    }
    Ok(builds)
}

/// The blobs of all workers of a root.
pub(super) struct Content<'l> {
    limits: &'l Limits,
    stores: Vec<BlobStore>,
    /// The roots of containerds that may be that of the builder.
    searched: Vec<PathBuf>,
    /// Number of bytes that may still be read.
    left: u64,
}

impl<'l> Content<'l> {
    /// Opens the stores of all workers below `root`.
    pub(super) fn below(root: Dir, limits: &'l Limits) -> Result<Self, HistoryError> {
        let workers = Worker::in_root(&root)?;
        let bases = Bases::from(root);
        let stores = workers.iter().map(|worker| worker.open(&bases, Part::Content));
        Self::of(stores.collect::<Result<Vec<_>, _>>()?, limits)
    }

    /// Opens the stores of all workers of `root`, which can be in a containerd.
    pub(super) fn of_root(root: &Root, limits: &'l Limits) -> Result<Self, HistoryError> {
        let content = root.open_part(Part::Content)?;
        let below = Self::below(root.dir().try_clone()?, limits)?;
        let Self { stores, .. } = Self::of(vec![content], limits)?;
        Ok(Self { stores: stores.into_iter().chain(below.stores).collect(), ..below })
    }

    /// Opens the stores of all workers in the root `dir` of a builder, and those of `containerds`.
    pub(super) fn of_builder(
        dir: &Dir,
        containerds: &Containerds,
        limits: &'l Limits,
    ) -> Result<Self, HistoryError> {
        let mut content = Self::below(dir.try_clone()?, limits)?;
        for dir in &containerds.content {
            content.stores.extend(if_there(BlobStore::open(dir))?);
        }
        content.searched.clone_from(&containerds.searched);
        Ok(content)
    }

    fn of(content: Vec<Option<Dir>>, limits: &'l Limits) -> Result<Self, HistoryError> {
        let stores = content.iter().flatten().map(|content| if_there(BlobStore::open(content)));
        let stores: Vec<_> = stores.collect::<Result<_, _>>()?;
        let stores = stores.into_iter().flatten().collect();
        Ok(Self { limits, stores, searched: Vec::new(), left: limits.keys_documents })
    }

    /// Returns the roots of the containerds that may be that of the builder, if it has one that was not known.
    pub(super) fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// Returns whether there is a store.
    pub(super) fn is_there(&self) -> bool {
        !self.stores.is_empty()
    }

    /// Reads and verifies the blob `digest`; `None` if no store has it.
    pub(super) fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, HistoryError> {
        let limit = self.limits.of_keys_document(self.left);
        for store in &self.stores {
            let path = store.path().join(&*digest.hex());
            let file = match store.blob(digest) {
                Ok(file) => file,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let mut blob = Vec::new();
            // One byte more than allowed shows that there is more.
            if let Err(source) = file.take(limit.value.saturating_add(1)).read_to_end(&mut blob) {
                return Err(HistoryError::Io { path, source });
            }
            let length = blob.len() as u64;
            if length > limit.value {
                return Err(HistoryError::TooLarge { path, limit });
            }
            let actual = Digest::of(&blob);
            if actual != *digest {
                return Err(HistoryError::Corrupt { path, actual });
            }
            json::check(&blob, self.limits)
                .map_err(|source| HistoryError::TooComplex { path, source })?;
            self.left -= length;
            return Ok(Some(blob));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;

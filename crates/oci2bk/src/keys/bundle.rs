//! Provenance in archives of OCI layouts, such as the `.dockerbuild` bundles of `docker buildx
//! history export`.
//!
//! buildx v0.35.0 (`util/desktop/bundle/export.go`) writes a tar archive, gzipped, of a layout. A
//! build is a manifest whose config has the media type [`HISTORY_RECORD`] and whose layers are logs,
//! traces and attestations, these as bare predicates; several builds lie in an index below
//! `index.json`. Images that buildctl or buildx exports with `type=oci` have the same form, with the
//! attestation manifests of [`super::attestation`].
//!
//! The layout may lie in a directory of the archive, as `tar cf FILE DIR` makes it.
//!
//! The archive is read once for `index.json`, once per level of manifests and once for the
//! attestations. Nothing of it is written to disk, and only what was asked for is held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use bkstate::Digest;

use super::attestation::is_provenance;
use crate::json::{self, TooComplex};
use crate::layout::Descriptor;
use crate::limits::{Bound, Limits, MAX_INDEX_DEPTH, smaller};
use crate::manifest::{Document, DocumentError};
use crate::unpack::decompress::{Decoder, Encoding};
use crate::unpack::tar::{Kind, Reader, TarError};

const HISTORY_RECORD: &str = "application/vnd.buildkit.historyrecord.v0";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";

/// How much of the archive is decompressed at a time.
const READ_BYTES: usize = 128 << 10;

/// Why an archive gives no provenance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It cannot be read or decompressed.
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    /// It is not a sound archive.
    #[error("the archive is damaged")]
    Tar(#[from] TarError),
    /// It does not end where it may.
    #[error("the archive has more than {limit} bytes; allow for more with --limit bundle-size")]
    TooLong {
        /// How many it may have, decompressed.
        limit: u64,
    },
    /// It has too many members.
    #[error(
        "the archive has more than {limit} members; allow for more with --limit bundle-members"
    )]
    TooManyMembers {
        /// How many it may have.
        limit: u64,
    },
    /// A document in it is larger than it may be.
    #[error(
        "{member} in the archive has more than {} bytes, or all documents have; allow for more \
         with --limit {}",
        limit.value, limit.name
    )]
    TooLarge {
        /// The member.
        member: String,
        /// The limit in bytes.
        limit: Bound,
    },
    /// A document has more in it than any real one.
    #[error("{member} in the archive is not a document of a build")]
    TooComplex {
        /// The member.
        member: String,
        /// What there is too much of.
        #[source]
        source: TooComplex,
    },
    /// A member is not what its name says.
    #[error("the blob {digest} in the archive is damaged: its content has the digest {actual}")]
    Corrupt {
        /// What it should be.
        digest: Digest,
        /// What it is.
        actual: Digest,
    },
    /// An archive of something else.
    #[error("the archive has no index.json, so it is neither a history bundle nor an OCI layout")]
    NoIndex,
    /// A manifest is malformed.
    #[error("{member} in the archive is malformed")]
    Document {
        /// The member.
        member: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// Indexes lie in indexes without end.
    #[error("the archive has indexes more than {} deep", MAX_INDEX_DEPTH)]
    TooDeep,
    /// There are too many manifests.
    #[error("the archive has more than {limit} manifests; allow for more with --limit manifests")]
    TooManyManifests {
        /// How many it may have.
        limit: u64,
    },
}

/// A provenance document in an archive.
#[derive(Debug)]
pub(super) struct Part {
    /// Its blob.
    pub(super) digest: Digest,
    /// Whether it is of a build history, rather than of an image.
    pub(super) of_history: bool,
    /// The statement, or the bare predicate.
    pub(super) json: Vec<u8>,
}

/// What an archive has.
#[derive(Debug)]
pub(super) struct Found {
    /// The provenance in it.
    pub(super) parts: Vec<Part>,
    /// Whether it is a bundle of build history.
    pub(super) is_history: bool,
}

/// The provenance in the archive `file`. What is mentioned but not there is passed over.
pub(super) fn provenance(file: &File, limits: &Limits) -> Result<Found, BundleError> {
    let Attestations { prefix, found, is_history } = attestations(file, limits)?;
    let wanted = found.keys().map(|digest| (blob_name(&prefix, digest), *digest)).collect();
    let documents =
        Documents::read(file, &wanted, limits.of_keys_document(limits.keys_documents), limits)?;
    let part = |(digest, json)| {
        let of_history = found.get(&digest).copied().unwrap_or_default();
        Part { digest, of_history, json }
    };
    Ok(Found { parts: documents.blobs.into_iter().map(part).collect(), is_history })
}

/// The blobs that hold provenance.
struct Attestations {
    /// The directory of the layout in the archive.
    prefix: String,
    /// Each blob, and whether it is of a build history.
    found: BTreeMap<Digest, bool>,
    /// Whether there is a record of build history.
    is_history: bool,
}

fn attestations(file: &File, limits: &Limits) -> Result<Attestations, BundleError> {
    let documents = Documents::read(file, &BTreeMap::new(), limits.of_manifest(), limits)?;
    let (prefix, index) = documents.index.ok_or(BundleError::NoIndex)?;
    let mut level = vec![(format!("{prefix}{INDEX}"), index)];
    let mut is_history = false;
    let mut seen = BTreeSet::new();
    let mut found = BTreeMap::new();
    for _ in 0..=MAX_INDEX_DEPTH {
        let mut next = BTreeMap::new();
        for (member, json) in level {
            let document = Document::parse(&json)
                .map_err(|source| BundleError::Document { member, source })?;
            match document {
                Document::Index(index) => {
                    let digests = index.manifests.into_iter().map(|entry| entry.digest);
                    let new = digests.filter(|digest| seen.insert(*digest));
                    next.extend(new.map(|digest| (blob_name(&prefix, &digest), digest)));
                }
                Document::Manifest(manifest) => {
                    let of_record = |config: Descriptor| config.media_type == HISTORY_RECORD;
                    let of_history = manifest.config.is_some_and(of_record);
                    is_history |= of_history;
                    let layers = manifest.layers.iter();
                    let layers =
                        layers.filter(|layer| is_provenance(&layer.media_type, &layer.annotations));
                    found.extend(layers.map(|layer| (layer.digest, of_history)));
                }
            }
        }
        if seen.len() as u64 > limits.manifests {
            return Err(BundleError::TooManyManifests { limit: limits.manifests });
        }
        if next.is_empty() {
            return Ok(Attestations { prefix, found, is_history });
        }
        let documents = Documents::read(file, &next, limits.of_manifest(), limits)?;
        let blobs = documents.blobs.into_iter();
        level = blobs.map(|(digest, json)| (blob_name(&prefix, &digest), json)).collect();
    }
    Err(BundleError::TooDeep)
}

/// The name of a blob of the layout in the directory `prefix` of an archive.
fn blob_name(prefix: &str, digest: &Digest) -> String {
    format!("{prefix}{BLOBS}{}", digest.hex())
}

/// Members of an archive.
#[derive(Default)]
struct Documents {
    /// `index.json`, and the directory that it is in: the top of the archive, or the first that has one.
    index: Option<(String, Vec<u8>)>,
    /// Verified blobs.
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Documents {
    /// Reads the blobs in `wanted`, which are found by their names in the archive, or, if that is
    /// empty, `index.json`; of each at most `limit` bytes.
    fn read(
        file: &File,
        wanted: &BTreeMap<String, Digest>,
        limit: Bound,
        limits: &Limits,
    ) -> Result<Self, BundleError> {
        let mut rewound = file;
        rewound.rewind()?;
        // One byte more than allowed shows that there is more.
        let mut stream = Decoder::new(BufReader::new(file), Encoding::Detect)?
            .take(limits.bundle_size.saturating_add(1));
        let result = Self::read_members(&mut stream, wanted, limit, limits);
        // An archive that was cut off by the limit looks damaged.
        if stream.limit() == 0 {
            return Err(BundleError::TooLong { limit: limits.bundle_size });
        }
        result
    }

    fn read_members(
        stream: &mut impl Read,
        wanted: &BTreeMap<String, Digest>,
        limit: Bound,
        limits: &Limits,
    ) -> Result<Self, BundleError> {
        let mut documents = Self::default();
        let mut left = limits.keys_documents;
        let mut members = 0;
        let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, stream));
        while let Some(entry) = reader.next()? {
            members += 1;
            if members > limits.bundle_members {
                return Err(BundleError::TooManyMembers { limit: limits.bundle_members });
            }
            let name = String::from_utf8_lossy(&entry.name);
            let name = name.strip_prefix("./").unwrap_or(&name);
            let digest = wanted.get(name);
            let prefix = name.strip_suffix(INDEX);
            let prefix = prefix.filter(|prefix| prefix.is_empty() || prefix.ends_with('/'));
            let is_first = prefix.is_some_and(|p| p.is_empty() || documents.index.is_none());
            let is_wanted = if wanted.is_empty() { is_first } else { digest.is_some() };
            if entry.kind != Kind::Regular || !is_wanted {
                continue;
            }
            let limit = smaller(limit, Bound { value: left, name: "keys-documents" });
            if entry.size > limit.value {
                return Err(BundleError::TooLarge { member: name.to_owned(), limit });
            }
            let mut content = Vec::new();
            if entry.fragments.is_none() {
                reader.copy_body(&entry, |_, piece| {
                    content.extend_from_slice(piece);
                    Ok::<_, TarError>(())
                })?;
            }
            left -= entry.size;
            json::check(&content, limits)
                .map_err(|source| BundleError::TooComplex { member: name.to_owned(), source })?;
            let Some(digest) = digest else {
                let prefix = prefix.unwrap_or_default().to_owned();
                let is_top = prefix.is_empty();
                documents.index = Some((prefix, content));
                if is_top {
                    return Ok(documents);
                }
                continue;
            };
            let actual = Digest::of(&content);
            if actual != *digest {
                return Err(BundleError::Corrupt { digest: *digest, actual });
            }
            if documents.blobs.insert(*digest, content).is_some() {
                // The same again. It has been counted twice, which only lets less in.
                continue;
            }
            if documents.blobs.len() == wanted.len() {
                return Ok(documents);
            }
        }
        Ok(documents)
    }
}

#[cfg(test)]
mod tests;

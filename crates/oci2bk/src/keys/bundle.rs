//! Provenance in archives: of OCI layouts, such as the `.dockerbuild` bundles of `docker buildx history
//! export`, and of exported builds.
//!
//! buildx v0.35.0 (`util/desktop/bundle/export.go`) writes a gzipped tar archive of a layout. A build is a
//! manifest whose config has the media type [`HISTORY_RECORD`] and whose layers are logs, traces and
//! attestations, these as bare predicates; several builds are in an index below `index.json`. Images that
//! buildctl or buildx exports with `type=oci` have the same form, with the attestation manifests of
//! [`super::attestation`].
//!
//! The layout may be in a directory of the archive, as `tar cf FILE DIR` makes it.
//!
//! The output of `--output type=tar` has no layout, but provenance beside the files of the build, see
//! [`super::exported`].
//!
//! The archive is read once for `index.json`, once per level of manifests and once for the attestations, and
//! if that finds nothing, once for exported provenance. Nothing of it is written to disk, and only the
//! requested members are held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::ops::ControlFlow;

use bkstate::Digest;

use super::attestation::is_provenance;
use super::exported;
use super::source::SourceKind;
use crate::json::{self, TooComplex};
use crate::layout::Descriptor;
use crate::limits::{Bound, Limits, MAX_INDEX_DEPTH, name, smaller};
use crate::manifest::{Document, DocumentError};
use crate::unpack::decompress::{Decoder, Encoding};
use crate::unpack::tar::{Kind, Reader, TarError};

const HISTORY_RECORD: &str = "application/vnd.buildkit.historyrecord.v0";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";

/// Size of the pieces in which the archive is decompressed.
const READ_BYTES: usize = 128 << 10;

/// Why an archive has no provenance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It cannot be read or decompressed.
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    /// It is not a sound archive.
    #[error("the archive is damaged")]
    Tar(#[from] TarError),
    /// It exceeds the limit on its size.
    #[error("the archive has more than {limit} bytes")]
    TooLong {
        /// The limit in bytes, decompressed ([`Limits::bundle_size`](crate::Limits::bundle_size)).
        limit: u64,
    },
    /// It exceeds the limit on members.
    #[error("the archive has more than {limit} members")]
    TooManyMembers {
        /// The limit ([`Limits::bundle_members`](crate::Limits::bundle_members)).
        limit: u64,
    },
    /// A document in it exceeds the limit on its size.
    #[error(
        "{member} in the archive has more than {} bytes, or all documents have", limit.value
    )]
    TooLarge {
        /// The member.
        member: String,
        /// The limit in bytes.
        limit: Bound,
    },
    /// A document has more content than any real one.
    #[error("{member} in the archive is not a document of a build")]
    TooComplex {
        /// The member.
        member: String,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// A member does not match the digest in its name.
    #[error("the blob {digest} in the archive is damaged: its content has the digest {actual}")]
    Corrupt {
        /// The digest in its name.
        digest: Digest,
        /// Its actual digest.
        actual: Digest,
    },
    /// It is an archive of something else.
    #[error(
        "the archive has neither index.json nor provenance.json, so it is not a history bundle, an OCI layout \
         or the output of a build with its provenance"
    )]
    NoIndex,
    /// A manifest is malformed.
    #[error("{member} in the archive is malformed")]
    Document {
        /// The member.
        member: String,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// Indexes are nested too deep.
    #[error("the archive has indexes more than {} deep", MAX_INDEX_DEPTH)]
    TooDeep,
    /// It exceeds the limit on manifests.
    #[error("the archive has more than {limit} manifests")]
    TooManyManifests {
        /// The limit ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
}

/// A provenance document in an archive.
#[derive(Debug)]
pub(super) struct Part {
    /// The digest of its blob, or the name of the member.
    pub(super) name: String,
    /// The kind of its container.
    pub(super) kind: SourceKind,
    /// The statement, or the bare predicate.
    pub(super) json: Vec<u8>,
}

/// The content of an archive.
#[derive(Debug)]
pub(super) struct Found {
    /// The provenance in it.
    pub(super) parts: Vec<Part>,
    /// Whether it is a bundle of build history.
    pub(super) is_history: bool,
}

/// Reads the provenance in the archive `file`. Parts that are referred to but missing are skipped.
pub(super) fn provenance(file: &File, limits: &Limits) -> Result<Found, BundleError> {
    let found = of_layout(file, limits);
    let has_none = match &found {
        Ok(found) => found.parts.is_empty() && !found.is_history,
        // Files of a build may have any name, including those of a layout.
        Err(error) => matches!(
            error,
            BundleError::NoIndex
                | BundleError::Document { .. }
                | BundleError::TooLarge { .. }
                | BundleError::TooComplex { .. }
        ),
    };
    if !has_none {
        return found;
    }
    match (exported(file, limits), found) {
        (Ok(parts), _) if !parts.is_empty() => Ok(Found { parts, is_history: false }),
        (Err(error), Ok(_) | Err(BundleError::NoIndex)) => Err(error),
        // The error of the layout came first.
        (_, found) => found,
    }
}

/// Reads the provenance beside the files of a build.
fn exported(file: &File, limits: &Limits) -> Result<Vec<Part>, BundleError> {
    let limit = limits.of_keys_document(limits.keys_documents);
    let mut parts = Vec::new();
    members(file, limit, limits, exported::is_member, |name, json| {
        parts.push(Part { name: name.to_owned(), kind: SourceKind::Provenance, json });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(parts)
}

fn of_layout(file: &File, limits: &Limits) -> Result<Found, BundleError> {
    let Attestations { prefix, found, is_history } = attestations(file, limits)?;
    let wanted = found.keys().map(|digest| (blob_name(&prefix, digest), *digest)).collect();
    let limit = limits.of_keys_document(limits.keys_documents);
    let blobs = read_blobs(file, &wanted, limit, limits)?;
    let part = |(digest, json)| {
        let of_history = found.get(&digest).copied().unwrap_or_default();
        let kind = if of_history { SourceKind::Bundle } else { SourceKind::Attestation };
        Part { name: digest.to_string(), kind, json }
    };
    Ok(Found { parts: blobs.into_iter().map(part).collect(), is_history })
}

/// The blobs with provenance.
struct Attestations {
    /// The directory of the layout in the archive.
    prefix: String,
    /// Each blob, and whether it belongs to a build history.
    found: BTreeMap<Digest, bool>,
    /// Whether there is a record of build history.
    is_history: bool,
}

fn attestations(file: &File, limits: &Limits) -> Result<Attestations, BundleError> {
    let (prefix, index) = read_index(file, limits)?.ok_or(BundleError::NoIndex)?;
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
        let blobs = read_blobs(file, &next, limits.of_manifest(), limits)?.into_iter();
        level = blobs.map(|(digest, json)| (blob_name(&prefix, &digest), json)).collect();
    }
    Err(BundleError::TooDeep)
}

/// Returns the name of a blob of the layout in the directory `prefix` of an archive.
fn blob_name(prefix: &str, digest: &Digest) -> String {
    format!("{prefix}{BLOBS}{}", digest.hex())
}

/// Reads `index.json`; also returns its directory: the top of the archive, or the first that has one.
fn read_index(file: &File, limits: &Limits) -> Result<Option<(String, Vec<u8>)>, BundleError> {
    let prefix = |name: &str| {
        let prefix = name.strip_suffix(INDEX)?;
        (prefix.is_empty() || prefix.ends_with('/')).then(|| prefix.to_owned())
    };
    let mut has_one = false;
    let is_wanted = |name: &str| {
        let is_first = prefix(name).is_some_and(|prefix| prefix.is_empty() || !has_one);
        has_one |= is_first;
        is_first
    };
    let mut index = None;
    members(file, limits.of_manifest(), limits, is_wanted, |name, content| {
        let prefix = prefix(name).unwrap_or_default();
        let is_top = prefix.is_empty();
        index = Some((prefix, content));
        Ok(if is_top { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(index)
}

/// Reads and verifies the `wanted` blobs, which are found by their names in the archive, at most `limit`
/// bytes of each.
fn read_blobs(
    file: &File,
    wanted: &BTreeMap<String, Digest>,
    limit: Bound,
    limits: &Limits,
) -> Result<BTreeMap<Digest, Vec<u8>>, BundleError> {
    let mut blobs = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(blobs);
    }
    let is_wanted = |name: &str| wanted.contains_key(name);
    members(file, limit, limits, is_wanted, |name, content| {
        let actual = Digest::of(&content);
        match wanted.get(name) {
            Some(digest) if *digest != actual => {
                return Err(BundleError::Corrupt { digest: *digest, actual });
            }
            // A duplicate counts twice, which only makes the limit stricter.
            _ => blobs.insert(actual, content),
        };
        let is_all = blobs.len() == wanted.len();
        Ok(if is_all { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(blobs)
}

/// Passes the members of the archive `file` with wanted names to `take`, with their content, until it has
/// enough; at most `limit` bytes of each.
fn members(
    file: &File,
    limit: Bound,
    limits: &Limits,
    is_wanted: impl FnMut(&str) -> bool,
    take: impl FnMut(&str, Vec<u8>) -> Result<ControlFlow<()>, BundleError>,
) -> Result<(), BundleError> {
    let mut rewound = file;
    rewound.rewind()?;
    // One byte more than allowed shows that there is more.
    let mut stream = Decoder::new(BufReader::new(file), Encoding::Detect)?
        .take(limits.bundle_size.saturating_add(1));
    let result = members_of(&mut stream, limit, limits, is_wanted, take);
    // An archive truncated by the limit looks damaged.
    if stream.limit() == 0 {
        return Err(BundleError::TooLong { limit: limits.bundle_size });
    }
    result
}

fn members_of(
    stream: &mut impl Read,
    limit: Bound,
    limits: &Limits,
    mut is_wanted: impl FnMut(&str) -> bool,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<ControlFlow<()>, BundleError>,
) -> Result<(), BundleError> {
    let mut left = limits.keys_documents;
    let mut count = 0;
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, stream));
    while let Some(entry) = reader.next()? {
        count += 1;
        if count > limits.bundle_members {
            return Err(BundleError::TooManyMembers { limit: limits.bundle_members });
        }
        let name = String::from_utf8_lossy(&entry.name);
        let name = name.strip_prefix("./").unwrap_or(&name);
        if entry.kind != Kind::Regular || !is_wanted(name) {
            continue;
        }
        let limit = smaller(limit, Bound { value: left, name: name::KEYS_DOCUMENTS });
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
        if take(name, content)?.is_break() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Archives of `docker save` in Docker's own format, which Docker Engine before v25 writes, and skopeo and
//! others as `docker-archive:`: a `manifest.json` lists images, each with its config and layers by the names
//! of members (Docker Engine v24.0 `image/tarexport/save.go`; containers/image v5.36
//! `docker/internal/tarfile`).
//!
//! For each image the manifest of an OCI image is [generated](super::made). Its layers are named by their
//! content: a plain tar by its diffID, which the config has. So they are not read until they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bkstate::Digest;
use bkstate::digest::Hasher;
use codec::FormatError;
use codec::from_objects;
use serde::Deserialize;

use super::archive::{ArchiveError, Member, Places, each_member, other_kind};
use super::made::{self, EntryName, Made, Parts};
use super::null_as_default;
use super::open::FileKind;
use super::store::{BlobFile, Name, plain};
use crate::image::full_name;
use crate::json::{self, TooComplex};
use crate::limits::{Bound, Limits, name, smaller};
use crate::manifest::{Compression, DIFF_ID, OCI_IMAGE_CONFIG};
use crate::packing::{self, Packing};
use crate::unpack::tar::{Entry, Kind};

const MANIFEST: &str = "manifest.json";
/// Maximum number of links in a chain. `docker save` writes one link for equal layers.
const LINKS: usize = 8;
/// Size of reads when hashing a layer.
const CHUNK: usize = 128 << 10;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why an archive with a `manifest.json` is not a usable one of `docker save`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// A listed member is missing.
    #[error("{member} is listed in {MANIFEST}, but not in the archive; save the image again")]
    Missing {
        /// The listed name.
        member: String,
    },
    /// A listed member is not a regular file.
    #[error("{member} is {kind}, and only regular files are read; save the image again")]
    NotAFile {
        /// The listed name.
        member: String,
        /// Its kind.
        kind: FileKind,
    },
    /// A link leads outside the archive.
    #[error("{member} is a link to {target}, which is not in the archive; save the image again")]
    LinkOut {
        /// The name of the link.
        member: String,
        /// Its target.
        target: String,
    },
    /// The chain of links is too long, or circular.
    #[error("{member} leads over more than {LINKS} links; save the image again")]
    Links {
        /// The listed name.
        member: String,
    },
    /// A document exceeds the limit on its size.
    #[error("{member} has more than {} bytes", limit.value)]
    TooLarge {
        /// The document.
        member: String,
        /// The limit.
        limit: Bound,
    },
    /// A document has more content than any real one.
    #[error("{member} is not a document of an image")]
    TooComplex {
        /// The document.
        member: String,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// A document is not the expected JSON.
    #[error("{member} is malformed; save the image again")]
    Json {
        /// The document.
        member: String,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// It has more images than the limit.
    #[error("{MANIFEST} lists more than {limit} images")]
    TooManyImages {
        /// The limit ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
    /// It has more layers than any real image.
    #[error("{MANIFEST} lists more than {limit} layers")]
    TooManyLayers {
        /// The limit ([`Limits::cache_layers`](crate::Limits::cache_layers)).
        limit: u64,
    },
    /// A config does not match its image.
    #[error(
        "{config} has {diff_ids} diffIDs, but {MANIFEST} lists {layers} layers for it; save the image again"
    )]
    DiffIds {
        /// The config.
        config: String,
        /// The number of listed layers.
        layers: usize,
        /// The number of diffIDs in the config.
        diff_ids: usize,
    },
    /// A layer is compressed in an unsupported format.
    #[error("{member} is compressed with {program}, which is not read; save the image again")]
    Compressed {
        /// The layer.
        member: String,
        /// The program that decompresses it.
        program: &'static str,
    },
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Image {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default, deserialize_with = "null_as_default")]
    names: Vec<String>,
    #[serde(rename = "Layers", default, deserialize_with = "null_as_default")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct RootFs {
    #[serde(default, deserialize_with = "null_as_default")]
    diff_ids: Vec<Digest>,
}

from_objects!(Image, Config, RootFs);

/// An archive whose members are found by their names.
struct Members<'f> {
    file: &'f Arc<File>,
    size: u64,
    limits: &'f Limits,
    /// The places of located members, links resolved.
    places: BTreeMap<String, (u64, u64)>,
    /// Number of bytes of documents that may still be read.
    left: u64,
}

/// A located member.
enum Found {
    File(u64, u64),
    Link(String),
    Other(FileKind),
}

/// Reads the images in the archive `file`, which has `size` bytes, as generated documents of a layout, and
/// its blobs; `None` if it has no `manifest.json`.
pub(super) fn read(
    file: &Arc<File>,
    size: u64,
    limits: &Limits,
) -> Result<Option<(Places, Made)>, ArchiveError> {
    let left = limits.manifests_size;
    let mut members = Members { file, size, limits, places: BTreeMap::new(), left };
    match members.locate([MANIFEST.to_owned()].into()) {
        Err(ArchiveError::Docker(DockerError::Missing { .. })) => return Ok(None),
        located => located?,
    }
    let images: Vec<Image> = members.json(MANIFEST, limits.of_manifest())?.1;
    check_counts(&images, limits)?;
    let wanted = images.iter().flat_map(|image| image.layers.iter().chain([&image.config]));
    members.locate(wanted.cloned().collect())?;

    let mut blobs = Places::new();
    let mut add = |digest, (start, size): (u64, u64)| {
        blobs.entry(Name::Blob(digest)).or_insert(Member::File(start, size));
        size
    };
    let mut layers = Layers { members: &mut members, known: BTreeMap::new() };
    let mut parts = Vec::with_capacity(images.len());
    for image in images {
        let (content, Config { rootfs: RootFs { diff_ids } }) =
            layers.members.json(&image.config, limits.of_config())?;
        if diff_ids.len() != image.layers.len() {
            let (config, layers) = (image.config, image.layers.len());
            return Err(DockerError::DiffIds { config, layers, diff_ids: diff_ids.len() }.into());
        }
        let digest = Digest::of(&content);
        let config = made::Blob {
            media_type: OCI_IMAGE_CONFIG.to_owned(),
            digest,
            size: add(digest, layers.members.place(&image.config)?),
            annotations: BTreeMap::new(),
        };
        let mut described = Vec::with_capacity(diff_ids.len());
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let place = layers.members.place(name)?;
            let (compression, hash) = layers.look_at(name, place)?;
            let digest = hash.unwrap_or(diff_id);
            described.push(made::Blob {
                media_type: compression.media_type().to_owned(),
                digest,
                size: add(digest, place),
                annotations: [(DIFF_ID, diff_id.to_string())].into(),
            });
        }
        parts.push(Parts { config, layers: described, names: names(&image.names) });
    }
    let made = Made::of(parts).map_err(|source| malformed(MANIFEST, source))?;
    Ok(Some((blobs, made)))
}

fn check_counts(images: &[Image], limits: &Limits) -> Result<(), DockerError> {
    if images.len() as u64 > limits.manifests {
        return Err(DockerError::TooManyImages { limit: limits.manifests });
    }
    let layers: usize = images.iter().map(|image| image.layers.len()).sum();
    if layers as u64 > limits.cache_layers {
        return Err(DockerError::TooManyLayers { limit: limits.cache_layers });
    }
    Ok(())
}

/// Returns the names of an image as newer releases write them in `index.json`. Invalid image names are
/// omitted.
fn names(tags: &[String]) -> Vec<EntryName> {
    let name = |text: &String| {
        let (repository, tag) = full_name(text)?;
        let image = Some(format!("{repository}:{tag}"));
        Some(EntryName { reference: tag.to_owned(), image })
    };
    tags.iter().filter_map(name).collect()
}

fn malformed(member: &str, source: FormatError) -> DockerError {
    DockerError::Json { member: member.to_owned(), source }
}

impl Members<'_> {
    /// Finds the members `wanted`, which may be links to others.
    fn locate(&mut self, wanted: BTreeSet<String>) -> Result<(), ArchiveError> {
        // The wanted members, and the names that lead to them.
        let mut open = BTreeMap::<String, Vec<String>>::new();
        for name in wanted {
            open.entry(as_member(&name)).or_default().push(name);
        }
        for _ in 0..=LINKS {
            if open.is_empty() {
                break;
            }
            let mut found = self.find(&open)?;
            let mut links = BTreeMap::<String, Vec<String>>::new();
            for (name, mut listed) in open {
                let first = || listed.first().cloned().unwrap_or_default();
                match found.remove(&name) {
                    None => return Err(DockerError::Missing { member: first() }.into()),
                    Some(Found::Other(kind)) => {
                        return Err(DockerError::NotAFile { member: first(), kind }.into());
                    }
                    Some(Found::File(start, size)) => {
                        self.places.extend(listed.into_iter().map(|name| (name, (start, size))));
                    }
                    Some(Found::Link(target)) => {
                        let out =
                            || DockerError::LinkOut { member: first(), target: target.clone() };
                        let target = resolved(&name, &target).ok_or_else(out)?;
                        links.entry(target).or_default().append(&mut listed);
                    }
                }
            }
            open = links;
        }
        match open.into_values().flatten().next() {
            None => Ok(()),
            Some(member) => Err(DockerError::Links { member }.into()),
        }
    }

    /// Finds the members with one of these names.
    fn find(
        &self,
        names: &BTreeMap<String, Vec<String>>,
    ) -> Result<BTreeMap<String, Found>, ArchiveError> {
        let mut found = BTreeMap::new();
        let limit = self.limits.archive_members;
        each_member(self.file, self.size, limit, |entry: &Entry, start, length| {
            let Ok(name) = std::str::from_utf8(plain(&entry.name)) else { return Ok(()) };
            if !names.contains_key(name) {
                return Ok(());
            }
            let member = match (entry.kind, other_kind(entry)) {
                (Kind::Symlink, _) => {
                    Found::Link(String::from_utf8_lossy(&entry.link).into_owned())
                }
                (_, Some(kind)) => Found::Other(kind),
                (_, None) => Found::File(start, length),
            };
            match found.insert(name.to_owned(), member) {
                None => Ok(()),
                Some(_) => Err(ArchiveError::Duplicate { name: name.to_owned() }),
            }
        })?;
        Ok(found)
    }

    /// Returns the offset and the size of a located member.
    fn place(&self, member: &str) -> Result<(u64, u64), DockerError> {
        let missing = || DockerError::Missing { member: member.to_owned() };
        self.places.get(member).copied().ok_or_else(missing)
    }

    fn open(&self, (start, size): (u64, u64)) -> BlobFile {
        BlobFile::new(Arc::clone(self.file), start, size)
    }

    /// Reads and parses a document.
    fn json<T: for<'de> Deserialize<'de>>(
        &mut self,
        member: &str,
        limit: Bound,
    ) -> Result<(Vec<u8>, T), ArchiveError> {
        let place = self.place(member)?;
        let limit = smaller(limit, Bound { value: self.left, name: name::MANIFESTS_SIZE });
        if place.1 > limit.value {
            return Err(DockerError::TooLarge { member: member.to_owned(), limit }.into());
        }
        self.left -= place.1;
        let mut content = Vec::new();
        self.open(place).read_to_end(&mut content).map_err(ArchiveError::Io)?;
        json::check(&content, self.limits)
            .map_err(|source| DockerError::TooComplex { member: member.to_owned(), source })?;
        let parsed = json::parse(&content).map_err(|source| malformed(member, source))?;
        Ok((content, parsed))
    }
}

/// Examined layers, by their offset.
struct Layers<'m, 'f> {
    members: &'m mut Members<'f>,
    known: BTreeMap<u64, (Compression, Option<Digest>)>,
}

impl Layers<'_, '_> {
    /// Determines the compression of a layer, and if it is compressed, reads it for its digest.
    fn look_at(
        &mut self,
        member: &str,
        place: (u64, u64),
    ) -> Result<(Compression, Option<Digest>), ArchiveError> {
        if let Some(known) = self.known.get(&place.0) {
            return Ok(*known);
        }
        let mut head = [0; packing::HEAD];
        let file = self.members.open(place);
        let length = file.read_at(&mut head, 0).map_err(ArchiveError::Io)?;
        let compression = match Packing::of(&head[..length]) {
            Packing::None => Compression::None,
            Packing::Known if head.starts_with(&ZSTD_MAGIC) => Compression::Zstd,
            Packing::Known => Compression::Gzip,
            Packing::Unknown(program) => {
                let member = member.to_owned();
                return Err(DockerError::Compressed { member, program }.into());
            }
        };
        let hash = match compression {
            Compression::None => None,
            Compression::Gzip | Compression::Zstd => Some(hash(file).map_err(ArchiveError::Io)?),
        };
        self.known.insert(place.0, (compression, hash));
        Ok((compression, hash))
    }
}

fn hash(mut file: BlobFile) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns the name of the member that `manifest.json` calls `name`.
fn as_member(name: &str) -> String {
    name.strip_prefix("./").unwrap_or(name).to_owned()
}

/// Returns the target of the link `name` to `target`; `None` if it is outside.
fn resolved(name: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<_> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests;

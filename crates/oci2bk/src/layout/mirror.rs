//! Mirrors of caches in S3 or Azure (`type=s3`, `type=azblob`): directories with manifests and blobs, each in
//! the file named by the key of its object.
//!
//! A manifest is the config of a cache, extended by the descriptor data of each layer (BuildKit v0.34.2
//! `cache/remotecache/s3/s3.go` and `azblob/exporter.go` `Finalize`). From that the manifest of a cache in
//! image-manifest style is [generated](made); the object itself is its config. [`docs/format/mirror.md`] has
//! the whole format.
//!
//! [`docs/format/mirror.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/mirror.md

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError};
use bkstate::{Digest, Time};
use codec::FormatError;
use codec::from_objects;
use rustix::io::Errno;
use serde::Deserialize;

use super::made::{self, EntryName, Made, Parts};
use super::null_as_default;
use super::open::{FileKind, OpenError, directory, regular_file};
use super::store::BlobFile;
use crate::json::{self, TooComplex};
use crate::limits::{Bound, Limits, name, smaller};
use crate::manifest::{CACHE_CONFIG, CREATED_AT, DIFF_ID};
use crate::source::Reference;

/// The directory of a cache's manifests, unless `manifests_prefix` is given.
const MANIFESTS: &str = "manifests/";
/// The name of a cache, unless `name` is given (`s3.go`, `azblob/utils.go` `getConfig`).
const DEFAULT_NAME: &str = "buildkit";
/// The part of blob names before the hash.
const ALGORITHM: &str = "sha256:";
/// Maximum number of blob prefixes to remember. A mirror has one, or one for each prefix in the bucket.
const PREFIXES: usize = 100;
/// Maximum number of names in a message.
const LISTED: usize = 20;

/// The relevant files of a mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    dir: OwnedFd,
    /// The parts of blob paths before the digest.
    prefixes: BTreeSet<String>,
    /// The paths of the manifests that can be chosen, each of which is a config.
    configs: BTreeMap<Digest, String>,
}

/// Why a directory is not a usable mirror of a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// One of its directories cannot be listed.
    #[error(transparent)]
    List(#[from] DirError),
    /// It has more content than any real one.
    #[error(
        "it has no index.json, and more than {limit} files and directories, too many to look for \
         manifests/ and blobs/; give the directory that has them"
    )]
    TooManyFiles {
        /// The limit ([`Limits::mirror_files`](crate::Limits::mirror_files)).
        limit: u64,
    },
    /// Blobs have more prefixes than can be tried for each.
    #[error("it has blobs below more than {PREFIXES} prefixes; give the directory of one of them")]
    TooManyPrefixes,
    /// It has more manifests than the limit.
    #[error("it has more than {limit} manifests; choose one with :NAME")]
    TooManyManifests {
        /// The limit ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
    /// It has blobs but no manifest.
    #[error("it has blobs, but no manifest; fetch what the cache has below manifests/, too")]
    NoManifest,
    /// It has no cache with that name.
    #[error("it has no cache {name:?}; it has {}", list(known))]
    NoName {
        /// The requested name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// Several files are manifests with that name.
    #[error("it has several caches {name:?}; choose one by its path: {}", list(paths))]
    SeveralPrefixes {
        /// The requested name.
        name: String,
        /// The paths of the manifests.
        paths: Vec<String>,
    },
    /// A manifest is not a regular file.
    #[error("{} is {kind}, and only regular files are read", path.display())]
    NotAFile {
        /// The manifest.
        path: PathBuf,
        /// Its kind.
        kind: FileKind,
    },
    /// A manifest cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The manifest.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A manifest exceeds the limit on its size.
    #[error("{} has more than {} bytes", path.display(), limit.value)]
    TooLarge {
        /// The manifest.
        path: PathBuf,
        /// The limit.
        limit: Bound,
    },
    /// A manifest has more content than any real one.
    #[error("{} is not the manifest of a cache", path.display())]
    TooComplex {
        /// The manifest.
        path: PathBuf,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// A manifest is not the expected JSON.
    #[error(
        "{} is not the whole manifest of a cache; fetch it again, or choose another with :NAME",
        path.display()
    )]
    Json {
        /// The manifest.
        path: PathBuf,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// A manifest lists a layer without its annotations.
    #[error(
        "{} has no annotations of layer {layer}, so it is not the manifest of a cache in S3 or Azure; \
         export the cache again",
        path.display()
    )]
    NoAnnotations {
        /// The manifest.
        path: PathBuf,
        /// The layer.
        layer: Digest,
    },
    /// A manifest has more layers than any real one.
    #[error("{} lists more than {limit} layers", path.display())]
    TooManyLayers {
        /// The manifest.
        path: PathBuf,
        /// The limit ([`Limits::cache_layers`](crate::Limits::cache_layers)).
        limit: u64,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<_> = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
    shown.join(", ") + if names.len() > LISTED { ", …" } else { "" }
}

impl Mirror {
    /// Opens the cache of `reference` in the mirror at `path`, of which `dir` is a handle, or all possible
    /// ones; `None` if the directory is not a mirror.
    pub(super) fn open(
        dir: &OwnedFd,
        path: &Path,
        reference: &Reference,
        limits: &Limits,
    ) -> Result<Option<(Self, Made)>, MirrorError> {
        let wanted = match reference {
            Reference::Tag(name) => Some(&**name),
            Reference::Default | Reference::Digest(_) => None,
        };
        let Some(found) = Found::below(dir, path, wanted, limits)? else { return Ok(None) };
        let chosen = found.choose(wanted, matches!(reference, Reference::Default), limits)?;
        let prefixes = found.prefixes;
        let has_blobs = !prefixes.is_empty();
        let dir =
            dir.try_clone().map_err(|source| MirrorError::Io { path: path.to_owned(), source })?;
        let mut mirror = Self { dir, prefixes, configs: BTreeMap::new() };
        let mut parts = Vec::with_capacity(chosen.len());
        let mut left = limits.manifests_size;
        for (path_below, name) in chosen {
            let limit =
                smaller(limits.of_config(), Bound { value: left, name: name::MANIFESTS_SIZE });
            let at = path.join(&path_below);
            let content = read(&mirror.dir, &path_below, &at, limit, limits)?;
            left -= content.len() as u64;
            let layers = match layers(&content, &at, limits) {
                // Other directories can have this name, too.
                Err(MirrorError::Json { .. }) if !has_blobs => return Ok(None),
                layers => layers?,
            };
            let digest = Digest::of(&content);
            let config = made::Blob {
                media_type: CACHE_CONFIG.to_owned(),
                digest,
                size: content.len() as u64,
                annotations: BTreeMap::new(),
            };
            let names = vec![EntryName { reference: name, image: None }];
            parts.push(Parts { config, layers, names });
            mirror.configs.entry(digest).or_insert(path_below);
        }
        let made = Made::of(parts);
        let made = made.map_err(|source| MirrorError::Json { path: path.to_owned(), source })?;
        Ok(Some((mirror, made)))
    }

    /// Opens a blob, or the config of a cache.
    pub(super) fn blob(&self, digest: Digest) -> Result<BlobFile, OpenError> {
        if let Some(path) = self.configs.get(&digest) {
            return regular_file(&self.dir, path).map(BlobFile::of_file);
        }
        for prefix in &self.prefixes {
            match regular_file(&self.dir, &format!("{prefix}{digest}")) {
                Err(OpenError::Missing) => {}
                result => return result.map(BlobFile::of_file),
            }
        }
        Err(OpenError::Missing)
    }
}

/// The content of a directory.
#[derive(Default)]
struct Found {
    /// The parts of blob paths before the digest.
    prefixes: BTreeSet<String>,
    /// The paths below `manifests/`.
    manifests: Vec<String>,
    /// All other paths: the manifests, if `manifests_prefix` was given.
    others: Vec<String>,
    /// Whether there are more than these.
    is_cut: bool,
}

impl Found {
    /// Walks the directories below `top`, which is at `path`; `None` if there is neither a blob nor anything
    /// below `manifests/`. It remembers all manifests that may be `wanted`, and others up to the limit.
    fn below(
        top: &OwnedFd,
        path: &Path,
        wanted: Option<&str>,
        limits: &Limits,
    ) -> Result<Option<Self>, MirrorError> {
        let mut found = Self::default();
        let mut files = 0;
        let mut waiting = vec![String::new()];
        while let Some(below) = waiting.pop() {
            for (name, is_dir) in entries(top, path, &below)? {
                files += 1;
                if files > limits.mirror_files {
                    return Err(MirrorError::TooManyFiles { limit: limits.mirror_files });
                }
                let path = format!("{below}{name}");
                if is_dir {
                    waiting.push(path + "/");
                } else if let Some(prefix) = before_digest(&path) {
                    found.prefixes.insert(prefix.to_owned());
                    if found.prefixes.len() > PREFIXES {
                        return Err(MirrorError::TooManyPrefixes);
                    }
                } else {
                    found.add(path, wanted, limits.manifests);
                }
            }
        }
        found.manifests.sort_unstable();
        found.others.sort_unstable();
        let is_mirror = !found.prefixes.is_empty() || !found.manifests.is_empty();
        Ok(is_mirror.then_some(found))
    }

    fn add(&mut self, path: String, wanted: Option<&str>, limit: u64) {
        let known =
            if short_name(&path).is_some() { &mut self.manifests } else { &mut self.others };
        if (known.len() as u64) < limit || wanted.is_some_and(|name| is_called(&path, name)) {
            known.push(path);
        } else {
            self.is_cut = true;
        }
    }

    /// Returns the paths of the selected manifests, each with its name.
    fn choose(
        &self,
        wanted: Option<&str>,
        has_default: bool,
        limits: &Limits,
    ) -> Result<Vec<(String, String)>, MirrorError> {
        let all = if self.manifests.is_empty() { &self.others } else { &self.manifests };
        let called = |name: &str| -> Vec<String> {
            let exact = all.iter().find(|path| *path == name);
            let all = all.iter().filter(|path| is_called(path, name));
            exact.map_or_else(|| all.cloned().collect(), |path| vec![path.clone()])
        };
        if let Some(name) = wanted {
            let paths = called(name);
            let name = name.to_owned();
            return match &*paths {
                [path] => Ok(vec![(path.clone(), name)]),
                [] if self.is_cut => Err(MirrorError::TooManyManifests { limit: limits.manifests }),
                [] if all.is_empty() => Err(MirrorError::NoManifest),
                [] => {
                    let known = named(all).into_iter().map(|(_, name)| name).collect();
                    Err(MirrorError::NoName { name, known })
                }
                _ => Err(MirrorError::SeveralPrefixes { name, paths }),
            };
        }
        if let [path] = &*called(DEFAULT_NAME)
            && has_default
        {
            return Ok(vec![(path.clone(), DEFAULT_NAME.to_owned())]);
        }
        if self.is_cut {
            return Err(MirrorError::TooManyManifests { limit: limits.manifests });
        }
        if all.is_empty() {
            return Err(MirrorError::NoManifest);
        }
        Ok(named(all))
    }
}

/// Returns the paths, each with the name of the cache, or, for ambiguous names, with the path itself.
fn named(paths: &[String]) -> Vec<(String, String)> {
    let mut times = BTreeMap::<_, usize>::new();
    for path in paths {
        *times.entry(short_name(path)).or_default() += 1;
    }
    let name = |path: &String| match short_name(path) {
        Some(name) if times.get(&Some(name)) == Some(&1) => name.to_owned(),
        _ => path.clone(),
    };
    paths.iter().map(|path| (path.clone(), name(path))).collect()
}

/// Returns whether the manifest at `path` is that of the cache `name`.
fn is_called(path: &str, name: &str) -> bool {
    path == name || short_name(path) == Some(name)
}

/// Returns the entries of the directory `below`, sorted by name, and whether each is a directory. A name that
/// is not text cannot come from a cache.
fn entries(top: &OwnedFd, path: &Path, below: &str) -> Result<Vec<(String, bool)>, MirrorError> {
    let at = path.join(below);
    let dir = directory(top, if below.is_empty() { "." } else { below });
    let dir = match dir {
        Ok(dir) => Dir::from_handle(dir, &at),
        Err(OpenError::Io(source)) => return Err(MirrorError::Io { path: at, source }),
        Err(OpenError::NotRegular(kind)) => return Err(MirrorError::NotAFile { path: at, kind }),
        Err(OpenError::Missing) => {
            return Err(MirrorError::Io { path: at, source: Errno::NOENT.into() });
        }
    };
    let entries = dir.entries()?;
    let named = entries.iter().filter_map(|entry| Some((entry.to_str()?.to_owned(), entry.is_dir)));
    Ok(named.collect())
}

/// Returns the part of a blob's path before the digest; `None` if it is not a blob.
fn before_digest(path: &str) -> Option<&str> {
    let at = path.rfind(ALGORITHM)?;
    path[at..].parse::<Digest>().is_ok().then(|| &path[..at])
}

/// Returns the name of the cache whose manifest is at `path`: the part after `manifests/`, if the path
/// contains that.
fn short_name(path: &str) -> Option<&str> {
    path.find(MANIFESTS).map(|at| &path[at + MANIFESTS.len()..])
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Config {
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Layer {
    blob: Digest,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The annotations of a layer (BuildKit v0.34.2 `cache/remotecache/v1/types/spec.go` `LayerAnnotations`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
struct Annotations {
    #[serde(default)]
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Digest,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    created_at: Option<Time>,
}

from_objects!(Config, Layer, Annotations);

/// Returns the layers in the manifest `content`, which is at `path`, as the importer describes them (`s3.go`
/// `makeDescriptorProviderPair`).
fn layers(content: &[u8], path: &Path, limits: &Limits) -> Result<Vec<made::Blob>, MirrorError> {
    let Config { layers } = json::parse(content)
        .map_err(|source| MirrorError::Json { path: path.to_owned(), source })?;
    let limit = limits.cache_layers;
    if layers.len() as u64 > limit {
        return Err(MirrorError::TooManyLayers { path: path.to_owned(), limit });
    }
    // One blob may be several layers.
    let mut blobs = BTreeSet::new();
    for Layer { blob, annotations } in layers {
        let Some(Annotations { media_type, diff_id, size, created_at }) = annotations else {
            return Err(MirrorError::NoAnnotations { path: path.to_owned(), layer: blob });
        };
        let created_at = created_at.filter(|time| !time.is_zero());
        let annotations = [(DIFF_ID, diff_id.to_string())]
            .into_iter()
            .chain(created_at.map(|time| (CREATED_AT, time.to_string())))
            .collect();
        blobs.insert(made::Blob { media_type, digest: blob, size, annotations });
    }
    Ok(blobs.into_iter().collect())
}

/// Reads the manifest `below` the directory `dir`, which is at `path`.
fn read(
    dir: &OwnedFd,
    below: &str,
    path: &Path,
    limit: Bound,
    limits: &Limits,
) -> Result<Vec<u8>, MirrorError> {
    let io_error = |source| MirrorError::Io { path: path.to_owned(), source };
    let (file, size) = regular_file(dir, below).map_err(|error| match error {
        OpenError::NotRegular(kind) => MirrorError::NotAFile { path: path.to_owned(), kind },
        OpenError::Io(source) => io_error(source),
        OpenError::Missing => io_error(Errno::NOENT.into()),
    })?;
    if size > limit.value {
        return Err(MirrorError::TooLarge { path: path.to_owned(), limit });
    }
    let mut content = Vec::new();
    file.take(size).read_to_end(&mut content).map_err(io_error)?;
    json::check(&content, limits)
        .map_err(|source| MirrorError::TooComplex { path: path.to_owned(), source })?;
    Ok(content)
}

#[cfg(test)]
mod tests;

//! A directory that mirrors a cache in S3 or Azure (`type=s3`, `type=azblob`): its manifests and blobs, each
//! in the file that the key of the object names.
//!
//! A manifest is the config of a cache, with what a descriptor says of each layer beside it (BuildKit v0.34.2
//! `cache/remotecache/s3/s3.go` and `azblob/exporter.go` `Finalize`). From that the manifest of a cache in
//! image style is [made]; the object itself is its config. `docs/format/mirror.md` has the whole format.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, DirError};
use bkstate::{Digest, Time};
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

/// What the manifests of a cache lie below, unless `manifests_prefix` is given.
const MANIFESTS: &str = "manifests/";
/// What a cache is called unless `name` is given (`s3.go`, `azblob/utils.go` `getConfig`).
const DEFAULT_NAME: &str = "buildkit";
/// What the names of blobs contain, before the hash.
const ALGORITHM: &str = "sha256:";
/// How many prefixes of blobs are remembered. A mirror has one, or one for each prefix in the bucket.
const PREFIXES: usize = 100;
/// How many names a message lists.
const LISTED: usize = 20;

/// The files of a mirror that count.
#[derive(Debug)]
pub(super) struct Mirror {
    dir: OwnedFd,
    /// What stands before the digest in the paths of blobs.
    prefixes: BTreeSet<String>,
    /// The paths of those manifests that can be chosen, each of which is a config.
    configs: BTreeMap<Digest, String>,
}

/// Why a directory is not a usable mirror of a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// A directory of it cannot be listed.
    #[error(transparent)]
    List(#[from] DirError),
    /// There is more in it than in any real one.
    #[error(
        "it has no index.json, and more than {limit} files and directories, too many to look for \
         manifests/ and blobs/; give the directory that has them"
    )]
    TooManyFiles {
        /// How many it may have ([`Limits::mirror_files`](crate::Limits::mirror_files)).
        limit: u64,
    },
    /// Blobs lie below more prefixes than can be tried for each.
    #[error("it has blobs below more than {PREFIXES} prefixes; give the directory of one of them")]
    TooManyPrefixes,
    /// There are more manifests than can be looked at.
    #[error("it has more than {limit} manifests; choose one with :NAME")]
    TooManyManifests {
        /// How many may be looked at ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
    /// There are blobs and nothing that says what they are.
    #[error("it has blobs, but no manifest; fetch what the cache has below manifests/, too")]
    NoManifest,
    /// There is no cache of that name.
    #[error("it has no cache {name:?}; it has {}", list(known))]
    NoName {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Several files are manifests of that name.
    #[error("it has several caches {name:?}; choose one by its path: {}", list(paths))]
    SeveralPrefixes {
        /// The name that was asked for.
        name: String,
        /// The paths of the manifests.
        paths: Vec<String>,
    },
    /// A manifest is something other than a regular file.
    #[error("{} is {kind}, and only regular files are read", path.display())]
    NotAFile {
        /// The manifest.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// A manifest cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A manifest is larger than it may be.
    #[error("{} has more than {} bytes", path.display(), limit.value)]
    TooLarge {
        /// The manifest.
        path: PathBuf,
        /// How many bytes it may have.
        limit: Bound,
    },
    /// A manifest has more in it than any real one.
    #[error("{} is not the manifest of a cache", path.display())]
    TooComplex {
        /// The manifest.
        path: PathBuf,
        /// What there is too much of.
        #[source]
        source: TooComplex,
    },
    /// A manifest is not the JSON that it should be.
    #[error(
        "{} is not the whole manifest of a cache; fetch it again, or choose another with :NAME",
        path.display()
    )]
    Json {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest lists a layer without saying what it is.
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
        /// How many it may list ([`Limits::cache_layers`](crate::Limits::cache_layers)).
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
    /// The cache that `reference` means in the mirror at `path`, of which `dir` is a handle, or all that it may
    /// mean; `None` if the directory is not a mirror.
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
                // Directories are called so for many reasons.
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

/// What lies below a directory.
#[derive(Default)]
struct Found {
    /// What stands before the digest in the paths of blobs.
    prefixes: BTreeSet<String>,
    /// The paths of what lies below `manifests/`.
    manifests: Vec<String>,
    /// The paths of all else: the manifests, if `manifests_prefix` was given.
    others: Vec<String>,
    /// Whether there are more than these.
    is_cut: bool,
}

impl Found {
    /// Walks the directories below `top`, which is at `path`; `None` if there is neither a blob nor anything below
    /// `manifests/`. Of the manifests, all that may be `wanted` are remembered, and as many as the limit allows.
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

    /// The paths of the manifests that are meant, each with what it is called.
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

/// The paths, each with the name of the cache, or, where several have the same, with itself.
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

/// Whether the manifest at `path` is that of the cache `name`.
fn is_called(path: &str, name: &str) -> bool {
    path == name || short_name(path) == Some(name)
}

/// What is in the directory `below`, in the order of the names, and whether each is a directory. What is not
/// called by text cannot have come from a cache.
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

/// What stands before the digest in the path of a blob; `None` if it is not one.
fn before_digest(path: &str) -> Option<&str> {
    let at = path.rfind(ALGORITHM)?;
    path[at..].parse::<Digest>().is_ok().then(|| &path[..at])
}

/// The name of the cache whose manifest is at `path`: what stands behind `manifests/`, if that is in it.
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

/// What is said of a layer (BuildKit v0.34.2 `cache/remotecache/v1/types/spec.go` `LayerAnnotations`).
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

/// The layers that the manifest `content`, which is at `path`, lists, as the importer describes them (`s3.go`
/// `makeDescriptorProviderPair`).
fn layers(content: &[u8], path: &Path, limits: &Limits) -> Result<Vec<made::Blob>, MirrorError> {
    let Config { layers } = serde_json::from_slice(content)
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

/// The content of the manifest `below` the directory `dir`, which is at `path`.
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

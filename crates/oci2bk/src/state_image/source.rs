//! The opened image: in a layout, or in the directory in which a runtime has put its files.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bkstate::Digest;
use bkstate::digest::Hasher;
use bkstate::dir::Dir;
use serde::Deserialize;

use super::StateImageError;
use super::document::{FORM, Item, LABEL, LIST, List, TOP, architecture};
use super::sink::{Expected, FeedError, Sink, wrong};
use crate::json;
use crate::layout::{BlobFile, Descriptor, Layout};
use crate::limits::Limits;
use crate::manifest::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, Document, OCI_INDEX, OCI_MANIFEST, REF_NAME,
};
use crate::parallel::{in_parallel, processors};
use crate::source::{Reference, Source};
use crate::unpack::tar::{Kind, Reader, TarError};

/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

/// An opened image.
pub(super) enum Opened {
    Layout { layout: Box<Layout>, manifest: Digest, layers: Vec<Descriptor> },
    Directory(Dir),
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: Labels,
}

#[derive(Deserialize, Default)]
struct Labels {
    #[serde(default, rename = "Labels")]
    labels: std::collections::BTreeMap<String, String>,
}

/// An image of a state in a layout.
struct Image {
    digest: Digest,
    architecture: Option<String>,
    layers: Vec<Descriptor>,
}

impl Opened {
    pub(super) fn open(source: &Source, limits: &Limits) -> Result<Self, StateImageError> {
        let source = source.on_disk();
        if let Some(dir) = directory(&source.path)? {
            return Ok(Self::Directory(dir));
        }
        let layout = Layout::open(&source.path, limits)?;
        let mut images = images(&layout, &source.reference)?;
        let place = || source.to_string();
        let here = architecture();
        let is_chosen = matches!(source.reference, Reference::Digest(_));
        if !is_chosen && !images.is_empty() {
            let fits = |image: &Image| image.architecture.as_deref().is_none_or(|a| a == here);
            if !images.iter().any(fits) {
                let found: BTreeSet<_> =
                    images.iter().filter_map(|image| image.architecture.clone()).collect();
                let found = found.into_iter().collect::<Vec<_>>().join(", ");
                return Err(StateImageError::Architecture { place: place(), found, here });
            }
            images.retain(fits);
        }
        match images.pop() {
            None => Err(StateImageError::NotThere { place: place() }),
            Some(Image { digest, layers, .. }) if images.is_empty() => {
                Ok(Self::Layout { layout: Box::new(layout), manifest: digest, layers })
            }
            Some(last) => {
                let known = images.iter().chain([&last]).map(|image| image.digest.to_string());
                Err(StateImageError::Several { place: place(), known: known.collect() })
            }
        }
    }

    /// Returns the manifest, if it is known.
    pub(super) fn manifest(&self) -> Option<Digest> {
        match self {
            Self::Layout { manifest, .. } => Some(*manifest),
            Self::Directory(_) => None,
        }
    }

    /// Reads the list of its content.
    pub(super) fn list(&self, limits: &Limits) -> Result<List, StateImageError> {
        let bound = limits.of_config();
        let item = || StateImageError::Item { name: LIST.to_owned(), problem: "is missing" };
        let mut content = Vec::new();
        match self {
            Self::Layout { layout, layers, .. } => {
                // It is the only file of the last layer.
                let layer = layers.last().ok_or_else(item)?;
                let mut archive = open_layer(layout, layer)?;
                let failed = |error| of_archive(layer, error);
                while let Some(entry) = archive.next().map_err(failed)? {
                    if entry.name != LIST.as_bytes() || entry.size > bound.value {
                        return Err(item());
                    }
                    archive
                        .copy_body(&entry, |_, bytes| {
                            content.extend_from_slice(bytes);
                            Ok::<_, TarError>(())
                        })
                        .map_err(failed)?;
                }
                finish(archive, layer)?;
            }
            Self::Directory(dir) => {
                let file = dir.file("state.json")?;
                let read = file.take(bound.value + 1).read_to_end(&mut content);
                let path = dir.path().join("state.json");
                read.map_err(|source| StateImageError::Read { path, source })?;
                if content.len() as u64 > bound.value {
                    return Err(item());
                }
            }
        }
        if content.is_empty() {
            return Err(item());
        }
        let list: List = json::parse(&content).map_err(StateImageError::List)?;
        if list.media_type != FORM {
            let found = list.media_type.chars().take(100).collect();
            return Err(StateImageError::Version { found });
        }
        Ok(list)
    }

    /// Passes all items to `sink`.
    pub(super) fn read(&self, sink: &Sink<'_>) -> Result<(), StateImageError> {
        match self {
            Self::Layout { layout, layers, .. } => {
                let layers = layers.split_last().map_or(&[][..], |(_, layers)| layers);
                in_parallel(layers, processors(), |layer| read_layer(layout, layer, sink))?;
            }
            Self::Directory(dir) => {
                let items: Vec<_> = sink.content.0.keys().copied().collect();
                in_parallel(&items, processors(), |item| {
                    sink.take(*item, |expected, out| feed_files(dir, *item, expected, out))
                })?;
            }
        }
        sink.check_all()
    }
}

/// Returns the directory with the files of an image, if `path` has one.
fn directory(path: &Path) -> Result<Option<Dir>, StateImageError> {
    let Ok(dir) = Dir::open(path) else { return Ok(None) };
    let Ok(dir) = dir.dir(TOP) else { return Ok(None) };
    Ok(dir.find("state.json")?.is_some().then_some(dir))
}

/// Returns the images of a state that `reference` names.
fn images(layout: &Layout, reference: &Reference) -> Result<Vec<Image>, StateImageError> {
    let mut left: Vec<Descriptor> = match reference {
        Reference::Digest(digest) => {
            let mut entries = layout.entries().iter();
            let known = entries.find(|entry| entry.digest == *digest).cloned();
            vec![known.map_or_else(|| layout.describe_blob(*digest), Ok)?]
        }
        Reference::Tag(tag) => {
            let has = |entry: &&Descriptor| entry.annotations.get(REF_NAME) == Some(tag);
            layout.entries().iter().filter(has).cloned().collect()
        }
        Reference::Default => layout.entries().to_vec(),
    };
    let mut seen = BTreeSet::new();
    let mut images = Vec::new();
    let mut depth = 0;
    while !left.is_empty() && depth < 3 {
        depth += 1;
        let mut below = Vec::new();
        for entry in left {
            let is_document = [OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST_LIST, DOCKER_MANIFEST, ""]
                .contains(&entry.media_type.as_str());
            // An index can be that of a cache, which lists layers.
            if !is_document || !seen.insert(entry.digest) {
                continue;
            }
            match Document::read(layout, &entry)? {
                Document::Index(index) => below.extend(index.manifests),
                Document::Manifest(manifest) => {
                    let Some(config) = &manifest.config else { continue };
                    if !config.media_type.ends_with("+json") {
                        continue;
                    }
                    let content = layout.read_blob(config, layout.limits().of_manifest())?;
                    let Ok(parsed) = json::parse::<Config>(&content) else { continue };
                    match parsed.image.config.labels.get(LABEL) {
                        None => {}
                        Some(form) if form == FORM => images.push(Image {
                            digest: entry.digest,
                            architecture: parsed.architecture,
                            layers: manifest.layers,
                        }),
                        Some(form) => {
                            let found = form.chars().take(100).collect();
                            return Err(StateImageError::Version { found });
                        }
                    }
                }
            }
        }
        left = below;
    }
    Ok(images)
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: Option<String>,
    #[serde(flatten)]
    image: ImageConfig,
}

type LayerReader = Reader<BufReader<Hashed>>;

/// The bytes of a blob, hashed while they are read.
struct Hashed {
    blob: BlobFile,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.blob.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

fn open_layer(layout: &Layout, layer: &Descriptor) -> Result<LayerReader, StateImageError> {
    let blob = layout.open_blob(layer)?;
    let hashed = Hashed { blob, hasher: Hasher::new() };
    Ok(Reader::new(BufReader::with_capacity(CHUNK, hashed)))
}

/// Reads the rest of a layer, and compares its digest.
fn finish(archive: LayerReader, layer: &Descriptor) -> Result<(), StateImageError> {
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())
        .map_err(|source| StateImageError::Layer { layer: layer.digest, source })?;
    let found = rest.into_inner().hasher.finish();
    if found != layer.digest {
        let (name, expected) = ("a layer".to_owned(), layer.digest);
        return Err(StateImageError::Digest { name, expected, found });
    }
    Ok(())
}

fn of_archive(layer: &Descriptor, error: TarError) -> StateImageError {
    StateImageError::Layer { layer: layer.digest, source: io::Error::other(error) }
}

fn read_layer(layout: &Layout, layer: &Descriptor, sink: &Sink<'_>) -> Result<(), StateImageError> {
    let mut archive = open_layer(layout, layer)?;
    let read = read_items(&mut archive, layer, sink);
    // A damaged layer explains all other errors.
    match finish(archive, layer) {
        Err(damaged) if !matches!(read, Err(StateImageError::Cancelled)) => Err(damaged),
        _ => read,
    }
}

fn read_items(
    archive: &mut LayerReader,
    layer: &Descriptor,
    sink: &Sink<'_>,
) -> Result<(), StateImageError> {
    let failed = |error| of_archive(layer, error);
    while let Some(entry) = archive.next().map_err(failed)? {
        if entry.kind == Kind::Directory {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let is_file = entry.kind == Kind::Regular && entry.fragments.is_none();
        let Some((item, 0)) = Item::of_file(&name).filter(|_| is_file) else {
            let name = name.chars().take(100).collect();
            return Err(StateImageError::Item { name, problem: "is not the start of an item" });
        };
        sink.take(item, |expected, out| {
            let mut entry = entry;
            for part in 0..expected.parts {
                if part > 0 {
                    let next = archive.next().map_err(|error| FeedError::Source(failed(error)))?;
                    let name = item.file(part);
                    entry = next
                        .filter(|next| next.kind == Kind::Regular && next.name == name.as_bytes())
                        .ok_or_else(|| FeedError::Source(wrong(item, "lacks a part")))?;
                }
                archive
                    .copy_body(&entry, |_, bytes| out.write_all(bytes).map_err(PartError::Write))
                    .map_err(|error| match error {
                        PartError::Tar(error) => FeedError::Source(failed(error)),
                        PartError::Write(error) => FeedError::Sink(error),
                    })?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

enum PartError {
    Tar(TarError),
    Write(io::Error),
}

impl From<TarError> for PartError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

/// Writes the files of `item` to `out`.
fn feed_files(
    top: &Dir,
    item: Item,
    expected: &Expected,
    out: &mut dyn Write,
) -> Result<(), FeedError> {
    let mut chunk = vec![0; CHUNK];
    for part in 0..expected.parts {
        let name = item.file(part);
        let mut words: Vec<_> = name.split('/').skip(1).collect();
        let last = words.pop().unwrap_or_default();
        let open = || {
            let above = words.iter().try_fold(top.try_clone()?, |dir, word| dir.dir(*word))?;
            above.file(last)
        };
        let mut file = open().map_err(|error| FeedError::Source(error.into()))?;
        loop {
            let length = match file.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = top.path().join(&name);
                    return Err(FeedError::Source(StateImageError::Read { path, source }));
                }
                Ok(0) => break,
                Ok(length) => length,
            };
            out.write_all(&chunk[..length]).map_err(FeedError::Sink)?;
        }
    }
    Ok(())
}

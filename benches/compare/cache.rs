//! Generates caches: the same bytes for the same shape.
//!
//! ```text
//! DIR/cache.json          the properties of the cache; written last
//! DIR/build               the build of the cache (see `llb`), which also has the keys
//! DIR/tar/0..             the layers, uncompressed
//! DIR/gzip, DIR/zstd      the cache exports
//! DIR/gzip-image, ...     the same blobs as an image, for tools that only support images
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bkstate::Digest;
use bkstate::digest::Hasher;
use serde::{Deserialize, Serialize};

use crate::content::{Numbers, Pools, share, sizes};
use crate::layout::{media_type, write_export, write_image};
use crate::{llb, pool};

/// Version in `cache.json`; a new one makes generated caches be generated again.
const GENERATION: u32 = 1;
/// 2025-01-01, for all times.
const MTIME: u64 = 1_735_689_600;
/// Number of files in a directory, and number of files for each symbolic link.
const FILES_PER_DIRECTORY: u64 = 16;
const FILES_PER_LINK: u64 = 20;
const BUFFER: usize = 1 << 20;

/// The size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Total size of all files, in bytes.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) layers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A generated cache in one compression.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) shape: Shape,
    pub(crate) compression: Compression,
    /// The export.
    pub(crate) layout: PathBuf,
    /// The same as an image with the tag `latest`.
    pub(crate) image: PathBuf,
    /// The build to run with the cache, which also has the keys.
    pub(crate) build: PathBuf,
    /// The layers, lowest first.
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) tar: PathBuf,
    pub(crate) blob: PathBuf,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

impl Cache {
    pub(crate) fn blob_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Reads everything that the contestants will read, so that all find it in the page cache.
    pub(crate) fn warm(&self, with_tars: bool) -> Result<()> {
        for layer in &self.layers {
            io::copy(&mut File::open(&layer.blob)?, &mut io::sink())?;
            if with_tars {
                io::copy(&mut File::open(&layer.tar)?, &mut io::sink())?;
            }
        }
        Ok(())
    }
}

/// Returns the caches of a shape below `work`, and generates missing ones.
pub(crate) fn caches(
    work: &Path,
    shape: Shape,
    compressions: &[Compression],
) -> Result<Vec<Cache>> {
    let Shape { bytes, files, layers } = shape;
    let dir = work.join(format!("{bytes}-bytes-{files}-files-{layers}-layers"));
    let wanted = Made { generation: GENERATION, shape, compressions: compressions.to_vec() };
    let made = fs::read(dir.join("cache.json")).ok().and_then(|json| Made::read(&json));
    let usable = made.is_some_and(|made| {
        made.generation == GENERATION && compressions.iter().all(|c| made.compressions.contains(c))
    });
    if !usable {
        eprintln!("generating {}", dir.display());
        generate(&dir, shape, compressions)
            .with_context(|| format!("cannot generate {}", dir.display()))?;
        fs::write(dir.join("cache.json"), serde_json::to_vec_pretty(&wanted)?)?;
    }
    compressions.iter().map(|compression| open(&dir, shape, *compression)).collect()
}

/// Removes the caches of a shape.
pub(crate) fn remove(cache: &Cache) -> Result<()> {
    let dir = cache.layout.parent().context("a cache lies in a directory")?;
    Ok(fs::remove_dir_all(dir)?)
}

#[derive(Debug, Serialize, Deserialize)]
struct Made {
    generation: u32,
    shape: Shape,
    compressions: Vec<Compression>,
}

impl Made {
    fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// The properties of a compressed layer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

fn generate(dir: &Path, shape: Shape, compressions: &[Compression]) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir.join("tar"))?;
    for compression in compressions {
        fs::create_dir_all(dir.join(compression.name()).join("blobs/sha256"))?;
    }
    let pools = Pools::new();
    let weights: Vec<u64> = (0..shape.layers).map(|layer| (1 << 20) / (layer + 1)).collect();
    let bytes = share(shape.bytes, &weights);
    let files = share(shape.files, &weights);
    let layers: Vec<_> = (0..shape.layers).zip(bytes.into_iter().zip(files)).collect();
    let blobs = pool::run(&layers, available(), |&(number, (bytes, files))| {
        let tar = tar_path(dir, number);
        let diff_id = write_tar(&tar, &pools, number, files, bytes)?;
        let compress = |compression: &Compression| {
            let layout = dir.join(compression.name());
            compress(&tar, *compression, &layout, diff_id)
        };
        compressions.iter().map(compress).collect::<Result<Vec<_>>>()
    })?;
    let build = llb::build(shape.layers as usize);
    fs::write(dir.join("build"), &build)?;
    let records = llb::records(&build, shape.layers as usize)?;
    for (index, compression) in compressions.iter().enumerate() {
        let blobs: Vec<_> = blobs.iter().map(|layer| &layer[index]).collect();
        let layout = dir.join(compression.name());
        write_export(&layout, *compression, &blobs, &records)?;
        write_image(&layout, &image_path(dir, *compression), *compression, &blobs)?;
        fs::write(dir.join(layers_file(*compression)), serde_json::to_vec(&blobs)?)?;
    }
    Ok(())
}

fn open(dir: &Path, shape: Shape, compression: Compression) -> Result<Cache> {
    let layout = dir.join(compression.name());
    let blobs: Vec<Blob> = serde_json::from_slice(&fs::read(dir.join(layers_file(compression)))?)?;
    let layer = |(number, blob): (u64, Blob)| Layer {
        tar: tar_path(dir, number),
        blob: layout.join("blobs/sha256").join(blob.digest.hex()),
        media_type: media_type(compression),
        digest: blob.digest,
        size: blob.size,
        diff_id: blob.diff_id,
    };
    Ok(Cache {
        shape,
        compression,
        image: image_path(dir, compression),
        build: dir.join("build"),
        layers: (0..).zip(blobs).map(layer).collect(),
        layout,
    })
}

fn tar_path(dir: &Path, number: u64) -> PathBuf {
    dir.join("tar").join(number.to_string())
}

fn image_path(dir: &Path, compression: Compression) -> PathBuf {
    dir.join(format!("{}-image", compression.name()))
}

fn layers_file(compression: Compression) -> String {
    format!("{}.json", compression.name())
}

fn available() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Writes to a file and a hash, and counts the bytes.
#[derive(Debug)]
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes the tar stream of layer `layer`: directories with an entry each, as exporters write them,
/// files, and some symbolic links. Returns the diffID.
fn write_tar(path: &Path, pools: &Pools, layer: u64, files: u64, bytes: u64) -> Result<Digest> {
    let file = Hashed::new(File::create(path)?);
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(BUFFER, file));
    let mut numbers = Numbers::new(layer ^ 0x7A5);
    let top = format!("opt/layer-{layer}");
    for directory in ["opt", &top] {
        append_directory(&mut tar, directory)?;
    }
    let mut directory = String::new();
    for (number, size) in (0..).zip(sizes(files, bytes, layer)) {
        if number % (FILES_PER_DIRECTORY * 32) == 0 {
            append_directory(&mut tar, &format!("{top}/part-{}", number / 512))?;
        }
        if number % FILES_PER_DIRECTORY == 0 {
            directory =
                format!("{top}/part-{}/package-{}", number / 512, number / FILES_PER_DIRECTORY);
            append_directory(&mut tar, &directory)?;
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(if numbers.below(8) == 0 { 0o755 } else { 0o644 });
        header.set_mtime(MTIME + numbers.below(1 << 20));
        let content = pools.file(layer << 32 | number, size);
        tar.append_data(&mut header, format!("{directory}/{}{number}", FILE_PREFIX), content)?;
        if number % FILES_PER_LINK == 0 {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            header.set_mtime(MTIME);
            let target = format!("{FILE_PREFIX}{number}");
            tar.append_link(&mut header, format!("{directory}/link-{number}"), target)?;
        }
    }
    let mut file = tar.into_inner()?.into_inner()?;
    file.flush()?;
    Ok(file.hasher.finish())
}

/// Prefix of the names of generated files; no other file has it.
pub(crate) const FILE_PREFIX: &str = "generated-";

fn append_directory(tar: &mut tar::Builder<impl Write>, path: &str) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_mtime(MTIME);
    tar.append_data(&mut header, format!("{path}/"), io::empty())
}

/// Compresses a layer at BuildKit's level, into the blobs of `layout`.
fn compress(tar: &Path, compression: Compression, layout: &Path, diff_id: Digest) -> Result<Blob> {
    let blobs = layout.join("blobs/sha256");
    let unnamed = blobs.join(format!(".{}", diff_id.hex()));
    let mut input = File::open(tar)?;
    let output = Hashed::new(io::BufWriter::with_capacity(BUFFER, File::create(&unnamed)?));
    let mut output = match compression {
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            copy(&mut input, &mut gzip)?;
            gzip.finish()?
        }
        Compression::Zstd => {
            let mut zstd = zstd::Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            copy(&mut input, &mut zstd)?;
            zstd.finish()?
        }
    };
    output.flush()?;
    let (digest, size) = (output.hasher.finish(), output.bytes);
    fs::rename(unnamed, blobs.join(digest.hex()))?;
    Ok(Blob { digest, size, diff_id })
}

fn copy(input: &mut File, output: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            length => output.write_all(&buffer[..length])?,
        }
    }
}

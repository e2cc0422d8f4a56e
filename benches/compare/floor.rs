//! The floor: a lower bound for every program that unpacks these layers, in two parts.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use oci2bk::limits::Limits;
use oci2bk::unpack;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

use crate::cache::{Cache, Layer};
use crate::pool;

/// Size of a write, in bytes.
const CHUNK: usize = 256 << 10;

/// Reads, hashes and inflates every layer with the code of `convert`, and hashes the result; writes nothing.
pub(crate) fn inflate(cache: &Cache, jobs: NonZeroUsize) -> Result<()> {
    let inflated = pool::run(&largest_first(cache), jobs, |layer| {
        let blob = File::open(&layer.blob)?;
        let layer = unpack::Layer {
            blob: &blob,
            digest: layer.digest,
            size: layer.size,
            media_type: &layer.media_type,
            diff_id: layer.diff_id,
        };
        Ok(unpack::check(&layer, &Limits::default(), &|_| {})?.bytes)
    });
    inflated.map(drop)
}

/// Writes the files of every layer below `target` from its tar, which is in the page cache, with the minimum
/// of system calls for names, modes and times.
pub(crate) fn write(cache: &Cache, target: &Path, jobs: NonZeroUsize) -> Result<()> {
    let target = File::open(target)?;
    let written = pool::run(&largest_first(cache), jobs, |layer| {
        let name = layer.digest.hex();
        rustix::fs::mkdirat(&target, &name, Mode::RWXU)?;
        write_layer(layer, &open_directory(&target, Path::new(&name))?)
    });
    written.map(drop)
}

fn largest_first(cache: &Cache) -> Vec<&Layer> {
    let mut layers: Vec<_> = cache.layers.iter().collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    layers
}

fn open_directory(above: impl std::os::fd::AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(above, path, flags, Mode::empty())?)
}

fn write_layer(layer: &Layer, root: &OwnedFd) -> Result<()> {
    let mut tar = tar::Archive::new(BufReader::with_capacity(CHUNK, File::open(&layer.tar)?));
    let mut chunk = vec![0; CHUNK];
    // Entries come directory by directory.
    let mut last: Option<(std::path::PathBuf, OwnedFd)> = None;
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mode = Mode::from_raw_mode(entry.header().mode()?);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            rustix::fs::mkdirat(root, &path, mode)?;
            continue;
        }
        let parent = path.parent().context("a file at the top")?;
        let name = path.file_name().context("a file without a name")?;
        if last.as_ref().is_none_or(|(known, _)| known != parent) {
            last = Some((parent.to_owned(), open_directory(root, parent)?));
        }
        let Some((_, parent)) = &last else { bail!("no directory") };
        let time = Timespec { tv_sec: entry.header().mtime()?.cast_signed(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        if kind.is_symlink() {
            let target = entry.link_name()?.context("a link without a target")?;
            rustix::fs::symlinkat(&*target, parent, name)?;
            rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, mode)?;
        loop {
            let length = entry.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            let mut left = &chunk[..length];
            while !left.is_empty() {
                left = &left[rustix::io::write(&file, left)?..];
            }
        }
        rustix::fs::futimens(&file, &times)?;
    }
    Ok(())
}

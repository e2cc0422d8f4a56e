//! The compared programs.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cache::{Cache, Compression, FILE_PREFIX};
use crate::daemon::Daemon;
use crate::measure::{Sample, measure};
use crate::process::{peak_memory, run_piped, run_watched};
use crate::target::{Kind, Target};
use crate::{containerd, floor, pool};

/// A way from the blobs of a cache to the files in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Convert,
    /// Into the roots of a buildkitd and of a new containerd.
    OnContainerd,
    /// The same, with a containerd that other programs have used.
    OnUsedContainerd,
    Buildkitd,
    /// GNU tar after a program that decompresses to stdout.
    Tar(&'static str),
    Umoci,
    FloorInflate,
    FloorWrite,
}

impl Contestant {
    pub(crate) const PIGZ: Self = Self::Tar("pigz");
    pub(crate) const IGZIP: Self = Self::Tar("igzip");
    pub(crate) const ZSTD: Self = Self::Tar("zstd");
    pub(crate) const FLOOR: [Self; 2] = [Self::FloorInflate, Self::FloorWrite];

    /// The other kinds of builders.
    pub(crate) const WORKERS: [Self; 2] = [Self::OnContainerd, Self::OnUsedContainerd];

    /// Returns all contestants that support it, in order of their turns.
    pub(crate) fn all(compression: Compression) -> Vec<Self> {
        let peers: &[Self] = match compression {
            Compression::Gzip => &[Self::PIGZ, Self::IGZIP, Self::Umoci],
            // umoci supports zstd since v0.5.
            Compression::Zstd => &[Self::ZSTD],
        };
        [&[Self::Convert, Self::Buildkitd], peers, &Self::FLOOR].concat()
    }

    /// Returns the name in reports, which is stable.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Convert => "convert".to_owned(),
            Self::OnContainerd => "convert+containerd".to_owned(),
            Self::OnUsedContainerd => "convert+used-containerd".to_owned(),
            Self::Buildkitd => "buildkitd".to_owned(),
            Self::Tar(filter) => format!("tar+{filter}"),
            Self::Umoci => "umoci".to_owned(),
            Self::FloorInflate => "floor-inflate".to_owned(),
            Self::FloorWrite => "floor-write".to_owned(),
        }
    }
}

/// The environment of the contestants.
#[derive(Debug)]
pub(crate) struct Arena {
    /// The directory of mount points.
    pub(crate) work: PathBuf,
    pub(crate) kind: Kind,
    /// Number of parallel layers.
    pub(crate) jobs: NonZeroUsize,
    /// Our command.
    pub(crate) oci2bk: PathBuf,
    /// The directory with buildkitd and buildctl.
    pub(crate) buildkit: PathBuf,
}

impl Arena {
    /// Runs `contestant` on a new file system.
    pub(crate) fn run(&self, contestant: Contestant, cache: &Cache) -> Result<Sample> {
        // Space for blobs and files, plus block and inode overhead.
        let room = cache.shape.bytes * 5 / 4
            + cache.blob_bytes() * 5 / 4
            + cache.shape.files * (16 << 10)
            + (256 << 20);
        let target = Target::new(&self.work, self.kind, room)?;
        let sample = self.run_on(contestant, cache, target.path());
        let sample = sample.with_context(|| contestant.name())?;
        if contestant != Contestant::FloorInflate {
            let (found, expected) = (count_files(target.path())?, cache.shape.files);
            ensure!(found == expected, "{}: {found} of {expected} files", contestant.name());
        }
        Ok(sample)
    }

    fn run_on(&self, contestant: Contestant, cache: &Cache, target: &Path) -> Result<Sample> {
        match contestant {
            Contestant::Convert | Contestant::OnContainerd | Contestant::OnUsedContainerd => {
                let containerd = target.join("containerd");
                if contestant == Contestant::OnUsedContainerd {
                    containerd::fill(&containerd)?;
                }
                let mut convert = Command::new(&self.oci2bk);
                convert.args(["convert", "--progress=quiet", "--jobs", &self.jobs.to_string()]);
                convert.arg("--keys").arg(&cache.build);
                convert.arg(&cache.layout).arg(target.join("root"));
                if contestant != Contestant::Convert {
                    convert.arg("--containerd-root").arg(&containerd);
                }
                measure(target, None, || run_watched(&mut convert).map(Some))
            }
            Contestant::Buildkitd => {
                let daemon = Daemon::start(&self.buildkit, target)?;
                measure(target, Some(daemon.id()), || {
                    daemon.import(cache)?;
                    Ok(Some(peak_memory(daemon.id())))
                })
            }
            Contestant::Tar(filter) => {
                let mut layers: Vec<_> = cache.layers.iter().collect();
                layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
                let unpack = |layer: &&crate::cache::Layer| {
                    let dir = target.join(layer.digest.hex());
                    fs::create_dir(&dir)?;
                    let mut inflate = Command::new(filter);
                    inflate.arg("-dc").arg(&layer.blob);
                    let mut tar = Command::new("tar");
                    tar.args(["--extract", "--numeric-owner", "--file=-", "--directory"]).arg(dir);
                    run_piped(&mut inflate, &mut tar)
                };
                measure(target, None, || pool::run(&layers, self.jobs, unpack).map(|_| None))
            }
            Contestant::Umoci => {
                let mut umoci = Command::new("umoci");
                let image = format!("{}:latest", cache.image.display());
                umoci.args(["raw", "unpack", "--image", &image]).arg(target.join("rootfs"));
                measure(target, None, || run_watched(&mut umoci).map(Some))
            }
            Contestant::FloorInflate => {
                measure(target, None, || floor::inflate(cache, self.jobs).map(|()| None))
            }
            Contestant::FloorWrite => {
                measure(target, None, || floor::write(cache, target, self.jobs).map(|()| None))
            }
        }
    }
}

/// Counts the generated files below `dir`: no contestant may be fast by doing less.
fn count_files(dir: &Path) -> Result<u64> {
    let mut count = 0;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && is_generated(&entry.file_name()) {
                count += 1;
            }
        }
    }
    Ok(count)
}

fn is_generated(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(FILE_PREFIX.as_bytes())
}

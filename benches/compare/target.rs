//! The file system for contestants: a new one for every run.
//!
//! On a used file system, a run pays for earlier ones: ext4 makes files many times slower for some seconds
//! after many were removed (Linux `fs/ext4/ialloc.c` `recently_deleted`), and unwritten data competes with
//! new writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::process::run;

/// The kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// tmpfs: what the programs cost, and no disk
    Tmpfs,
    /// ext4 on a loop device whose file is in a tmpfs: what an ordinary file system costs in addition,
    /// on a disk that is as fast as memory
    Ext4,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4 on a loop device in memory",
        }
    }
}

/// A new, empty file system, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    /// Mount points, outermost first.
    mounts: Vec<PathBuf>,
    path: PathBuf,
    _dir: TempDir,
}

impl Target {
    /// Mounts a file system with space for `bytes` below the directory `work`.
    pub(crate) fn new(work: &Path, kind: Kind, bytes: u64) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("target-").tempdir_in(work)?;
        let outer = dir.path().join("outer");
        fs::create_dir(&outer)?;
        let mut target = Self { mounts: Vec::new(), path: outer.join("out"), _dir: dir };
        let options = format!("size={},mode=0755", bytes + (64 << 20));
        let tmpfs = ["-t", "tmpfs", "-o", &options, "oci2bk-bench"];
        run(Command::new("mount").args(tmpfs).arg(&outer)).context("a tmpfs cannot be mounted")?;
        target.mounts.push(outer.clone());
        fs::create_dir(&target.path)?;
        if kind == Kind::Ext4 {
            let image = outer.join("image");
            fs::File::create(&image)?.set_len(bytes)?;
            // No background work of the kernel during the measurement.
            let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
            run(Command::new("mkfs.ext4").args(["-q", "-E", options]).arg(&image))?;
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&target.path))?;
            target.mounts.push(target.path.clone());
        }
        Ok(target)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            if let Err(error) = run(Command::new("umount").arg(mount)) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

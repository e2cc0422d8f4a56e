//! Directories in memory, where the disk must not have an effect.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testkit::process::run;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    /// Creates `point` and mounts a tmpfs on it.
    pub(super) fn mount(point: PathBuf) -> Result<Self> {
        fs::create_dir(&point)?;
        run(Command::new("mount").args(["-t", "tmpfs", "oci2bk-lab"]).arg(&point))
            .context("a tmpfs cannot be mounted")?;
        Ok(Self(point))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A busy file system is unmounted when it is not in use any more.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

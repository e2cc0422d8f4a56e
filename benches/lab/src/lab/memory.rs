//! Directories in memory, for what no disk is to decide.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testkit::process::run;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    /// Mounts one at `point`, which is made.
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
        // What cannot be unmounted now is as soon as nobody uses it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

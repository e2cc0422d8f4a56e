//! The first build on a converted root against that on a root which a daemon made, often enough to
//! tell 5 %.
//!
//! A build whose every step is cached takes a tenth of a second or two, and that of a scenario differs
//! from repeat to repeat by more than what is to be shown. Here both roots are made once, and a copy of
//! each is built on in turn, in memory, so that no disk decides.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::process::run;

use super::Lab;
use super::ready::{Preparation, copy_root};
use crate::record::FirstBuilds;
use crate::scenario::Builder;

impl Lab {
    /// Measures so many builds on either kind of root, after [`Lab::seed`].
    ///
    /// # Errors
    /// If no tmpfs can be mounted, or a build fails or is not what was built before.
    pub fn first_builds(&self, builds: u32) -> Result<FirstBuilds> {
        let memory = Memory::mount(self.scratch.path().join("memory"))?;
        let (converted, natural) = (memory.0.join("converted"), memory.0.join("natural"));
        for (builder, root) in [(Builder::Converted, &converted), (Builder::Baked, &natural)] {
            let ready = self.make_ready(builder, root, &mut Preparation::default())?;
            ready.daemon.stop()?;
        }
        let mut measured = FirstBuilds { converted: Vec::new(), natural: Vec::new() };
        let root = memory.0.join("builder");
        let mut images = Vec::new();
        for build in 0..2 * builds {
            // One more change of turns in every other pair, so that neither is always the second.
            let is_converted = (build % 2 == 0) == (build / 2 % 2 == 0);
            copy_root(if is_converted { &converted } else { &natural }, &root)?;
            let daemon = self.start(&root)?;
            let built = self.build(&daemon, &self.request(false))?;
            daemon.stop()?;
            fs::remove_dir_all(&root)?;
            let list = if is_converted { &mut measured.converted } else { &mut measured.natural };
            list.push(built.micros);
            images.push(built.image);
        }
        images.dedup();
        ensure!(images.len() <= 1, "the first builds gave other images: {}", images.join(", "));
        Ok(measured)
    }
}

/// A tmpfs, unmounted when dropped.
struct Memory(PathBuf);

impl Memory {
    fn mount(point: PathBuf) -> Result<Self> {
        fs::create_dir(&point)?;
        run(Command::new("mount").args(["-t", "tmpfs", "oci2bk-lab"]).arg(&point))
            .context("a tmpfs cannot be mounted")?;
        Ok(Self(point))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What cannot be unmounted now is as soon as nobody uses it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

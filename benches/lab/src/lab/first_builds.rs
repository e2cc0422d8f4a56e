//! Compares the first build on a converted root with that on a root which a daemon made, often enough to
//! detect a difference of 5 %.
//!
//! A fully cached build takes a tenth of a second or two, and in a scenario it varies between repeats by more
//! than the expected difference. Here both roots are made once, and builds run in turn on copies of them, in
//! memory, so that the disk has no effect.
//!
//! A daemon keeps the build contexts that clients sent, and asks a known client only for changes. Contexts
//! are not part of a cache export, and of no use to buildx on another machine, which adds its own id to the
//! name of a context (v0.38.2 `build/opt.go`). So they are removed from the root of the daemon. Their effect
//! is measured, too.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::process::run;

use super::Lab;
use super::memory::Memory;
use super::ready::{Preparation, copy_root};
use crate::record::FirstBuilds;
use crate::scenario::Builder;

/// Time after which a started daemon is idle: it collects garbage after a second, and removes leftovers of
/// the previous build.
const SETTLED: Duration = Duration::from_secs(2);

impl Lab {
    /// Measures this number of builds of each kind, after [`Lab::seed`].
    ///
    /// # Errors
    /// Returns an error if a tmpfs cannot be mounted, or a build fails or its image differs.
    pub fn first_builds(&self, builds: u32) -> Result<FirstBuilds> {
        let memory = Memory::mount(self.scratch.path().join("memory"))?;
        let [converted, acquainted, natural] =
            ["converted", "acquainted", "natural"].map(|name| memory.path().join(name));
        for (builder, root) in [(Builder::Converted, &converted), (Builder::Baked, &acquainted)] {
            let ready = self.make_ready(builder, root, &mut Preparation::default())?;
            ready.daemon.stop()?;
        }
        copy_root(&acquainted, &natural)?;
        let daemon = self.start(&natural)?;
        run(daemon.buildctl().args(["prune", "--filter=type==source.local"]))?;
        daemon.stop()?;
        let mut measured =
            FirstBuilds { converted: Vec::new(), natural: Vec::new(), acquainted: Vec::new() };
        let root = memory.path().join("builder");
        let mut images = Vec::new();
        for build in 0..builds {
            let mut kinds = [
                (&converted, &mut measured.converted),
                (&natural, &mut measured.natural),
                (&acquainted, &mut measured.acquainted),
            ];
            // So that the order varies.
            kinds.rotate_left(build as usize % 3);
            if build % 2 == 1 {
                kinds.reverse();
            }
            for (warm, list) in kinds {
                copy_root(warm, &root)?;
                let daemon = self.start(&root)?;
                thread::sleep(SETTLED);
                let built = self.build(&daemon, &self.request(false))?;
                daemon.stop()?;
                fs::remove_dir_all(&root)?;
                list.push(built.micros);
                images.push(built.image);
            }
        }
        images.dedup();
        ensure!(images.len() <= 1, "the first builds gave other images: {}", images.join(", "));
        Ok(measured)
    }
}

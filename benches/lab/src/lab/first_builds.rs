//! The first build on a converted root against that on a root which a daemon made, often enough to
//! tell 5 %.
//!
//! A build whose every step is cached takes a tenth of a second or two, and that of a scenario differs
//! from repeat to repeat by more than what is to be shown. Here both roots are made once, and copies of
//! them are built on in turn, in memory, so that no disk decides.
//!
//! A daemon keeps the build contexts that clients sent, and asks a client that it knows for what changed only.
//! They are not part of a cache export, and of no use to buildx on another machine, which adds its own id to the
//! name that a context is kept under (v0.38.2 `build/opt.go`). So they are removed from the root
//! of the daemon. How much they save is measured, too.

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

/// How long after its start a daemon has nothing left to do: it collects garbage after a second, and what
/// the build before left is cleared away.
const SETTLED: Duration = Duration::from_secs(2);

impl Lab {
    /// Measures so many builds of each kind, after [`Lab::seed`].
    ///
    /// # Errors
    /// If no tmpfs can be mounted, or a build fails or is not what was built before.
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
            // So that none is always the one after another.
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

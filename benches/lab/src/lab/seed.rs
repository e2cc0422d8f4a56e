//! The seed that warms the builders: a root, a cache in a layout and in a registry, and an image with
//! provenance.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use testkit::process::run;

use super::Lab;
use crate::build::Request;
use crate::record::Seed;
use crate::stream;

impl Lab {
    /// Builds the seed.
    ///
    /// # Errors
    /// Returns an error if a build fails.
    pub fn seed(&self) -> Result<Seed> {
        fs::create_dir_all(self.scratch.path().join("seed"))?;
        let daemon = self.start(&self.seed_root())?;
        let built = self.build(&daemon, &self.request(false)).context("the seed")?;
        let progress = stream::measure(&self.anonymous(&built.progress))?;

        let mode = self.exports.cache.name();
        let exports = vec![
            format!("type=local,dest={},mode={mode}", self.seed_cache().display()),
            format!("type=registry,ref={},mode={mode}", self.remote_cache()),
        ];
        let exported = self.build(&daemon, &Request { exports, ..self.request(false) });
        let export_micros = exported.context("the export of the cache")?.micros;

        let provenance = format!("attest:provenance=mode={}", self.exports.provenance.name());
        let mut request = self.request(false);
        request.options.push(&provenance);
        request.outputs = vec![format!("type=oci,tar=false,dest={}", self.seed_image().display())];
        self.build(&daemon, &request).context("the image with provenance")?;
        daemon.stop()?;
        let mut export = Command::new(&self.tools.oci2bk);
        export.args(["mounts", "export", "--progress=quiet"]).arg(self.seed_root());
        run(export.arg("--attach").arg(self.seed_cache())).context("the export of cache mounts")?;
        self.sync()?;
        let (micros, image, bases) = (built.micros, built.image, progress.bases);
        Ok(Seed { micros, export_micros, image, bases })
    }

    pub(super) fn seed_root(&self) -> PathBuf {
        self.scratch.path().join("seed/root")
    }

    pub(super) fn seed_cache(&self) -> PathBuf {
        self.scratch.path().join("seed/cache")
    }

    pub(super) fn seed_image(&self) -> PathBuf {
        self.scratch.path().join("seed/image")
    }

    pub(super) fn remote_cache(&self) -> String {
        format!("{}/cache", self.addresses[1])
    }
}

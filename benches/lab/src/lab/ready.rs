//! Warms builders in each of the ways.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use testkit::Daemon;
use testkit::process::run;

use super::Lab;
use crate::build::micros_since;
use crate::convert::{self, Converted};
use crate::record::Conversion;
use crate::scenario::Builder;

/// A warmed builder.
pub(super) struct Ready {
    pub(super) daemon: Daemon,
    pub(super) import: Option<String>,
}

/// The cost of warming it.
#[derive(Default)]
pub(super) struct Preparation {
    pub(super) micros: Option<u64>,
    pub(super) conversion: Option<Conversion>,
}

impl Lab {
    /// Warms a builder on `root`; the cost is known even if it fails.
    pub(super) fn make_ready(
        &self,
        builder: Builder,
        root: &Path,
        preparation: &mut Preparation,
    ) -> Result<Ready> {
        let start = Instant::now();
        let mut import = None;
        match builder {
            Builder::New => {}
            Builder::ImportsLayout => {
                import = Some(format!("type=local,src={}", self.seed_cache().display()));
            }
            Builder::ImportsFromRegistry => {
                import = Some(format!("type=registry,ref={}", self.remote_cache()));
            }
            Builder::Same | Builder::Copied => copy_root(&self.seed_root(), root)?,
            Builder::Converted => {
                let keys = self.seed_image();
                preparation.conversion = Some(self.convert(root, Some(&keys), None, false)?);
            }
            Builder::ConvertedWithMounts => {
                let keys = self.seed_image();
                preparation.conversion = Some(self.convert(root, Some(&keys), None, true)?);
            }
            Builder::LayersImportLayout => {
                self.convert(root, None, None, false)?;
                import = Some(format!("type=local,src={}", self.seed_cache().display()));
            }
            Builder::LayersImportSparse => {
                let sparse = self.scratch.path().join("sparse");
                self.convert(root, None, Some(&sparse), false)?;
                import = Some(format!("type=local,src={}", sparse.display()));
            }
            Builder::Baked => {
                let daemon = self.start(root)?;
                self.build(&daemon, &self.request(false))?;
                daemon.stop()?;
            }
        }
        // Writeback must not slow the build down.
        self.sync()?;
        if builder.is_made_in_a_bake() {
            preparation.micros = Some(micros_since(start));
        }
        let daemon = self.start(root)?;
        if builder == Builder::Same {
            self.build(&daemon, &self.request(false))?;
        }
        Ok(Ready { daemon, import })
    }
}

impl Lab {
    fn convert(
        &self,
        root: &Path,
        keys: Option<&Path>,
        sparse: Option<&Path>,
        mounts: bool,
    ) -> Result<Conversion> {
        let cache = self.seed_cache();
        let report = self.scratch.path().join("conversion.json");
        let layout = self.base_layout();
        let base = layout.exists().then(|| format!("{}={}", self.base(), layout.display()));
        let converted =
            Converted { cache: &cache, keys, sparse, mounts, base, root, report: &report };
        convert::run(&self.tools, &converted)
    }
}

pub(super) fn copy_root(from: &Path, to: &Path) -> Result<()> {
    ensure!(!to.exists(), "{} is in the way", to.display());
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

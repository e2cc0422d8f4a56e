//! The lab: registries, a seed, and builders that are warmed in each of the ways.

mod first_builds;
mod memory;
mod ready;
mod seed;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tempfile::TempDir;
use testkit::process::run;
use testkit::{Daemon, Registry, Tools, tools};

use self::memory::Memory;
use self::ready::{Preparation, Ready};
use crate::build::{Built, Request};
use crate::record::{Build, Header, Measurement, Outcome, Overhead, WorkloadInfo};
use crate::scenario::{Builder, Scenario};
use crate::workload::{Sources, Workload};
use crate::{machine, record, stream};

/// The names in results for the registry of images and the registry of caches, whose addresses differ in
/// every run.
const NAMES: [&str; 2] = ["registry", "cache-registry"];

/// The mode of a cache export or provenance: how much of a build it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// All steps.
    Max,
    /// In a cache, the steps of the image; in provenance, none.
    Min,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// The modes of the workload's exports.
#[derive(Clone, Copy, Debug)]
pub struct Exports {
    /// The mode of the cache.
    pub cache: Mode,
    /// The mode of the provenance.
    pub provenance: Mode,
}

/// The environment of a measurement.
#[derive(Debug)]
pub struct Lab {
    tools: Tools,
    workload: Workload,
    exports: Exports,
    /// Every build ends with a push to it, and a registry waits for its disk.
    _images: Registry,
    // Dropped after the registry in it.
    _memory: Memory,
    /// `None` after it was stopped.
    caches: Option<Registry>,
    /// Addresses of both registries.
    addresses: [String; 2],
    sources: Sources,
    // Dropped after the registries that write into it.
    scratch: TempDir,
}

impl Lab {
    /// Starts the registries below the directory `target` and pushes the base image.
    ///
    /// # Errors
    /// Returns an error if one of the programs fails, or there is not enough space.
    pub fn create(
        tools: &Tools,
        target: &Path,
        workload: Workload,
        exports: Exports,
    ) -> Result<Self> {
        // Below the target directory, which is on a disk: overlayfs cannot use every tmpfs.
        let parent = target.join("tmp");
        fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
        let scratch = tempfile::Builder::new().prefix("lab-").tempdir_in(parent)?;
        let [images, caches] = NAMES.map(|name| scratch.path().join(name));
        let memory = Memory::mount(images)?;
        let images = Registry::start(tools, memory.path())?;
        fs::create_dir(&caches)?;
        let caches = Registry::start(tools, &caches)?;
        let addresses = [images.address().to_owned(), caches.address().to_owned()];
        let sources = workload.write_sources(&addresses[0], &scratch.path().join("sources"))?;
        let lab = Self {
            tools: tools.clone(),
            workload,
            exports,
            _images: images,
            _memory: memory,
            caches: Some(caches),
            addresses,
            sources,
            scratch,
        };
        lab.push_base("")?;
        Ok(lab)
    }

    /// Returns the first line of the results.
    ///
    /// # Errors
    /// Returns an error if the command does not print its version.
    pub fn header(&self, repeats: u32) -> Result<Header> {
        let oci2bk = run(Command::new(&self.tools.oci2bk).arg("--version"))?;
        // `oci2bk 0.1.0`, and further lines.
        let version = oci2bk.split_whitespace().nth(1).unwrap_or_default();
        let versions = BTreeMap::from([
            ("buildkitd".to_owned(), tools::buildkitd_release().to_owned()),
            ("oci2bk".to_owned(), version.to_owned()),
        ]);
        Ok(Header {
            format: record::FORMAT,
            started: format!("{:.3}", jiff::Timestamp::now()),
            machine: machine::describe(),
            versions,
            workload: WorkloadInfo {
                name: self.workload.name(),
                cache_mode: self.exports.cache.name().to_owned(),
                provenance: self.exports.provenance.name().to_owned(),
            },
            repeats,
        })
    }

    /// Pushes the base image of a generated project, a different one for each `mark`.
    ///
    /// # Errors
    /// Returns an error if it cannot be built.
    pub fn push_base(&self, mark: &str) -> Result<()> {
        let dir = self.scratch.path().join("base");
        let context = dir.join("context");
        if self.workload.write_base(&self.tools, &context, mark)? {
            let daemon = self.start(&dir.join("root"))?;
            let name = self.base();
            let image = "oci-mediatypes=true,rewrite-timestamp=true";
            let mut outputs = vec![format!("type=image,name={name},push=true,{image}")];
            if !self.base_layout().exists() {
                let layout = self.base_layout().display().to_string();
                outputs.push(format!("type=oci,tar=false,dest={layout},{image}"));
            }
            let request = Request {
                context: &context,
                dockerfile: Path::new("Dockerfile"),
                options: self.workload.options().to_vec(),
                outputs,
                import: None,
                exports: Vec::new(),
                recorded: true,
            };
            request.build(&daemon, &dir.join("metadata.json")).context("the base image")?;
            daemon.stop()?;
            fs::remove_dir_all(dir)?;
        }
        Ok(())
    }

    /// Measures one build of a scenario, after [`Lab::seed`]. A failure is a result, too.
    pub fn measure(&self, scenario: &Scenario, repeat: u32) -> Measurement {
        let root = self.scratch.path().join("builder");
        let mut preparation = Preparation::default();
        let build = self
            .make_ready(scenario.builder, &root, &mut preparation)
            .context("the builder could not be made ready")
            .and_then(|ready| self.measure_on(ready, scenario.edited));
        // Leftovers would only take space from the next.
        let removed = fs::remove_dir_all(&root).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        let outcome = match build.and_then(|build| Ok(removed.map(|()| build)?)) {
            Ok(build) => Outcome::Built(build),
            Err(error) => Outcome::Failed { reason: self.anonymous(&format!("{error:#}")) },
        };
        Measurement {
            scenario: scenario.name.to_owned(),
            repeat,
            preparation: preparation.micros,
            conversion: preparation.conversion,
            outcome,
        }
    }

    /// Measures the overhead of measuring, with this number of builds of either kind.
    ///
    /// # Errors
    /// Returns an error if a build fails.
    pub fn overhead(&self, builds: u32) -> Result<Overhead> {
        let root = self.scratch.path().join("builder");
        let ready = self.make_ready(Builder::Same, &root, &mut Preparation::default())?;
        let mut overhead = Overhead { recorded: Vec::new(), unrecorded: Vec::new() };
        for build in 0..2 * builds {
            let recorded = build % 2 == 0;
            let request = Request { recorded, ..self.request(false) };
            let micros = self.build(&ready.daemon, &request)?.micros;
            if recorded { &mut overhead.recorded } else { &mut overhead.unrecorded }.push(micros);
        }
        ready.daemon.stop()?;
        fs::remove_dir_all(root)?;
        Ok(overhead)
    }

    /// Stops the registry of caches, as if it had failed.
    pub fn stop_cache_registry(&mut self) {
        self.caches = None;
    }

    fn measure_on(&self, ready: Ready, edited: bool) -> Result<Build> {
        let request = Request { import: ready.import.as_deref(), ..self.request(edited) };
        let built = self.build(&ready.daemon, &request)?;
        ready.daemon.stop()?;
        let progress = stream::measure(&self.anonymous(&built.progress))?;
        Ok(Build { micros: built.micros, image: built.image, progress })
    }

    fn request(&self, edited: bool) -> Request<'_> {
        Request {
            context: self.sources.context(edited),
            dockerfile: &self.sources.dockerfile,
            options: self.workload.options().to_vec(),
            outputs: vec![format!("type=image,name={}/image,push=true", self.addresses[0])],
            import: None,
            exports: Vec::new(),
            recorded: true,
        }
    }

    fn build(&self, daemon: &Daemon, request: &Request<'_>) -> Result<Built> {
        request.build(daemon, &self.scratch.path().join("metadata.json"))
    }

    fn start(&self, root: &Path) -> Result<Daemon> {
        let [images, caches] = &self.addresses;
        Daemon::start(&self.tools, root, &[images, caches])
    }

    fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(self.scratch.path())?)?)
    }

    /// Replaces values that differ between runs by names.
    fn anonymous(&self, text: &str) -> String {
        let text = text.replace(&self.scratch.path().display().to_string(), "SCRATCH");
        let named = |text: String, (address, name): (&String, &str)| text.replace(address, name);
        self.addresses.iter().zip(NAMES).fold(text, named)
    }

    /// Returns the base image of a generated project, and a layout with it: the conversion seeds its
    /// manifest, which the root of the original daemon has too.
    fn base(&self) -> String {
        format!("{}/base", self.addresses[0])
    }

    fn base_layout(&self) -> PathBuf {
        self.scratch.path().join("base-image")
    }
}

//! The results of a run: one JSON value per line. `README.md` beside this crate documents the format; a
//! change of its meaning increments [`FORMAT`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the format, in the first line of a file.
pub const FORMAT: u32 = 2;

/// A line of a results file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// The first line: the machine and the workload.
    Run(Header),
    /// The build that made the seed for warming the builders.
    Seed(Seed),
    /// One build of one scenario.
    Measurement(Measurement),
    /// The first builds on a converted and on a naturally warm root.
    FirstBuilds(FirstBuilds),
    /// The overhead of measuring.
    Overhead(Overhead),
}

/// The machine and the workload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// The machine.
    pub machine: Machine,
    /// Versions of the programs by name.
    pub versions: BTreeMap<String, String>,
    /// The build, and the form of its cache export.
    pub workload: WorkloadInfo,
    /// Number of measurements of each scenario.
    pub repeats: u32,
}

/// The properties of the machine that affect times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub processor: String,
    /// Number of available processor threads.
    pub threads: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The release of the kernel.
    pub kernel: String,
    /// Load before the run, in hundredths of a busy thread, averaged over a minute.
    pub load: u32,
}

/// The measured build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WorkloadInfo {
    /// The size of the generated project, or the directory of the user's project.
    pub name: String,
    /// `max` or `min`: the mode of the cache export.
    pub cache_mode: String,
    /// `max` or `min`: the mode of the provenance, the key source of the conversion.
    pub provenance: String,
}

/// The build whose results and exports the scenarios use. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Seed {
    /// Duration of the build.
    pub micros: u64,
    /// Duration of its cache export, to a layout and to a registry at once.
    pub export_micros: u64,
    /// Digest of its image.
    pub image: String,
    /// Names of base images, and their digests.
    pub bases: BTreeMap<String, String>,
}

/// One build of one scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Measurement {
    /// Name of the [`Scenario`](crate::scenario::Scenario).
    pub scenario: String,
    /// Counts from 1.
    pub repeat: u32,
    /// Time to warm the builder, in microseconds, including writing it to disk. Only if that is part of the
    /// way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<u64>,
    /// The conversion's report, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// How it ended.
    pub outcome: Outcome,
}

/// The report of `oci2bk convert`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Conversion {
    /// Records of the cache.
    pub records: u64,
    /// Records without a key in any source.
    pub unresolved: u64,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// With an image.
    Built(Build),
    /// With an error, or it could not start.
    Failed {
        /// The messages of the programs.
        reason: String,
    },
}

/// A successful build. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Build {
    /// Duration of the client.
    pub micros: u64,
    /// Digest of the image.
    pub image: String,
    /// Values from its progress.
    pub progress: Measures,
}

/// Values from the progress of a build. Durations are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Measures {
    /// From the first to the last action of the daemon.
    pub solve: u64,
    /// The instructions of the Dockerfile, without `FROM`.
    pub steps: Vec<Step>,
    /// The caches to import.
    pub imports: Vec<Import>,
    /// Time during which at least one of them was imported.
    pub importing: u64,
    /// The layers it extracted.
    pub extracted: Vec<Layer>,
    /// Time during which at least one of them was extracted.
    pub extracting: u64,
    /// Total size of the fetched blobs, in bytes.
    pub fetched_bytes: u64,
    /// Time during which at least one of them was fetched.
    pub fetching: u64,
    /// Names of base images, and their digests.
    pub bases: BTreeMap<String, String>,
}

/// An instruction of the Dockerfile whose result the build needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Step {
    /// The stage's name, possibly after a platform; empty if it is the only one.
    pub stage: String,
    /// Its position in the stage, from 1.
    pub place: u32,
    /// The instruction.
    pub instruction: String,
    /// Whether it was cached.
    pub cached: bool,
    /// Its duration.
    pub micros: u64,
}

/// A cache to import.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Import {
    /// The daemon's name for it.
    pub from: String,
    /// Its duration.
    pub micros: u64,
    /// Why it could not be imported. Builds continue without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A layer that the build extracted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Layer {
    /// Digest of its blob.
    pub digest: String,
    /// Size of its blob, if the build fetched it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its duration.
    pub micros: u64,
    /// The step that needed it.
    pub step: String,
}

/// The first builds on copies of a converted root and of one on which the build itself ran, in turn, in
/// memory. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FirstBuilds {
    /// On converted roots.
    pub converted: Vec<u64>,
    /// On roots on which the build ran, without the build contexts that clients sent.
    pub natural: Vec<u64>,
    /// On roots on which the build ran, with the build context of the same client.
    pub acquainted: Vec<u64>,
}

/// The overhead of measuring: the same builds on the same warm daemon, with and without recorded progress, in
/// turn. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Overhead {
    /// With recorded progress.
    pub recorded: Vec<u64>,
    /// Without recorded progress.
    pub unrecorded: Vec<u64>,
}

impl Measurement {
    /// Returns the build, if it was successful.
    #[must_use]
    pub fn build(&self) -> Option<&Build> {
        match &self.outcome {
            Outcome::Built(build) => Some(build),
            Outcome::Failed { .. } => None,
        }
    }
}

impl Measures {
    /// Returns the number of cached steps.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.steps.iter().filter(|step| step.cached).count()
    }

    /// Returns the number of steps that ran.
    #[must_use]
    pub fn ran(&self) -> usize {
        self.steps.len() - self.cached()
    }

    /// Returns the total size of the extracted layers' blobs in bytes, as far as known.
    #[must_use]
    pub fn extracted_bytes(&self) -> u64 {
        self.extracted.iter().filter_map(|layer| layer.bytes).sum()
    }
}

impl Step {
    /// Returns stage, position and instruction, without the number of steps in the stage.
    #[must_use]
    pub fn name(&self) -> String {
        let space = if self.stage.is_empty() { "" } else { " " };
        format!("[{}{space}{}] {}", self.stage, self.place, self.instruction)
    }
}

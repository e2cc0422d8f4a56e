//! What a run of the lab leaves: one JSON value per line. `README.md` beside this crate documents
//! the format; whatever changes its meaning counts [`FORMAT`] up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the format, which the first line of a file states.
pub const FORMAT: u32 = 2;

/// A line of a results file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// The first line: where and what was measured.
    Run(Header),
    /// The build that made what the builders of the scenarios are warmed with.
    Seed(Seed),
    /// One build of one scenario.
    Measurement(Measurement),
    /// The first builds on a converted and on a naturally warm root.
    FirstBuilds(FirstBuilds),
    /// What measuring itself costs.
    Overhead(Overhead),
}

/// Where and what was measured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// [`FORMAT`] of whoever wrote it.
    pub format: u32,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// The machine.
    pub machine: Machine,
    /// Versions of the programs by name.
    pub versions: BTreeMap<String, String>,
    /// What is built, and how its cache is exported.
    pub workload: WorkloadInfo,
    /// How often each scenario is to be measured.
    pub repeats: u32,
}

/// The machine, as far as it matters to times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub processor: String,
    /// How many of its threads there are to use.
    pub threads: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The release of the kernel.
    pub kernel: String,
    /// Load before the run, in hundredths of a busy thread, averaged over a minute.
    pub load: u32,
}

/// What is built.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WorkloadInfo {
    /// The size of the generated project, or the directory of a project of the user's.
    pub name: String,
    /// `max` or `min`: the mode of the cache export.
    pub cache_mode: String,
    /// `max` or `min`: the mode of the provenance that the conversion takes its keys from.
    pub provenance: String,
}

/// The build whose results and exports the scenarios use. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Seed {
    /// How long the build took.
    pub micros: u64,
    /// How long it took to export its cache, to a layout and to a registry at once.
    pub export_micros: u64,
    /// Digest of its image.
    pub image: String,
    /// Names of base images, and the digests that they had.
    pub bases: BTreeMap<String, String>,
}

/// One build of one scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Measurement {
    /// Name of the [`Scenario`](crate::scenario::Scenario).
    pub scenario: String,
    /// Counts from 1.
    pub repeat: u32,
    /// How long it took to make the builder ready, in microseconds, including writing it to disk.
    /// Only where that is part of the way to warm it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<u64>,
    /// What the conversion reported, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What `oci2bk convert` reported.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Conversion {
    /// Records of the cache.
    pub records: u64,
    /// Those that no source has the key of.
    pub unresolved: u64,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// With an image.
    Built(Build),
    /// Not at all, or it could not be begun.
    Failed {
        /// What the programs said.
        reason: String,
    },
}

/// A build that ended well. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Build {
    /// From the start of the client to its end.
    pub micros: u64,
    /// Digest of the image.
    pub image: String,
    /// What its progress tells.
    pub progress: Measures,
}

/// What the progress of a build tells. Durations are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Measures {
    /// From the first thing the daemon did to the last.
    pub solve: u64,
    /// The instructions of the Dockerfile, without `FROM`.
    pub steps: Vec<Step>,
    /// The caches it was told to import.
    pub imports: Vec<Import>,
    /// How long it was importing at least one of them.
    pub importing: u64,
    /// The layers it extracted.
    pub extracted: Vec<Layer>,
    /// How long it was extracting at least one of them.
    pub extracting: u64,
    /// Bytes of the blobs it fetched.
    pub fetched_bytes: u64,
    /// How long it was fetching at least one of them.
    pub fetching: u64,
    /// Names of base images, and their digests.
    pub bases: BTreeMap<String, String>,
}

/// An instruction of the Dockerfile that the build had to have the result of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Step {
    /// The stage's name, which may have a platform before it; empty if it is the only one.
    pub stage: String,
    /// Its place in the stage, counted from 1.
    pub place: u32,
    /// The instruction.
    pub instruction: String,
    /// Whether it was taken from the cache.
    pub cached: bool,
    /// How long it ran.
    pub micros: u64,
}

/// A cache that the build was told to import.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Import {
    /// What the daemon calls it.
    pub from: String,
    /// How long it took.
    pub micros: u64,
    /// Why it could not be imported. Builds go on without.
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
    /// How long it took.
    pub micros: u64,
    /// The step that was in need of it.
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
    /// On roots on which the build ran, with the build context of this very client.
    pub acquainted: Vec<u64>,
}

/// What measuring costs: the same builds on the same warm daemon, with their progress recorded and
/// without, in turn. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Overhead {
    /// With.
    pub recorded: Vec<u64>,
    /// Without.
    pub unrecorded: Vec<u64>,
}

impl Measurement {
    /// The build, if there was one.
    #[must_use]
    pub fn build(&self) -> Option<&Build> {
        match &self.outcome {
            Outcome::Built(build) => Some(build),
            Outcome::Failed { .. } => None,
        }
    }
}

impl Measures {
    /// How many steps were taken from the cache.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.steps.iter().filter(|step| step.cached).count()
    }

    /// How many steps ran.
    #[must_use]
    pub fn ran(&self) -> usize {
        self.steps.len() - self.cached()
    }

    /// Bytes of the blobs of the extracted layers, as far as they are known.
    #[must_use]
    pub fn extracted_bytes(&self) -> u64 {
        self.extracted.iter().filter_map(|layer| layer.bytes).sum()
    }
}

impl Step {
    /// Stage, place and instruction, without how many there are in the stage.
    #[must_use]
    pub fn name(&self) -> String {
        let space = if self.stage.is_empty() { "" } else { " " };
        format!("[{}{space}{}] {}", self.stage, self.place, self.instruction)
    }
}

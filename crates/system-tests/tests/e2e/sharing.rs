//! The layers of a root are shared with later pulls and imports of its daemon: nothing is fetched, extracted
//! or stored again.
//!
//! CACHED does not show that. A daemon looks up a result by the key of its step, but a layer by its chain and
//! the name of its snapshot (`cache/manager.go`, `GetByBlob`). So the cost of a build on a converted root is
//! compared with that on the natural one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Options, Source, definition};
use crate::case::{Case, Context, Keys};
use crate::daemon::Daemon;
use crate::ops::with_step_more;
use crate::process::run;
use crate::proof::tolerance;
use crate::state;
use crate::world::{GROWN, World};

/// Garbage collection measures records at any time, and only once, including those that are being extracted.
pub(crate) const NO_GC: &str = "[worker.oci]\n  gc = false\n";

/// The next action of a user on a warm builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Another Dockerfile on the same base image.
    OtherDockerfile,
    /// An image of the base image and another step, where the base image is named by its digest.
    BaseByDigest,
    /// The same build on a base image with another layer.
    GrownBase,
    /// The edited build with another step, and an import of another builder's cache of the edited build.
    NewerCache,
}

/// The work of a daemon for a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Number of layers extracted.
    pub(crate) extracted: usize,
    /// Number of layers fetched, from the registry or the imported cache.
    pub(crate) fetched: usize,
    /// Growth in bytes of the records that `buildctl du` calls pulled or imported.
    pub(crate) stored: u64,
}

/// The cost of a scenario on either root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared {
    pub(crate) scenario: Scenario,
    pub(crate) natural: Cost,
    pub(crate) converted: Cost,
}

/// Two unused roots of one release, which are not changed here.
#[derive(Debug)]
pub(crate) struct Roots<'a> {
    /// Starts the daemons.
    pub(crate) world: &'a World,
    pub(crate) case: &'a Case,
    /// For copies of the roots.
    pub(crate) dir: &'a Path,
    /// The root of the daemon that made the cache.
    pub(crate) natural: PathBuf,
    /// The root converted from the cache.
    pub(crate) converted: PathBuf,
    /// The cache of the edited build, by a builder that has the other cache too.
    pub(crate) newer: PathBuf,
    /// The layers that count, if not all: the layers of a base image do not if the export made other archives
    /// of them.
    pub(crate) counted: Option<BTreeSet<String>>,
}

impl Scenario {
    /// In an order in which none makes the next cheaper. The first two find everything on a natural root; the
    /// third needs a layer that the last does not.
    pub(crate) const ALL: [Self; 4] =
        [Self::OtherDockerfile, Self::BaseByDigest, Self::GrownBase, Self::NewerCache];

    /// Returns its description.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OtherDockerfile => "another Dockerfile on the base image",
            Self::BaseByDigest => "the base image by digest",
            Self::GrownBase => "a base image with one layer more",
            Self::NewerCache => "a newer cache and a new step",
        }
    }

    /// Returns the Dockerfile of a case, changed for the scenario. `None` if the scenario needs a base image
    /// and the case has none.
    fn dockerfile(self, world: &World, case: &Case) -> Result<Option<String>> {
        let dockerfile = (case.dockerfile)();
        let Some(base) = Base::of(&dockerfile)? else {
            return Ok((self == Self::NewerCache).then_some(dockerfile));
        };
        Ok(Some(match self {
            Self::OtherDockerfile => format!("{}\nRUN true\n", base.from),
            Self::BaseByDigest => {
                let digest = format!("@{}", world.base_digest(base.name)?);
                format!("{}\nRUN true && true\n", each_base(base.from, &digest))
            }
            Self::GrownBase => each_base(&dockerfile, &format!(":{GROWN}")),
            Self::NewerCache => dockerfile + "\nRUN true\n",
        }))
    }
}

/// The first base image of a Dockerfile.
struct Base<'a> {
    /// The lines up to and including its FROM.
    from: &'a str,
    name: &'a str,
}

/// Prefix of the names of base images.
const REGISTRY: &str = "{registry}/";

impl<'a> Base<'a> {
    fn of(dockerfile: &'a str) -> Result<Option<Self>> {
        let Some(at) = dockerfile.find(REGISTRY) else { return Ok(None) };
        let rest = &dockerfile[at..];
        let line = rest.find('\n').context("a FROM without an end")?;
        let name = name_in(&rest[REGISTRY.len()..]);
        let name = match name.strip_prefix("${").and_then(|name| name.strip_suffix('}')) {
            Some(argument) => {
                let default = dockerfile.split_once(&format!("ARG {argument}="));
                name_in(default.with_context(|| format!("{argument} is not set"))?.1)
            }
            None => name,
        };
        Ok(Some(Self { from: &dockerfile[..at + line], name }))
    }
}

/// Returns the text up to the next white space.
fn name_in(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Returns `text` with `suffix` after the name of each base image.
fn each_base(text: &str, suffix: &str) -> String {
    let mut parts = text.split(REGISTRY);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let name = name_in(part);
        changed.extend([REGISTRY, name, suffix, &part[name.len()..]]);
    }
    changed
}

impl Roots<'_> {
    /// Returns the cost of each scenario that applies to the case.
    pub(crate) fn compare(&self) -> Result<Vec<Compared>> {
        let natural = self.costs(&self.natural).context("on the natural root")?;
        let converted = self.costs(&self.converted).context("on the converted root")?;
        let pairs = natural.into_iter().zip(converted);
        Ok(pairs
            .map(|((scenario, natural), (_, converted))| Compared { scenario, natural, converted })
            .collect())
    }

    /// Returns the costs of the scenarios one after the other, on a copy of the root.
    pub(crate) fn costs(&self, root: &Path) -> Result<Vec<(Scenario, Cost)>> {
        let dir = tempfile::tempdir_in(self.dir)?;
        let copy = dir.path().join("root");
        run(Command::new("cp").arg("-a").args([root, &copy]))?;
        let daemon = self.world.start_configured(&copy, NO_GC)?;
        let mut costs = Vec::new();
        for scenario in Scenario::ALL {
            if let Some(dockerfile) = scenario.dockerfile(self.world, self.case)? {
                let cost = self.cost(&daemon, scenario, &dockerfile, dir.path());
                costs.push((scenario, cost.with_context(|| scenario.name())?));
            }
        }
        daemon.stop()?;
        state::ensure_verified(&self.world.tools, &copy, false)?;
        Ok(costs)
    }

    fn cost(
        &self,
        daemon: &Daemon,
        scenario: Scenario,
        dockerfile: &str,
        dir: &Path,
    ) -> Result<Cost> {
        let context = Context::create(&dir.join("context"));
        context.file("Dockerfile", self.world.fill_in(dockerfile));
        (self.case.context)(&context);
        let mut options = Options::default();
        match scenario {
            Scenario::NewerCache => {
                (self.case.edit)(&context);
                options.import = Some(&self.newer);
                if self.case.keys == Keys::Definition {
                    options.definition = Some(with_step_more(&definition()?)?);
                }
            }
            Scenario::BaseByDigest => {
                options.output = Some(format!("type=oci,dest={}", dir.join("image").display()));
            }
            Scenario::OtherDockerfile | Scenario::GrownBase => {}
        }
        let before = self.stored(daemon)?;
        let report = Source { case: self.case, context: context.dir() }.build(daemon, &options)?;
        let after = self.stored(daemon)?;
        let counts = |layer: &&str| self.counted.as_ref().is_none_or(|set| set.contains(*layer));
        Ok(Cost {
            extracted: report.extracted().filter(counts).count(),
            fetched: report.fetched().filter(counts).count(),
            stored: after.saturating_sub(before),
        })
    }

    /// Returns the size in bytes of the layers that the daemon pulled or imported. It also makes records that
    /// only a natural root has, such as the build context and the files of heredocs.
    fn stored(&self, daemon: &Daemon) -> Result<u64> {
        let kinds = match self.counted {
            None => &["imported sha256:", "pulled from "][..],
            Some(_) => &["imported sha256:"],
        };
        let du = run(daemon.buildctl().args(["du", "--format", "{{json .}}"]))?;
        let records: Option<Vec<Value>> = serde_json::from_str(&du)?;
        let records = records.into_iter().flatten().filter(|record| {
            let description = record["description"].as_str().unwrap_or_default();
            kinds.iter().any(|kind| description.starts_with(kind))
        });
        records.map(|record| record["size"].as_u64().context("a record without a size")).sum()
    }
}

impl Cost {
    /// Returns whether it is not higher than `other`.
    pub(crate) fn is_covered_by(&self, other: &Self) -> bool {
        self.extracted <= other.extracted
            && self.fetched <= other.fetched
            && self.stored <= other.stored + tolerance(other.stored)
    }
}

impl Compared {
    /// Checks that the build cost no more on the converted root than on the natural one.
    pub(crate) fn ensure_shared(&self) -> Result<()> {
        let Self { scenario, natural, converted } = self;
        ensure!(
            converted.is_covered_by(natural),
            "{}: {converted:?}, but on the natural root {natural:?}",
            scenario.name()
        );
        Ok(())
    }
}

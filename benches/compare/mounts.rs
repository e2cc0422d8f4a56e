//! The cost of seeding a cache mount with files: with the command into the root of a stopped daemon, and with the
//! dummy builds that copy them in a step, on a running one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Compression, Shape, caches};
use crate::daemon::Daemon;
use crate::measure::{Sample, measure};
use crate::process::{run, run_watched};
use crate::target::{Kind, Target};

/// The measured files.
const SHAPE: Shape = Shape { bytes: 600_000_000, files: 5_000, layers: 1 };

/// The builds, each a stage. The first one is made before the others are measured.
const DOCKERFILE: &str = r#"
FROM scratch AS base
COPY --from=tools busybox /bin/busybox
FROM base AS bind
RUN --mount=type=bind,target=/from --mount=type=cache,target=/seeded ["/bin/busybox", "cp", "-a", "/from/.", "/seeded/"]
FROM base AS copy
COPY . /from
RUN --mount=type=cache,target=/seeded ["/bin/busybox", "cp", "-a", "/from/.", "/seeded/"]
"#;

/// The cost of all ways, by name, one sample for each round.
#[derive(Debug, Serialize)]
pub(crate) struct Mounts {
    pub(crate) shape: Shape,
    pub(crate) runs: BTreeMap<&'static str, Vec<Sample>>,
}

/// A way to fill the mount.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `mounts import` of this source.
    Import(&'static str),
    /// A build of this stage.
    Build(&'static str),
}

const WAYS: [(&str, Way); 4] = [
    ("import of a directory", Way::Import("dir:files")),
    ("import of a layout", Way::Import("oci:layout")),
    ("build with a bind mount", Way::Build("bind")),
    ("build with COPY", Way::Build("copy")),
];

/// Fills a mount `rounds` times in each way, in turns, in the root of a real daemon on a new file system.
pub(crate) fn seed(
    work: &Path,
    kind: Kind,
    (oci2bk, buildkit): (&Path, &Path),
    rounds: usize,
) -> Result<Mounts> {
    let bench = Bench { work: work.join("mounts"), kind, oci2bk, buildkit };
    bench.prepare(work)?;
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut turns = WAYS.to_vec();
    for round in 1..=rounds {
        for (name, way) in &turns {
            bench.warm()?;
            let sample = bench.run(*way).with_context(|| (*name).to_owned())?;
            eprintln!("a mount, round {round}: {name} {:.2} s", sample.seconds);
            runs.entry(*name).or_default().push(sample);
        }
        turns.rotate_left(1);
    }
    fs::remove_dir_all(&bench.work)?;
    Ok(Mounts { shape: SHAPE, runs })
}

struct Bench<'b> {
    /// The directory of the sources: `files`, `layout`, `tools` and `dockerfile`.
    work: PathBuf,
    kind: Kind,
    oci2bk: &'b Path,
    buildkit: &'b Path,
}

impl Bench<'_> {
    fn prepare(&self, caches_in: &Path) -> Result<()> {
        if self.work.exists() {
            fs::remove_dir_all(&self.work)?;
        }
        let [files, tools, dockerfile] =
            ["files", "tools", "dockerfile"].map(|name| self.work.join(name));
        for dir in [&files, &tools, &dockerfile] {
            fs::create_dir_all(dir)?;
        }
        fs::copy("/bin/busybox", tools.join("busybox")).context("busybox")?;
        fs::write(dockerfile.join("Dockerfile"), DOCKERFILE)?;
        let made: Vec<Cache> = caches(caches_in, SHAPE, &[Compression::Zstd])?;
        let layer = made.first().and_then(|cache| cache.layers.first()).context("a layer")?;
        run(Command::new("tar").arg("-xf").arg(&layer.tar).arg("-C").arg(&files))?;
        let root = self.work.join("root");
        run(&mut self.import("dir:files", &root))?;
        let mut export = Command::new(self.oci2bk);
        export.args(["mounts", "export", "--progress=quiet"]).arg(&root);
        run(export.args(["--to", "oci:layout"]).current_dir(&self.work))?;
        Ok(fs::remove_dir_all(root)?)
    }

    /// Reads everything that is read in a run, so that all find it in the page cache.
    fn warm(&self) -> Result<()> {
        run(Command::new("tar")
            .args(["-cf", "-", "files", "layout", "tools"])
            .current_dir(&self.work))
        .map(drop)
    }

    fn run(&self, way: Way) -> Result<Sample> {
        // A build has the files in the mount, in the context that it was sent, and in a layer.
        let target = Target::new(&self.work, self.kind, SHAPE.bytes * 4)?;
        let root = target.path().join("root");
        let daemon = Daemon::start(self.buildkit, target.path())?;
        run(&mut self.build(&daemon, "base"))?;
        let sample = match way {
            Way::Import(source) => {
                drop(daemon);
                measure(target.path(), None, || {
                    run_watched(&mut self.import(source, &root)).map(Some)
                })?
            }
            Way::Build(stage) => {
                let sample = measure(target.path(), Some(daemon.id()), || {
                    run(&mut self.build(&daemon, stage)).map(|_| None)
                })?;
                drop(daemon);
                sample
            }
        };
        let mut ls = Command::new(self.oci2bk);
        let listed = run(ls.args(["mounts", "ls", "--format=json"]).arg(&root))?;
        let listed: Value = serde_json::from_str(&listed)?;
        let size = listed["mounts"][0]["disk_size"].as_u64().context("there is no mount")?;
        ensure!(size >= SHAPE.bytes, "the mount has {size} bytes");
        Ok(sample)
    }

    fn import(&self, source: &str, root: &Path) -> Command {
        let mut import = Command::new(self.oci2bk);
        import.args(["mounts", "import", "--progress=quiet", source]).arg(root);
        let id: &[&str] = if source.starts_with("dir:") { &["--id=target=/seeded"] } else { &[] };
        import.args(id).current_dir(&self.work);
        import
    }

    fn build(&self, daemon: &Daemon, stage: &str) -> Command {
        let mut build = daemon.buildctl();
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        build.args(["--local=context=files", "--local=dockerfile=dockerfile"]);
        build.args(["--local=tools=tools", "--opt=context:tools=local:tools"]);
        build.arg(format!("--opt=target={stage}")).current_dir(&self.work);
        build
    }
}

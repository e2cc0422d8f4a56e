//! An image and a stopped container of another program in the containerd of a builder. The files that the
//! container wrote are in a snapshot.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::Daemon;
use testkit::engine::Docker;

use super::{build_small, garbage};
use crate::build::Options;
use crate::host::Host;
use crate::process::run;
use crate::state::{self, Place};
use crate::world::World;

/// The namespace of the other program, and the names of its image and container.
const NAMESPACE: &str = "other";
const IMAGE: &str = "localhost/other:1";
const CONTAINER: &str = "kept";

/// The command of the container: it prints the file of the previous run, and writes the file.
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "cat /kept 2>/dev/null; echo kept > /kept"];

/// Checks that the image and the container survive builds, pruning, garbage collections and restarts.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("others").tempdir_in(world.scratch())?;
    let root = dir.path().join("root");
    let daemon = world.start(&root)?;
    let others = Others::add(world, &daemon, dir.path())?;
    daemon.stop()?;
    let before = others.dump(world, &world.place(&root))?;

    let daemon = world.start(&root)?;
    build_small(world, &daemon, dir.path(), &Options::default())?;
    daemon.prune_all()?;
    garbage::collect(&daemon, &others.archive)?;
    ensure!(daemon.du()?.is_empty(), "prune --all leaves {:?}", daemon.du()?);
    daemon.stop()?;
    state::ensure_sound(&world.tools, world.place(&root))?;
    let after = others.dump(world, &world.place(&root))?;
    ensure!(before == after, "the namespace was\n{before:#}\nand is\n{after:#}");

    let daemon = world.start(&root)?;
    others.ensure_whole(&daemon)?;
    daemon.stop().map(drop)
}

/// The image and the container.
pub(super) struct Others {
    /// An archive with the image.
    pub(super) archive: PathBuf,
    /// Whether they belong to the engine.
    in_engine: bool,
}

impl Others {
    /// Creates them. On an engine they belong to the engine, because its builder has the same namespace.
    pub(super) fn add(world: &World, daemon: &Daemon, dir: &Path) -> Result<Self> {
        let in_engine = matches!(world.host, Host::Engine { .. });
        let others = Self { archive: dir.join("other.tar"), in_engine };
        // The records of this build are pruned below, so later checks do not see them.
        let output = format!("type=docker,name={IMAGE},dest={}", others.archive.display());
        build_small(world, daemon, dir, &Options { output: Some(output), ..Options::default() })?;
        let first = if in_engine {
            let docker = || daemon.docker().map(Docker::command);
            run(docker()?.args(["load", "--input"]).arg(&others.archive))?;
            let words = ["run", "--network=none", "--name", CONTAINER, IMAGE];
            run(docker()?.args(words).args(PROGRAM))?
        } else {
            let containerd = daemon.containerd()?;
            run(containerd.ctr(NAMESPACE).args(["images", "import"]).arg(&others.archive))?;
            run(containerd.ctr(NAMESPACE).args(["run", IMAGE, CONTAINER]).args(PROGRAM))?
        };
        ensure!(first.is_empty(), "the container printed {first:?}");
        daemon.prune_all()?;
        Ok(others)
    }

    /// Returns their part of containerd's database: their namespace or, if that is the builder's too, only
    /// its images and containers, which the builder does not change.
    pub(super) fn dump(&self, world: &World, place: &Place) -> Result<Value> {
        let dump = state::dump(&world.tools, place.metadata())?;
        let namespaces = &dump["buckets"]["v1"]["buckets"];
        if !self.in_engine {
            return Ok(namespaces[NAMESPACE].clone());
        }
        let own = &namespaces[place.namespace]["buckets"];
        let mut kept = serde_json::Map::new();
        for name in ["images", "containers"] {
            kept.insert(name.to_owned(), own[name].clone());
        }
        Ok(Value::Object(kept))
    }

    /// Checks that both exist, and that the container still has its file.
    pub(super) fn ensure_whole(&self, daemon: &Daemon) -> Result<()> {
        let again = if self.in_engine {
            let docker = || daemon.docker().map(Docker::command);
            let format = "--format={{.Repository}}:{{.Tag}}";
            let images = run(docker()?.args(["images", format]))?;
            ensure!(images.lines().any(|image| image == IMAGE), "the images are {images}");
            run(docker()?.args(["start", "--attach", CONTAINER]))?
        } else {
            let containerd = daemon.containerd()?;
            let images = containerd.list(NAMESPACE, "images")?;
            ensure!(images.contains(IMAGE), "the images are {images:?}");
            let checked = run(containerd.ctr(NAMESPACE).args(["images", "check"]))?;
            ensure!(checked.contains(" complete ("), "{checked}");
            let containers = containerd.list(NAMESPACE, "containers")?;
            ensure!(containers.contains(CONTAINER), "the containers are {containers:?}");
            run(containerd.ctr(NAMESPACE).args(["tasks", "start", CONTAINER]))
                .context("the container's second run")?
        };
        ensure!(again == "kept\n", "the container printed {again:?}");
        Ok(())
    }
}

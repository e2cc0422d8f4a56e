//! What other programs have in the containerd of a builder.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;
use system_tests::others::{self, IMAGE, NAMESPACE};
use testkit::Daemon;

use super::{build_small, garbage};
use crate::build::Options;
use crate::state::{self, Place};
use crate::world::World;

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

/// An image and a container.
pub(super) struct Others {
    /// An archive with the image.
    pub(super) archive: PathBuf,
    others: others::Others,
}

impl Others {
    pub(super) fn add(world: &World, daemon: &Daemon, dir: &Path) -> Result<Self> {
        let archive = dir.join("other.tar");
        // The records of this build are pruned below, so later checks do not see them.
        let output = format!("type=docker,name={IMAGE},dest={}", archive.display());
        build_small(world, daemon, dir, &Options { output: Some(output), ..Options::default() })?;
        let others = others::Others::add(world.host, daemon, &archive)?;
        daemon.prune_all()?;
        Ok(Self { archive, others })
    }

    /// Returns their part of containerd's database: their namespace or, if that is the builder's too, only
    /// its images and containers, which the builder does not change.
    pub(super) fn dump(&self, world: &World, place: &Place) -> Result<Value> {
        let dump = state::dump(&world.tools, place.metadata())?;
        let namespaces = &dump["buckets"]["v1"]["buckets"];
        if !self.others.in_engine {
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
        self.others.ensure_whole(daemon)
    }
}

//! The daemon of a command: its root, or options that determine the root.

use std::path::PathBuf;
use std::str::FromStr;

use bkstate::worker::{Snapshotter, UnknownSnapshotter};
use clap::{ArgGroup, Args};

use super::owners::OwnerArguments;

/// The identifiers of the options, for arguments whose meaning depends on them.
pub(super) const CONFIG: &str = "config";
pub(super) const BUILDER: &str = "builder";
pub(super) const ENGINE: &str = "engine";
const DOCKER_ROOT: &str = "docker-root";
const CONTAINERD_ROOT: &str = "containerd-root";
const CONTAINERD_CONFIG: &str = "containerd-config";
const SNAPSHOTTER: &str = "snapshotter";
/// The options that name a builder of Docker.
const DOCKER: &str = "docker";
/// The options that tell the root of a containerd.
pub(super) const CONTAINERD: &str = "containerd";

/// A daemon whose root may be omitted.
#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// The buildkitd.toml of the daemon, for its root and its garbage collection
    ///
    /// ROOT may be left out if FILE has one. It also says which snapshotter the daemon has, unless that is auto. A
    /// worker other than OCI is refused.
    #[arg(id = CONFIG, long, value_name = "FILE", conflicts_with = ENGINE)]
    pub(crate) config: Option<PathBuf>,

    /// The builder NAME of docker buildx with the docker-container driver, in place of ROOT
    ///
    /// Its root is a volume of Docker, and its buildkitd.toml is the one that buildx noted. Docker itself is
    /// not run. The builder must have run once and be stopped.
    #[arg(id = BUILDER, long, value_name = "NAME", group = DOCKER, conflicts_with = CONTAINERD)]
    pub(crate) builder: Option<String>,

    #[command(flatten)]
    pub(crate) storage: StorageArguments,

    #[command(flatten)]
    pub(crate) owners: OwnerArguments,
}

/// Where a daemon has its layers, if that is not its own root.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(CONTAINERD).args([CONTAINERD_ROOT, CONTAINERD_CONFIG]).multiple(true))]
pub(crate) struct StorageArguments {
    /// The builder that is part of Docker Engine, in place of ROOT
    ///
    /// The engine must keep its images in containerd, which is the default since Docker Engine 29. Its
    /// directories and its namespace follow from /etc/docker/daemon.json and /etc/containerd/config.toml. The
    /// engine and containerd must be stopped: systemctl stop docker docker.socket containerd.
    #[arg(id = ENGINE, long, group = DOCKER)]
    pub(crate) engine: bool,

    /// Where Docker keeps its data, for --builder and --engine
    ///
    /// By default that is data-root in /etc/docker/daemon.json, or /var/lib/docker. DIR/var/lib/docker is that of
    /// the machine whose file system is in DIR: with --engine, its configurations and its containerd are found
    /// there.
    #[arg(id = DOCKER_ROOT, long, value_name = "DIR", requires = DOCKER)]
    pub(crate) docker_root: Option<PathBuf>,

    /// The root of the containerd in which the daemon keeps its layers, such as /var/lib/containerd
    ///
    /// For a buildkitd with the containerd worker, whose own root is ROOT; both must be stopped. With --engine,
    /// for an engine whose containerd is not where its configuration says.
    #[arg(id = CONTAINERD_ROOT, long, value_name = "DIR")]
    pub(crate) containerd_root: Option<PathBuf>,

    /// The config.toml of that containerd, for its root and the place of its snapshots
    ///
    /// DIR/etc/containerd/config.toml is that of the machine whose file system is in DIR: the paths in it are
    /// found there.
    #[arg(id = CONTAINERD_CONFIG, long, value_name = "FILE")]
    pub(crate) containerd_config: Option<PathBuf>,

    /// The snapshotter of a buildkitd with the OCI worker [default: overlayfs]
    ///
    /// It is overlayfs, fuse-overlayfs, native or stargz, and decides on the form of unpacked layers. A buildkitd without a configuration tries overlayfs, then fuse-overlayfs, and takes native otherwise; auto
    /// tries the same on ROOT. The log of the daemon names it, and so does the directory in its root, such as
    /// runc-native. A daemon with another one than ROOT is for starts with an empty cache.
    #[arg(id = SNAPSHOTTER, long, value_name = "NAME", conflicts_with_all = [ENGINE, CONTAINERD])]
    pub(crate) snapshotter: Option<SnapshotterName>,

    /// The namespace of the daemon in that containerd [default: buildkit]
    #[arg(long, value_name = "NAME", requires = CONTAINERD, conflicts_with = ENGINE)]
    pub(crate) containerd_namespace: Option<String>,
}

/// The root of a daemon, if it is given.
#[derive(Debug, Args)]
pub(crate) struct RootArguments {
    /// The root of the buildkitd, such as /var/lib/buildkit
    #[arg(
        value_name = "ROOT",
        required_unless_present_any = [CONFIG, BUILDER, ENGINE],
        conflicts_with_all = [BUILDER, ENGINE, DOCKER_ROOT]
    )]
    pub(crate) root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,
}

/// The name of a snapshotter, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotterName {
    /// The one that a daemon would take on the root.
    Auto,
    Given(Snapshotter),
}

impl FromStr for SnapshotterName {
    type Err = UnknownSnapshotter;

    fn from_str(text: &str) -> Result<Self, UnknownSnapshotter> {
        match text {
            "auto" => Ok(Self::Auto),
            name => name.parse().map(Self::Given),
        }
    }
}

//! The daemon of a command: its root, or options that determine the root.

use std::path::PathBuf;

use clap::Args;

/// The identifiers of the options, for arguments whose meaning depends on them.
pub(super) const CONFIG: &str = "config";
pub(super) const BUILDER: &str = "builder";
const DOCKER_ROOT: &str = "docker-root";
const CONTAINERD_ROOT: &str = "containerd-root";

/// A daemon whose root may be omitted.
#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// The buildkitd.toml of the daemon, for its root and its garbage collection
    ///
    /// ROOT may be left out if FILE has one. Workers other than OCI and snapshotters other than overlayfs
    /// are refused.
    #[arg(id = CONFIG, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The builder NAME of docker buildx with the docker-container driver, in place of ROOT
    ///
    /// Its root is a volume of Docker, and its buildkitd.toml is the one that buildx noted. Docker itself is
    /// not run. The builder must have run once and be stopped.
    #[arg(id = BUILDER, long, value_name = "NAME")]
    pub(crate) builder: Option<String>,

    /// Where Docker keeps its data, for --builder
    ///
    /// By default that is data-root in /etc/docker/daemon.json, or /var/lib/docker.
    #[arg(id = DOCKER_ROOT, long, value_name = "DIR", requires = BUILDER)]
    pub(crate) docker_root: Option<PathBuf>,

    /// The root of the containerd in which the daemon keeps its layers, such as /var/lib/containerd
    ///
    /// For a buildkitd with the containerd worker, whose own root is ROOT. Both must be stopped.
    #[arg(id = CONTAINERD_ROOT, long, value_name = "DIR", conflicts_with = BUILDER)]
    pub(crate) containerd_root: Option<PathBuf>,

    /// The namespace of the daemon in that containerd [default: buildkit]
    #[arg(long, value_name = "NAME", requires = CONTAINERD_ROOT)]
    pub(crate) containerd_namespace: Option<String>,
}

/// The root of a daemon, if it is given.
#[derive(Debug, Args)]
pub(crate) struct RootArguments {
    /// The root of the buildkitd, such as /var/lib/buildkit
    #[arg(
        value_name = "ROOT",
        required_unless_present_any = [CONFIG, BUILDER],
        conflicts_with_all = [BUILDER, DOCKER_ROOT]
    )]
    pub(crate) root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,
}

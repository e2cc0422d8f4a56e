//! The kinds of builders, and the locations of their state.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use testkit::{Containerd, Daemon, Tools, daemon, engine};

use crate::state::Place;

/// A kind of builder.
///
/// The state of a buildkitd with the OCI worker is in one directory. That of the others is in two: the root
/// of containerd, and the root of buildkitd or of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A buildkitd with the OCI worker.
    Buildkitd,
    /// A buildkitd with the containerd worker.
    Worker {
        /// The set of tools with its containerd.
        containerd: &'static str,
    },
    /// The builder in Docker Engine.
    Engine {
        /// The release of the engine.
        engine: engine::Release,
        /// The set of tools with its containerd.
        containerd: &'static str,
    },
}

impl Host {
    /// Starts it on its state in `root`, with its containerd if it has one. It connects to `registries`
    /// without TLS; an engine does so by default with registries on this machine.
    ///
    /// # Errors
    /// Returns an error if tools are missing or a daemon does not start.
    pub fn start(self, tools: &Tools, root: &Path, registries: &[&str]) -> Result<Daemon> {
        if self == Self::Buildkitd {
            return Daemon::start(tools, root, registries);
        }
        let containerd = self.start_containerd(tools, root)?;
        let builder = builder(root);
        match self {
            Self::Engine { engine, .. } => engine::start(tools, engine, &builder, containerd),
            _ => Daemon::start_on(tools, &builder, registries, containerd),
        }
    }

    /// Returns the set of tools with its containerd, if it uses one.
    #[must_use]
    pub fn containerd(self) -> Option<&'static str> {
        match self {
            Self::Buildkitd => None,
            Self::Worker { containerd } | Self::Engine { containerd, .. } => Some(containerd),
        }
    }

    /// Starts only its containerd.
    ///
    /// # Errors
    /// Returns an error if it has none, or if the tools are missing or it does not start.
    pub fn start_containerd(self, tools: &Tools, root: &Path) -> Result<Containerd> {
        let set = self.containerd().context("the OCI worker uses no containerd")?;
        std::fs::create_dir_all(root)?;
        Containerd::start(tools, set, &containerd(root))
    }

    /// Returns the arguments of oci2bk for its state in `root`.
    #[must_use]
    pub fn arguments(self, root: &Path) -> Vec<OsString> {
        let containerd = || [OsString::from("--containerd-root"), containerd(root).into()];
        match self {
            Self::Buildkitd => vec![root.into()],
            Self::Worker { .. } => {
                let mut arguments = vec![builder(root).into()];
                arguments.extend(containerd());
                arguments
            }
            Self::Engine { .. } => {
                let mut arguments = vec!["--engine".into(), "--docker-root".into()];
                arguments.push(builder(root).into());
                arguments.extend(containerd());
                arguments
            }
        }
    }

    /// Returns the location of its state in `root`.
    #[must_use]
    pub fn place(self, root: &Path) -> Place {
        let (builder, containerd) = (builder(root), containerd(root));
        match self {
            Self::Buildkitd => Place::of_oci_worker(root),
            Self::Worker { .. } => Place::on_containerd(&builder, &containerd, daemon::NAMESPACE),
            Self::Engine { .. } => {
                Place::on_containerd(&builder.join(engine::BUILDER), &containerd, engine::NAMESPACE)
            }
        }
    }
}

/// Returns the root of buildkitd or of the engine.
#[must_use]
pub fn builder(root: &Path) -> PathBuf {
    root.join("builder")
}

/// Returns the root of its containerd.
#[must_use]
pub fn containerd(root: &Path) -> PathBuf {
    root.join("containerd")
}

//! The daemon of a command: its root, and its configuration.

use std::path::{Path, PathBuf};

use bkstate::config::{
    ConfigError, ContainerdConfig, DaemonConfig, ReadConfigError, Unsupported, UserError,
    owners_of_user,
};
use bkstate::engine::{Dockerd, Engine, EngineError, EngineFiles};
use bkstate::gc::GcConfig;
use bkstate::machine::{Machine, PlaceError};
use bkstate::root::Location;
use bkstate::worker::{OwnerMap, Snapshotter, Worker};
use bkstate::{About, Class, Classified};
use oci2bk::builder::{Builder, BuilderError, CONTAINER_ROOT, Docker};
use oci2bk::release::{ParseTargetError, Target};

use crate::args::{
    DaemonArguments, OwnerArguments, RootArguments, SnapshotterName, StorageArguments,
};
use crate::snapshotter::{self, ChooseError};

/// Advice for builders without a volume.
const OTHER_BUILDER: &str =
    "make a builder with a volume: docker buildx create --driver docker-container --bootstrap";

/// What is known of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaemonRoot {
    pub(crate) location: Location,
    pub(crate) gc: GcConfig,
    /// The program of Docker Engine, if the daemon is one whose program tells the release of its BuildKit.
    pub(crate) dockerd: Option<Dockerd>,
}

impl DaemonRoot {
    fn new(location: Location, gc: GcConfig) -> Self {
        Self { location, gc, dockerd: None }
    }

    /// Returns the release of the daemon: the given one, or the one in its program, or the newest known one.
    pub(crate) fn target(&self, given: Option<Target>) -> Result<Target, DaemonError> {
        match (given, &self.dockerd) {
            (Some(given), _) => Ok(given),
            (None, Some(dockerd)) => release(dockerd),
            (None, None) => Ok(Target::default()),
        }
    }
}

/// Why the root of a daemon cannot be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    Config(#[from] ReadConfigError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Snapshotter(#[from] ChooseError),
    #[error(transparent)]
    Builder(#[from] BuilderError),
    #[error("cannot find out the owners of a rootless buildkitd of the user {user}")]
    User {
        user: String,
        #[source]
        source: UserError,
    },
    #[error("cannot use the configuration of the builder {builder}, as docker buildx noted it")]
    BuilderConfig {
        builder: String,
        #[source]
        source: ConfigError,
    },
    #[error("the daemon of {whose} would not use the state")]
    Unsupported {
        whose: String,
        #[source]
        source: Unsupported,
    },
    #[error("{} contains BuildKit {version}, for which no state can be made", program.display())]
    Release {
        program: PathBuf,
        version: String,
        #[source]
        source: ParseTargetError,
    },
    #[error("neither a root nor a daemon is given; this is a fault of oci2bk; report it")]
    NoDaemon,
    #[error(
        "the configuration {} has no root; give that of the daemon behind the sources, such as \
         /var/lib/buildkit", path.display()
    )]
    NoRoot { path: PathBuf },
    #[error(
        "the builder {builder} has its state in {} of its container, not in its volume, \
         {CONTAINER_ROOT}", root.display()
    )]
    OutsideVolume { builder: String, root: PathBuf },
}

impl Classified for DaemonError {
    /// A daemon that cannot be used is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Config(error) => error.about(),
            Self::Engine(error) => error.about(),
            Self::Place(error) => error.about(),
            Self::Snapshotter(_) => About::new("daemon.snapshotter", Class::Io),
            Self::Builder(error) => error.about(),
            Self::User { source, .. } => source.about(),
            Self::BuilderConfig { .. } => About::new("daemon.builder-config", Class::Input),
            Self::Unsupported { .. } => About::new("daemon.unsupported", Class::Io),
            Self::Release { .. } => About::new("daemon.release", Class::Io),
            Self::NoDaemon => About::new("daemon.no-daemon", Class::Io),
            Self::NoRoot { .. } => About::new("daemon.no-root", Class::Io),
            Self::OutsideVolume { .. } => About::new("daemon.outside-volume", Class::Io),
        }
    }
}

impl DaemonError {
    /// Returns hints about the error.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Builder(error) => hints_of_builder(error),
            Self::Unsupported { source: Unsupported::NoOciWorker, .. } => {
                vec!["give the root of its containerd with --containerd-root".to_owned()]
            }
            Self::Unsupported { source: Unsupported::Rootless, .. } => vec![
                "run as its user, with rootlesskit before the command, or give its owners with --map-user NAME \
                 or --map"
                    .to_owned(),
            ],
            Self::Engine(EngineError::GraphDriver { .. }) => vec![
                "move the engine to the containerd image store, or make a builder with a volume: docker \
                 buildx create --driver docker-container --bootstrap"
                    .to_owned(),
            ],
            Self::Engine(EngineError::Containerd { .. }) => {
                vec!["give the root of its containerd with --containerd-root".to_owned()]
            }
            Self::Release { .. } => {
                vec!["give the release of the engine's BuildKit with --buildkit".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Returns hints about a builder, one per line.
fn hints_of_builder(error: &BuilderError) -> Vec<String> {
    match error {
        BuilderError::Engine { .. } => vec![
            "if the engine keeps images in containerd, give --engine in place of --builder"
                .to_owned(),
            OTHER_BUILDER.to_owned(),
        ],
        BuilderError::Driver { .. } => vec![OTHER_BUILDER.to_owned()],
        BuilderError::Rootless { .. } => vec![
            "give the volume that is at /home/user/.local/share/buildkit in the container, with the owners \
             that --map 0:1000:1,1:100000:65536 gives"
                .to_owned(),
        ],
        BuilderError::NoVolume { builder, .. } => vec![
            format!("if it is not there, make it: docker buildx create --name {builder}"),
            format!("if it has not run, start it: docker buildx inspect --bootstrap {builder}"),
            format!("then stop it: docker buildx stop {builder}"),
            "if Docker has its data elsewhere, give --docker-root".to_owned(),
        ],
        _ => Vec::new(),
    }
}

impl RootArguments {
    pub(crate) fn resolve(&self) -> Result<DaemonRoot, DaemonError> {
        self.daemon.resolve(self.root.as_deref())
    }
}

impl DaemonArguments {
    /// Finds the daemon, with the given root, if any.
    pub(crate) fn resolve(&self, root: Option<&Path>) -> Result<DaemonRoot, DaemonError> {
        let storage = &self.storage;
        if storage.engine {
            return storage.of_engine();
        }
        let worker = storage.worker().here();
        let read = |path: &PathBuf| DaemonConfig::read_for(path, &worker);
        let config = self.config.as_ref().map(read).transpose()?;
        let config = config.map(|config| self.owners.allow(config));
        match (&self.builder, &self.config) {
            (Some(name), _) => {
                let docker =
                    Docker::of_user(|name| std::env::var_os(name), storage.docker_root.clone());
                let builder = docker.builder(name)?;
                storage.of_builder(builder, config)
            }
            (None, Some(path)) => {
                let config = supported(config.unwrap_or_default(), || path.display().to_string())?;
                let root = root.map(Path::to_owned).or(config.root.clone());
                let root = root.ok_or_else(|| DaemonError::NoRoot { path: path.clone() })?;
                let location = storage.located(&root, &config)?;
                self.owners.of(DaemonRoot::new(location, config.gc))
            }
            // The arguments always name one of the three.
            (None, None) => self.owners.of(storage.daemon(root.ok_or(DaemonError::NoDaemon)?)?),
        }
    }
}

impl OwnerArguments {
    /// Returns `config` as supported if it is that of a rootless daemon and the owners are given.
    fn allow(&self, mut config: DaemonConfig) -> DaemonConfig {
        let is_given = self.map.is_some() || self.map_user.is_some();
        config.unsupported.take_if(|reason| is_given && *reason == Unsupported::Rootless);
        config
    }

    /// Returns the daemon with the given owners, if any.
    fn of(&self, daemon: DaemonRoot) -> Result<DaemonRoot, DaemonError> {
        let map = match (&self.map, &self.map_user) {
            (Some(map), _) => OwnerMap::of_both(map.clone()),
            (None, Some(user)) => owners_of_user(daemon.location.root(), user)
                .map_err(|source| DaemonError::User { user: user.clone(), source })?,
            (None, None) => return Ok(daemon),
        };
        Ok(DaemonRoot { location: daemon.location.mapped(map), ..daemon })
    }
}

impl StorageArguments {
    /// Returns the daemon with the root `root`, without a configuration of its own.
    pub(crate) fn daemon(&self, root: &Path) -> Result<DaemonRoot, DaemonError> {
        let gc = GcConfig::of_daemon(&self.worker());
        Ok(DaemonRoot::new(self.located(root, &DaemonConfig::default())?, gc))
    }

    /// Returns the worker of the daemon, in its default namespace.
    fn worker(&self) -> Worker {
        if self.containerd_root.is_none() && self.containerd_config.is_none() {
            Worker::default()
        } else {
            Worker::of_containerd(None)
        }
    }

    /// Returns the location of the state of the daemon with the root `root` and the configuration `daemon`.
    fn located(&self, root: &Path, daemon: &DaemonConfig) -> Result<Location, DaemonError> {
        let (of_config, snapshotter) = match self.containerd_config.as_deref() {
            None if self.containerd_root.is_none() => {
                return Ok(Location::of_oci(root, self.snapshotter(root, daemon.snapshotter)?));
            }
            None => Default::default(),
            Some(path) => {
                let machine = Machine::with(path, Path::new(ContainerdConfig::PATH));
                let machine = machine.unwrap_or_default();
                let config = ContainerdConfig::read_on(&machine, path)?;
                config.directories(&machine)?
            }
        };
        let containerd = self.containerd_root.clone().unwrap_or(of_config);
        let namespace = self.containerd_namespace.as_deref();
        let namespace = namespace.or(daemon.namespace.as_deref());
        let worker = Worker::of_containerd(namespace);
        let location = Location::on_containerd(root, containerd, worker);
        Ok(match snapshotter {
            Some(directory) => location.snapshotter(directory),
            None => location,
        })
    }

    /// Returns the snapshotter of the daemon with the root `root`. Its configuration has `configured`, if any.
    fn snapshotter(
        &self,
        root: &Path,
        configured: Option<Snapshotter>,
    ) -> Result<Snapshotter, DaemonError> {
        Ok(match self.snapshotter {
            Some(SnapshotterName::Given(given)) => given,
            Some(SnapshotterName::Auto) => snapshotter::choose(root)?,
            None => configured.unwrap_or_default(),
        })
    }

    /// Returns the root of a builder, with the given configuration or the builder's own.
    fn of_builder(
        &self,
        builder: Builder,
        config: Option<DaemonConfig>,
    ) -> Result<DaemonRoot, DaemonError> {
        let Builder { name, root, config: own, .. } = builder;
        let own = own.as_deref().map(DaemonConfig::from_toml).transpose();
        let config = match (config, own) {
            (Some(config), _) => config,
            (None, Ok(own)) => own.unwrap_or_default(),
            (None, Err(source)) => {
                return Err(DaemonError::BuilderConfig { builder: name, source });
            }
        };
        let config = supported(config, || format!("the builder {name}"))?;
        match config.root.clone() {
            Some(root) if root != Path::new(CONTAINER_ROOT) => {
                Err(DaemonError::OutsideVolume { builder: name, root })
            }
            _ => Ok(DaemonRoot::new(self.located(&root, &config)?, config.gc)),
        }
    }

    /// Finds the builder in Docker Engine.
    pub(crate) fn of_engine(&self) -> Result<DaemonRoot, DaemonError> {
        let files = EngineFiles {
            containerd_toml: self.containerd_config.clone(),
            docker_root: self.docker_root.clone(),
            containerd_root: self.containerd_root.clone(),
            ..EngineFiles::default()
        };
        let Engine { location, gc, dockerd, .. } = Engine::find(&files)?;
        Ok(DaemonRoot { location, gc, dockerd })
    }
}

/// Returns the release of BuildKit in a program. A version between two releases counts as the later one.
fn release(dockerd: &Dockerd) -> Result<Target, DaemonError> {
    let Dockerd { path, buildkit, .. } = dockerd;
    let release = buildkit.split_once('-').map_or(buildkit.as_str(), |(release, _)| release);
    let failed =
        |source| DaemonError::Release { program: path.clone(), version: buildkit.clone(), source };
    release.parse().map_err(failed)
}

fn supported(
    config: DaemonConfig,
    whose: impl FnOnce() -> String,
) -> Result<DaemonConfig, DaemonError> {
    match config.unsupported {
        Some(source) => Err(DaemonError::Unsupported { whose: whose(), source }),
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(error: BuilderError) -> Vec<String> {
        DaemonError::from(error).hints()
    }

    #[test]
    fn a_builder_that_cannot_be_used_has_hints() {
        let (builder, root) = ("ci".to_owned(), PathBuf::from("/volume"));
        let of_new = hints(BuilderError::NoVolume { builder: builder.clone(), root });
        assert!(of_new[0].ends_with("docker buildx create --name ci"), "{of_new:?}");
        assert!(of_new[1].ends_with("docker buildx inspect --bootstrap ci"), "{of_new:?}");
        assert!(of_new[2].ends_with("docker buildx stop ci"), "{of_new:?}");
        assert!(of_new[3].ends_with("give --docker-root"), "{of_new:?}");

        let of_engine = hints(BuilderError::Engine { builder: builder.clone() });
        assert!(of_engine[0].ends_with("give --engine in place of --builder"));
        assert!(
            of_engine[1].ends_with("docker buildx create --driver docker-container --bootstrap")
        );

        let image = "moby/buildkit:rootless".to_owned();
        let of_rootless = hints(BuilderError::Rootless { builder, image });
        assert!(of_rootless[0].contains("/home/user/.local/share/buildkit"), "{of_rootless:?}");
    }
}

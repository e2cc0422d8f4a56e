//! Finds the state of the builder in Docker Engine.
//!
//! Nothing is run: everything follows from the files of the engine and of containerd.
//!
//! ```
//! use bkstate::engine::{Engine, EngineError, EngineFiles};
//!
//! let temp = tempfile::tempdir()?;
//! let files = EngineFiles {
//!     programs: Vec::new(),
//!     daemon_json: Some(temp.path().join("daemon.json")),
//!     containerd_toml: Some(temp.path().join("config.toml")),
//!     docker_root: Some(temp.path().join("docker")),
//!     containerd_root: Some(temp.path().join("containerd")),
//! };
//! let engine = Engine::find(&files)?;
//! assert_eq!(engine.location.root(), temp.path().join("docker/buildkit"));
//! assert_eq!(engine.location.worker().namespace(), "moby");
//! assert_eq!(engine.dockerd, None);
//!
//! std::fs::write(temp.path().join("daemon.json"), r#"{"storage-driver": "overlay2"}"#)?;
//! let refused = Engine::find(&files).unwrap_err();
//! assert!(matches!(refused, EngineError::GraphDriver { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod program;

use std::path::{Path, PathBuf};

use crate::config::{ContainerdConfig, EngineConfig, ReadConfigError, optional};
use crate::dir::{Dir, DirError, if_there};
use crate::gc::GcConfig;
use crate::machine::{Machine, PlaceError};
use crate::root::Location;
use crate::worker::Worker;

/// The default data root (Docker Engine v29 `daemon/config/config_linux.go`).
///
/// ```
/// use std::path::Path;
///
/// use bkstate::engine::DATA_ROOT;
/// use bkstate::machine::Machine;
///
/// // Whose data root it is.
/// assert!(Machine::with(Path::new("/var/lib/docker"), Path::new(DATA_ROOT)).unwrap().is_this());
/// ```
pub const DATA_ROOT: &str = "/var/lib/docker";
/// The directory of the builder in the data root (Docker Engine v29 `daemon/command/daemon.go`).
const BUILDER: &str = "buildkit";
/// The root of a containerd that the engine starts, in the data root (`daemon/command/daemon.go`
/// `containerdRootDir`).
const OWN_CONTAINERD: &str = "containerd/daemon";
/// The graph drivers of an engine (`daemon/graphdriver/register`).
const GRAPH_DRIVERS: [&str; 5] = ["overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs"];
/// The graph driver whose directory does not count as a sign of earlier use (`daemon/graphdriver/driver.go`
/// `scanPriorDrivers`).
const IGNORED_DRIVER: &str = "vfs";

/// The files that determine the location of an engine's state.
///
/// All of them are on one machine. That is this one, unless the data root is given and is `var/lib/docker` below
/// another directory: then that directory is the file system of the machine, such as a mounted image of it, and
/// the paths in the configurations are those on that machine. The data root in this machine's configuration is
/// always on this machine.
///
/// ```
/// use bkstate::engine::{Engine, EngineFiles};
///
/// let machine = tempfile::tempdir()?;
/// let below = |path: &str| machine.path().join(path);
/// std::fs::create_dir_all(below("etc/containerd"))?;
/// std::fs::write(below("etc/containerd/config.toml"), "root = \"/data/containerd\"\n")?;
///
/// let docker_root = Some(below("var/lib/docker"));
/// let engine = Engine::find(&EngineFiles { docker_root, ..EngineFiles::default() })?;
/// assert_eq!(engine.location.containerd(), Some(below("data/containerd").as_path()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct EngineFiles {
    /// The configuration of the engine, if it is not in its place on the machine, `/etc/docker/daemon.json`.
    pub daemon_json: Option<PathBuf>,
    /// The configuration of containerd, if it is not in its place on the machine, `/etc/containerd/config.toml`.
    pub containerd_toml: Option<PathBuf>,
    /// The data root of the engine, if it does not follow from the configuration.
    pub docker_root: Option<PathBuf>,
    /// The root of containerd, if it does not follow from the configuration.
    pub containerd_root: Option<PathBuf>,
    /// The places on the machine where the program may be.
    pub programs: Vec<PathBuf>,
}

impl Default for EngineFiles {
    /// Returns the files in their places on a Linux machine.
    fn default() -> Self {
        Self {
            daemon_json: None,
            containerd_toml: None,
            docker_root: None,
            containerd_root: None,
            programs: ["/usr/bin/dockerd", "/usr/local/bin/dockerd", "/usr/sbin/dockerd"]
                .map(PathBuf::from)
                .to_vec(),
        }
    }
}

/// The builder of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// The location of its state.
    pub location: Location,
    /// The data root of the engine.
    pub data_root: PathBuf,
    /// Its garbage collection settings.
    pub gc: GcConfig,
    /// Its program, if it was found and tells which BuildKit it has.
    pub dockerd: Option<Dockerd>,
}

/// The program of an engine.
///
/// ```
/// use bkstate::engine::{Dockerd, Engine, EngineFiles};
///
/// fn release_of(engine: &Engine) -> Option<&str> {
///     engine.dockerd.as_ref().map(|Dockerd { buildkit, .. }| buildkit.as_str())
/// }
///
/// // The image of a machine in which nothing is installed.
/// let machine = tempfile::tempdir()?;
/// let engine = Engine::find(&EngineFiles {
///     docker_root: Some(machine.path().join("var/lib/docker")),
///     ..EngineFiles::default()
/// })?;
/// assert_eq!(release_of(&engine), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dockerd {
    /// Its path.
    pub path: PathBuf,
    /// The version of BuildKit in it, such as `v0.34.2`, from its build information.
    pub buildkit: String,
}

/// Why the state of an engine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ReadConfigError),
    /// A directory of another machine cannot be found there.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The engine has its images in a graph driver, where the state of the builder has another form.
    #[error(
        "the Docker Engine with the data root {} keeps images with the graph driver {driver}{}, not in \
         containerd, so the state of its builder has another form",
        data_root.display(), cause(*configured)
    )]
    GraphDriver {
        /// The data root.
        data_root: PathBuf,
        /// The driver.
        driver: String,
        /// Whether it is configured; otherwise it was used before.
        configured: bool,
    },
    /// Nothing tells where the containerd of the engine has its root.
    #[error(
        "the data root {} is neither that of this machine's Docker Engine nor var/lib/docker in the image of a \
         machine, and no root of its containerd is given", data_root.display()
    )]
    Containerd {
        /// The data root.
        data_root: PathBuf,
    },
    /// The engine maps users, so files in its state have other owners.
    #[error("the Docker Engine with the data root {} has userns-remap, and files in its state belong to the \
             users of a namespace", data_root.display())]
    MappedUsers {
        /// The data root.
        data_root: PathBuf,
    },
    /// The snapshotter is not overlayfs.
    #[error(
        "the Docker Engine with the data root {} has the snapshotter {snapshotter}; only overlayfs is \
         supported",
        data_root.display()
    )]
    Snapshotter {
        /// The data root.
        data_root: PathBuf,
        /// The snapshotter.
        snapshotter: String,
    },
}

fn cause(configured: bool) -> &'static str {
    if configured { "" } else { ", which it used before" }
}

impl Engine {
    /// Finds the builder of the engine that `files` describe. Its directories need not exist yet.
    ///
    /// # Errors
    /// Returns an error if a configuration cannot be read, or the builder's state would have another form.
    pub fn find(files: &EngineFiles) -> Result<Self, EngineError> {
        let Found { machine, config, data_root, is_known } = Found::of(files)?;
        let below = |name: &str| machine.find(&data_root.join(name));
        let (builder, own) = (below(BUILDER)?, below(OWN_CONTAINERD)?);
        let data_root = machine.find(&data_root)?;
        check_store(&config, &data_root, below)?;
        let worker = Worker::of_engine(config.namespace.as_deref());
        if let Some(snapshotter) = config.storage_driver.filter(|name| name != worker.snapshotter())
        {
            return Err(EngineError::Snapshotter { data_root, snapshotter });
        }
        let has_own = || if_there(Dir::open(&own)).map(|dir| dir.is_some());
        let of_system = config.containerd.is_some() || !has_own().map_err(PlaceError::from)?;
        let (containerd, snapshotter) = match (&files.containerd_root, &files.containerd_toml) {
            (Some(given), _) => (given.clone(), None),
            (None, _) if !of_system => (own, None),
            (None, None) if is_known => {
                let path = machine.find(Path::new(ContainerdConfig::PATH))?;
                let read = optional(&path, ContainerdConfig::read_on(&machine, &path))?;
                read.unwrap_or_default().directories(&machine)?
            }
            (None, None) => return Err(EngineError::Containerd { data_root }),
            (None, Some(given)) => {
                ContainerdConfig::read_on(&machine, given)?.directories(&machine)?
            }
        };
        let location = Location::on_containerd(builder, containerd, worker);
        let location = match snapshotter {
            Some(directory) => location.snapshotter(directory),
            None => location,
        };
        let dockerd = dockerd(&files.programs, &machine);
        Ok(Self { location, data_root, gc: config.gc, dockerd })
    }
}

/// The engine that files describe.
struct Found {
    /// The machine that has it.
    machine: Machine,
    config: EngineConfig,
    /// The data root, as a path of the machine.
    data_root: PathBuf,
    /// Whether the engine on the machine has this data root.
    is_known: bool,
}

impl Found {
    fn of(files: &EngineFiles) -> Result<Self, ReadConfigError> {
        let place = Path::new(DATA_ROOT);
        let here = files.daemon_json.as_deref().unwrap_or(Path::new(EngineConfig::PATH));
        let here = EngineConfig::read_if_there(here)?;
        let configured = here.data_root.clone().unwrap_or_else(|| place.to_owned());
        let given = files.docker_root.clone().unwrap_or_else(|| configured.clone());
        let is_configured = given == configured;
        match Machine::with(&given, place).filter(|machine| !is_configured && !machine.is_this()) {
            None => Ok(Self {
                machine: Machine::default(),
                config: here,
                is_known: is_configured || given == place,
                data_root: given,
            }),
            Some(machine) => {
                let config = match &files.daemon_json {
                    Some(_) => here,
                    None => {
                        let path = machine.find(Path::new(EngineConfig::PATH))?;
                        EngineConfig::read_if_there(&path)?
                    }
                };
                Ok(Self { machine, config, is_known: true, data_root: place.to_owned() })
            }
        }
    }
}

/// Returns the first of `programs` on `machine` that tells which BuildKit it has.
fn dockerd(programs: &[PathBuf], machine: &Machine) -> Option<Dockerd> {
    programs.iter().find_map(|program| {
        // One that cannot be read tells nothing.
        let path = machine.find(program).ok()?;
        let buildkit = program::buildkit_in(&path).ok().flatten()?;
        Some(Dockerd { path, buildkit })
    })
}

/// Opens the directory of the builder in the data root of an engine, if there is one.
///
/// ```
/// use bkstate::dir::Dir;
/// use bkstate::engine::builder_in;
///
/// let temp = tempfile::tempdir()?;
/// let data_root = Dir::open(temp.path())?;
/// assert!(builder_in(&data_root)?.is_none());
/// std::fs::create_dir(temp.path().join("buildkit"))?;
/// assert!(builder_in(&data_root)?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error if it cannot be opened, or is not a directory; a link is not one.
pub fn builder_in(data_root: &Dir) -> Result<Option<Dir>, DirError> {
    if_there(data_root.dir(BUILDER))
}

/// Opens the root of the containerd that an engine starts itself, in its data root, if there is one.
///
/// ```
/// use bkstate::dir::Dir;
/// use bkstate::engine::containerd_in;
///
/// let temp = tempfile::tempdir()?;
/// let data_root = Dir::open(temp.path())?;
/// assert!(containerd_in(&data_root)?.is_none());
/// std::fs::create_dir_all(temp.path().join("containerd/daemon"))?;
/// assert!(containerd_in(&data_root)?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Same as [`builder_in`].
pub fn containerd_in(data_root: &Dir) -> Result<Option<Dir>, DirError> {
    let mut names = OWN_CONTAINERD.split('/');
    if_there(data_root.try_clone().and_then(|top| names.try_fold(top, |dir, name| dir.dir(name))))
}

/// Rejects an engine that does not have its images in containerd (Docker Engine v29
/// `daemon/image_store_choice.go` `determineImageStoreChoice`).
fn check_store(
    config: &EngineConfig,
    data_root: &Path,
    below: impl Fn(&str) -> Result<PathBuf, PlaceError>,
) -> Result<(), EngineError> {
    let data_root = data_root.to_owned();
    if config.users_are_mapped {
        return Err(EngineError::MappedUsers { data_root });
    }
    let is_graph_driver = |name: &&String| GRAPH_DRIVERS.contains(&name.as_str());
    let configured = config.storage_driver.as_ref().filter(is_graph_driver);
    match (config.containerd_store, configured) {
        (Some(true), _) => Ok(()),
        (Some(false), driver) => {
            let driver = driver.map_or("overlay2", String::as_str).to_owned();
            Err(EngineError::GraphDriver { data_root, driver, configured: true })
        }
        (None, Some(driver)) => {
            let driver = driver.clone();
            Err(EngineError::GraphDriver { data_root, driver, configured: true })
        }
        (None, None) => {
            for driver in GRAPH_DRIVERS.into_iter().filter(|driver| *driver != IGNORED_DRIVER) {
                if has_content(&below(driver)?)? {
                    let driver = driver.to_owned();
                    return Err(EngineError::GraphDriver { data_root, driver, configured: false });
                }
            }
            Ok(())
        }
    }
}

/// Returns whether the directory exists and is not empty.
fn has_content(path: &Path) -> Result<bool, PlaceError> {
    let dir = if_there(Dir::open(path))?;
    Ok(dir.map(|dir| dir.entries()).transpose()?.is_some_and(|entries| !entries.is_empty()))
}

#[cfg(test)]
mod tests;

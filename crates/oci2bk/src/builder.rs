//! Finds builders of docker buildx with the `docker-container` driver, from the files of buildx and Docker;
//! neither program is run.
//!
//! buildx v0.38.2 records a builder in `instances/NAME` of its directory (`store/store.go`). It names the
//! nodes `NAME0`, `NAME1` and so on (`store/nodegroup.go`), the container of a node `buildx_buildkit_NODE`
//! (`driver/driver.go`), and mounts the volume `buildx_buildkit_NODE_state` at `/var/lib/buildkit` in it
//! (`driver/docker-container/driver.go`). Docker v28.5.2 has the content of a volume in
//! `volumes/VOLUME/_data` of its data root (`volume/local/local.go`), which `data-root` in `daemon.json`
//! moves (`daemon/config/config.go`).
//!
//! ```
//! use oci2bk::builder::{Builder, BuilderError, CONTAINER_ROOT, Docker};
//!
//! let temporary = tempfile::tempdir()?;
//! let docker = Docker::of_user(|_| None, Some(temporary.path().join("docker")));
//! let Err(BuilderError::NoVolume { root, .. }) = docker.builder("ci") else { panic!("it has none") };
//! assert!(root.ends_with("docker/volumes/buildx_buildkit_ci0_state/_data"));
//!
//! // Once it has run, this directory is its root, which it has at another place in its container.
//! std::fs::create_dir_all(&root)?;
//! let found: Builder = docker.builder("ci")?;
//! println!("{CONTAINER_ROOT} is {}", found.root.display());
//! assert_eq!((found.root, found.config), (root, None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bkstate::config::EngineConfig;
use bkstate::dir::{Dir, if_there};
use bkstate::engine::DATA_ROOT;
use bkstate::input::{self, InputError};
use bkstate::machine::{Machine, PlaceError};
use bkstate::{Digest, FormatError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The mount point of a volume in the container of its builder.
pub const CONTAINER_ROOT: &str = "/var/lib/buildkit";

/// Maximum size of a file to read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The places of buildx's and Docker's files.
#[derive(Debug)]
pub struct Docker {
    /// The directory of buildx, if the user has one.
    pub buildx: Option<PathBuf>,
    /// The directory of Docker's contexts, if the user has one.
    pub contexts: Option<PathBuf>,
    /// The configuration of the Docker daemon.
    pub daemon_json: PathBuf,
    /// The data root, if it is given.
    pub root: Option<PathBuf>,
}

/// A builder with one node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Builder {
    /// Its name.
    pub name: String,
    /// The root of its daemon, which exists.
    pub root: PathBuf,
    /// Its `buildkitd.toml`.
    pub config: Option<String>,
}

/// Why the root of a builder cannot be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuilderError {
    /// A directory of the machine cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// It cannot be the name of a builder.
    #[error("{0:?} cannot be the name of a builder: a letter, then letters, digits and ._-")]
    Name(String),
    /// Its driver has no volume.
    #[error("the builder {builder} has the driver {driver}, which keeps no state in a volume")]
    Driver {
        /// The builder.
        builder: String,
        /// The driver.
        driver: String,
    },
    /// It is part of a Docker Engine.
    #[error("the builder {builder} is that of Docker Engine, which keeps no state in a volume")]
    Engine {
        /// The builder.
        builder: String,
    },
    /// It is on another machine.
    #[error("the builder {builder} runs on {endpoint}; convert there")]
    Remote {
        /// The builder.
        builder: String,
        /// The address of the other machine.
        endpoint: String,
    },
    /// It has several nodes.
    #[error(
        "the builder {builder} has {} nodes, each with a state of its own; give the root of the one \
         that is meant: {}", nodes.len(), listed(nodes)
    )]
    SeveralNodes {
        /// The builder.
        builder: String,
        /// Their roots.
        nodes: Vec<PathBuf>,
    },
    /// Its daemon is rootless.
    #[error(
        "the builder {builder} runs the image {image}, whose buildkitd is rootless and keeps its state elsewhere \
         than in the volume of the builder"
    )]
    Rootless {
        /// The builder.
        builder: String,
        /// The image of its daemon.
        image: String,
    },
    /// Its volume does not exist.
    #[error("the builder {builder} has no state in {}", root.display())]
    NoVolume {
        /// The builder.
        builder: String,
        /// Where it would be.
        root: PathBuf,
    },
    /// A file of buildx or Docker cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: InputError,
    },
    /// A file of buildx or Docker is too large.
    #[error("{} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file of buildx or Docker has another content than it should.
    #[error("{} is not what Docker writes", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The configuration of its daemon cannot be decoded.
    #[error("the buildkitd.toml in {} is not text in base64", path.display())]
    Config {
        /// The file of buildx.
        path: PathBuf,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// The content of `instances/NAME` (`store.NodeGroup` in Go's JSON).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    driver: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    name: String,
    #[serde(default)]
    endpoint: String,
    /// Options of the driver, such as the image of the daemon.
    #[serde(default)]
    driver_opts: Option<BTreeMap<String, String>>,
    /// Files that are copied into the container, in base64.
    #[serde(default)]
    files: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct DaemonJson {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
}

impl Docker {
    /// Returns the places on this machine for a user with these environment variables: `DOCKER_CONFIG`,
    /// `BUILDX_CONFIG` and `HOME` are read. `root` is the data root of Docker, if it is given.
    pub fn of_user(variable: impl Fn(&str) -> Option<OsString>, root: Option<PathBuf>) -> Self {
        // An empty one counts as unset.
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let docker = || match variable("DOCKER_CONFIG") {
            Some(dir) => Some(PathBuf::from(dir)),
            None => Some(PathBuf::from(variable("HOME")?).join(".docker")),
        };
        let buildx = match variable("BUILDX_CONFIG") {
            Some(dir) => Some(dir.into()),
            None => docker().map(|dir| dir.join("buildx")),
        };
        let contexts = docker().map(|dir| dir.join("contexts/meta"));
        Self { buildx, contexts, daemon_json: EngineConfig::PATH.into(), root }
    }

    /// Returns the builder `name`, if it has one node and has run. A builder that buildx has not recorded for
    /// the current user, who may be root and not its owner, is found by the name of its volume.
    ///
    /// # Errors
    /// See [`BuilderError`].
    pub fn builder(&self, name: &str) -> Result<Builder, BuilderError> {
        let name = valid_name(name)?;
        let (machine, data_root) = self.data_root()?;
        let root_of = |node: &str| {
            let volume = format!("volumes/buildx_buildkit_{node}_state/_data");
            machine.find(&data_root.join(volume))
        };
        let noted = self.buildx.as_ref().map(|dir| dir.join("instances").join(&name));
        let instance = match &noted {
            Some(path) => read_json::<Instance>(path)?.map(|instance| (path, instance)),
            None => None,
        };
        let (roots, config) = match instance {
            Some((path, instance)) => {
                instance.check(&name)?;
                let config =
                    instance.config().map_err(|()| BuilderError::Config { path: path.clone() })?;
                let names = instance.nodes.iter().map(|node| valid_name(&node.name));
                (
                    names.map(|node| Ok(root_of(&node?)?)).collect::<Result<_, BuilderError>>()?,
                    config,
                )
            }
            None if self.is_engine(&name) => return Err(BuilderError::Engine { builder: name }),
            None => {
                let mut roots = vec![root_of(&format!("{name}0"))?];
                for number in 1.. {
                    let root = root_of(&format!("{name}{number}"))?;
                    if !is_there(&root)? {
                        break;
                    }
                    roots.push(root);
                }
                (roots, None)
            }
        };
        match <[PathBuf; 1]>::try_from(roots) {
            Ok([root]) if is_there(&root)? => Ok(Builder { name, root, config }),
            Ok([root]) => Err(BuilderError::NoVolume { builder: name, root }),
            Err(nodes) => Err(BuilderError::SeveralNodes { builder: name, nodes }),
        }
    }

    /// Returns whether the builder `name` is that of a Docker Engine. buildx has one for each context and
    /// does not record it (`store/storeutil/storeutil.go`). The name of a context's directory is the digest
    /// of the context's name (Docker v29.8.2 `cli/context/store/metadatastore.go`).
    fn is_engine(&self, name: &str) -> bool {
        let has = |dir: &PathBuf| dir.join(&*Digest::of(name).hex()).is_dir();
        name == "default" || self.contexts.as_ref().is_some_and(has)
    }

    /// Returns the machine that has the data root, and the data root as a path of it.
    fn data_root(&self) -> Result<(Machine, PathBuf), BuilderError> {
        let place = Path::new(DATA_ROOT);
        if let Some(root) = &self.root {
            return Ok(match Machine::with(root, place) {
                Some(machine) => (machine, place.to_owned()),
                None => (Machine::default(), root.clone()),
            });
        }
        let moved = read_json::<DaemonJson>(&self.daemon_json)?.and_then(|json| json.data_root);
        Ok((Machine::default(), moved.unwrap_or_else(|| place.to_owned())))
    }
}

impl Instance {
    fn check(&self, name: &str) -> Result<(), BuilderError> {
        let builder = name.to_owned();
        if self.driver != "docker-container" {
            return Err(BuilderError::Driver { builder, driver: self.driver.clone() });
        }
        let is_remote = |node: &&Node| {
            ["ssh://", "tcp://"].iter().any(|scheme| node.endpoint.starts_with(scheme))
        };
        if let Some(node) = self.nodes.iter().find(is_remote) {
            return Err(BuilderError::Remote { builder, endpoint: node.endpoint.clone() });
        }
        match self.nodes.iter().find_map(Node::rootless_image) {
            Some(image) => Err(BuilderError::Rootless { builder, image: image.to_owned() }),
            None => Ok(()),
        }
    }

    /// Returns the `buildkitd.toml` of the first node.
    fn config(&self) -> Result<Option<String>, ()> {
        let files = self.nodes.first().and_then(|node| node.files.as_ref());
        let Some(file) = files.and_then(|files| files.get("buildkitd.toml")) else {
            return Ok(None);
        };
        let bytes = BASE64_STANDARD.decode(file).map_err(|_| ())?;
        String::from_utf8(bytes).map(Some).map_err(|_| ())
    }
}

impl Node {
    /// Returns its image, if the daemon in it is rootless. Its tag says so, such as `moby/buildkit:rootless` or
    /// `v0.34.2-rootless` (`rootless.md` in the docs of BuildKit v0.34.2), and its root is in another volume.
    fn rootless_image(&self) -> Option<&str> {
        let image = self.driver_opts.as_ref()?.get("image")?;
        let name = image.rsplit('/').next()?;
        name.contains("rootless").then_some(image.as_str())
    }
}

/// Returns whether the directory exists.
fn is_there(path: &Path) -> Result<bool, PlaceError> {
    Ok(if_there(Dir::open(path))?.is_some())
}

/// Checks the name of a builder or node, and returns it as buildx stores it (`ValidateName` in
/// `store/util.go`).
fn valid_name(name: &str) -> Result<String, BuilderError> {
    let is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    is_valid.then(|| name.to_lowercase()).ok_or_else(|| BuilderError::Name(name.to_owned()))
}

/// Reads the document in a file; `None` if the file does not exist.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, BuilderError> {
    let failed = |source| BuilderError::Read { path: path.to_owned(), source };
    let file = match input::open(path) {
        Err(InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| failed(error.into()))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(BuilderError::TooLarge { path: path.to_owned() });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| BuilderError::Invalid {
        path: path.to_owned(),
        source: FormatError::new(source),
    })
}

#[cfg(test)]
mod tests;

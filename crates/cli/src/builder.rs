//! Finds builders of docker buildx with the `docker-container` driver, from the files of buildx and Docker;
//! neither program is run.
//!
//! buildx v0.38.2 records a builder in `instances/NAME` of its directory (`store/store.go`). It names the
//! nodes `NAME0`, `NAME1` and so on (`store/nodegroup.go`), the container of a node `buildx_buildkit_NODE`
//! (`driver/driver.go`), and mounts the volume `buildx_buildkit_NODE_state` at `/var/lib/buildkit` in it
//! (`driver/docker-container/driver.go`). Docker v28.5.2 has the content of a volume in
//! `volumes/VOLUME/_data` of its data root (`volume/local/local.go`), which `data-root` in `daemon.json`
//! moves (`daemon/config/config.go`).

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
use bkstate::{About, Class, Classified, Digest};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The mount point of a volume in the container of its builder.
pub(crate) const CONTAINER_ROOT: &str = "/var/lib/buildkit";

/// Advice for builders without a volume.
const OTHER_BUILDER: &str =
    "make a builder with a volume: docker buildx create --driver docker-container --bootstrap";

/// Maximum size of a file to read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The places of buildx's and Docker's files.
#[derive(Debug)]
pub(crate) struct Docker {
    /// The directory of buildx, if the user has one.
    pub(crate) buildx: Option<PathBuf>,
    /// The directory of Docker's contexts, if the user has one.
    pub(crate) contexts: Option<PathBuf>,
    /// The configuration of the Docker daemon.
    pub(crate) daemon_json: PathBuf,
    /// The data root, if it is given.
    pub(crate) root: Option<PathBuf>,
}

/// A builder with one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Builder {
    pub(crate) name: String,
    /// The root of its daemon, which exists.
    pub(crate) root: PathBuf,
    /// Its `buildkitd.toml`.
    pub(crate) config: Option<String>,
}

/// Why the root of a builder cannot be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuilderError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("{0:?} cannot be the name of a builder: a letter, then letters, digits and ._-")]
    Name(String),
    #[error("the builder {builder} has the driver {driver}, which keeps no state in a volume")]
    Driver { builder: String, driver: String },
    #[error("the builder {builder} is that of Docker Engine, which keeps no state in a volume")]
    Engine { builder: String },
    #[error("the builder {builder} runs on {endpoint}; convert there")]
    Remote { builder: String, endpoint: String },
    #[error(
        "the builder {builder} has {} nodes, each with a state of its own; give the root of the one \
         that is meant: {}", nodes.len(), listed(nodes)
    )]
    SeveralNodes { builder: String, nodes: Vec<PathBuf> },
    #[error(
        "the builder {builder} runs the image {image}, whose buildkitd is rootless and keeps its state elsewhere \
         than in the volume of the builder"
    )]
    Rootless { builder: String, image: String },
    #[error("the builder {builder} has no state in {}", root.display())]
    NoVolume { builder: String, root: PathBuf },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: InputError,
    },
    #[error("{} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not what Docker writes", path.display())]
    Invalid {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the buildkitd.toml in {} is not text in base64", path.display())]
    Config { path: PathBuf },
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

impl Classified for BuilderError {
    /// A builder that is on another machine, or has no state, is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Place(error) => error.about(),
            Self::Name(_) => About::new("builder.name", Class::Io),
            Self::Driver { .. } => About::new("builder.driver", Class::Io),
            Self::Engine { .. } => About::new("builder.engine", Class::Io),
            Self::Remote { .. } => About::new("builder.remote", Class::Io),
            Self::SeveralNodes { .. } => About::new("builder.several-nodes", Class::Io),
            Self::Rootless { .. } => About::new("builder.rootless", Class::Io),
            Self::NoVolume { .. } => About::new("builder.no-volume", Class::Io),
            Self::Read { .. } => About::new("builder.read", Class::Io),
            Self::TooLarge { .. } => About::new("builder.too-large", Class::Limit),
            Self::Invalid { .. } => About::new("builder.invalid", Class::Input),
            Self::Config { .. } => About::new("builder.config", Class::Input),
        }
    }
}

impl BuilderError {
    /// Returns hints about the error, one per line.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine { .. } => vec![
                "if the engine keeps images in containerd, give --engine in place of --builder"
                    .to_owned(),
                OTHER_BUILDER.to_owned(),
            ],
            Self::Driver { .. } => vec![OTHER_BUILDER.to_owned()],
            Self::Rootless { .. } => vec![
                "give the volume that is at /home/user/.local/share/buildkit in the container, with the owners \
                 that --map 0:1000:1,1:100000:65536 gives"
                    .to_owned(),
            ],
            Self::NoVolume { builder, .. } => vec![
                format!("if it is not there, make it: docker buildx create --name {builder}"),
                format!("if it has not run, start it: docker buildx inspect --bootstrap {builder}"),
                format!("then stop it: docker buildx stop {builder}"),
                "if Docker has its data elsewhere, give --docker-root".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
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
    /// Returns the places on this machine, for the current user.
    pub(crate) fn here(root: Option<PathBuf>) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
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
    pub(crate) fn builder(&self, name: &str) -> Result<Builder, BuilderError> {
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
    /// `v0.34.2-rootless` (BuildKit v0.34.2 `docs/rootless.md`), and its root is in another volume.
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
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| BuilderError::Invalid { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;

//! `buildkitd.toml`: the settings that affect the location and form of the state
//! (`cmd/buildkitd/config/config.go` of BuildKit v0.32.2).
//!
//! Without the feature `config-file`, which reads TOML, only `daemon.json` can be read; everything else gives
//! [`ConfigError::NoToml`].
//!
//! Options on the daemon's command line take precedence over the file; the file does not show them.
//!
//! ```
//! use std::path::Path;
//!
//! use bkstate::config::{ConfigError, DaemonConfig, ReadConfigError, Unsupported};
//! use bkstate::gc::DiskSpace;
//! use bkstate::worker::{Snapshotter, Worker};
//!
//! let temp = tempfile::tempdir()?;
//! let path = temp.path().join("buildkitd.toml");
//! std::fs::write(&path, "root = \"/srv/buildkit\"\n[worker.oci]\n  reservedSpace = \"20GB\"\n")?;
//! let config = DaemonConfig::read(&path)?;
//! assert_eq!(config.root.as_deref(), Some(Path::new("/srv/buildkit")));
//! assert_eq!(config.gc.reserved_space, DiskSpace::Bytes(20 << 30));
//! assert_eq!(config.unsupported, None);
//!
//! // The same for a daemon that uses a containerd, whose settings are in another table.
//! let config = DaemonConfig::read_for(&path, &Worker::of_containerd(None))?;
//! assert!(config.gc.reserved_space.is_none());
//!
//! let native = DaemonConfig::from_toml("[worker.oci]\n  snapshotter = \"native\"\n")?;
//! assert_eq!(native.snapshotter, Some(Snapshotter::Native));
//! // A daemon of an unknown kind is recognised.
//! let other = DaemonConfig::from_toml("[worker.oci]\n  snapshotter = \"zfs\"\n")?;
//! assert_eq!(other.unsupported, Some(Unsupported::Snapshotter("zfs".to_owned())));
//!
//! // A value that the daemon would reject is an error here too.
//! std::fs::write(&path, "[worker.oci]\n  gc = 1\n")?;
//! let Err(ReadConfigError::Invalid { source, .. }) = DaemonConfig::read(&path) else { panic!() };
//! assert!(matches!(source, ConfigError::Type { key: "gc", expected: "true or false" }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod containerd;
mod engine;
mod users;
mod value;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::gc::GcConfig;
use crate::input::{self, InputError};
use crate::machine::PlaceError;
use crate::worker::{Executor, Snapshotter, Worker};

pub use containerd::ContainerdConfig;
pub use engine::EngineConfig;
pub use users::{UserError, owners_of_user};
pub use value::ConfigError;
pub(crate) use value::{Table, boolean, member, parse, strings, table, text, worker_table};

/// Maximum size of a configuration file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The part of a daemon's configuration that affects its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaemonConfig {
    /// `root`, if it is set. Otherwise the daemon takes the root of its command line, or its default.
    pub root: Option<PathBuf>,
    /// `worker.oci.snapshotter`, if it is set to the name of one. With `auto`, which is the default, the daemon
    /// tries them on its root.
    pub snapshotter: Option<Snapshotter>,
    /// `worker.containerd.namespace`, if it is set. The OCI worker has none.
    pub namespace: Option<String>,
    /// The garbage collection settings.
    pub gc: GcConfig,
    /// Why the daemon cannot use a state as this crate models it, if the file shows that.
    pub unsupported: Option<Unsupported>,
}

/// A configured feature that this crate does not model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// `worker.oci.enabled` is false: the daemon has the containerd worker or none.
    #[error("it turns the OCI worker off, and the state of the containerd worker is in containerd")]
    NoOciWorker,
    /// `worker.containerd.enabled` is false: the daemon does not use a containerd.
    #[error("it turns the containerd worker off")]
    NoContainerdWorker,
    /// The snapshotter is unknown, or, for the containerd worker, another one than overlayfs.
    #[error("its snapshotter is {0}, which is not supported")]
    Snapshotter(String),
    /// `worker.oci.proxySnapshotterPath`: another daemon manages the snapshots.
    #[error("its snapshots are kept by the program behind {0}; only overlayfs is supported")]
    ProxySnapshotter(String),
    /// `worker.oci.rootless`, and the worker is not that of a rootless daemon
    /// ([`Worker::is_rootless`]).
    #[error("it is rootless, and files in its state belong to the users of a namespace")]
    Rootless,
}

/// Why a configuration file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: InputError,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file of another machine cannot be found there.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The daemon would reject the file.
    #[error("cannot use the configuration {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ConfigError,
    },
}

impl DaemonConfig {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is invalid.
    pub fn read(path: &Path) -> Result<Self, ReadConfigError> {
        Self::read_for(path, &Worker::default())
    }

    /// Reads the file `path` for a daemon with a worker like `worker`.
    ///
    /// # Errors
    /// Same as [`read`](Self::read).
    pub fn read_for(path: &Path, worker: &Worker) -> Result<Self, ReadConfigError> {
        let text = read_text(path)?;
        let invalid = |source| ReadConfigError::Invalid { path: path.to_owned(), source };
        Self::of(&text, worker).map_err(invalid)
    }

    /// Reads a `buildkitd.toml`.
    ///
    /// # Errors
    /// Returns an error if the text is not TOML, or the daemon would reject a value that is read here.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::of(text, &Worker::default())
    }

    fn of(text: &str, worker: &Worker) -> Result<Self, ConfigError> {
        let config = parse(text)?;
        let table = worker_table(&config, worker.executor())?;
        let root = string(&config, "root")?;
        // The daemon's working directory is not ours.
        if root.as_deref().is_some_and(|root| !Path::new(root).is_absolute()) {
            return Err(ConfigError::Type { key: "root", expected: "an absolute path" });
        }
        Ok(Self {
            root: root.map(PathBuf::from),
            snapshotter: match worker.executor() {
                Executor::Oci => string(&table, "snapshotter")?.and_then(|name| name.parse().ok()),
                _ => None,
            },
            namespace: string(&table, "namespace")?,
            gc: GcConfig::of_worker(&table, worker)?,
            unsupported: unsupported(&table, worker)?,
        })
    }
}

fn read_text(path: &Path) -> Result<String, ReadConfigError> {
    let path = path.to_owned();
    let error = |source| ReadConfigError::Read { path: path.clone(), source };
    let mut text = String::new();
    let mut file = input::open(&path).map_err(error)?.take(MAX_BYTES + 1);
    let length = file.read_to_string(&mut text).map_err(|source| error(source.into()))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(ReadConfigError::TooLarge { path });
    }
    Ok(text)
}

/// Returns what was read from the file `path`, or nothing if it does not exist.
pub(crate) fn optional<T>(
    path: &Path,
    read: Result<T, ReadConfigError>,
) -> Result<Option<T>, ReadConfigError> {
    match read {
        Err(ReadConfigError::Read { path: missing, source: InputError::Io(error) })
            if missing == path && error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn unsupported(table: &Table, worker: &Worker) -> Result<Option<Unsupported>, ConfigError> {
    let is_oci = worker.executor() == Executor::Oci;
    if boolean(table, "enabled")? == Some(false) {
        let off = if is_oci { Unsupported::NoOciWorker } else { Unsupported::NoContainerdWorker };
        return Ok(Some(off));
    }
    if let Some(path) = string(table, "proxySnapshotterPath")? {
        return Ok(Some(Unsupported::ProxySnapshotter(path)));
    }
    // Only the OCI worker has a choice, and can choose by itself.
    let is_known = |name: &str| match worker.executor() {
        Executor::Oci => name == "auto" || name.parse::<Snapshotter>().is_ok(),
        _ => name == worker.snapshotter(),
    };
    if let Some(other) = string(table, "snapshotter")?.filter(|name| !is_known(name)) {
        return Ok(Some(Unsupported::Snapshotter(other)));
    }
    // The last one, because a caller may know the owners.
    let rootless = boolean(table, "rootless")? == Some(true) && !worker.is_rootless();
    Ok(rootless.then_some(Unsupported::Rootless))
}

/// Returns a text; an empty one counts as not set.
fn string(table: &Table, key: &'static str) -> Result<Option<String>, ConfigError> {
    match member(table, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(ConfigError::Type { key, expected: "a text" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::OwnerMap;

    fn config(text: &str) -> DaemonConfig {
        DaemonConfig::from_toml(text).unwrap()
    }

    #[test]
    fn the_root_is_that_of_the_file() {
        assert_eq!(config(""), DaemonConfig::default());
        assert_eq!(config("Root = \"/srv/bk\"").root, Some("/srv/bk".into()));
        assert_eq!(config("root = \"\"").root, None);
        for (wrong, wanted) in [("root = \"bk\"", "an absolute path"), ("root = 1", "a text")] {
            let error = DaemonConfig::from_toml(wrong).unwrap_err();
            assert!(
                matches!(error, ConfigError::Type { key: "root", expected } if expected == wanted),
                "{wrong}: {error}"
            );
            assert_eq!(error.to_string(), format!("root has to be {wanted}"));
        }
    }

    #[test]
    fn daemons_with_states_of_another_kind_are_recognised() {
        let reason = |line: &str| config(&format!("[worker.oci]\n{line}\n")).unsupported;
        for fine in ["", "enabled = true", "snapshotter = \"overlayfs\"", "snapshotter = \"auto\""]
        {
            assert_eq!(reason(fine), None, "{fine}");
        }
        assert_eq!(reason("enabled = false"), Some(Unsupported::NoOciWorker));
        assert_eq!(reason("rootless = true"), Some(Unsupported::Rootless));
        let map = OwnerMap::of_both("0:1000:1".parse().unwrap());
        let rootless = Worker::default().in_namespace(map);
        let rootless = DaemonConfig::of("[worker.oci]\nrootless = true\n", &rootless).unwrap();
        assert_eq!(rootless.unsupported, None);
        let unknown = Some(Unsupported::Snapshotter("zfs".into()));
        assert_eq!(reason("Snapshotter = \"zfs\""), unknown);
        for (name, known) in [
            ("overlayfs", Some(Snapshotter::Overlayfs)),
            ("fuse-overlayfs", Some(Snapshotter::FuseOverlayfs)),
            ("native", Some(Snapshotter::Native)),
            ("stargz", Some(Snapshotter::Stargz)),
            ("auto", None),
        ] {
            let config = config(&format!("[worker.oci]\nsnapshotter = \"{name}\"\n"));
            assert_eq!((config.snapshotter, config.unsupported), (known, None), "{name}");
        }
        let of_containerd = DaemonConfig::of(
            "[worker.containerd]\nsnapshotter = \"native\"\n",
            &Worker::of_containerd(None),
        );
        let unsupported = Some(Unsupported::Snapshotter("native".into()));
        assert_eq!(of_containerd.unwrap().unsupported, unsupported);
        let proxy = reason("proxySnapshotterPath = \"/run/x.sock\"\nsnapshotter = \"overlayfs\"");
        assert_eq!(proxy, Some(Unsupported::ProxySnapshotter("/run/x.sock".into())));
        // The OCI worker comes first, so a containerd worker beside it does no harm.
        assert_eq!(config("[worker.containerd]\nenabled = true\n").unsupported, None);
    }
}

//! `buildkitd.toml`: what it says of where the state is and what it has to be
//! (`cmd/buildkitd/config/config.go` of BuildKit v0.32.2).
//!
//! Options on the daemon's command line take precedence over the file, and do not show in it.
//!
//! ```
//! use std::path::Path;
//!
//! use bkstate::config::{ConfigError, DaemonConfig, ReadConfigError, Unsupported};
//! use bkstate::gc::DiskSpace;
//!
//! let temp = tempfile::tempdir()?;
//! let path = temp.path().join("buildkitd.toml");
//! std::fs::write(&path, "root = \"/srv/buildkit\"\n[worker.oci]\n  reservedSpace = \"20GB\"\n")?;
//! let config = DaemonConfig::read(&path)?;
//! assert_eq!(config.root.as_deref(), Some(Path::new("/srv/buildkit")));
//! assert_eq!(config.gc.reserved_space, DiskSpace::Bytes(20 << 30));
//! assert_eq!(config.unsupported, None);
//!
//! // A daemon of another kind is recognised; it has no use for a state on overlayfs.
//! let native = DaemonConfig::from_toml("[worker.oci]\n  snapshotter = \"native\"\n")?;
//! assert_eq!(native.unsupported, Some(Unsupported::Snapshotter("native".to_owned())));
//!
//! // What the daemon would not start with is an error here too.
//! std::fs::write(&path, "[worker.oci]\n  gc = 1\n")?;
//! let Err(ReadConfigError::Invalid { source, .. }) = DaemonConfig::read(&path) else { panic!() };
//! assert!(matches!(source, ConfigError::Type { key: "gc", expected: "true or false" }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod value;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::gc::GcConfig;
use crate::input::{self, InputError};
use crate::worker::Worker;

pub use value::ConfigError;
pub(crate) use value::{boolean, member, oci_worker, parse, strings, text};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration of a daemon, as far as its state depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonConfig {
    /// `root`, if it is there. Without one the daemon takes that of its command line, or its own.
    pub root: Option<PathBuf>,
    /// What it says of garbage collection.
    pub gc: GcConfig,
    /// Why the daemon has no use for a state as this crate models it, if that shows.
    pub unsupported: Option<Unsupported>,
}

/// What a daemon is configured to, and this crate does not model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// `worker.oci.enabled` is false: what it has is the containerd worker, or none.
    #[error("it turns the OCI worker off, and the state of the containerd worker is in containerd")]
    NoOciWorker,
    /// `worker.oci.snapshotter` is neither `overlayfs` nor `auto`, which becomes overlayfs where the
    /// kernel has it.
    #[error(
        "its snapshotter is {0}; only overlayfs, and auto where that is overlayfs, is supported"
    )]
    Snapshotter(String),
    /// `worker.oci.proxySnapshotterPath`: the snapshots are another daemon's.
    #[error("its snapshots are kept by the program behind {0}; only overlayfs is supported")]
    ProxySnapshotter(String),
    /// `worker.oci.rootless`.
    #[error("it is rootless, and files in its state belong to the users of a namespace")]
    Rootless,
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: InputError,
    },
    /// No configuration is that large.
    #[error("the configuration {} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not what a daemon takes.
    #[error("cannot use the configuration {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
}

impl DaemonConfig {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn read(path: &Path) -> Result<Self, ReadConfigError> {
        let path = path.to_owned();
        let error = |source| ReadConfigError::Read { path: path.clone(), source };
        let mut text = String::new();
        let mut file = input::open(&path).map_err(error)?.take(MAX_BYTES + 1);
        let length = file.read_to_string(&mut text).map_err(|source| error(source.into()))?;
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(ReadConfigError::TooLarge { path });
        }
        Self::from_toml(&text).map_err(|source| ReadConfigError::Invalid { path, source })
    }

    /// Reads a `buildkitd.toml`.
    ///
    /// # Errors
    /// When it is no TOML, or a value that matters here is not what the daemon takes.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config = parse(text)?;
        let oci = oci_worker(&config)?;
        let root = string(&config, "root")?;
        // The daemon's own directory is not ours.
        if root.as_deref().is_some_and(|root| !Path::new(root).is_absolute()) {
            return Err(ConfigError::Type { key: "root", expected: "an absolute path" });
        }
        Ok(Self {
            root: root.map(PathBuf::from),
            gc: GcConfig::of_worker(&oci)?,
            unsupported: unsupported(&oci)?,
        })
    }
}

fn unsupported(oci: &Table) -> Result<Option<Unsupported>, ConfigError> {
    if boolean(oci, "enabled")? == Some(false) {
        return Ok(Some(Unsupported::NoOciWorker));
    }
    if boolean(oci, "rootless")? == Some(true) {
        return Ok(Some(Unsupported::Rootless));
    }
    if let Some(path) = string(oci, "proxySnapshotterPath")? {
        return Ok(Some(Unsupported::ProxySnapshotter(path)));
    }
    let snapshotter = string(oci, "snapshotter")?;
    let known = Worker::default();
    let other = snapshotter.filter(|name| name != known.snapshotter() && name != "auto");
    Ok(other.map(Unsupported::Snapshotter))
}

/// A text that is not empty, which counts as none.
fn string(table: &Table, key: &'static str) -> Result<Option<String>, ConfigError> {
    match member(table, key) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(ConfigError::Type { key, expected: "a text" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let native = Some(Unsupported::Snapshotter("native".into()));
        assert_eq!(reason("Snapshotter = \"native\""), native);
        let proxy = reason("proxySnapshotterPath = \"/run/x.sock\"\nsnapshotter = \"overlayfs\"");
        assert_eq!(proxy, Some(Unsupported::ProxySnapshotter("/run/x.sock".into())));
        // Beside the OCI worker, which is the first, it does no harm.
        assert_eq!(config("[worker.containerd]\nenabled = true\n").unsupported, None);
    }
}

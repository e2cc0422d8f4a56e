//! `daemon.json` of Docker Engine: the settings that affect the location and the form of its builder's state
//! (Docker Engine v29 `daemon/config/config.go`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codec::FormatError;
use serde::Deserialize;

use super::{ConfigError, ReadConfigError, optional, read_text};
use crate::gc::GcConfig;
use crate::worker::Worker;

/// The part of an engine's configuration that affects its builder's state.
///
/// ```
/// use std::path::Path;
///
/// use bkstate::config::EngineConfig;
///
/// let config = EngineConfig::from_json(r#"{"data-root": "/data", "containerd-namespace": "ci"}"#)?;
/// assert_eq!(config.data_root.as_deref(), Some(Path::new("/data")));
/// assert_eq!(config.namespace.as_deref(), Some("ci"));
/// assert_eq!((config.containerd_store, config.users_are_mapped), (None, false));
///
/// // The file of a machine whose file system is in a directory.
/// let machine = tempfile::tempdir()?;
/// let path = machine.path().join(EngineConfig::PATH.trim_start_matches('/'));
/// let absent = EngineConfig::read_if_there(&path)?;
/// assert_eq!(absent, EngineConfig::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// `data-root`. The default is `/var/lib/docker`.
    pub data_root: Option<PathBuf>,
    /// `containerd`: the address of a containerd that the engine does not start itself. The packages of Docker
    /// give it on the command line.
    pub containerd: Option<String>,
    /// `containerd-namespace`. The default is `moby`.
    pub namespace: Option<String>,
    /// `storage-driver`.
    pub storage_driver: Option<String>,
    /// `features.containerd-snapshotter`: whether images are in containerd.
    pub containerd_store: Option<bool>,
    /// Whether `userns-remap` is set.
    pub users_are_mapped: bool,
    /// `builder.gc`: the garbage collection settings.
    pub gc: GcConfig,
}

impl Default for EngineConfig {
    /// No configuration.
    fn default() -> Self {
        Self {
            data_root: None,
            containerd: None,
            namespace: None,
            storage_driver: None,
            containerd_store: None,
            users_are_mapped: false,
            gc: GcConfig::of_daemon(&Worker::of_engine(None)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Json {
    data_root: Option<PathBuf>,
    containerd: Option<String>,
    containerd_namespace: Option<String>,
    storage_driver: Option<String>,
    features: BTreeMap<String, bool>,
    userns_remap: Option<String>,
    builder: Option<serde_json::Value>,
}

impl EngineConfig {
    /// The file that the engine reads by default (`daemon/command/daemon_unix.go`).
    pub const PATH: &str = "/etc/docker/daemon.json";

    /// Reads the file `path`. Without one the engine has its defaults.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is invalid.
    pub fn read_if_there(path: &Path) -> Result<Self, ReadConfigError> {
        let Some(text) = optional(path, read_text(path))? else { return Ok(Self::default()) };
        let invalid = |source| ReadConfigError::Invalid { path: path.to_owned(), source };
        Self::from_json(&text).map_err(invalid)
    }

    /// Reads a `daemon.json`. An empty one has no settings, as for the engine.
    ///
    /// # Errors
    /// Returns an error if the text is not JSON, or a value has the wrong type.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let json: Json = serde_json::from_str(text)
            .map_err(|error| ConfigError::Json(FormatError::new(error)))?;
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            data_root: json.data_root.filter(|path| !path.as_os_str().is_empty()),
            containerd: set(json.containerd),
            namespace: set(json.containerd_namespace),
            storage_driver: set(json.storage_driver),
            containerd_store: json.features.get("containerd-snapshotter").copied(),
            users_are_mapped: set(json.userns_remap).is_some(),
            gc: match json.builder {
                Some(builder) => GcConfig::of_builder(&builder)?,
                None => Self::default().gc,
            },
        })
    }
}

//! What a Dockerfile takes from its base images: their configs.

use std::collections::BTreeMap;

use codec::{FormatError, from_objects};
use llb::Platform;
use serde::Deserialize;

use crate::reference::Reference;

/// The config of a base image, as far as it changes the steps on it.
///
/// ```
/// use dockerfile::ImageConfig;
///
/// // A config object, as `docker image inspect` has it in `Config`.
/// let config = ImageConfig::from_json(br#"{"Env": ["PATH=/bin"], "User": "app"}"#)?;
/// assert_eq!((config.user.as_str(), config.platform), ("app", None));
///
/// // The config document of an image, which says for which platform it is.
/// let json = br#"{"architecture": "arm64", "os": "linux", "config": {"WorkingDir": "/srv"}}"#;
/// let config = ImageConfig::from_json(json)?;
/// assert_eq!(config.working_dir, "/srv");
/// assert_eq!(config.platform, Some("linux/arm64".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ImageConfig {
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory; empty for the root directory.
    pub working_dir: String,
    /// The user; empty if none is set.
    pub user: String,
    /// The shell; empty for `/bin/sh -c`.
    pub shell: Vec<String>,
    /// The instructions that run in a stage on the image.
    pub on_build: Vec<String>,
    /// The platform, if the document has it.
    pub platform: Option<Platform>,
    /// Whether the document says that the image has no layers: then it is the same as `scratch`.
    pub is_empty: bool,
}

#[derive(Deserialize, Default)]
#[serde(remote = "Self")]
struct Document {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default, rename = "os.version")]
    os_version: String,
    #[serde(default, alias = "Config")]
    config: Option<Config>,
    #[serde(default)]
    rootfs: Option<RootFs>,
    #[serde(default)]
    history: Option<Vec<History>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase", remote = "Self")]
struct Config {
    env: Option<Vec<String>>,
    working_dir: String,
    user: String,
    shell: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct History {
    #[serde(default)]
    empty_layer: bool,
}

from_objects!(Config, Document, History, RootFs);

impl ImageConfig {
    /// Reads the config of an image, or only the object `config` of one.
    ///
    /// # Errors
    /// Returns an error if it is not JSON of that form.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        let whole: Document = serde_json::from_slice(json).map_err(FormatError::new)?;
        let (document, config) = match whole.config {
            Some(config) => (Document { config: None, ..whole }, config),
            None if whole.rootfs.is_some() => (whole, Config::default()),
            None => (Document::default(), serde_json::from_slice(json).map_err(FormatError::new)?),
        };
        let has_platform = !document.os.is_empty() && !document.architecture.is_empty();
        let platform = has_platform.then(|| Platform {
            os: document.os,
            architecture: document.architecture,
            variant: document.variant,
            os_version: document.os_version,
            ..Platform::default()
        });
        let no_layers = |rootfs: RootFs| rootfs.diff_ids.is_none_or(|ids| ids.is_empty());
        let history = document.history.unwrap_or_default();
        Ok(Self {
            env: config.env.unwrap_or_default(),
            working_dir: config.working_dir,
            user: config.user,
            shell: config.shell.unwrap_or_default(),
            on_build: config.on_build.unwrap_or_default(),
            platform,
            is_empty: document.rootfs.is_some_and(no_layers)
                && history.iter().all(|entry| entry.empty_layer),
        })
    }
}

/// The configs of images, by name.
///
/// ```
/// use dockerfile::{ImageConfig, Images, ReferenceError};
///
/// let config = ImageConfig::from_json(br#"{"Env": ["LANG=C"]}"#)?;
/// let mut images = Images::default();
/// images.add("alpine:3", None, config.clone())?;
/// let platform = "linux/arm64".parse()?;
/// assert_eq!(images.get("docker.io/library/alpine:3", &platform), Some(&config));
/// assert_eq!(images.get("alpine:2", &platform), None);
///
/// // One for each platform, if they differ; and one for all tags.
/// let other = ImageConfig::default();
/// images.add("alpine:3", Some("linux/arm64".parse()?), other.clone())?;
/// assert_eq!(images.get("alpine:3", &platform), Some(&other));
/// images.add("debian", None, config.clone())?;
/// assert_eq!(images.get("debian:12", &platform), Some(&config));
///
/// let error: ReferenceError = images.add("Alpine", None, config).unwrap_err();
/// assert_eq!(error.to_string(), "\"Alpine\" is not the name of an image");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// By the name in its normal form, and the platform.
    configs: BTreeMap<(String, Option<String>), ImageConfig>,
}

/// Why a text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an image")]
#[non_exhaustive]
pub struct ReferenceError {
    /// The text, shortened to 100 characters.
    pub text: String,
}

impl Images {
    /// Adds the config of an image, for one platform or for all others. A name with neither tag nor digest counts for
    /// every image of the repository that has no config of its own.
    ///
    /// # Errors
    /// Returns an error if `name` is not the name of an image.
    pub fn add(
        &mut self,
        name: &str,
        platform: Option<Platform>,
        config: ImageConfig,
    ) -> Result<(), ReferenceError> {
        let reference = Reference::parse(name)
            .ok_or_else(|| ReferenceError { text: name.chars().take(100).collect() })?;
        let platform = platform.map(|platform| platform.normalized().to_string());
        self.configs.insert((reference.as_given(), platform), config);
        Ok(())
    }

    /// Returns the config of an image for a platform.
    pub fn get(&self, name: &str, platform: &Platform) -> Option<&ImageConfig> {
        let reference = Reference::parse(name)?;
        let platform = platform.normalized().to_string();
        [reference.tagged(), reference.repository().to_owned()].into_iter().find_map(|name| {
            let exact = self.configs.get(&(name.clone(), Some(platform.clone())));
            exact.or_else(|| self.configs.get(&(name, None)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_layers_is_empty() {
        let is_empty = |json: &str| ImageConfig::from_json(json.as_bytes()).unwrap().is_empty;
        assert!(is_empty(r#"{"rootfs": {"diff_ids": []}}"#));
        assert!(is_empty(r#"{"rootfs": {}, "history": [{"empty_layer": true}]}"#));
        assert!(!is_empty(r#"{"rootfs": {"diff_ids": []}, "history": [{}]}"#));
        assert!(!is_empty(r#"{"rootfs": {"diff_ids": ["sha256:a"]}}"#));
        assert!(!is_empty(r#"{"Env": null}"#));
        assert!(ImageConfig::from_json(b"[]").is_err());
    }
}

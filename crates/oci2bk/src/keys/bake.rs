//! The JSON of `docker buildx bake --print`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bkstate::FormatError;
use codec::from_objects;
use llb::Platform;
use serde::Deserialize;

/// One build of a bake file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: Option<String>,
    /// The Dockerfile, if its text is not here.
    pub(super) dockerfile: PathBuf,
    pub(super) content: Option<Vec<u8>>,
    /// Options of the frontend.
    pub(super) options: Vec<(String, String)>,
    pub(super) platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Document {
    target: BTreeMap<String, Json>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case", remote = "Self")]
struct Json {
    context: Option<String>,
    dockerfile: Option<String>,
    dockerfile_inline: Option<String>,
    args: Option<BTreeMap<String, Option<String>>>,
    contexts: Option<BTreeMap<String, String>>,
    target: Option<String>,
    platforms: Option<Vec<String>>,
    network: Option<String>,
    shm_size: Option<String>,
    ulimits: Option<Vec<String>>,
    extra_hosts: Option<BTreeMap<String, String>>,
}

from_objects!(Document, Json);

/// Returns whether the content is JSON, which no Dockerfile is.
pub(super) fn is_json(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(b"{")
}

/// Returns the builds of a bake file; `None` if it is not JSON with targets.
pub(super) fn targets(content: &[u8]) -> Option<Result<Vec<Target>, FormatError>> {
    if !is_json(content) {
        return None;
    }
    let document: Result<Document, _> = serde_json::from_slice(content).map_err(FormatError::new);
    Some(document.map(|document| {
        document.target.into_iter().map(|(name, json)| json.target(name)).collect()
    }))
}

impl Json {
    fn target(self, name: String) -> Target {
        let mut options = Vec::new();
        let mut set = |key: &str, value: String| options.push((key.to_owned(), value));
        for (name, value) in self.args.unwrap_or_default() {
            if let Some(value) = value {
                set(&format!("build-arg:{name}"), value);
            }
        }
        for (name, value) in self.contexts.unwrap_or_default() {
            // A path is a directory.
            let value = if value.contains(':') { value } else { format!("local:{name}") };
            set(&format!("context:{name}"), value);
        }
        if let Some(target) = self.target {
            set("target", target);
        }
        if let Some(network) = self.network.filter(|network| network != "default") {
            set("force-network-mode", network);
        }
        if let Some(size) = self.shm_size {
            set("shm-size", size);
        }
        if let Some(ulimits) = self.ulimits {
            set("ulimit", ulimits.join(","));
        }
        if let Some(hosts) = self.extra_hosts {
            let hosts: Vec<_> =
                hosts.into_iter().map(|(host, address)| format!("{host}={address}")).collect();
            set("add-hosts", hosts.join(","));
        }
        let context = self.context.unwrap_or_else(|| ".".to_owned());
        let dockerfile = self.dockerfile.unwrap_or_else(|| "Dockerfile".to_owned());
        let platforms = self.platforms.unwrap_or_default();
        Target {
            name: Some(name),
            dockerfile: Path::new(&context).join(dockerfile),
            content: self.dockerfile_inline.map(String::into_bytes),
            options,
            platforms: platforms.iter().filter_map(|platform| platform.parse().ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_their_options() {
        let json = br#"{"group": {"default": {"targets": ["app"]}}, "target": {"app": {
            "context": "src", "dockerfile": "build.Dockerfile", "args": {"A": "1", "B": null},
            "contexts": {"base": "docker-image://debian:12", "lib": "../lib"}, "target": "final",
            "platforms": ["linux/amd64"], "network": "none", "ulimits": ["nofile=1:2"],
            "extra-hosts": {"db": "10.0.0.1"}, "no-cache": true}}}"#;
        let targets = targets(json).unwrap().unwrap();
        let options: Vec<_> =
            targets[0].options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = [
            "build-arg:A=1",
            "context:base=docker-image://debian:12",
            "context:lib=local:lib",
            "target=final",
            "force-network-mode=none",
            "ulimit=nofile=1:2",
            "add-hosts=db=10.0.0.1",
        ];
        assert_eq!(options, expected);
        assert_eq!(targets[0].dockerfile, Path::new("src/build.Dockerfile"));
        assert_eq!(targets[0].platforms.len(), 1);
    }

    #[test]
    fn a_dockerfile_is_no_bake_file() {
        assert!(targets(b"FROM a").is_none());
        assert!(targets(b"{\"target\": 1}").unwrap().is_err());
        assert!(
            targets(b"{\"target\": {\"a\": {\"dockerfile-inline\": \"FROM b\"}}}")
                .unwrap()
                .unwrap()[0]
                .content
                .is_some()
        );
    }
}

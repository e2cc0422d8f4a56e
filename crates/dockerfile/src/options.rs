//! Options of a build, as frontends take them.

use std::collections::BTreeMap;

use llb::op::{ExtraHost, Ulimit};
use llb::{ParsePlatformError, Platform};

use crate::frontend::Frontend;
use crate::value::{fields, signed};

/// The options of a build that change its steps.
///
/// ```
/// use dockerfile::{Frontend, OptionError, Options};
///
/// let mut options = Options::new(Frontend::NEWEST, "linux/amd64".parse()?);
/// options.set("build-arg:VERSION", "1.2")?;
/// options.set("platform", "linux/arm64/v8")?;
/// assert_eq!(options.platform.to_string(), "linux/arm64");
/// assert_eq!(options.build_platform.to_string(), "linux/amd64");
/// // What does not change steps is ignored.
/// options.set("no-cache", "")?;
///
/// let error: OptionError = options.set("ulimit", "nofile").unwrap_err();
/// assert_eq!(error.to_string(), "the option ulimit cannot be \"nofile\": a limit has the form name=soft[:hard]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The release of the frontend.
    pub frontend: Frontend,
    /// The platform of the result, in its normal form.
    pub platform: Platform,
    /// The platform of the builder.
    pub build_platform: Platform,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// The name of the stage that is built, as it was given. Every stage is converted; only a stage that
    /// declares `ARG TARGETSTAGE` looks at it.
    pub target: String,
    /// The network mode of steps without one: 0 sandbox, 1 host, 2 none.
    pub network: i32,
    /// Additional names in `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// The size of `/dev/shm` in bytes; 0 for the default.
    pub shm_size: i64,
    /// The parent cgroup of steps.
    pub cgroup_parent: String,
    /// The host name of steps.
    pub hostname: String,
    /// What named contexts are, by `NAME` or `NAME::PLATFORM`: `docker-image://…`, a directory or a URL.
    pub contexts: BTreeMap<String, String>,
}

/// Why an option has a value that frontends refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the option {key} cannot be {value:?}: {problem}")]
#[non_exhaustive]
pub struct OptionError {
    /// The option.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Default for Options {
    /// A build with the newest frontend for Linux on amd64.
    fn default() -> Self {
        let (os, architecture) = ("linux".to_owned(), "amd64".to_owned());
        Self::new(Frontend::NEWEST, Platform { os, architecture, ..Platform::default() })
    }
}

impl Options {
    /// Returns the options of a build without any, by a builder of `build_platform`.
    pub fn new(frontend: Frontend, build_platform: Platform) -> Self {
        Self {
            frontend,
            platform: build_platform.normalized(),
            build_platform,
            build_args: BTreeMap::new(),
            target: String::new(),
            network: 0,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: 0,
            cgroup_parent: String::new(),
            hostname: String::new(),
            contexts: BTreeMap::new(),
        }
    }

    /// Sets an option, by the key of the frontend: what `buildctl build --opt KEY=VALUE` takes (`dockerui/config.go`,
    /// `dockerui/attr.go`). Options that change no step are ignored.
    ///
    /// # Errors
    /// Returns an error if frontends refuse the value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        let wrong = |problem| OptionError { key: key.to_owned(), value: value.to_owned(), problem };
        if let Some(name) = key.strip_prefix("build-arg:") {
            self.build_args.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(name) = key.strip_prefix("context:") {
            self.contexts.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        match key {
            "platform" => {
                if value.contains(',') {
                    return Err(wrong("each platform is a conversion of its own"));
                }
                let platform: Result<Platform, ParsePlatformError> = value.parse();
                let platform = platform
                    .map_err(|_| wrong("a platform has the form os/architecture[/variant]"))?;
                self.platform = platform.normalized();
            }
            "target" => value.clone_into(&mut self.target),
            "force-network-mode" => {
                self.network = match value {
                    "" | "sandbox" => 0,
                    "host" => 1,
                    "none" => 2,
                    _ => return Err(wrong("the modes are sandbox, host and none")),
                };
            }
            "add-hosts" => self.extra_hosts = hosts(value).map_err(wrong)?,
            "ulimit" => self.ulimits = ulimits(value).map_err(wrong)?,
            "shm-size" => {
                let size = if value.is_empty() { Some(0) } else { signed(value) };
                self.shm_size = size.ok_or_else(|| wrong("it is a number of bytes"))?;
            }
            "cgroup-parent" => value.clone_into(&mut self.cgroup_parent),
            "hostname" => value.clone_into(&mut self.hostname),
            _ => {}
        }
        Ok(())
    }

    /// Returns the host name of steps: a build argument comes before the option.
    pub(crate) fn sandbox_hostname(&self) -> &str {
        let argument = self.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        argument.filter(|name| !name.is_empty()).unwrap_or(&self.hostname)
    }

    /// Returns what comes before the names of cache mounts.
    pub(crate) fn cache_namespace(&self) -> &str {
        self.build_args.get("BUILDKIT_CACHE_MOUNT_NS").map_or("", String::as_str)
    }
}

/// Reads `name=address,…`.
fn hosts(value: &str) -> Result<Vec<ExtraHost>, &'static str> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let host = |field: &String| {
        let field = field.to_lowercase();
        let (host, _) = field.split_once('=').ok_or("a host has the form name=address")?;
        Ok(ExtraHost { host: host.to_owned() })
    };
    fields(value).ok_or("it is not a list")?.iter().map(host).collect()
}

/// Reads `name=soft[:hard],…`.
fn ulimits(value: &str) -> Result<Vec<Ulimit>, &'static str> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let ulimit = |field: &String| {
        let form = "a limit has the form name=soft[:hard]";
        let (name, limits) = field.split_once('=').ok_or(form)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text| signed(text).ok_or(form);
        Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
    };
    fields(value).ok_or("it is not a list")?.iter().map(ulimit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let mut options = Options::default();
        options.set("add-hosts", "DB=10.0.0.1,b=::1").unwrap();
        options.set("ulimit", "nofile=1:2,core=-1").unwrap();
        let hosts: Vec<_> = options.extra_hosts.iter().map(|host| host.host.as_str()).collect();
        assert_eq!(hosts, ["db", "b"]);
        let limits: Vec<_> = options.ulimits.iter().map(|limit| (limit.soft, limit.hard)).collect();
        assert_eq!(limits, [(1, 2), (-1, -1)]);
    }

    #[test]
    fn other_values_are_refused() {
        for (key, value) in [
            ("platform", "linux"),
            ("platform", "linux/amd64,linux/arm64"),
            ("force-network-mode", "x"),
            ("add-hosts", "x"),
            ("ulimit", "nofile=x"),
            ("shm-size", "1k"),
        ] {
            assert_eq!(Options::default().set(key, value).unwrap_err().key, key);
        }
    }
}

//! Finds the reference tools, and handles missing ones.

use std::path::{Path, PathBuf};

/// If set (to anything), as in CI, a missing tool is an error and not a reason to skip.
const REQUIRE: &str = "OCI2BK_REQUIRE_ORACLE";

/// Names the directory that `scripts/oracle` prints, if it is not `target/oracle`.
const DIRECTORY: &str = "OCI2BK_ORACLE";

/// The programs that tests and the lab run.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The daemon.
    pub buildkitd: PathBuf,
    /// Whether it can write `cache-debug.db`, which releases before v0.24 cannot.
    pub saves_cache_debug: bool,
    /// Its client.
    pub buildctl: PathBuf,
    /// Docker's client.
    pub buildx: PathBuf,
    /// The command of BoltDB's reference implementation.
    pub bbolt: PathBuf,
    /// The frontend of Dockerfiles, of the newest release, as a program for an image.
    pub frontend: PathBuf,
    /// `oracle/buildkit/refstate`: containerd's applier and a bbolt dumper.
    pub refstate: PathBuf,
    /// `regctl`, `crane` and `oras`.
    copiers: PathBuf,
    /// Docker's registry.
    pub registry: PathBuf,
    /// A static shell with all its tools.
    pub busybox: PathBuf,
    /// A tarball of a minimal Debian, for the case with a base image of thousands of files.
    pub debian: PathBuf,
    /// The command under test.
    pub oci2bk: PathBuf,
    /// The directory of the sets of tools.
    oracle: PathBuf,
}

/// The first v0 minor release whose daemon writes `cache-debug.db` (`--save-cache-debug`).
const CACHE_DEBUG: u32 = 24;

/// Prefix of the names of sets with other releases of buildkitd.
const RELEASE_SET: &str = "buildkit-";

impl Tools {
    /// Finds every tool, or says which one is missing. `oci2bk` is the command under test, as cargo
    /// built it.
    ///
    /// # Errors
    /// Returns why the tests cannot run here, for the person who runs them.
    pub fn locate(oci2bk: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root: buildkitd mounts, and layers have owners".into());
        }
        let oracle = directory(oci2bk);
        let pinned = |name: &str| pinned(&oracle, name);
        on_path("runc", "runc")?;
        on_path("skopeo", "skopeo")?;
        on_path("git", "git")?;
        Ok(Self {
            buildkitd: pinned("buildkit/buildkitd")?,
            saves_cache_debug: true,
            buildctl: pinned("buildkit/buildctl")?,
            bbolt: pinned("buildkit/bbolt")?,
            frontend: pinned("buildkit/dockerfile-frontend")?,
            refstate: pinned("buildkit/refstate")?,
            buildx: pinned("buildx/buildx")?,
            copiers: pinned("copy")?,
            debian: pinned("debian.tar")?,
            registry: on_path("docker-registry", "docker-registry")?,
            busybox: on_path("busybox", "busybox-static")?,
            oci2bk: oci2bk.to_owned(),
            oracle,
        })
    }

    /// Finds the only tool that the comparison of unpacked layers needs.
    ///
    /// # Errors
    /// Returns an error if it is missing.
    pub fn refstate(oci2bk: &Path) -> Result<PathBuf, String> {
        pinned(&directory(oci2bk), "buildkit/refstate")
    }

    /// Finds the Dockerfile frontends that run without a daemon, and their releases.
    ///
    /// # Errors
    /// Returns an error if one is missing.
    pub fn frontends(oci2bk: &Path) -> Result<Vec<(String, PathBuf)>, String> {
        let oracle = directory(oci2bk);
        let newest = (buildkitd_release().to_owned(), pinned(&oracle, "frontend/frontend")?);
        let mut frontends = vec![newest];
        for version in ["v0.32.2", "v0.16.0"] {
            let set = format!("frontend-{version}");
            frontends.push((version.to_owned(), pinned(&oracle, &format!("{set}/{set}"))?));
        }
        Ok(frontends)
    }

    /// Returns the same tools with the buildkitd of another release, such as `v0.16.0`. The buildctl of that
    /// release is not used: those before v0.13 do not report their builds as JSON.
    ///
    /// # Errors
    /// Returns an error if no set of tools of that release exists.
    pub fn of_release(&self, version: &str) -> Result<Self, String> {
        let set = format!("{RELEASE_SET}{version}");
        let buildkitd = self.oracle.join(&set).join("buildkitd");
        if buildkitd.exists() {
            let saves_cache_debug = minor(version).is_some_and(|minor| minor >= CACHE_DEBUG);
            Ok(Self { buildkitd, saves_cache_debug, ..self.clone() })
        } else {
            Err(format!("{} is not there: run scripts/oracle {set}", buildkitd.display()))
        }
    }

    /// Returns the other installed releases, oldest first.
    ///
    /// # Errors
    /// Returns an error if the directory of the tools cannot be read.
    pub fn releases(&self) -> std::io::Result<Vec<String>> {
        let mut releases = Vec::new();
        for set in std::fs::read_dir(&self.oracle)? {
            let name = set?.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(RELEASE_SET));
            releases.extend(version.map(str::to_owned));
        }
        releases.sort_unstable();
        Ok(releases)
    }

    /// Returns a program that copies images: a pinned one, or an installed one.
    #[must_use]
    pub fn copier(&self, name: &str) -> PathBuf {
        let pinned = self.copiers.join(name);
        if pinned.exists() { pinned } else { name.into() }
    }

    /// Returns a tool that only one suite needs, such as `recipes/packer`, by its path in the directory of
    /// the tools; `script` is the script that installs it.
    ///
    /// # Errors
    /// Returns an error if it is missing.
    pub fn extra(&self, name: &str, script: &str) -> Result<PathBuf, String> {
        let path = self.oracle.join(name);
        if path.exists() {
            Ok(path)
        } else {
            Err(format!("{name} is not in {}: run {script}", self.oracle.display()))
        }
    }

    /// Returns whether a missing tool must fail the run.
    #[must_use]
    pub fn required() -> bool {
        std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty())
    }
}

/// Returns the release of the pinned buildkitd, such as `v0.32.2`; a buildkitd built from its module does not
/// know it.
#[must_use]
pub fn buildkitd_release() -> &'static str {
    buildkit_in(include_str!("../../../oracle/buildkit/go.mod"))
}

/// Returns the release of BuildKit that a `go.mod` pins.
pub(crate) fn buildkit_in(pins: &'static str) -> &'static str {
    let pin = |line: &'static str| line.trim().strip_prefix("github.com/moby/buildkit ");
    let version = pins.lines().find_map(pin).and_then(|pin| pin.split(' ').next());
    version.unwrap_or_default()
}

/// Returns the minor number, such as 32 for `v0.32.2`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v0.")?.split('.').next()?.parse().ok()
}

/// Returns the directory of the pinned tools: beside the profile directory in which the command was built.
fn directory(oci2bk: &Path) -> PathBuf {
    let beside = || oci2bk.ancestors().nth(2).unwrap_or(oci2bk).join("oracle");
    std::env::var_os(DIRECTORY).map_or_else(beside, PathBuf::from)
}

fn pinned(oracle: &Path, name: &str) -> Result<PathBuf, String> {
    let path = oracle.join(name);
    path.exists()
        .then_some(path)
        .ok_or_else(|| format!("{name} is not in {}: run scripts/oracle", oracle.display()))
}

/// Finds an installed program; its Debian package is `package`.
///
/// # Errors
/// Returns an error if it is not installed.
pub fn on_path(program: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{program} is not installed (Debian package {package})"))
}

#[cfg(test)]
mod tests {
    use crate::engine::Release;

    #[test]
    fn minor_versions() {
        assert_eq!(super::minor("v0.32.2"), Some(32));
        assert_eq!(super::minor("v1.0.0"), None);
    }

    #[test]
    fn the_pinned_releases_are_known() {
        let engines = [Release::NEWEST, Release::V28].map(Release::buildkit);
        for release in engines.into_iter().chain([super::buildkitd_release()]) {
            assert!(release.starts_with('v') && release.split('.').count() == 3, "{release:?}");
            assert!(!release.contains(' '), "{release:?}");
        }
    }
}

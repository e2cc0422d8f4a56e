//! Where the reference tools are, and what happens when they are not there.

use std::path::{Path, PathBuf};

/// Set (to anything) where a missing tool is an error instead of a reason to skip: in CI.
const REQUIRE: &str = "OCI2BK_REQUIRE_ORACLE";

/// Names the directory that `scripts/oracle` prints, if it is not `target/oracle`.
const DIRECTORY: &str = "OCI2BK_ORACLE";

/// The programs that the suite runs.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) buildkitd: PathBuf,
    /// Whether it writes `cache-debug.db` if asked to, which releases before v0.24 do not.
    pub(crate) saves_cache_debug: bool,
    pub(crate) buildctl: PathBuf,
    pub(crate) buildx: PathBuf,
    pub(crate) bbolt: PathBuf,
    /// `oracle/buildkit/refstate`: containerd's applier and a bbolt dumper.
    pub(crate) refstate: PathBuf,
    /// `regctl`, `crane` and `oras`.
    copiers: PathBuf,
    pub(crate) registry: PathBuf,
    pub(crate) busybox: PathBuf,
    /// A tarball of a minimal Debian, for the case that builds on thousands of files.
    pub(crate) debian: PathBuf,
    /// The command under test.
    pub(crate) oci2bk: PathBuf,
    /// Where the sets of tools are.
    oracle: PathBuf,
}

/// What the names of the sets with other releases of buildkitd begin with.
const RELEASE_SET: &str = "buildkit-";

impl Tools {
    /// Finds every tool, or says which one is missing.
    pub(crate) fn locate() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root: buildkitd mounts, and layers have owners".into());
        }
        let oracle = directory();
        on_path("runc", "runc")?;
        on_path("skopeo", "skopeo")?;
        Ok(Self {
            buildkitd: pinned("buildkit/buildkitd")?,
            saves_cache_debug: true,
            buildctl: pinned("buildkit/buildctl")?,
            bbolt: pinned("buildkit/bbolt")?,
            refstate: Self::refstate()?,
            buildx: pinned("buildx/buildx")?,
            copiers: pinned("copy")?,
            debian: pinned("debian.tar")?,
            registry: on_path("docker-registry", "docker-registry")?,
            busybox: on_path("busybox", "busybox-static")?,
            oci2bk: PathBuf::from(env!("CARGO_BIN_EXE_oci2bk")),
            oracle,
        })
    }

    /// The one tool that comparing unpacked layers takes.
    pub(crate) fn refstate() -> Result<PathBuf, String> {
        pinned("buildkit/refstate")
    }

    /// The same tools with the buildkitd of another release, such as `v0.16.0`. Its buildctl would
    /// not do: those before v0.13 do not report what they build as JSON.
    pub(crate) fn of_release(&self, version: &str) -> Result<Self, String> {
        let set = format!("{RELEASE_SET}{version}");
        let buildkitd = self.oracle.join(&set).join("buildkitd");
        if buildkitd.exists() {
            Ok(Self { buildkitd, saves_cache_debug: false, ..self.clone() })
        } else {
            Err(format!("{} is not there: run scripts/oracle {set}", buildkitd.display()))
        }
    }

    /// The other releases that there are, oldest first.
    pub(crate) fn releases(&self) -> std::io::Result<Vec<String>> {
        let mut releases = Vec::new();
        for set in std::fs::read_dir(&self.oracle)? {
            let name = set?.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(RELEASE_SET));
            releases.extend(version.map(str::to_owned));
        }
        releases.sort_unstable();
        Ok(releases)
    }

    /// A program that copies images: one of the pinned ones, or one that is installed.
    pub(crate) fn copier(&self, name: &str) -> PathBuf {
        let pinned = self.copiers.join(name);
        if pinned.exists() { pinned } else { name.into() }
    }

    /// Whether a missing tool must fail the run.
    pub(crate) fn required() -> bool {
        std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty())
    }
}

/// The directory of the pinned tools.
fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("oracle"),
        PathBuf::from,
    )
}

fn pinned(name: &str) -> Result<PathBuf, String> {
    let oracle = directory();
    let path = oracle.join(name);
    path.exists()
        .then_some(path)
        .ok_or_else(|| format!("{name} is not in {}: run scripts/oracle", oracle.display()))
}

fn on_path(program: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{program} is not installed (Debian package {package})"))
}

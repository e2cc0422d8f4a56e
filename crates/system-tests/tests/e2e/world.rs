//! Shared setup of all cases: the tools, a scratch directory, and the base images in a registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::case::Context;
use crate::daemon::Daemon;
use crate::host::Host;
use crate::matrix::Release;
use crate::process::run;
use crate::registry::Registry;
use crate::state::Place;
use crate::tools::Tools;
use crate::web;

/// A shell in its own image, with a user for COPY --chown.
const BUSYBOX: &str = r#"
FROM scratch
COPY busybox /bin/busybox
COPY etc /etc
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -m 1777 /tmp && mkdir -m 700 /root
ENV PATH=/bin
"#;

const DEBIAN: &str = "FROM scratch\nADD debian.tar /\n";

/// An image that adds steps to builds on it.
const ONBUILD: &str = "
FROM {registry}/busybox
ONBUILD COPY onbuild.txt /from-onbuild
ONBUILD RUN cp /from-onbuild /made-onbuild
";

/// The base images, and for each a tag with one more layer.
const BASES: [(&str, &str); 3] = [("busybox", BUSYBOX), ("debian", DEBIAN), ("onbuild", ONBUILD)];
pub(crate) const GROWN: &str = "grown";

/// The setup of the cases.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// With the daemon of `release`.
    pub(crate) tools: Tools,
    pub(crate) release: Release,
    /// The kind of builder that runs the cases.
    pub(crate) host: Host,
    shared: Arc<Shared>,
}

/// Shared by the daemons of all releases.
#[derive(Debug)]
struct Shared {
    // Dropped before the directory below it.
    registry: Registry,
    web: String,
    /// The digests of the base images.
    bases: BTreeMap<&'static str, String>,
    scratch: TempDir,
}

impl World {
    pub(crate) fn create(tools: &Tools) -> Result<Self> {
        // Below the target directory, which is on a disk: overlayfs cannot use every tmpfs.
        let scratch = tempfile::Builder::new()
            .prefix("e2e-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .context("scratch directory")?;
        let registry = Registry::start(tools, scratch.path())?;
        let bases = push_bases(tools, &registry, &scratch.path().join("bases"))?;
        Ok(Self {
            tools: tools.clone(),
            release: Release::newest(tools)?,
            host: Host::Buildkitd,
            shared: Arc::new(Shared { registry, web: web::serve()?, bases, scratch }),
        })
    }

    /// Returns the same with the daemon of another release.
    pub(crate) fn on(&self, release: Release) -> Self {
        Self { tools: release.tools.clone(), release, ..self.clone() }
    }

    /// Returns the same with builders of another kind.
    pub(crate) fn within(&self, host: Host) -> Self {
        let mut world = Self { host, ..self.clone() };
        if let Host::Engine { engine, .. } = host {
            engine.buildkit().clone_into(&mut world.release.version);
        }
        world
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.shared.scratch.path()
    }

    /// Returns the address of the registry, the part of an image name before the first slash.
    pub(crate) fn registry(&self) -> &str {
        self.shared.registry.address()
    }

    /// Returns the digest of the manifest of a base image.
    pub(crate) fn base_digest(&self, name: &str) -> Result<&str> {
        let digest = self.shared.bases.get(name);
        digest.map(String::as_str).with_context(|| format!("there is no base image {name}"))
    }

    pub(crate) fn start(&self, root: &Path) -> Result<Daemon> {
        self.host.start(&self.tools, root, &[self.registry()])
    }

    /// Returns the location of a builder's state in `root`.
    pub(crate) fn place(&self, root: &Path) -> Place {
        self.host.place(root)
    }

    /// Starts a daemon with this text at the beginning of its configuration.
    pub(crate) fn start_configured(&self, root: &Path, configuration: &str) -> Result<Daemon> {
        Daemon::start_configured(&self.tools, root, &[self.registry()], configuration)
    }

    /// Starts the buildkitd of other tools.
    pub(crate) fn start_with(&self, tools: &Tools, root: &Path) -> Result<Daemon> {
        Daemon::start(tools, root, &[self.registry()])
    }

    /// Returns a Dockerfile with the addresses of this run filled in.
    pub(crate) fn fill_in(&self, dockerfile: &str) -> String {
        dockerfile.replace("{registry}", self.registry()).replace("{web}", &self.shared.web)
    }
}

/// Pushes the base images, and returns their digests.
fn push_bases(
    tools: &Tools,
    registry: &Registry,
    dir: &Path,
) -> Result<BTreeMap<&'static str, String>> {
    let context = Context::create(&dir.join("context"));
    std::fs::copy(&tools.busybox, context.dir().join("busybox"))?;
    // The tarball is large: hard-linked if possible.
    let tarball = context.dir().join("debian.tar");
    let source = tools.debian.canonicalize()?;
    std::fs::hard_link(&source, &tarball)
        .or_else(|_| std::fs::copy(&source, &tarball).map(drop))?;
    context.file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/:/bin/sh\n");
    context.file("etc/group", "root:x:0:\napp:x:2345:\nstaff:x:3456:app\n");
    context.file("grown", "grown\n".repeat(10_000));

    let daemon = Daemon::start(tools, &dir.join("root"), &[registry.address()])?;
    let push = |image: &str, dockerfile: &str| -> Result<String> {
        context.file("Dockerfile", dockerfile.replace("{registry}", registry.address()));
        let metadata = dir.join("metadata");
        run(daemon
            .buildctl()
            .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", context.dir().display()))
            .arg(format!("--local=dockerfile={}", context.dir().display()))
            .arg(format!("--output=type=image,name={}/{image},push=true", registry.address()))
            .arg("--metadata-file")
            .arg(&metadata))
        .with_context(|| format!("base image {image}"))?;
        let metadata: Value = serde_json::from_slice(&std::fs::read(metadata)?)?;
        let digest = metadata["containerimage.digest"].as_str().context("no digest")?;
        Ok(digest.to_owned())
    };
    let mut bases = BTreeMap::new();
    for (name, dockerfile) in BASES {
        bases.insert(name, push(name, dockerfile)?);
        push(&format!("{name}:{GROWN}"), &format!("{dockerfile}COPY grown /grown\n"))?;
    }
    daemon.stop()?;
    std::fs::remove_dir_all(dir).context("scratch of the base images")?;
    Ok(bases)
}

//! What all cases share: the tools, a scratch directory, and the base images in a registry.

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::case::Context;
use crate::daemon::Daemon;
use crate::process::run;
use crate::registry::Registry;
use crate::tools::Tools;
use crate::web;

/// A shell in an image of its own, with a user that COPY --chown can name.
const BUSYBOX: &str = r#"
FROM scratch
COPY busybox /bin/busybox
COPY etc /etc
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -m 1777 /tmp && mkdir -m 700 /root
ENV PATH=/bin
"#;

const DEBIAN: &str = "FROM scratch\nADD debian.tar /\n";

/// An image that adds steps to the build that starts from it.
const ONBUILD: &str = "
FROM {registry}/busybox
ONBUILD COPY onbuild.txt /from-onbuild
ONBUILD RUN cp /from-onbuild /made-onbuild
";

/// The surroundings of the cases.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) tools: Tools,
    // Dropped before the directory below it.
    registry: Registry,
    web: String,
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
        let world = Self { tools: tools.clone(), registry, web: web::serve()?, scratch };
        world.push_bases()?;
        Ok(world)
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The address of the registry, the part of an image name before the first slash.
    pub(crate) fn registry(&self) -> &str {
        self.registry.address()
    }

    pub(crate) fn start(&self, root: &Path) -> Result<Daemon> {
        self.start_with(&self.tools, root)
    }

    /// Starts the daemon of other tools.
    pub(crate) fn start_with(&self, tools: &Tools, root: &Path) -> Result<Daemon> {
        Daemon::start(tools, root, &[self.registry.address()])
    }

    /// A Dockerfile with the addresses of this run filled in.
    pub(crate) fn fill_in(&self, dockerfile: &str) -> String {
        dockerfile.replace("{registry}", self.registry.address()).replace("{web}", &self.web)
    }

    fn push_bases(&self) -> Result<()> {
        let dir = self.scratch().join("bases");
        let context = Context::create(&dir.join("context"));
        std::fs::copy(&self.tools.busybox, context.dir().join("busybox"))?;
        // The tarball is large: hard-linked where it can be.
        let tarball = context.dir().join("debian.tar");
        let source = self.tools.debian.canonicalize()?;
        std::fs::hard_link(&source, &tarball)
            .or_else(|_| std::fs::copy(&source, &tarball).map(drop))?;
        context.file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/:/bin/sh\n");
        context.file("etc/group", "root:x:0:\napp:x:2345:\nstaff:x:3456:app\n");

        let daemon = self.start(&dir.join("root"))?;
        for (name, dockerfile) in [("busybox", BUSYBOX), ("debian", DEBIAN), ("onbuild", ONBUILD)] {
            context.file("Dockerfile", self.fill_in(dockerfile));
            let image = format!("{}/{name}", self.registry.address());
            run(daemon
                .buildctl()
                .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
                .arg(format!("--local=context={}", context.dir().display()))
                .arg(format!("--local=dockerfile={}", context.dir().display()))
                .arg(format!("--output=type=image,name={image},push=true")))
            .with_context(|| format!("base image {name}"))?;
        }
        daemon.stop()?;
        std::fs::remove_dir_all(dir).context("scratch of the base images")
    }
}

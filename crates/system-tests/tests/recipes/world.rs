//! Shared setup of all recipes: a project whose cache is in a registry with its keys, as pushed by the
//! workflow of `examples/github-actions`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::process::run;
use testkit::{Daemon, Registry, Tools};

use crate::actions;

/// The name of the cache in the recipes.
pub(crate) const PLACEHOLDER: &str = "registry.example.com/team/app-cache:latest";

/// Without a base image, so that builds do not need a registry.
const DOCKERFILE: &str = r#"FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY app /app
RUN cat /app/* > /made && rm /app/one
RUN --mount=type=cache,target=/kept cp /app/two /kept/two
"#;

/// Its number of steps.
const STEPS: usize = 5;

/// The cache mount of the project.
pub(crate) const MOUNT: &str = "//kept";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) tools: Tools,
    // Dropped before the directory below it.
    registry: Registry,
    scratch: TempDir,
}

/// The programs that only this suite needs.
const EXTRA: [&str; 10] = [
    "containerd/containerd",
    "engine/dockerd",
    "engine/docker",
    "recipes/packer",
    "recipes/actionlint",
    "recipes/sandboxssh",
    "python/bin/python",
    "python/bin/ansible-playbook",
    "python/bin/cfn-lint",
    "mdbook/bin/mdbook",
];

impl World {
    /// Finds the tools of the recipes, or says which one is missing.
    pub(crate) fn locate(oci2bk: &Path) -> Result<Tools, String> {
        let tools = Tools::locate(oci2bk)?;
        for name in EXTRA {
            tools.extra(name, "scripts/oracle and scripts/recipes")?;
        }
        tools.extra("cloud-init", "scripts/recipes")?;
        Ok(tools)
    }

    pub(crate) fn create(tools: &Tools) -> Result<Self> {
        // Below the target directory, which is on a disk: overlayfs cannot use every tmpfs.
        let scratch = tempfile::Builder::new()
            .prefix("recipes-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .context("scratch directory")?;
        let registry = Registry::start(tools, scratch.path())?;
        let world = Self { tools: tools.clone(), registry, scratch };
        let project = world.project();
        fs::create_dir_all(project.join("app"))?;
        fs::copy(&world.tools.busybox, project.join("busybox"))?;
        fs::write(project.join("Dockerfile"), DOCKERFILE)?;
        fs::write(project.join("app/one"), "one\n")?;
        fs::write(project.join("app/two"), "two\n")?;
        actions::publish(&world).context("examples/github-actions")?;
        Ok(world)
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the address of the registry, the part of an image name before the first slash.
    pub(crate) fn registry(&self) -> &str {
        self.registry.address()
    }

    /// Returns the name of the cache in the registry.
    pub(crate) fn cache(&self) -> String {
        format!("{}/team/app-cache:latest", self.registry())
    }

    /// Returns the directory of the cache's sources.
    pub(crate) fn project(&self) -> PathBuf {
        self.scratch().join("project")
    }

    /// Returns a tool of this suite.
    pub(crate) fn tool(&self, name: &str) -> Result<PathBuf> {
        self.tools.extra(name, "scripts/test").map_err(anyhow::Error::msg)
    }

    pub(crate) fn start(&self, root: &Path) -> Result<Daemon> {
        Daemon::start(&self.tools, root, &[self.registry()])
    }

    /// Copies oci2bk and regctl into a directory.
    pub(crate) fn put_programs(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::copy(&self.tools.oci2bk, dir.join("oci2bk"))?;
        fs::copy(self.tools.copier("regctl"), dir.join("regctl"))?;
        Ok(())
    }

    /// Converts a YAML document to JSON.
    pub(crate) fn yaml(&self, path: &Path) -> Result<Value> {
        const CONVERT: &str =
            "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
        let python = self.tool("python/bin/python")?;
        let json = run(Command::new(python).args(["-c", CONVERT]).arg(path))?;
        serde_json::from_str(&json).with_context(|| path.display().to_string())
    }

    /// A daemon that first started on `root` has every step of the project cached and fetches nothing.
    pub(crate) fn ensure_warm(&self, root: &Path) -> Result<()> {
        let daemon = self.start(root)?;
        self.ensure_cached(&daemon)?;
        daemon.stop().map(drop)
    }

    /// A daemon has every step of the project cached and fetches nothing. For a Docker Engine, the command is
    /// `docker build`.
    pub(crate) fn ensure_cached(&self, daemon: &Daemon) -> Result<()> {
        match daemon.docker() {
            Ok(docker) => {
                let mut command = docker.command();
                ensure_cached_by(command.args(["build", "--progress=rawjson"]).arg(self.project()))
            }
            Err(_) => self.ensure_cached_with(daemon.buildctl()),
        }
    }

    /// The same, of a daemon that listens on a socket of this machine.
    pub(crate) fn ensure_cached_at(&self, socket: &Path) -> Result<()> {
        let mut command = Command::new(&self.tools.buildctl);
        command.arg("--addr").arg(format!("unix://{}", socket.display()));
        self.ensure_cached_with(command)
    }

    fn ensure_cached_with(&self, mut buildctl: Command) -> Result<()> {
        let project = self.project();
        buildctl
            .args(["build", "--progress=rawjson", "--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", project.display()))
            .arg(format!("--local=dockerfile={}", project.display()));
        ensure_cached_by(&mut buildctl)
    }
}

/// A build has every step cached and fetches nothing.
fn ensure_cached_by(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let progress = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the build fails:\n{progress}");
    let mut steps = BTreeMap::new();
    for line in progress.lines().filter(|line| line.starts_with('{')) {
        let update: Value = serde_json::from_str(line)?;
        for vertex in update["vertexes"].as_array().into_iter().flatten() {
            let name = vertex["name"].as_str().unwrap_or_default().to_owned();
            ensure!(!name.contains("importing"), "the build imports: {name}");
            if name.starts_with('[') && !name.starts_with("[internal]") {
                *steps.entry(name).or_insert(false) |= vertex["cached"] == true;
            }
        }
    }
    let cached = steps.values().filter(|cached| **cached).count();
    ensure!(cached == STEPS && steps.len() == STEPS, "not all is cached: {steps:#?}");
    Ok(())
}

/// Returns the directory of a recipe.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

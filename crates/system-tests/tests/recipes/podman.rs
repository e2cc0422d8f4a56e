//! Runs pods of Kubernetes with Podman, in a storage of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::{run, wait_until};

/// Containers get the limits of this machine, which may be lower than those that Podman asks for; their logs are
/// files, as there may be no journal.
const CONFIGURATION: &str = r#"[containers]
default_ulimits = ["nofile=NOFILE:NOFILE", "nproc=NPROC:NPROC"]
log_driver = "k8s-file"
[engine]
events_logger = "file"
"#;

/// More than any container needs, of files and of processes. Podman may not raise those of its own helpers.
const MOST: u64 = 16 << 10;

/// How long containers have until they run or end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Podman, and everything that it has made, which is removed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Podman {
    dir: PathBuf,
    /// What lives as long as containers run. Podman refuses long paths here.
    run: TempDir,
}

/// A running container.
#[derive(Debug)]
pub(crate) struct Container {
    process: String,
}

impl Container {
    /// Returns the path on this machine of a path in the container.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.process).join("root").join(path.trim_start_matches('/'))
    }
}

impl Podman {
    /// Prepares Podman with its storage in `dir`, which must not exist.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir(&dir)?;
        let limit = |resource| getrlimit(resource).maximum.unwrap_or(MOST).min(MOST).to_string();
        let configuration = CONFIGURATION
            .replace("NOFILE", &limit(Resource::Nofile))
            .replace("NPROC", &limit(Resource::Nproc));
        fs::write(dir.join("containers.conf"), configuration)?;
        Ok(Self { dir, run: tempfile::tempdir()? })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.run.path());
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command
    }

    /// Makes an image of the files below `root`, with `changes` as lines of a Dockerfile.
    pub(crate) fn image(&self, name: &str, root: &Path, changes: &[&str]) -> Result<()> {
        let archive = self.dir.join("image.tar");
        run(Command::new("tar")
            .args(["--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"])
            .arg(&archive)
            .arg("-C")
            .arg(root)
            .arg("."))?;
        let mut import = self.command();
        import.args(["import", "--quiet"]);
        for change in changes {
            import.args(["--change", change]);
        }
        run(import.arg(&archive).arg(name))?;
        fs::remove_file(archive).context("the archive of an image")
    }

    /// Starts what the objects say, under the `name` of a file. Pods have the network of this machine.
    pub(crate) fn play(&self, name: &str, objects: &[Value]) -> Result<()> {
        let manifest = self.dir.join(format!("{name}.yaml"));
        // JSON is YAML.
        let documents: Vec<_> = objects.iter().map(ToString::to_string).collect();
        fs::write(&manifest, documents.join("\n---\n"))?;
        for volume in objects
            .iter()
            .flat_map(|object| object["spec"]["volumes"].as_array().into_iter().flatten())
        {
            if let (Some(name), true) = (volume["name"].as_str(), volume["emptyDir"].is_object()) {
                self.make_empty_dir(name)?;
            }
        }
        let mut play = self.command();
        let played = run(play.args(["kube", "play", "--network", "host"]).arg(&manifest));
        played.map(drop).with_context(|| self.log_of_all())
    }

    /// Makes the volume that Podman takes for an `emptyDir` of this name: new, and as a kubelet makes it, open to
    /// everybody.
    fn make_empty_dir(&self, name: &str) -> Result<()> {
        run(self.command().args(["volume", "rm", "--force", name]))?;
        run(self.command().args(["volume", "create", name]))?;
        let directory =
            run(self.command().args(["volume", "inspect", "--format", "{{.Mountpoint}}", name]))?;
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.trim(), everybody).with_context(|| name.to_owned())
    }

    /// Waits until a container runs and `ready` succeeds in it.
    pub(crate) fn running(&self, name: &str, ready: &[&str]) -> Result<Container> {
        let mut is_ready = false;
        wait_until(PATIENCE, || {
            is_ready = run(self.command().args(["exec", name]).args(ready)).is_ok();
            is_ready || self.state(name, "Running").is_ok_and(|running| running == "false")
        });
        ensure!(is_ready, "{name} is not ready: {}", self.log(name));
        let process = self.state(name, "Pid")?;
        Ok(Container { process })
    }

    /// Waits until a container has ended, and returns what it said. Fails if it failed.
    pub(crate) fn ended(&self, name: &str) -> Result<String> {
        let code = run(Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .args(self.words())
            .args(["wait", name])
            .env("CONTAINERS_CONF", self.dir.join("containers.conf")))?;
        ensure!(code.trim() == "0", "{name} ended with {}: {}", code.trim(), self.log(name));
        Ok(self.log(name))
    }

    /// Returns a member of the state of a container.
    fn state(&self, name: &str, member: &str) -> Result<String> {
        let format = format!("{{{{.State.{member}}}}}");
        Ok(run(self.command().args(["inspect", "--format", &format, name]))?.trim().to_owned())
    }

    fn words(&self) -> Vec<std::ffi::OsString> {
        let command = self.command();
        let program = command.get_program().to_owned();
        std::iter::once(program).chain(command.get_args().map(ToOwned::to_owned)).collect()
    }

    /// Stops a pod and removes it, with its containers and not its volumes.
    pub(crate) fn stop(&self, pod: &str) -> Result<()> {
        run(self.command().args(["pod", "stop", "--time", "20", pod]))?;
        run(self.command().args(["pod", "rm", "--force", pod])).map(drop)
    }

    /// Returns the state of all containers, and what they said.
    fn log_of_all(&self) -> String {
        let list = |format: &str| {
            run(self.command().args(["ps", "--all", "--format", format]))
                .unwrap_or_else(|error| format!("{error:#}"))
        };
        let mut text = list("{{.Names}} {{.Status}}");
        for name in list("{{.Names}}").lines() {
            text.push_str(&format!("{name}: {}\n", self.log(name)));
        }
        text
    }

    fn log(&self, name: &str) -> String {
        let output = self.command().args(["logs", name]).output();
        output.map_or_else(
            |error| error.to_string(),
            |it| String::from_utf8_lossy(&[it.stdout, it.stderr].concat()).into_owned(),
        )
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for words in [
            &["pod", "rm", "--all", "--force"][..],
            &["volume", "rm", "--all", "--force"],
            &["rmi", "--all", "--force"],
        ] {
            let _failed = self.command().args(words).output();
        }
        let _failed = Command::new("umount")
            .args(["--recursive"])
            .arg(self.dir.join("root/overlay"))
            .output();
    }
}

/// Returns a pod with the template of a deployment, a job or a stateful set, for programs that know only pods.
pub(crate) fn pod_of(object: &Value, name: &str) -> Value {
    let mut spec = object["spec"]["template"]["spec"].clone();
    // Podman 4.3 restarts init containers too, also those that have done their work.
    spec["restartPolicy"] = "Never".into();
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

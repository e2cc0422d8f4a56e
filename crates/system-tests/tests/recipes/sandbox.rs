//! The machine that a recipe bakes: this one, with its own directories in a few places.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::world::World;

/// The machine's own directories.
const PLACES: [&str; 6] =
    ["/usr/local/bin", "/var/lib", "/var/tmp", "/var/cache", "/srv", "/etc/systemd/system"];

/// Mounts the directories over this machine's, and hides the configuration of its daemons, only for the program
/// that it runs then.
const ENTER: &str = r#"
base=$1; shift
for place in /etc/docker /etc/containerd; do [ ! -d $place ] || mount -t tmpfs none $place; done
for place in /usr/local/bin /var/lib /var/tmp /var/cache /srv /etc/systemd/system; do mount --bind "$base$place" "$place"; done
export HOME="$base/home" PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
exec "$@"
"#;

/// Every user is root here.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";

/// Remembers which units are active. If the file of one has a process id, stopping it ends that process.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>"$HOME/systemctl.log"
verb=$1; shift
for unit; do
    active=$HOME/active-$unit
    case $verb in
    start | enable) touch "$active" ;;
    stop)
        if [ -s "$active" ]; then
            pid=$(cat "$active")
            kill "$pid"
            # It is not a child, and its parent does not wait for it yet.
            while [ -e "/proc/$pid/exe" ]; do sleep 0.1; done
        fi
        rm -f "$active"
        ;;
    is-active) [ -e "$active" ] ;;
    show) echo "LoadState=loaded"; [ -e "$active" ] && echo "ActiveState=active" || echo "ActiveState=inactive" ;;
    esac
done
"#;

#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    /// Creates a machine where root may use the registry of `world`, with oci2bk and regctl if `installed`.
    pub(crate) fn new(world: &World, name: &str, installed: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(name).tempdir_in(world.scratch())?;
        let sandbox = Self { dir };
        for place in PLACES {
            fs::create_dir_all(sandbox.outside(place))?;
        }
        fs::create_dir_all(sandbox.home().join(".regctl"))?;
        let hosts = format!(r#"{{"hosts":{{"{}":{{"tls":"disabled"}}}}}}"#, world.registry());
        fs::write(sandbox.home().join(".regctl/config.json"), hosts)?;
        sandbox.script("sudo", SUDO)?;
        sandbox.script("systemctl", SYSTEMCTL)?;
        if installed {
            world.put_programs(&sandbox.outside("/usr/local/bin"))?;
        }
        Ok(sandbox)
    }

    /// Returns the path on this machine of a path in the sandbox.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Returns root's home on the machine, which is the same path on both.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Returns the root of its buildkitd.
    pub(crate) fn state(&self) -> PathBuf {
        self.outside("/var/lib/buildkit")
    }

    /// Creates a directory for the recipe's files.
    pub(crate) fn workspace(&self) -> Result<PathBuf> {
        let workspace = self.dir.path().join("workspace");
        fs::create_dir_all(&workspace)?;
        Ok(workspace)
    }

    /// Returns a command that runs on the machine.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-euc", ENTER, "sh"]);
        command.arg(self.dir.path()).arg(program.as_ref());
        command.env_remove("CI").current_dir(self.dir.path());
        command
    }

    /// Makes a unit active. `daemon` is the id of its process, if it has one.
    pub(crate) fn activate(&self, unit: &str, daemon: Option<u32>) -> Result<()> {
        let content = daemon.map(|id| id.to_string()).unwrap_or_default();
        fs::write(self.home().join(format!("active-{unit}")), content)?;
        Ok(())
    }

    /// Returns the calls of systemctl that started or stopped units, in order.
    pub(crate) fn calls(&self) -> Result<Vec<String>> {
        let calls = fs::read_to_string(self.home().join("systemctl.log"))?;
        Ok(calls.lines().filter(|call| call.starts_with("st")).map(str::to_owned).collect())
    }

    /// Installs a shell script.
    pub(crate) fn script(&self, name: &str, text: &str) -> Result<()> {
        let path = self.outside("/usr/local/bin").join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

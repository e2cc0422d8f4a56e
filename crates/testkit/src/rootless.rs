//! Users of this machine that run rootless daemons.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::process::run;
use crate::tools::{Tools, on_path};

/// The set of tools with RootlessKit.
const SET: &str = "rootless";
/// The programs on the machine that are needed besides, and their Debian packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("newuidmap", "uidmap"),
    ("newgidmap", "uidmap"),
    ("useradd", "passwd"),
    ("userdel", "passwd"),
    ("setpriv", "util-linux"),
];

/// `useradd` and `userdel` exclude each other by a lock, for which they do not wait.
static ACCOUNTS: Mutex<()> = Mutex::new(());

/// A user of this machine, who has numbers in `/etc/subuid` and `/etc/subgid`. The user, the home directory and
/// everything in it are removed when the value is dropped.
#[derive(Debug)]
pub struct User {
    name: String,
    id: u32,
    home: PathBuf,
}

impl User {
    /// Creates a user with a home directory, in which the programs are that the user can run: RootlessKit,
    /// buildkitd and the command under test.
    ///
    /// # Errors
    /// Returns an error if programs are missing, or the user cannot be created.
    pub fn create(tools: &Tools) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for (program, package) in PROGRAMS {
            on_path(program, package).map_err(anyhow::Error::msg)?;
        }
        let rootlesskit = tools
            .extra(&format!("{SET}/rootlesskit"), &format!("scripts/oracle {SET}"))
            .map_err(anyhow::Error::msg)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("oci2bk-{}-{count}", std::process::id());
        {
            let _lock = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
            run(Command::new("useradd").args(["--create-home", &name]))?;
        }
        let id = run(Command::new("id").args(["--user", &name]))?;
        let id = id.trim().parse().context("the number of the user")?;
        let user = Self { home: Path::new("/home").join(&name), name, id };
        user.directory("run")?;
        // The others may be in directories that only root can enter.
        let bin = user.directory("bin")?;
        for (program, source) in [
            ("rootlesskit", &rootlesskit),
            ("buildkitd", &tools.buildkitd),
            ("oci2bk", &tools.oci2bk),
        ] {
            std::fs::copy(source, bin.join(program)).with_context(|| program.to_owned())?;
        }
        Ok(user)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of the user, which is that of the group, too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Creates a directory of the user in the home directory, closed to others.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.home.join(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        chown(&path, Some(self.id), Some(self.id))?;
        Ok(path)
    }

    /// Returns the path of one of the user's programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(name)
    }

    /// Returns a command that runs as the user. `setpriv` becomes the program, so that signals reach it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &self.name, "--regid", &self.name, "--init-groups"])
            .args(["--inh-caps=-all", "--reset-env", "--"])
            .arg("env")
            .arg(format!("XDG_RUNTIME_DIR={}", self.home.join("run").display()))
            .arg(format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", self.home.join("bin").display()))
            .arg(program)
            .current_dir(&self.home);
        command
    }

    /// Returns a command that runs as the user in a user namespace of RootlessKit, whose state is in the new
    /// directory `state`.
    #[must_use]
    pub fn rootless(&self, state: &str, program: &Path) -> Command {
        let mut command = self.command(&self.program("rootlesskit"));
        command.arg(format!("--state-dir={}", self.home.join("run").join(state).display()));
        command.arg(program);
        command
    }

    /// Returns the map of a user namespace of the user, in the form of `oci2bk convert --map`.
    ///
    /// # Errors
    /// Returns an error if the user has no numbers, or others than groups.
    pub fn map(&self) -> Result<String> {
        let range = |list: &str| -> Result<String> {
            let text = std::fs::read_to_string(list)?;
            let of_user = format!("{}:", self.name);
            let line = text.lines().find_map(|line| line.strip_prefix(&of_user));
            Ok(line.with_context(|| format!("{list} has no {}", self.name))?.to_owned())
        };
        let (users, groups) = (range("/etc/subuid")?, range("/etc/subgid")?);
        ensure!(users == groups, "the numbers of users and groups differ: {users}, {groups}");
        Ok(format!("0:{}:1,1:{users}", self.id))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _lock = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        // Errors cannot be reported here.
        let _ = run(Command::new("userdel").args(["--remove", &self.name]));
    }
}

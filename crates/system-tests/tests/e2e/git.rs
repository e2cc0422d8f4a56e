//! A git repository on the loopback interface, for ADD of a repository.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use testkit::registry::free_address;

use crate::process::{Background, run};

/// A repository with one commit, and its server.
#[derive(Debug)]
pub(crate) struct Repository {
    _server: Background,
    url: String,
}

impl Repository {
    /// Creates the repository in `dir`, which no other uses.
    pub(crate) fn serve(dir: &Path) -> Result<Self> {
        let work = dir.join("repository.git");
        std::fs::create_dir_all(&work)?;
        std::fs::write(work.join("file"), "from a repository\n")?;
        let git = |words: &[&str]| {
            // Independent of the user's configuration.
            let mut command = Command::new("git");
            command.env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1").current_dir(&work);
            run(command
                .args(["-c", "user.name=suite", "-c", "user.email=suite@invalid"])
                .args(words))
        };
        git(&["init", "--quiet"])?;
        git(&["add", "file"])?;
        git(&["commit", "--quiet", "--message=one"])?;
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address and a port")?;
        // Not `git daemon`, whose child may outlive it.
        let program = Path::new(git(&["--exec-path"])?.trim()).join("git-daemon");
        let mut command = Command::new(program);
        command
            .args(["--export-all", "--reuseaddr"])
            .args([format!("--listen={host}"), format!("--port={port}")])
            .arg(format!("--base-path={}", dir.display()));
        let mut server = Background::start(&mut command, &dir.join("git-daemon.log"))?;
        server.wait_ready(|| TcpStream::connect(&address).is_ok()).context("git daemon")?;
        Ok(Self { _server: server, url: format!("git://{address}/repository.git") })
    }

    /// Returns the argument of ADD.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

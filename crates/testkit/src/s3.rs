//! An S3 server on the loopback interface, for caches of `type=s3`.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{Background, run};
use crate::registry::free_address;
use crate::tools::Tools;

/// The only bucket.
const BUCKET: &str = "builds";
/// The script that installs the tools.
const SCRIPT: &str = "scripts/oracle s3";

/// A running server, which keeps objects in memory and accepts every client.
#[derive(Debug)]
pub struct S3 {
    _process: Background,
    address: String,
    mirror: PathBuf,
}

impl S3 {
    /// Starts a server whose log is in `dir`.
    ///
    /// # Errors
    /// Returns an error if the tools are missing, it cannot be started, ends early or is not ready within a
    /// minute.
    pub fn start(tools: &Tools, dir: &Path) -> Result<Self> {
        let tool =
            |name: &str| tools.extra(&format!("s3/{name}"), SCRIPT).map_err(anyhow::Error::msg);
        let (server, mirror) = (tool("gofakes3")?, tool("s3mirror")?);
        let address = free_address()?;
        let mut command = Command::new(server);
        command.args(["-backend", "memory", "-initialbucket", BUCKET, "-host", &address]);
        let mut process = Background::start(&mut command, &dir.join("s3.log"))?;
        process.wait_ready(|| TcpStream::connect(&address).is_ok()).context("S3 server")?;
        Ok(Self { _process: process, address, mirror })
    }

    /// Returns the `--export-cache` value for an export to it.
    #[must_use]
    pub fn attributes(&self) -> String {
        format!(
            "type=s3,bucket={BUCKET},region=us-east-1,endpoint_url=http://{},use_path_style=true,\
             access_key_id=id,secret_access_key=secret",
            self.address
        )
    }

    /// Copies the objects into `dir`, as `aws s3 sync` does.
    ///
    /// # Errors
    /// Returns an error if one cannot be copied.
    pub fn mirror(&self, dir: &Path) -> Result<()> {
        let endpoint = format!("http://{}", self.address);
        run(Command::new(&self.mirror).args([&endpoint, BUCKET]).arg(dir)).map(drop)
    }
}

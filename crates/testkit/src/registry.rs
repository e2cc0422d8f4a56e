//! A registry on the loopback interface, for base images and caches.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Background;
use crate::tools::Tools;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    _process: Background,
    address: String,
}

impl Registry {
    /// Starts a registry that stores its data in `dir`, which no other registry uses.
    ///
    /// # Errors
    /// Returns an error if it cannot be started, ends early or is not ready within a minute.
    pub fn start(tools: &Tools, dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}'}}\n",
            dir.join("registry").display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(&tools.registry);
        command.arg("serve").arg(&config);
        let mut process = Background::start(&mut command, &dir.join("registry.log"))?;
        process.wait_ready(|| TcpStream::connect(&address).is_ok()).context("registry")?;
        Ok(Self { _process: process, address })
    }

    /// Returns `127.0.0.1:PORT`, the part of an image name before the first slash.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Returns a loopback address on which no program listens at the moment.
///
/// # Errors
/// Returns an error if there is no free port.
pub fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

//! EROFS images, and whether this machine can make and mount them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::process::run;
use crate::tools::on_path;

/// Returns the reason if mkfs.erofs is missing, or this process cannot mount an image that it made.
///
/// # Errors
/// The reason.
pub fn works() -> Result<(), String> {
    static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
    let works = || {
        on_path("mkfs.erofs", "erofs-utils")?;
        let temp = tempfile::tempdir().map_err(|error| error.to_string())?;
        let directory = temp.path().join("directory");
        let image = temp.path().join("image");
        fs::create_dir(&directory).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.erofs").args([&image, &directory]))
            .map_err(|error| format!("{error:#}"))?;
        let mounted = Mounted::new(&image, &directory);
        mounted.map(drop).map_err(|error| format!("this machine mounts no EROFS: {error:#}"))
    };
    WORKS.get_or_init(works).clone()
}

/// A mounted image. It is unmounted on drop.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
}

impl Mounted {
    /// Mounts `image` on `point`.
    ///
    /// # Errors
    /// Returns an error if it cannot be mounted.
    pub fn new(image: &Path, point: &Path) -> Result<Self> {
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "erofs", "-o", "ro,loop"]).args([image, point]))
            .with_context(|| format!("mount of {}", image.display()))?;
        Ok(Self { point: point.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Busy only after a failed test, whose daemon is being killed.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.point));
    }
}

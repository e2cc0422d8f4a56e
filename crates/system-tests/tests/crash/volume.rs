//! Small temporary file systems.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::run;

/// Maximum time that a file system to be unmounted may be in use: processes that other tests start hold our
/// open files until they execute another program.
const BUSY: Duration = Duration::from_secs(5);
/// The same for an unmounted one: the maximum duration of a command that another test traces.
const FOLLOWED: Duration = Duration::from_secs(60);

/// Waits until `point` is not mounted in any process. An unmounted file system stays with the commands that
/// other tests trace in their own namespaces, until they end: with the loop device, which would write into
/// the next image.
pub(crate) fn wait_until_gone(point: &Path) -> Result<()> {
    let given_up = Instant::now() + FOLLOWED;
    while is_mounted_anywhere(point)? {
        ensure!(Instant::now() < given_up, "{} is still mounted somewhere", point.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns whether any process has something mounted at `point`.
fn is_mounted_anywhere(point: &Path) -> Result<bool> {
    for process in std::fs::read_dir("/proc")? {
        // A process that has ended has no mounts.
        let table = std::fs::read_to_string(process?.path().join("mountinfo")).unwrap_or_default();
        let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
        if points.any(|mounted| Path::new(mounted) == point) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    point: PathBuf,
}

impl Volume {
    pub(crate) fn tmpfs(point: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(point))?;
        Ok(Self { point: point.to_owned() })
    }

    /// Mounts the file `image` through a loop device.
    pub(crate) fn image(image: &Path, point: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        let options = format!("loop,{options}");
        run(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(image).arg(point))?;
        Ok(Self { point: point.to_owned() })
    }

    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    pub(crate) fn remount(&self, options: &str) -> Result<()> {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.point)).map(drop)
    }

    pub(crate) fn unmount(self) -> Result<()> {
        let point = self.point.clone();
        std::mem::forget(self);
        let given_up = Instant::now() + BUSY;
        loop {
            match run(Command::new("umount").arg(&point)) {
                Err(_) if Instant::now() < given_up => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                unmounted => {
                    unmounted?;
                    return wait_until_gone(&point);
                }
            }
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A failed test may still have files open on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).status();
    }
}

/// Makes an ext4 image of `megabytes` with at least `inodes` inodes.
pub(crate) fn make_ext4(image: &Path, megabytes: u64, inodes: u64) -> Result<()> {
    let file = File::create(image).with_context(|| image.display().to_string())?;
    file.set_len(megabytes << 20)?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    run(mkfs.args(["-q", "-F", "-m", "0", "-N", &inodes.to_string()]).arg(image)).map(drop)
}

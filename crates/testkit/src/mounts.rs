//! Mounts below a directory, such as those that a killed daemon leaves in its root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run;

/// Returns the mount points below `dir`, in the order in which they were made.
///
/// # Errors
/// Returns an error if the kernel does not list them.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut points = points(|_| true)?;
    points.retain(|point| point.starts_with(dir));
    Ok(points)
}

/// Unmounts everything below `dir`, and mounts elsewhere of directories below `dir`: a daemon mounts
/// snapshots in the directory for temporary files.
///
/// # Errors
/// Returns an error if the kernel does not list them, or `umount` fails.
pub fn unmount_all_of(dir: &Path) -> Result<()> {
    let dir = dir.to_string_lossy();
    for point in points(|line| line.contains(&*dir))?.into_iter().rev() {
        run(Command::new("umount").arg("--lazy").arg(point))?;
    }
    Ok(())
}

/// Returns the mount points of the `wanted` lines of the table.
fn points(wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(TABLE).context(TABLE)?;
    let lines = table.lines().filter(|line| wanted(line));
    Ok(lines.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

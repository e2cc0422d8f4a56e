//! What is mounted below a directory, such as what a killed daemon leaves in its root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run;

/// The mount points below `dir`, in the order in which they were made.
///
/// # Errors
/// If the kernel does not tell.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(TABLE).context(TABLE)?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Unmounts all of it.
///
/// # Errors
/// If the kernel does not tell, or `umount` fails.
pub fn unmount_below(dir: &Path) -> Result<()> {
    for point in below(dir)?.into_iter().rev() {
        run(Command::new("umount").arg("--lazy").arg(point))?;
    }
    Ok(())
}

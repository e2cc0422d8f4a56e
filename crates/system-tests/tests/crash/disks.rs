//! The disk is full, at every amount of free space that is not enough.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::bench::{Bench, Start, Subject};
use crate::points::limit;
use crate::volume::{Volume, make_ext4};

const NO_SPACE: &str = "No space left on device";

/// ext4 with few free blocks.
pub(crate) fn few_blocks(bench: &Bench, start: Start) -> Result<()> {
    on_ext4(bench, start, |volume, free| {
        let file = File::create(volume.join("ballast"))?;
        // In pieces: free space can be scattered, and its map takes space too.
        loop {
            let now = statvfs(volume)?;
            let taken = now.f_bavail.saturating_sub(free).div_ceil(2) * now.f_frsize;
            let end = file.metadata()?.len();
            if taken == 0 || fallocate(&file, FallocateFlags::empty(), end, taken).is_err() {
                return Ok(());
            }
        }
    })
}

/// ext4 with few free inodes.
pub(crate) fn few_inodes(bench: &Bench, start: Start) -> Result<()> {
    on_ext4(bench, start, |volume, free| {
        let ballast = volume.join("ballast");
        fs::create_dir(&ballast)?;
        for number in 0..statvfs(volume)?.f_favail.saturating_sub(free) {
            File::create(ballast.join(number.to_string()))?;
        }
        Ok(())
    })
}

/// Runs with less and less free space, starting with enough, and after each run again with enough.
fn on_ext4(bench: &Bench, start: Start, fill: impl Fn(&Path, u64) -> Result<()>) -> Result<()> {
    let dir = bench.memory()?;
    let image = dir.path().join("image");
    make_ext4(&image, 8, 400)?;
    let volume = Volume::image(&image, &dir.path().join("mounted"), "noatime")?;
    let top = volume.point();
    let subject = Subject::new(bench, start, top)?;
    let ballast = top.join("ballast");
    let sweep = Sweep { subject: &subject, most: 1024 };
    sweep.run(|free| {
        if ballast.is_dir() {
            fs::remove_dir_all(&ballast)?;
        } else if ballast.exists() {
            fs::remove_file(&ballast)?;
        }
        match free {
            // The space of removed files is free only after a sync.
            Some(free) => {
                rustix::fs::syncfs(File::open(top)?)?;
                fill(top, free)
            }
            None => Ok(()),
        }
    })?;
    volume.unmount()
}

/// A tmpfs that is too small.
pub(crate) fn small_tmpfs(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    for (option, plenty) in [("size", "8m"), ("nr_inodes", "1000")] {
        let volume = Volume::tmpfs(&dir.path().join(option), &format!("{option}={plenty}"))?;
        let subject = Subject::new(bench, start, volume.point())?;
        let sweep = Sweep { subject: &subject, most: 1024 };
        sweep.run(|free| {
            let Some(free) = free else { return volume.remount(&format!("{option}={plenty}")) };
            let now = statvfs(volume.point())?;
            let amount = match option {
                "size" => (now.f_blocks - now.f_bavail + free).max(1) * now.f_frsize,
                _ => (now.f_files - now.f_favail + free).max(2),
            };
            volume.remount(&format!("{option}={amount}"))
        })?;
        volume.unmount()?;
    }
    Ok(())
}

struct Sweep<'s, 'b> {
    subject: &'s Subject<'b>,
    /// More than enough.
    most: u64,
}

impl Sweep<'_, '_> {
    /// `leave` makes the volume have this many free blocks or inodes, or plenty.
    fn run(&self, leave: impl Fn(Option<u64>) -> Result<()>) -> Result<()> {
        let subject = self.subject;
        // Finds the sufficient amount by bisection.
        let (mut too_few, mut enough) = (0, self.most);
        while enough - too_few > 1 {
            let free = too_few.midpoint(enough);
            if self.try_with(free, &leave)? {
                enough = free;
            } else {
                too_few = free;
            }
        }
        ensure!(too_few > 0, "everything fits into nothing");
        let steps = u64::try_from(limit(20))?.min(enough);
        for step in 0..steps {
            self.try_with(enough * step / steps, &leave)?;
        }
        leave(None)?;
        subject.ensure_completes()
    }

    /// Returns whether a run with this amount completes. If not, it must say so, and the next must complete.
    fn try_with(&self, free: u64, leave: &impl Fn(Option<u64>) -> Result<()>) -> Result<bool> {
        let subject = self.subject;
        let check = || -> Result<bool> {
            leave(None)?;
            subject.reset()?;
            leave(Some(free))?;
            let output = subject.convert().output()?;
            if output.status.success() {
                subject.ensure_complete()?;
                return Ok(true);
            }
            subject.ensure_refused(&output, NO_SPACE)?;
            leave(None)?;
            subject.ensure_completes()?;
            Ok(false)
        };
        check().with_context(|| format!("with {free} free"))
    }
}

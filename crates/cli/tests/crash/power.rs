//! The machine loses power: what was not written out is gone.
//!
//! The root is on ext4 in a file that nobody writes back in time (`commit=600`). A copy of that
//! file is what the disk has when the power goes; mounting the copy replays its journal.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Found, Start, Subject, layout};
use crate::points::{choose, limit};
use crate::strace::{Call, Profile, disturb};
use crate::volume::{Volume, make_ext4};

/// What else happens on the file system while the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    /// Nothing: all that was not synced is lost.
    Quiet,
    /// Somebody waits for a file of their own. That commits the journal, and with it the names that
    /// others made; but not what others wrote.
    Syncs,
}

/// Cuts the power before calls that change anything, and right after the end of a run.
pub(crate) fn cut(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let template = dir.path().join("template");
    make_ext4(&template, 8, 1000)?;
    let rig = Rig { bench, start, dir: dir.path(), template: &template };
    let calls = {
        let volume = rig.mount("recorded")?;
        let subject = Subject::new(bench, start, volume.point())?;
        subject.reset()?;
        let profile = Profile::record(&subject.convert(), &dir.path().join("log"), &layout())?;
        choose(profile.changes(), limit(24))
    };
    for neighbour in [Neighbour::Quiet, Neighbour::Syncs] {
        for call in calls.iter().map(Some).chain([None]) {
            rig.cut(call, neighbour).with_context(|| match call {
                Some(call) => format!("before {} {}, {neighbour:?}", call.name, call.nth),
                None => format!("after the end, {neighbour:?}"),
            })?;
        }
    }
    Ok(())
}

struct Rig<'r> {
    bench: &'r Bench,
    start: Start,
    dir: &'r Path,
    template: &'r Path,
}

impl Rig<'_> {
    /// Mounts a new volume.
    fn mount(&self, name: &str) -> Result<Volume> {
        let image = self.dir.join(format!("{name}.img"));
        fs::copy(self.template, &image)?;
        self.mount_image(&image, name)
    }

    fn mount_image(&self, image: &Path, name: &str) -> Result<Volume> {
        // Data is written when it is, and not because its file is named.
        let options = "commit=600,data=writeback,noauto_da_alloc,noatime";
        Volume::image(image, &self.dir.join(name), options)
    }

    fn cut(&self, call: Option<&Call>, neighbour: Neighbour) -> Result<()> {
        let volume = self.mount("before")?;
        let subject = Subject::new(self.bench, self.start, volume.point())?;
        subject.reset()?;
        rustix::fs::syncfs(File::open(volume.point())?)?;
        let ended = match call {
            Some(call) => {
                disturb(&subject.convert(), call, "signal=SIGKILL")?.output.status.success()
            }
            None => subject.convert().output()?.status.success(),
        };
        ensure!(ended || call.is_some(), "the run that nothing disturbs failed");
        if neighbour == Neighbour::Syncs {
            File::create(volume.point().join("other"))?.sync_all()?;
        }
        let image = self.dir.join("after.img");
        fs::copy(self.dir.join("before.img"), &image)?;
        volume.unmount()?;

        let volume = self.mount_image(&image, "after")?;
        let subject = subject.elsewhere(volume.point());
        let found = subject.inspect()?;
        ensure!(!ended || found == Found::Complete, "a run that had ended left it {found:?}");
        subject.ensure_completes()?;
        volume.unmount()
    }
}

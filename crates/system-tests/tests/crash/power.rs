//! The machine loses power: everything that was not synced is lost.
//!
//! The root is on ext4 in a file that the kernel does not write back in time (`commit=600`). A copy of that
//! file is the content of the disk when the power fails; mounting the copy replays its journal.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Found, Start, Subject, layout};
use crate::points::{choose, limit};
use crate::strace::{Call, Profile, disturb};
use crate::volume::{Volume, make_ext4};

/// Other activity on the file system while the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    /// None: everything that was not synced is lost.
    Quiet,
    /// Another process syncs its own file. That commits the journal, and with it the names that others
    /// created, but not the data that others wrote.
    Syncs,
}

/// Cuts the power before calls that change anything, and right after the end of a run.
pub(crate) fn cut(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let template = dir.path().join("template");
    make_ext4(&template, 8, 1000)?;
    let first = mount_new(&template, &dir.path().join("first"))?;
    let subject = Subject::new(bench, start, first.point())?;
    subject.reset()?;
    let profile = Profile::record(&subject.convert(), &dir.path().join("log"), &layout())?;
    let calls = choose(profile.changes(), limit(14));
    first.unmount()?;
    let mut rig = Rig { subject, dir: dir.path(), template: &template };
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
    subject: Subject<'r>,
    dir: &'r Path,
    template: &'r Path,
}

/// Mounts a copy of the empty volume `template`.
fn mount_new(template: &Path, point: &Path) -> Result<Volume> {
    let image = point.with_extension("img");
    fs::copy(template, &image)?;
    mount(&image, point)
}

fn mount(image: &Path, point: &Path) -> Result<Volume> {
    // Data is written only when synced, and not because its file is renamed.
    Volume::image(image, point, "commit=600,data=writeback,noauto_da_alloc,noatime")
}

impl Rig<'_> {
    fn cut(&mut self, call: Option<&Call>, neighbour: Neighbour) -> Result<()> {
        let point = self.dir.join("before");
        let volume = mount_new(self.template, &point)?;
        let subject = &mut self.subject;
        subject.root = volume.point().join("root");
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
        fs::copy(point.with_extension("img"), &image)?;
        volume.unmount()?;

        let volume = mount(&image, &self.dir.join("after"))?;
        subject.root = volume.point().join("root");
        let found = subject.inspect()?;
        ensure!(!ended || found == Found::Complete, "a run that had ended left it {found:?}");
        subject.ensure_completes()?;
        volume.unmount()
    }
}

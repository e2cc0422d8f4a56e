//! Copies packed trees back to directories.

use bkstate::dir::Dir;
use bkstate::packed::ImageId;
use bkstate::root::Location;
use bkstate::snapshots::Trees;
use bkstate::state::{Scratch, Staging};

use super::found::{chosen, open, read, remove_unused};
use super::{ASIDE, PackedError, Packer, UndoReport, copy};
use crate::parallel::in_parallel;
use crate::progress::{self, Stage};

impl Packer {
    /// Copies the packed trees of the root at `location` back to directories, and removes the images. One that is
    /// mounted stays until a later call.
    ///
    /// # Errors
    /// Returns an error if the root is in use or damaged, an image is elsewhere and not mounted, or a tree cannot be
    /// copied. The root is sound then, and has everything that it had.
    pub fn undo(&self, location: impl Into<Location>) -> Result<UndoReport, PackedError> {
        let root = open(location.into())?;
        let state = read(&root)?;
        let mut report = UndoReport { root: root.path().to_owned(), ..UndoReport::default() };
        let Some(trees) = root.trees()? else { return Ok(report) };
        Staging::remove_dead_run(&root)?;
        let (packed, _) = chosen(&state, &trees)?;
        if !packed.is_empty() {
            let scratch = Scratch::create(&root)?;
            let done = progress::stage(&*self.progress, Stage::Trees);
            let all: Vec<u64> = packed.values().flatten().copied().collect();
            let ids: Vec<ImageId> = packed.keys().copied().collect();
            let copies = scratch.dir().create_dir(ASIDE, 0o700)?;
            self.privately(&root, &scratch, &ids, |inside| {
                let copies = inside.scratch.dir(ASIDE)?;
                in_parallel(&all, self.jobs, |id| self.copy_back(*id, &inside.trees, &copies))
            })?;
            root.dir().sync_file_system()?;
            done();
            let done = progress::stage(&*self.progress, Stage::Publish);
            for id in &all {
                trees.unpack(*id, &copies)?;
            }
            root.dir().sync_file_system()?;
            report.snapshots = all.len();
            done();
        }
        let rest = remove_unused(&root, &state)?;
        (report.removed, report.still_mounted) = (rest.removed, rest.mounted);
        Ok(report)
    }

    fn copy_back(&self, id: u64, trees: &Trees, copies: &Dir) -> Result<(), PackedError> {
        let from = trees.snapshot(id)?;
        let to = copies.create_dir(id.to_string().as_str(), 0o700)?;
        copy::copy_tree(id, &from, &to, &self.cancel)?;
        self.compare(id, &from, &to, to.path())
    }
}

//! The snapshots below a snapshot: new ones, then existing ones of the root.

use bkstate::dir::{Dir, DirError};
use bkstate::worker::TreeForm;

use super::ConvertError;
use super::site::Site;
use crate::place::{NoPlace, SnapshotPlace};
use crate::plan::SnapshotIndex;

/// A snapshot below another one.
#[derive(Clone, Copy)]
enum Lower {
    /// A new one of the plan.
    New(SnapshotIndex),
    /// An existing one of the root, with this id.
    Existing(u64),
}

impl Site<'_> {
    /// Returns the trees that show what is below the snapshot at `index` of the plan, nearest first: of all
    /// snapshots below, or the nearest alone if it has all files. They are opened one after the other, because a
    /// chain can be longer than the limit on open files.
    pub(super) fn trees_below(
        &self,
        index: SnapshotIndex,
    ) -> impl Iterator<Item = Result<Dir, ConvertError>> + '_ {
        let lowers = std::iter::successors(self.planned_below(index), |lower| match lower {
            Lower::New(index) => self.planned_below(*index),
            Lower::Existing(id) => self.existing.below(*id).map(Lower::Existing),
        });
        let most = match self.existing.state.worker.form() {
            TreeForm::Full(_) => 1,
            _ => usize::MAX,
        };
        lowers.take(most).map(|lower| {
            Ok(match lower {
                Lower::New(index) => self.staging.trees().fs(self.id(index)?)?,
                Lower::Existing(id) => self.existing.tree(id)?,
            })
        })
    }

    /// Gives the tree `fs` of the snapshot at `index` the owner that a daemon would have given it: that of
    /// the tree below (containerd v2.3.3 `plugins/snapshots/overlay/overlay.go` `createSnapshot`). Only steps
    /// change the owner, so for new snapshots it is root.
    pub(super) fn hand_down_owner(&self, index: SnapshotIndex, fs: &Dir) -> Result<(), DirError> {
        let mut below = self.planned_below(index);
        while let Some(Lower::New(index)) = below {
            below = self.planned_below(index);
        }
        match below {
            Some(Lower::Existing(id)) => fs.copy_owner(&self.existing.tree(id)?),
            _ => Ok(()),
        }
    }

    /// Returns the id of the snapshot at `index`, which is to be unpacked.
    ///
    /// # Errors
    /// Returns an error if it is not to be unpacked.
    pub(super) fn id(&self, index: SnapshotIndex) -> Result<u64, NoPlace> {
        match self.places.snapshots[index] {
            SnapshotPlace::New { id, .. } => Ok(id),
            _ => Err(NoPlace::Unpacked(index)),
        }
    }

    fn planned_below(&self, index: SnapshotIndex) -> Option<Lower> {
        let parent = self.plan.snapshots[index].parent?;
        Some(match self.places.snapshots[parent] {
            SnapshotPlace::Existing { id, .. } => Lower::Existing(id),
            _ => Lower::New(parent),
        })
    }
}

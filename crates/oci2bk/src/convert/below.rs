//! What a snapshot lies on: snapshots that are new too, then those that the root had before.

use bkstate::dir::{Dir, DirError};

use super::site::Site;
use crate::merge::SnapshotPlace;

/// A snapshot below another one.
#[derive(Clone, Copy)]
enum Lower {
    /// At this index of the plan.
    New(usize),
    /// With this id in the root.
    Existing(u64),
}

impl Site<'_> {
    /// The trees of all snapshots below the one at `index` of the plan, the nearest first. Opened one
    /// after the other: a chain may be longer than the files we may have open.
    pub(super) fn trees_below(
        &self,
        index: usize,
    ) -> impl Iterator<Item = Result<Dir, DirError>> + '_ {
        let lowers = std::iter::successors(self.planned_below(index), |lower| match lower {
            Lower::New(index) => self.planned_below(*index),
            Lower::Existing(id) => self.existing.below(*id).map(Lower::Existing),
        });
        lowers.map(|lower| match lower {
            Lower::New(index) => self.staging.trees().fs(self.id(index)),
            Lower::Existing(id) => self.existing.tree(id),
        })
    }

    /// Gives the tree `fs` of the snapshot at `index` the owner that a daemon would have given it:
    /// that of the tree below (containerd v2.3.3 `plugins/snapshots/overlay/overlay.go`
    /// `createSnapshot`). Only steps change it, so of new snapshots it is root's.
    pub(super) fn hand_down_owner(&self, index: usize, fs: &Dir) -> Result<(), DirError> {
        let mut below = self.planned_below(index);
        while let Some(Lower::New(index)) = below {
            below = self.planned_below(index);
        }
        match below {
            Some(Lower::Existing(id)) => fs.copy_owner(&self.existing.tree(id)?),
            _ => Ok(()),
        }
    }

    /// The id of the new snapshot at `index`; ids start at 1.
    pub(super) fn id(&self, index: usize) -> u64 {
        self.places.snapshots.get(index).and_then(SnapshotPlace::id).unwrap_or_default()
    }

    fn planned_below(&self, index: usize) -> Option<Lower> {
        let parent = self.plan.snapshots.get(index)?.parent?;
        Some(match self.places.snapshots.get(parent)? {
            SnapshotPlace::Existing { id, .. } => Lower::Existing(*id),
            _ => Lower::New(parent),
        })
    }
}

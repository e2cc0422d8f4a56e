//! Compares the directories of snapshots with `snapshots/metadata.db`.

use std::collections::{BTreeMap, BTreeSet};

use crate::dir::DirError;
use crate::snapshots::{Directories, Kind, Trees};
use crate::state::State;
use crate::worker::TreeForm;

use super::Findings;

/// Damage to the directory of a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryDamage {
    /// The directory is missing, or is not a directory.
    #[error("trees: {id} is not there as a directory; it is that of snapshot {name}")]
    Missing {
        /// The name of the directory.
        id: u64,
        /// The name of the snapshot.
        name: String,
    },
    /// The directory with the files is missing, or is not a directory.
    #[error("trees: {id}/fs is not there as a directory; snapshot {name} has its files in it")]
    NoFiles {
        /// The name of the directory.
        id: u64,
        /// The name of the snapshot.
        name: String,
    },
    /// The work directory of overlayfs is missing, or is not a directory.
    #[error("trees: {id}/work is not there as a directory; snapshot {name} needs it")]
    NoWork {
        /// The name of the directory.
        id: u64,
        /// The name of the snapshot.
        name: String,
    },
    /// A directory belongs to no snapshot.
    #[error("trees: the directory {name} belongs to no snapshot")]
    Stray {
        /// The name of the directory.
        name: String,
    },
}

impl DirectoryDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-directory",
            Self::NoFiles { .. } => "missing-fs",
            Self::NoWork { .. } => "missing-work",
            Self::Stray { .. } => "stray-directory",
        }
    }

    // containerd v2.3.3 plugins/snapshots/overlay/overlay.go mounts, getCleanupDirectories.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NoFiles { .. } | Self::NoWork { .. } => {
                "the first build that mounts the snapshot, or one on it, fails"
            }
            Self::Stray { .. } => {
                "the daemon does not know the directory; it costs space until a collection that \
                 removes a snapshot"
            }
        }
    }
}

pub(super) fn check(
    state: &State,
    trees: &[Trees],
    findings: &mut Findings,
) -> Result<(), DirError> {
    let mut directories: BTreeMap<String, &Trees> = BTreeMap::new();
    for trees in trees {
        for name in trees.names()? {
            directories.entry(name).or_insert(trees);
        }
    }
    let mut ids = BTreeSet::new();
    let named = state.own_snapshots();
    for (name, snapshot) in &state.snapshots.by_name {
        ids.insert(snapshot.id.to_string());
        // The snapshot's missing row is reported already. Its files are not needed.
        if !named.contains(name.as_str()) {
            continue;
        }
        let (id, name) = (snapshot.id, name.clone());
        let found = match directories.get(&id.to_string()) {
            Some(trees) => trees.find(id)?,
            None => Directories::default(),
        };
        // With whole trees, the tree below is what a view shows (containerd v2.3.3
        // `plugins/snapshots/native/native.go` `createSnapshot`).
        let is_whole = matches!(state.worker.form(), TreeForm::Full(_));
        if is_whole && snapshot.kind == Kind::View && snapshot.parent.is_some() {
            continue;
        }
        if !found.top {
            findings.add(DirectoryDamage::Missing { id, name });
        } else if !found.fs {
            findings.add(DirectoryDamage::NoFiles { id, name });
        } else if snapshot.kind == Kind::Active && !found.work {
            findings.add(DirectoryDamage::NoWork { id, name });
        }
    }
    if state.worker.shares_storage() {
        return Ok(());
    }
    for name in directories.into_keys().filter(|name| !ids.contains(name)) {
        findings.add(DirectoryDamage::Stray { name });
    }
    Ok(())
}

//! Compares the directories of snapshots with `snapshots/metadata.db`.

use std::collections::{BTreeMap, BTreeSet};

use crate::dir::DirError;
use crate::packed::ImageId;
use crate::snapshots::{Directories, Kind, Trees};
use crate::state::State;
use crate::worker::TreeForm;

use super::{Findings, packed};

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
    /// There is a link in the place of the directory, and it leads neither into an image of this root that has the
    /// snapshot, nor is it written exactly so.
    #[error(
        "trees: {id} is a link that leads to no image of this root; it is that of snapshot {name}"
    )]
    ForeignLink {
        /// The name of the link.
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
            Self::ForeignLink { .. } => "foreign-link",
            Self::Stray { .. } => "stray-directory",
        }
    }

    // containerd v2.3.3 plugins/snapshots/overlay/overlay.go mounts, getCleanupDirectories.
    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NoFiles { .. } | Self::NoWork { .. } => {
                "the first build that mounts the snapshot, or one on it, fails"
            }
            Self::ForeignLink { .. } => {
                "the daemon follows the link: builds take the files that are there, and those of others can be \
                 read by them"
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
    let mounted = packed::mounted(trees)?;
    let mut links: BTreeMap<ImageId, usize> = BTreeMap::new();
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
        if found.is_foreign_link {
            findings.add(DirectoryDamage::ForeignLink { id, name });
            continue;
        }
        if let Some(image) = found.packed {
            *links.entry(image).or_default() += 1;
            // There is one finding for the image.
            if !mounted.contains(&image) {
                continue;
            }
        }
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
    packed::check(trees, &links, findings)?;
    if state.worker.shares_storage() {
        return Ok(());
    }
    for name in directories.into_keys().filter(|name| !ids.contains(name)) {
        findings.add(DirectoryDamage::Stray { name });
    }
    Ok(())
}

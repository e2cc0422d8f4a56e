//! Whether somebody else could have changed the files of a state, or can.
//!
//! A daemon that runs as root believes whatever stands in its root. So all of it has to belong to root, to
//! whoever looks, or to the owner of the root, and nobody else may write to it. What others cannot reach counts
//! as closed: daemons make `content/ingest`, and up to v0.12 `content`, with the mode 0777, in a worker's
//! directory of the mode 0700 (containerd `plugins/content/local/store.go`, BuildKit v0.34.2
//! `worker/runc/runc.go`). What is in the trees of snapshots is a matter of the layers.

use std::path::{Path, PathBuf};

use crate::content::{BLOBS, CONTENT, SHA256};
use crate::dir::{Dir, DirError, FileKind, Found};
use crate::root::{SHARED, Trusted};
use crate::state::databases::{CACHE_DEBUG_DB, HISTORY_DB};
use crate::state::{CACHE_DB, METADATA_DB, RECORDS_DB, SNAPSHOTS, SNAPSHOTS_DB, WORKER, WORKER_ID};

use super::Findings;

/// A part of the state that others can change.
///
/// ```
/// use std::fs::{Permissions, set_permissions};
/// use std::os::unix::fs::PermissionsExt as _;
///
/// use bkstate::dir::Dir;
/// use bkstate::ids::WorkerId;
/// use bkstate::state::{AccessDamage, Damage, Existing, RootLock, Staging, State, verify};
///
/// let temp = tempfile::tempdir()?;
/// let root = Dir::open(temp.path())?;
/// let lock = RootLock::acquire(&root)?;
/// let state = State::empty(WorkerId::derive("worker"));
/// let nothing = Existing::nothing(state.worker_id.clone());
/// let staging = Staging::begin(&root, &lock, &nothing)?;
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
///
/// set_permissions(temp.path(), Permissions::from_mode(0o777))?;
/// let found = verify(&root)?.damage;
/// let [Damage::Access(AccessDamage::Writable { mode: 0o777, .. })] = found.as_slice() else {
///     panic!("{found:?}")
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessDamage {
    /// It belongs to somebody else than the root does.
    #[error("{} belongs to the user {owner}", path.display())]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The id of the user.
        owner: u32,
    },
    /// Its mode lets others write.
    #[error("{} has the mode {mode:04o}, so others than its owner can write to it", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl AccessDamage {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ForeignOwner { .. } => "foreign-owner",
            Self::Writable { .. } => "writable-by-others",
        }
    }

    pub(super) fn consequence(&self) -> &'static str {
        match self {
            Self::ForeignOwner { .. } => {
                "the daemon does not look: that user can put other files and results in, and builds \
                 take them"
            }
            Self::Writable { .. } => {
                "the daemon does not look: other users can put other files and results in, and builds \
                 take them"
            }
        }
    }
}

/// A directory of the state, and what is looked at in it.
struct Place {
    name: &'static str,
    files: &'static [&'static str],
    inside: &'static [Place],
    /// Whether everything in it is looked at.
    all: bool,
}

const ROOT_FILES: &[&str] = &[CACHE_DB, HISTORY_DB, CACHE_DEBUG_DB];

const fn place(
    name: &'static str,
    files: &'static [&'static str],
    inside: &'static [Place],
) -> Place {
    Place { name, files, inside, all: false }
}

const fn full(name: &'static str) -> Place {
    Place { name, files: &[], inside: &[], all: true }
}

const PLACES: &[Place] = &[place(
    WORKER,
    &[WORKER_ID, RECORDS_DB, METADATA_DB],
    &[
        place(CONTENT, &[], &[place(BLOBS, &[], &[full(SHA256)])]),
        place(SNAPSHOTS, &[SNAPSHOTS_DB], &[full(SNAPSHOTS)]),
    ],
)];

/// Looks at who can change the state in `root`. Links are not followed, and are reported elsewhere.
pub(in crate::state) fn check(root: &Dir, findings: &mut Findings) -> Result<(), DirError> {
    let found = root.itself()?;
    let mut walk = Walk { trusted: Trusted::new(), findings };
    walk.judge(root.path(), found, true);
    walk.trusted.add(found.owner);
    walk.inside(root, ROOT_FILES, PLACES, is_open(found))
}

struct Walk<'f> {
    /// The users who may own a part.
    trusted: Trusted,
    findings: &'f mut Findings,
}

impl Walk<'_> {
    /// `reachable` is whether others can get to what is in `dir`.
    fn inside(
        &mut self,
        dir: &Dir,
        files: &[&str],
        places: &[Place],
        reachable: bool,
    ) -> Result<(), DirError> {
        for name in files {
            if let Some(found) = dir.find(*name)?.filter(|found| found.kind == FileKind::File) {
                self.judge(&dir.path().join(name), found, reachable);
            }
        }
        for place in places {
            let found = dir.find(place.name)?;
            let Some(found) = found.filter(|found| found.kind == FileKind::Directory) else {
                continue;
            };
            self.judge(&dir.path().join(place.name), found, reachable);
            let (dir, reachable) = (dir.dir(place.name)?, reachable && is_open(found));
            self.inside(&dir, place.files, place.inside, reachable)?;
            for entry in if place.all { dir.entries()? } else { Vec::new() } {
                if let Some(found) = dir.find(&*entry.name)? {
                    self.judge(&dir.path().join(&*entry.name.to_string_lossy()), found, reachable);
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self, path: &Path, found: Found, reachable: bool) {
        let (owner, mode) = (found.owner, found.mode);
        if !matches!(found.kind, FileKind::File | FileKind::Directory) {
            return;
        }
        if !self.trusted.has(owner) {
            self.findings.add(AccessDamage::ForeignOwner { path: path.to_owned(), owner });
        }
        if reachable && mode & SHARED != 0 {
            self.findings.add(AccessDamage::Writable { path: path.to_owned(), mode });
        }
    }
}

/// Whether others than the owner of a directory get to what is in it.
fn is_open(found: Found) -> bool {
    found.mode & 0o011 != 0
}

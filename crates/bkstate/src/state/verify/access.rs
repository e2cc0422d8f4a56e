//! Checks whether other users can change the files of a state, or could have.
//!
//! A daemon believes everything in its root. So all of it must belong to root, to the current user, or to the
//! owner of the root, or only to the user of the daemon if that is known, and no other user may write to it. Files that others cannot
//! reach count as closed: daemons make `content/ingest`, and up to v0.12 `content`, with the mode 0777, in a
//! worker's directory of the mode 0700 (containerd `plugins/content/local/store.go`, BuildKit v0.34.2
//! `worker/runc/runc.go`). The owners of files in the trees of snapshots come from the layers.
//! With the native snapshotter, so does the owner of the directory of a snapshot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::content::{BLOBS, SHA256};
use crate::dir::{Dir, DirError, FileKind, Found};
use crate::machine::Trusted;
use crate::packed::PACKED;
use crate::root::{Root, SHARED};
use crate::snapshots::TREES;
use crate::worker::{Base, Part, StateFile, TreeForm};

use super::Findings;

/// A part of the state that others can change.
///
/// ```
/// use std::fs::{Permissions, set_permissions};
/// use std::os::unix::fs::PermissionsExt as _;
///
/// use bkstate::Root;
/// use bkstate::ids::WorkerId;
/// use bkstate::state::{AccessDamage, Damage, Existing, Staging, State};
/// use bkstate::worker::Worker;
///
/// let temp = tempfile::tempdir()?;
/// let root = Root::open_to_write(temp.path())?;
/// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// let nothing = Existing::nothing(state.worker.clone(), state.worker_id.clone());
/// let staging = Staging::begin(&root, &nothing)?;
/// let written = staging.write(&state)?;
/// staging.publish(written)?;
///
/// set_permissions(temp.path(), Permissions::from_mode(0o777))?;
/// let found = root.verify_databases()?.damage;
/// let [Damage::Access(AccessDamage::Writable { mode: 0o777, .. })] = found.as_slice() else {
///     panic!("{found:?}")
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessDamage {
    /// It belongs to another user than the root.
    #[error("{} belongs to the user {owner}", path.display())]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The id of the user.
        owner: u32,
    },
    /// Its mode allows others to write.
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

/// Checks who can change the state in `root`. Links are not followed; they are reported elsewhere.
pub(in crate::state) fn check(root: &Root, findings: &mut Findings) -> Result<(), DirError> {
    let (dir, worker) = (root.dir(), root.worker());
    let found = dir.itself()?;
    let mut walk = Walk { trusted: Trusted::of_state(worker), findings };
    walk.judge(dir.path(), found, true);
    if worker.owners().root_on_disk().is_none() {
        walk.trusted.add(found.owner);
    }
    walk.files(dir, &StateFile::OF_ROOT.map(|file| worker.name(file)), is_open(found))?;
    let mut seen = BTreeSet::new();
    if worker.can_be_packed()
        && let Some((packed, reachable)) = walk.down(dir, &[PACKED], is_open(found), &mut seen)?
    {
        walk.all(&packed, reachable)?;
    }
    for part in [Part::Worker, Part::Metadata, Part::Content, Part::Snapshotter] {
        let way: Vec<_> = worker.way(part).into_iter().map(|(name, _)| name).collect();
        let files = StateFile::OF_WORKER.into_iter().chain([StateFile::WorkerId]);
        let places = files.map(|file| worker.place(file)).filter(|place| place.part == part);
        let files: Vec<_> = places.map(|place| place.name).collect();
        let Some(base) = root.bases().get(worker.base(part)) else { continue };
        let found = base.itself()?;
        if worker.base(part) != Base::Root {
            walk.judge(base.path(), found, true);
        }
        let Some((dir, reachable)) = walk.down(base, &way, is_open(found), &mut seen)? else {
            continue;
        };
        walk.files(&dir, &files, reachable)?;
        let all: &[&str] = match part {
            Part::Content => &[BLOBS, SHA256],
            Part::Snapshotter => &[TREES],
            _ => continue,
        };
        if let Some((dir, reachable)) = walk.down(&dir, all, reachable, &mut seen)? {
            let are_whole = part == Part::Snapshotter && matches!(worker.form(), TreeForm::Full(_));
            if are_whole && !reachable {
                // These directories are themselves the roots of trees, or cache mounts.
                continue;
            }
            walk.all(&dir, reachable)?;
        }
    }
    Ok(())
}

struct Walk<'f> {
    /// The users who may own a part.
    trusted: Trusted,
    findings: &'f mut Findings,
}

impl Walk<'_> {
    /// Checks the files `names` in `dir`; `reachable` is whether others can reach the content of `dir`.
    fn files(&mut self, dir: &Dir, names: &[&str], reachable: bool) -> Result<(), DirError> {
        for name in names {
            if let Some(found) = dir.find(*name)?.filter(|found| found.kind == FileKind::File) {
                self.judge(&dir.path().join(name), found, reachable);
            }
        }
        Ok(())
    }

    /// Checks everything in `dir`.
    fn all(&mut self, dir: &Dir, reachable: bool) -> Result<(), DirError> {
        for entry in dir.entries()? {
            if let Some(found) = dir.find(&*entry.name)? {
                self.judge(&dir.path().join(&*entry.name.to_string_lossy()), found, reachable);
            }
        }
        Ok(())
    }

    /// Walks from `dir` down the directories `names` and checks each one that was not `seen`. Returns the
    /// last one, if all exist, and whether others can reach its content.
    fn down(
        &mut self,
        dir: &Dir,
        names: &[&str],
        mut reachable: bool,
        seen: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<(Dir, bool)>, DirError> {
        let mut dir = dir.try_clone()?;
        for name in names {
            let found = dir.find(*name)?;
            let Some(found) = found.filter(|found| found.kind == FileKind::Directory) else {
                return Ok(None);
            };
            let path = dir.path().join(name);
            if seen.insert(path.clone()) {
                self.judge(&path, found, reachable);
            }
            reachable &= is_open(found);
            dir = dir.dir(*name)?;
        }
        Ok(Some((dir, reachable)))
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

/// Returns whether users other than the owner can reach the content of a directory.
fn is_open(found: Found) -> bool {
    found.mode & 0o011 != 0
}

//! Checks which other users can change a root that is to be written.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, fstat};

use super::RootError;
use crate::dir::{Dir, DirError};
use crate::machine::{self, Trusted, failed};

/// Mode bits: group and others may write.
pub(crate) const SHARED: u32 = 0o022;
/// Mode bit: in a directory that everybody may write to, only the owner of a file may remove it.
const STICKY: u32 = 0o1000;

/// A directory on the path to a root in which another user can replace the next component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The directory.
    pub directory: PathBuf,
    /// The id of its owner.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
    /// Whether the owner is neither root nor the current user.
    is_foreign: bool,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (directory, owner, mode) = (self.directory.display(), self.owner, self.mode);
        if self.is_foreign {
            write!(f, "{directory} belongs to user {owner}")
        } else {
            write!(f, "users other than its owner may write to {directory} (mode {mode:04o})")
        }
    }
}

/// Rejects a root that belongs to another user or that others can change: a daemon that runs as root would
/// trust what they put there.
///
/// # Errors
/// Returns [`RootError::Owner`] or [`RootError::Writable`].
pub fn check_access(root: &Dir) -> Result<(), RootError> {
    let path = root.path().to_owned();
    let stat = fstat(root.as_fd()).map_err(|error| failed("look at", &path, error))?;
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let user = rustix::process::geteuid().as_raw();
    if !Trusted::new().has(owner) {
        return Err(RootError::Owner { path, owner, user });
    }
    if mode & SHARED != 0 {
        return Err(RootError::Writable { path, mode });
    }
    Ok(())
}

/// Returns the directories on the path to `root` in which other users can replace the next component, from
/// the top down. Missing directories are not listed.
///
/// # Errors
/// Returns [`RootError::Link`], or an error if a directory cannot be examined.
pub fn strangers(root: &Path) -> Result<Vec<Stranger>, RootError> {
    let mut found = Vec::new();
    match walk(root, &mut found) {
        // The root itself is an error, not a warning.
        Ok(_) => found.truncate(found.len() - 1),
        Err(RootError::Dir(error)) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(found.into_iter().flatten().collect())
}

/// Opens the directory at `path`; every link on the path must belong to a trusted user.
pub(super) fn open(path: &Path) -> Result<Dir, RootError> {
    Ok(Dir::of_place(walk(path, &mut Vec::new())?, path)?)
}

/// Walks to the directory at `path`. For each directory on the path, including the last, it records which
/// other user can change it.
fn walk(path: &Path, found: &mut Vec<Option<Stranger>>) -> Result<OwnedFd, RootError> {
    let trusted = Trusted::new();
    let absolute = std::path::absolute(path).map_err(|source| DirError {
        action: "find",
        path: path.to_owned(),
        source,
    })?;
    let mut note = |directory: &Path, stat: &Stat| {
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        let is_foreign = !trusted.has(owner);
        let is_shared = mode & SHARED != 0 && mode & STICKY == 0;
        let directory = directory.to_owned();
        found.push((is_foreign || is_shared).then_some(Stranger {
            directory,
            owner,
            mode,
            is_foreign,
        }));
    };
    let end = machine::walk(Path::new("/"), &absolute, &trusted, &mut note)?;
    match end.stopped {
        None => Ok(end.place),
        Some(error) => {
            let stopped = end.left.iter().take(1).fold(end.path, |path, name| path.join(name));
            Err(failed("open the directory", &stopped, error).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::super::open_to_write;
    use super::*;
    use crate::machine::ForeignLink;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn a_root_that_others_can_write_to_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for shared in [0o777, 0o1777, 0o720, 0o702] {
            mode(temp.path(), shared);
            let error = open_to_write(temp.path()).unwrap_err();
            assert!(matches!(error, RootError::Writable { mode, .. } if mode == shared), "{error}");
            assert!(error.to_string().contains(&format!("chmod go-w {}", temp.path().display())));
        }
        for fine in [0o700, 0o755, 0o711] {
            mode(temp.path(), fine);
            assert!(open_to_write(temp.path()).unwrap().is_some());
        }
    }

    #[test]
    fn a_root_of_another_user_is_refused() {
        if !is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        chown(temp.path(), Some(1), Some(1)).unwrap();
        let error = open_to_write(temp.path()).unwrap_err();
        assert!(matches!(error, RootError::Owner { owner: 1, user: 0, .. }), "{error}");
        assert!(error.to_string().contains(&format!("chown 0 {}", temp.path().display())));
        // Of a volume, the mode of the directory with the files counts.
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("_data")).unwrap();
        assert!(open_to_write(volume.path()).unwrap().is_some());
        chown(volume.path().join("_data"), Some(1), Some(1)).unwrap();
        let error = open_to_write(volume.path()).unwrap_err();
        assert!(matches!(error, RootError::Owner { owner: 1, .. }), "{error}");
        assert!(
            error.to_string().contains(
                " belongs to user 1, who can change all in it, and a daemon would trust \
                 it; give another directory, or make it yours: chown 0 "
            ),
            "{error}"
        );
    }

    #[test]
    fn links_are_followed_unless_they_are_another_users() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("data/buildkit");
        fs::create_dir_all(&real).unwrap();
        symlink("data/../data", temp.path().join("relative")).unwrap();
        symlink(&real, temp.path().join("absolute")).unwrap();
        symlink("absolute", temp.path().join("twice")).unwrap();
        symlink("loop", temp.path().join("loop")).unwrap();
        let dev_ino = |stat: Stat| (stat.st_dev, stat.st_ino);
        let expected = dev_ino(rustix::fs::stat(&real).unwrap());
        for way in ["relative/buildkit", "absolute", "twice", "data/./buildkit/../buildkit/"] {
            let path = temp.path().join(way);
            let dir = open_to_write(&path).unwrap().unwrap();
            assert_eq!(dev_ino(fstat(dir.as_fd()).unwrap()), expected, "{way}");
            assert_eq!(dir.path(), path);
        }
        assert!(open_to_write(&temp.path().join("absent")).unwrap().is_none());
        assert!(open_to_write(&temp.path().join("twice/absent")).unwrap().is_none());
        let error = open_to_write(&temp.path().join("loop")).unwrap_err();
        assert!(matches!(error, RootError::Dir(_)), "{error}");
        assert_eq!(error.to_string(), "cannot open the root");
        // As for a container, or for ourselves: the text of such a link is not where it leads.
        let open = fs::File::open(&real).unwrap();
        let own = format!("/proc/self/fd/{}", open.as_raw_fd());
        let dir = open_to_write(Path::new(&own)).unwrap().unwrap();
        assert_eq!(dev_ino(fstat(dir.as_fd()).unwrap()), expected);

        if is_root() {
            for (link, way) in [("twice", "twice"), ("relative", "relative/buildkit")] {
                lchown(temp.path().join(link), Some(1), Some(1)).unwrap();
                let error = open_to_write(&temp.path().join(way)).unwrap_err();
                let RootError::Link(ForeignLink { link: found, owner: 1, .. }) = &error else {
                    panic!("{error}")
                };
                assert_eq!(found, &temp.path().join(link));
            }
        }
    }

    #[test]
    fn who_can_replace_the_root_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/root");
        let named = || -> Vec<_> {
            let found = strangers(&path).unwrap().into_iter();
            found
                .filter(|found| found.directory.starts_with(temp.path()))
                .map(|s| s.directory)
                .collect()
        };
        assert!(named().is_empty());
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        mode(&temp.path().join("a"), 0o777);
        mode(&temp.path().join("a/b"), 0o1777);
        assert_eq!(named(), [temp.path().join("a")]);
        // The root itself is an error.
        fs::create_dir(&path).unwrap();
        mode(&path, 0o777);
        assert_eq!(named(), [temp.path().join("a")]);
        if is_root() {
            chown(temp.path().join("a/b"), Some(1), Some(1)).unwrap();
            assert_eq!(named(), [temp.path().join("a"), temp.path().join("a/b")]);
            let last = strangers(&path).unwrap().pop().unwrap();
            assert_eq!(
                last.to_string(),
                format!("{} belongs to user 1", temp.path().join("a/b").display())
            );
        }
    }
}

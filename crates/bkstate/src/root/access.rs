//! Checks which other users can change a root that is to be written.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::RootError;
use crate::dir::{Dir, DirError};

/// Maximum number of links to follow, as in the kernel.
const MOST_LINKS: u32 = 40;
/// Mode bits: group and others may write.
pub(crate) const SHARED: u32 = 0o022;
/// Mode bit: in a directory that everybody may write to, only the owner of a file may remove it.
const STICKY: u32 = 0o1000;
/// The file system of `/proc` (Linux `include/uapi/linux/magic.h` `PROC_SUPER_MAGIC`). The text of its links
/// is not where they lead.
const PROC: u64 = 0x9fa0;

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

/// Users who may own a root.
pub(crate) struct Trusted {
    /// Root, the current user, and the owner of `/`: in a user namespace, root may have another number.
    users: Vec<u32>,
}

impl Trusted {
    pub(crate) fn new() -> Self {
        let top = rustix::fs::stat("/").map_or(0, |stat| stat.st_uid);
        Self { users: vec![0, rustix::process::geteuid().as_raw(), top] }
    }

    pub(crate) fn add(&mut self, user: u32) {
        self.users.push(user);
    }

    pub(crate) fn has(&self, user: u32) -> bool {
        self.users.contains(&user)
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
    let mut left: VecDeque<OsString> = components(&absolute).collect();
    let mut way = Way::new(&trusted, found)?;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let next = way.path.join(&name);
        let look = || statat(&way.place, &name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = look().map_err(|error| failed("open the directory", &next, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            way.enter(&name, OFlags::NOFOLLOW)?;
            continue;
        }
        if is_proc(&way.place) {
            way.enter(&name, OFlags::empty())?;
            continue;
        }
        let target = readlinkat(&way.place, &name, Vec::new());
        let target = target.map_err(|error| failed("read the link", &next, error))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if !trusted.has(stat.st_uid) {
            return Err(RootError::Link { link: next, target, owner: stat.st_uid });
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed("open the directory", path, Errno::LOOP).into());
        }
        if target.is_absolute() {
            way.restart()?;
        }
        for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(way.place)
}

/// Returns the names in a path, and its `..` components.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The position of the walk.
struct Way<'a> {
    trusted: &'a Trusted,
    found: &'a mut Vec<Option<Stranger>>,
    place: OwnedFd,
    path: PathBuf,
}

impl<'a> Way<'a> {
    fn new(trusted: &'a Trusted, found: &'a mut Vec<Option<Stranger>>) -> Result<Self, DirError> {
        let place = place(CWD, OsStr::new("/"), OFlags::empty())
            .map_err(|error| failed("open the directory", Path::new("/"), error))?;
        let mut way = Self { trusted, found, place, path: "/".into() };
        way.note()?;
        Ok(way)
    }

    fn restart(&mut self) -> Result<(), DirError> {
        self.path = "/".into();
        self.place = place(CWD, OsStr::new("/"), OFlags::empty())
            .map_err(|error| failed("open the directory", &self.path, error))?;
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, flags: OFlags) -> Result<(), DirError> {
        let next = if name == ".." {
            self.path.parent().unwrap_or(Path::new("/")).to_owned()
        } else {
            self.path.join(name)
        };
        self.place = place(&self.place, name, flags)
            .map_err(|error| failed("open the directory", &next, error))?;
        self.path = next;
        self.note()
    }

    /// Records which other user can change the current directory.
    fn note(&mut self) -> Result<(), DirError> {
        let stat: Stat =
            fstat(&self.place).map_err(|error| failed("look at", &self.path, error))?;
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        let is_foreign = !self.trusted.has(owner);
        let is_shared = mode & SHARED != 0 && mode & STICKY == 0;
        let directory = self.path.clone();
        self.found.push((is_foreign || is_shared).then_some(Stranger {
            directory,
            owner,
            mode,
            is_foreign,
        }));
        Ok(())
    }
}

/// Opens a handle of a directory that need not be readable.
fn place(dir: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name.as_bytes(), flags, Mode::empty())
}

fn is_proc(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == PROC))
}

fn failed(action: &'static str, path: &Path, error: Errno) -> DirError {
    DirError { action, path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::super::open_to_write;
    use super::*;

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
                let RootError::Link { link: found, owner: 1, .. } = &error else {
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

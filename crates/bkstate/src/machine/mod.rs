//! Finds files on a machine: on this one, or on one whose file system is in a directory, such as a mounted
//! image.
//!
//! ```
//! use std::path::Path;
//!
//! use bkstate::machine::{ForeignLink, Machine, PlaceError};
//!
//! // The link is absolute, as an administrator of that machine made it.
//! let image = tempfile::tempdir()?;
//! std::fs::create_dir_all(image.path().join("var/lib"))?;
//! std::fs::create_dir(image.path().join("data"))?;
//! std::os::unix::fs::symlink("/data", image.path().join("var/lib/containerd"))?;
//!
//! let machine = Machine::with(&image.path().join("var/lib/docker"), Path::new("/var/lib/docker")).unwrap();
//! let found = machine.find(Path::new("/var/lib/containerd/io.containerd.content.v1.content"))?;
//! assert_eq!(found, image.path().join("data/io.containerd.content.v1.content"));
//!
//! // The kernel resolves the links of this machine.
//! assert!(Machine::default().is_this() && !machine.is_this());
//! let here = Machine::default().find(Path::new("/var/lib/containerd"))?;
//! assert_eq!(here, Path::new("/var/lib/containerd"));
//!
//! std::os::unix::fs::symlink("/circle", image.path().join("circle"))?;
//! match machine.find(Path::new("/circle")) {
//!     Err(PlaceError::Link(ForeignLink { owner, .. })) => panic!("it belongs to {owner}"),
//!     found => assert!(found.is_err()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod walk;

use std::path::{Path, PathBuf};

use crate::dir::DirError;
use crate::worker::Worker;

pub(crate) use walk::{End, failed, walk};

/// A machine, as its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    top: PathBuf,
}

impl Default for Machine {
    /// Returns this machine.
    fn default() -> Self {
        Self { top: "/".into() }
    }
}

/// Why a file of a machine cannot be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A directory cannot be read, or there are too many links.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Another user can redirect the path.
    #[error(transparent)]
    Link(#[from] ForeignLink),
}

/// A link that belongs to another user, who could redirect a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is a symbolic link to {} that belongs to user {owner}; give the directory itself",
    link.display(), target.display()
)]
#[non_exhaustive]
pub struct ForeignLink {
    /// The link.
    pub link: PathBuf,
    /// Its target.
    pub target: PathBuf,
    /// The user id of its owner.
    pub owner: u32,
}

impl Machine {
    /// Returns the machine on which the file `path` has the absolute path `place`, or `None` if the path of no
    /// machine ends so.
    pub fn with(path: &Path, place: &Path) -> Option<Self> {
        let place = relative(place);
        let top = path.ancestors().find(|above| above.join(place) == path)?;
        Some(Self { top: top.to_owned() })
    }

    /// Returns whether it is the machine on which this program runs.
    pub fn is_this(&self) -> bool {
        self.top == Path::new("/")
    }

    /// Returns where the absolute path `path` of the machine is on this one. All links of another machine are
    /// resolved on that machine; what is behind the last directory that exists follows as it is.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be read, or a link belongs to another user.
    pub fn find(&self, path: &Path) -> Result<PathBuf, PlaceError> {
        if self.is_this() {
            return Ok(self.top.join(path));
        }
        let End { path, left, .. } = walk(&self.top, path, &Trusted::new(), &mut |_, _| {})?;
        Ok(left.iter().fold(path, |path, name| path.join(name)))
    }

    /// Returns the path on the machine of a file that is at `path` on this one, if it is below the machine's
    /// file system.
    pub(crate) fn path_of(&self, path: &Path) -> Option<PathBuf> {
        Some(Path::new("/").join(path.strip_prefix(&self.top).ok()?))
    }
}

/// Returns a path without its leading slash.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Users who may own a root, a directory on the path to it, or a link there.
pub(crate) struct Trusted {
    users: Vec<u32>,
}

impl Trusted {
    /// Returns root, the current user, and the owner of `/`: in a user namespace, root may have another
    /// number.
    pub(crate) fn new() -> Self {
        let top = rustix::fs::stat("/").map_or(0, |stat| stat.st_uid);
        Self { users: vec![0, rustix::process::geteuid().as_raw(), top] }
    }

    /// Returns those who may own the state of `worker`: with a map, only the user of the daemon, who could not
    /// use what belongs to another.
    pub(crate) fn of_state(worker: &Worker) -> Self {
        match worker.owners().root_on_disk() {
            Some((user, _)) => Self { users: vec![user] },
            None => Self::new(),
        }
    }

    /// Returns those who may own directories on the path to the root of `worker`.
    pub(crate) fn of_way(worker: &Worker) -> Self {
        let mut trusted = Self::new();
        trusted.users.extend(worker.owners().root_on_disk().map(|(user, _)| user));
        trusted
    }

    pub(crate) fn add(&mut self, user: u32) {
        self.users.push(user);
    }

    pub(crate) fn has(&self, user: u32) -> bool {
        self.users.contains(&user)
    }
}

#[cfg(test)]
mod tests;

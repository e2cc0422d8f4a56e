//! The owner of new files and directories, if it is not the current user.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Uid, fchown, fstat, mkdirat};
use rustix::io::Errno;

use super::{Dir, DirError, Name};

impl Dir {
    /// Gives everything that is created with this handle, and with those of directories below that are opened
    /// with it, to the user and the group `owner`. Without one it belongs to the current user.
    ///
    /// ```
    /// use std::os::unix::fs::MetadataExt as _;
    ///
    /// use bkstate::dir::Dir;
    ///
    /// let temp = tempfile::tempdir()?;
    /// # let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    /// let dir = Dir::open(temp.path())?.for_owner(Some((user, group)));
    /// let file = dir.create_dir("inner", 0o700)?.create_file("file", 0o600)?;
    /// assert_eq!((file.metadata()?.uid(), file.metadata()?.gid()), (user, group));
    ///
    /// // But not a directory that only the current user may enter.
    /// dir.create_private_dir("staging")?.create_file("file", 0o600)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn for_owner(self, owner: Option<(u32, u32)>) -> Self {
        Self { for_owner: owner, ..self }
    }

    /// Creates the directory `name`, which only the current user may enter, and opens it. What is created in it
    /// is given to the [owner](Self::for_owner) as elsewhere, who cannot reach it there.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    ///
    /// let temp = tempfile::tempdir()?;
    /// let staging = Dir::open(temp.path())?.create_private_dir("staging")?;
    /// assert_eq!(staging.itself()?.mode, 0o700);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create_private_dir(&self, name: impl Name) -> Result<Self, DirError> {
        let name = &*name.c_name(self)?;
        mkdirat(&self.fd, name, Mode::RWXU).map_err(self.error("make the directory", name))?;
        let dir = self.dir(name)?;
        if self.for_owner.is_some() {
            // The owner of the directory above could have put another one in its place.
            let stat = fstat(&dir.fd).map_err(self.error("look at", name))?;
            let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
            if !is_own || stat.st_mode & 0o077 != 0 {
                return Err(self.error("make the directory", name)(Errno::EXIST));
            }
        }
        Ok(dir)
    }

    /// Gives `file`, which was just created as `name`, to its owner.
    pub(super) fn give(&self, file: impl AsFd, name: &CStr) -> Result<(), DirError> {
        let Some((user, group)) = self.for_owner else { return Ok(()) };
        fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
            .map_err(self.error("set the owner of", name))
    }
}

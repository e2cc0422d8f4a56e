//! Removes things from a directory.

use std::ffi::CString;

use rustix::fs::{self, AtFlags};

use super::{Dir, DirError, Name};

impl Dir {
    /// Removes `name` and everything below it.
    ///
    /// A tree can be deeper than the limits on open files and stack allow. So directories are moved from each
    /// other to the top of the tree before they are emptied.
    ///
    /// # Errors
    /// Returns an error if something cannot be removed. Removed parts stay removed, and the rest is still in
    /// `name`.
    pub fn remove_tree(&self, name: impl Name) -> Result<(), DirError> {
        self.remove_tree_while(name, &|| true).map(|_| ())
    }

    /// Same as [`remove_tree`](Self::remove_tree), but only for as long as `goes_on` returns true, which is
    /// asked before each removal. Returns whether nothing is left.
    ///
    /// # Errors
    /// Same as [`remove_tree`](Self::remove_tree).
    pub(crate) fn remove_tree_while(
        &self,
        name: impl Name,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<bool, DirError> {
        let name = &*name.c_name(self)?;
        let top = match self.dir(name) {
            Ok(top) => top,
            Err(error) if error.is_not_found() => return Ok(true),
            Err(error) if error.is_no_directory() => {
                return self.remove_file(name).map(|()| true);
            }
            Err(error) => return Err(error),
        };
        let mut lifted = 0_u64;
        let Some(mut pending) = top.remove_files(goes_on)? else { return Ok(false) };
        while let Some(name) = pending.pop() {
            let dir = top.dir(&*name)?;
            let Some(inner) = dir.remove_files(goes_on)? else { return Ok(false) };
            for inner in inner {
                // Full directories are moved out; that requires write permission on them, as emptying does.
                let free = loop {
                    let candidate = lifted.to_string();
                    lifted += 1;
                    if top.size(candidate.as_str())?.is_none() {
                        break candidate.as_str().c_name(&top)?.into_owned();
                    }
                };
                dir.rename(&*inner, &top, &*free)?;
                pending.push(free);
            }
            top.remove_dir(&*name)?;
        }
        self.remove_dir(name).map(|()| true)
    }

    /// Removes everything that is not a directory, and returns the names of the directories; `None` if it did
    /// not go on.
    fn remove_files(&self, goes_on: &dyn Fn() -> bool) -> Result<Option<Vec<CString>>, DirError> {
        let (dirs, files): (Vec<_>, Vec<_>) =
            self.entries()?.into_iter().partition(|entry| entry.is_dir);
        for file in files {
            if !goes_on() {
                return Ok(None);
            }
            self.remove_file(&*file.name)?;
        }
        Ok(goes_on().then(|| dirs.into_iter().map(|dir| dir.name).collect()))
    }

    /// Removes the file or link `name`.
    ///
    /// # Errors
    /// Returns an error if it is a directory, or does not exist.
    pub fn remove_file(&self, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(self.error("remove", name))
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// Returns an error if it is not empty or not a directory.
    pub fn remove_dir(&self, name: impl Name) -> Result<(), DirError> {
        let name = &*name.c_name(self)?;
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(self.error("remove the directory", name))
    }
}

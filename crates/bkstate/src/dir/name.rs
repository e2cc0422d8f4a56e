//! File names, which cannot lead out of a directory.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use super::{Dir, DirError};

/// A single path component.
pub trait Name {
    /// Returns the component for the kernel.
    ///
    /// # Errors
    /// Returns an error if it is not one component: empty, `.`, `..`, with a slash or a zero byte.
    fn c_name(&self, dir: &Dir) -> Result<Cow<'_, CStr>, DirError>;
}

fn is_component(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}

fn not_a_component(dir: &Dir, name: &[u8]) -> DirError {
    DirError {
        action: "use as a name",
        path: dir.path.join(OsStr::from_bytes(name)),
        source: io::ErrorKind::InvalidInput.into(),
    }
}

impl Name for &CStr {
    fn c_name(&self, dir: &Dir) -> Result<Cow<'_, CStr>, DirError> {
        if is_component(self.to_bytes()) {
            Ok((*self).into())
        } else {
            Err(not_a_component(dir, self.to_bytes()))
        }
    }
}

impl Name for &str {
    fn c_name(&self, dir: &Dir) -> Result<Cow<'_, CStr>, DirError> {
        component(dir, self.as_bytes())
    }
}

impl Name for &OsStr {
    fn c_name(&self, dir: &Dir) -> Result<Cow<'_, CStr>, DirError> {
        component(dir, self.as_bytes())
    }
}

fn component(dir: &Dir, name: &[u8]) -> Result<Cow<'static, CStr>, DirError> {
    match CString::new(name) {
        Ok(name) if is_component(name.to_bytes()) => Ok(name.into()),
        _ => Err(not_a_component(dir, name)),
    }
}

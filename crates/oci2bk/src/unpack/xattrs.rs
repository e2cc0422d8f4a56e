//! Reads extended attributes.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// The kernel's limits for the list of names and for one value, XATTR_LIST_MAX and XATTR_SIZE_MAX.
const LONGEST: usize = 1 << 16;

/// Returns the names of the attributes of `file`; none if the file system has none.
pub(crate) fn names(file: &impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; LONGEST];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => {
            let names = names[..length].split(|byte| *byte == 0);
            Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Returns the value of the attribute `name` of `file`, if it has one.
pub(crate) fn value(file: &impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; LONGEST];
    match rustix::fs::fgetxattr(file, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NOTSUP | Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

//! Reads extended attributes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::tree::keeps_attribute_of_snapshot;

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

/// Returns the attributes of `name` in `dir` that a snapshot keeps, without opening it: a device or a symbolic
/// link.
pub(crate) fn of_name(
    dir: &impl AsFd,
    name: &CStr,
) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    // It leads only to the inode.
    let inode = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut names = vec![0; LONGEST];
    let length = match rustix::fs::listxattr(&inode, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let mut all = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if !keeps_attribute_of_snapshot(name) {
            continue;
        }
        let mut value = vec![0; LONGEST];
        match rustix::fs::getxattr(&inode, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                all.insert(name.to_vec(), value);
            }
            Err(Errno::NOTSUP | Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(all)
}

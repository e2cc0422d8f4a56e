//! The owners of mount namespaces.
//!
//! Any user can create user namespaces, and in a mount namespace of one can mount things whose table entries
//! look like parts of a root that this user cannot even see. No daemon that uses the root runs there: it
//! would be a daemon of root or of the owner of the root.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::fstat;

use crate::dir::{Dir, DirError};
use crate::kernel;
use crate::userns::is_everybody;

/// Users who may run a daemon on a root.
#[derive(Debug)]
pub(super) struct Users {
    /// Root, the owner of the root, and the current user.
    users: [u32; 3],
    /// The number shown for users without a number in our user namespace, if no other user has it.
    unknown: Option<u32>,
    /// Inode number of our own user namespace.
    own: Option<u64>,
}

impl Users {
    /// Returns the users of `root`.
    pub(super) fn of(root: &Dir) -> Result<Self, DirError> {
        let owner = fstat(root.as_fd()).map_err(|error| DirError {
            action: "look at",
            path: root.path().to_owned(),
            source: error.into(),
        })?;
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let unknown = number("/proc/sys/kernel/overflowuid").unwrap_or(65534);
        Ok(Self {
            users: [0, owner.st_uid, rustix::process::geteuid().as_raw()],
            unknown: Some(unknown).filter(|_| !is_everybody(&map)),
            own: std::fs::metadata("/proc/self/ns/user").ok().map(|own| own.ino()),
        })
    }

    /// Returns whether `namespace`, a handle of a mount namespace, certainly belongs to none of them.
    pub(super) fn are_strangers_to(&self, namespace: &File) -> bool {
        self.have_no_part_in(namespace).unwrap_or(false)
    }

    fn have_no_part_in(&self, namespace: &File) -> io::Result<bool> {
        let user = kernel::user_namespace_of(namespace)?;
        // A user who has no number in our namespace may have created it.
        if self.own == Some(user.metadata()?.ino()) {
            return Ok(false);
        }
        let owner = kernel::owner_of(&user)?;
        Ok(!self.users.contains(&owner) && self.unknown != Some(owner))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn users(users: [u32; 3], unknown: Option<u32>) -> Users {
        Users { users, unknown, own: None }
    }

    #[test]
    fn our_own_namespace_is_no_strangers() {
        let users = Users::of(&Dir::open(Path::new("/")).unwrap()).unwrap();
        assert!(!users.are_strangers_to(&File::open("/proc/self/ns/mnt").unwrap()));
    }

    #[test]
    fn who_made_the_namespace_decides() {
        let namespace = File::open("/proc/self/ns/mnt").unwrap();
        let owner = kernel::owner_of(&kernel::user_namespace_of(&namespace).unwrap()).unwrap();
        let [other, another] = [owner.wrapping_add(1), owner.wrapping_add(2)];
        for (users, expected) in [
            (users([owner, other, other], None), false),
            (users([other, owner, other], None), false),
            (users([other, other, owner], None), false),
            (users([other; 3], None), true),
            (users([other; 3], Some(another)), true),
            (users([other; 3], Some(owner)), false),
        ] {
            assert_eq!(users.have_no_part_in(&namespace).unwrap(), expected, "{users:?}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_looked_at() {
        let no_namespace = File::open("/proc/self/exe").unwrap();
        assert!(!users([1; 3], None).are_strangers_to(&no_namespace));
    }
}

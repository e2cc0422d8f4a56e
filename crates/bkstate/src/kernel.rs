//! Kernel interfaces for files and namespaces that no crate wraps safely: the only unsafe code.
//!
//! ```
//! use std::fs::File;
//!
//! use bkstate::kernel::{Lease, read_lease};
//!
//! let temp = tempfile::NamedTempFile::new()?;
//! let file = File::open(temp.path())?;
//! // A file open for writing, here `temp`. Some file systems do not report it.
//! assert!(matches!(read_lease(&file), Lease::Refused | Lease::Unknown(_)));
//! drop(temp);
//! assert!(matches!(read_lease(&file), Lease::Held | Lease::Unknown(_)));
//! # Ok::<(), std::io::Error>(())
//! ```

#![allow(unsafe_code, reason = "calls that rustix does not have, or not as safe ones")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

/// `NS_GET_USERNS` and `NS_GET_OWNER_UID` (Linux 4.11, `include/uapi/linux/nsfs.h`; `ioctl_nsfs(2)`).
const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

/// `include/uapi/asm-generic/fcntl.h`; the same on all architectures that Rust has with Linux and std.
const F_SETSIG: libc::c_int = 10;

/// The result of a request for a lease.
#[derive(Debug)]
pub enum Lease {
    /// No process has the file open for writing. A process that opens it for writing, or truncates it, waits
    /// until all handles of `file` are closed, or for some seconds (`/proc/sys/fs/lease-break-time`).
    Held,
    /// A process has it open for writing, or mapped.
    Refused,
    /// The kernel does not tell, for example on file systems without leases, or for files of other users.
    Unknown(io::Error),
}

/// Takes a read lease on `file`, which must be open only for reading (`F_SETLEASE`, `fcntl(2)`).
pub fn read_lease(file: &File) -> Lease {
    let descriptor = file.as_raw_fd();
    // The usual signal to the holder of a lease would end the process; this one is ignored by default.
    // SAFETY: the descriptor is open, and the argument a number.
    let signal = unsafe { libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) };
    if signal != 0 {
        return Lease::Unknown(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        return Lease::Held;
    }
    let error = io::Error::last_os_error();
    if Errno::from_io_error(&error) == Some(Errno::AGAIN) {
        Lease::Refused
    } else {
        Lease::Unknown(error)
    }
}

/// Returns the user namespace that owns `namespace`, a handle of a namespace of another kind.
///
/// # Errors
/// Returns an error if `namespace` is not a namespace, or its user namespace is not below ours.
pub(crate) fn user_namespace_of(namespace: &File) -> io::Result<File> {
    // SAFETY: the descriptor is open, and there is no argument.
    let descriptor = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }.into())
}

/// Returns the user who created the user namespace `namespace`, as numbered in ours.
///
/// # Errors
/// Returns an error if it is not a user namespace.
pub(crate) fn owner_of(namespace: &File) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the descriptor is open, and the kernel writes one `uid_t`.
    if unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(owner)
}

/// Runs `work` on a thread with mounts of its own: what it mounts nobody else sees, and the kernel unmounts it when
/// the thread ends, however that happens. It sees the mounts of this process as they are now, through paths; handles
/// that were opened before lead to the old ones. It needs `CAP_SYS_ADMIN`.
///
/// ```
/// use bkstate::kernel::in_private_mounts;
///
/// // Only root may.
/// if let Ok(sum) = in_private_mounts(|| 1 + 1) {
///     assert_eq!(sum, 2);
/// }
/// ```
///
/// # Errors
/// Returns an error if the kernel gives no such thread; `work` was not run then.
pub fn in_private_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: it has no memory arguments. The handles and the memory of the process stay as they are, and
            // the working directory, which only this thread has of its own from here on, is the same directory.
            if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // Otherwise mounts would appear in the namespace that this is a copy of.
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until `is_so`: processes that other tests start hold inherited handles until they execute their
    /// program.
    fn soon(is_so: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            is_so()
        })
    }

    #[test]
    fn a_lease_tells_whether_somebody_may_write() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let writer = File::create(&path).unwrap();
        assert!(matches!(read_lease(&File::open(&path).unwrap()), Lease::Refused));
        drop(writer);
        let file = File::open(&path).unwrap();
        assert!(soon(|| matches!(read_lease(&file), Lease::Held)));
        // A second reader does not conflict, and another handle keeps the lease.
        let other = file.try_clone().unwrap();
        drop(file);
        assert!(matches!(read_lease(&File::open(&path).unwrap()), Lease::Held));
        let mut options = File::options();
        let options = std::os::unix::fs::OpenOptionsExt::custom_flags(
            options.write(true),
            rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
        );
        assert_eq!(options.open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(other);
        assert!(soon(|| options.open(&path).is_ok()));
        // Not open only for reading.
        assert!(!matches!(
            read_lease(&File::options().write(true).open(&path).unwrap()),
            Lease::Held
        ));
    }

    #[test]
    fn namespaces_tell_whose_they_are() {
        let own = File::open("/proc/self/ns/mnt").unwrap();
        let user = user_namespace_of(&own).unwrap();
        owner_of(&user).unwrap();
        // The kernel's terms for these questions, which only the kernel answers.
        let error = owner_of(&own).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
        let file = tempfile::tempfile().unwrap();
        for error in [user_namespace_of(&file).unwrap_err(), owner_of(&file).unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}");
        }
    }
}

//! Finds other processes that have the databases of a root open.
//!
//! A process that opens a BoltDB file for writing holds an exclusive `flock(2)` on it (go.etcd.io/bbolt
//! v1.5.0, `bolt_unix.go`). This detects a containerd that works on the files, or a daemon whose
//! `buildkitd.lock` was removed.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock, fstat, major, minor};
use rustix::io::Errno;

use super::LockError;
use crate::dir::DirError;
use crate::worker::{Bases, Worker, databases};

/// A process that works on a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its id, if the kernel tells.
    pub pid: Option<u32>,
    /// The name of its program, at most 15 bytes of it, if the kernel tells.
    pub name: Option<String>,
    /// The service of systemd to which it belongs, such as `containerd.service`, if it is one.
    pub unit: Option<String>,
}

impl Holder {
    /// Returns the process `pid`.
    pub(super) fn process(pid: u32) -> Self {
        let name = std::fs::read(format!("/proc/{pid}/comm")).ok();
        let name = name.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned());
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Self { pid: Some(pid), name, unit: unit(&groups) }
    }

    /// Finds the process that holds a lock on `file`.
    pub(super) fn of_lock(file: impl AsFd) -> Self {
        let Ok(stat) = fstat(file) else { return Self::default() };
        let inode =
            format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
        let Ok(locks) = File::open("/proc/locks") else { return Self::default() };
        let holders = BufReader::new(locks).lines().map_while(Result::ok);
        holders
            .filter_map(|line| locker(&line, &inode))
            .next()
            .map_or_else(Self::default, Self::process)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.name) {
            (Some(pid), Some(name)) => write!(f, "process {pid} ({name})")?,
            (Some(pid), None) => write!(f, "process {pid}")?,
            (None, _) => f.write_str("another process")?,
        }
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, " of {unit}"))
    }
}

/// Returns the service in the content of `/proc/PID/cgroup`. A container's processes are below it.
fn unit(groups: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut names = paths.flat_map(|path| path.split('/'));
    names.find(|name| name.ends_with(".service")).map(str::to_owned)
}

/// Returns the process that holds the lock in `line` of `/proc/locks`, if it is a `flock` on `inode`.
fn locker(line: &str, inode: &str) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    // A process that waits for the lock has an arrow here.
    if words.next() != Some("FLOCK") {
        return None;
    }
    let (pid, locked) = (words.nth(2)?, words.next()?);
    // The id of a process in another namespace is 0.
    pid.parse().ok().filter(|&pid| pid > 0 && locked == inode)
}

/// Locks every database of the root against writers, without waiting.
///
/// The lock is shared, so other readers are not affected; it lasts until the files are closed. A file that
/// cannot be opened is an error, because it may be in use.
pub(super) fn lock_databases(bases: &Bases, worker: &Worker) -> Result<Vec<File>, LockError> {
    let mut locked = Vec::new();
    for place in databases::all(bases, worker)? {
        // The reader of the state reports what is not a file.
        let Some(file) = place.open()? else { continue };
        let path = || place.path();
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => locked.push(file),
            Err(Errno::WOULDBLOCK) => {
                let holder = Holder::of_lock(&file);
                return Err(LockError::Database { path: path(), holder });
            }
            Err(error) => {
                let error = DirError { action: "lock", path: path(), source: error.into() };
                return Err(error.into());
            }
        }
    }
    Ok(locked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;

    #[test]
    fn the_holder_of_a_lock_is_told_from_those_of_others() {
        let inode = "fe:00:3021";
        for (line, pid) in [
            ("1: FLOCK  ADVISORY  WRITE 1234 fe:00:3021 0 EOF", Some(1234)),
            ("1: FLOCK  ADVISORY  READ  1234 fe:00:3021 0 EOF", Some(1234)),
            ("1: FLOCK  ADVISORY  WRITE 1234 fe:00:30211 0 EOF", None),
            ("1: POSIX  ADVISORY  WRITE 1234 fe:00:3021 0 EOF", None),
            ("1: -> FLOCK  ADVISORY  WRITE 1234 fe:00:3021 0 EOF", None),
            ("1: FLOCK  ADVISORY  WRITE 0 fe:00:3021 0 EOF", None),
            ("1: FLOCK", None),
            ("", None),
        ] {
            assert_eq!(locker(line, inode), pid, "{line:?}");
        }
    }

    #[test]
    fn the_service_of_a_process_is_told() {
        for (groups, expected) in [
            ("0::/system.slice/containerd.service\n", Some("containerd.service")),
            ("0::/system.slice/docker.service/inner\n", Some("docker.service")),
            ("1:name=systemd:/system.slice/a.service\n0::/\n", Some("a.service")),
            ("0::/user.slice/session-1.scope\n", None),
            ("", None),
        ] {
            assert_eq!(unit(groups).as_deref(), expected, "{groups:?}");
        }
        let holder = Holder {
            pid: Some(7),
            name: Some("containerd".to_owned()),
            unit: Some("containerd.service".to_owned()),
        };
        assert_eq!(holder.to_string(), "process 7 (containerd) of containerd.service");
    }

    #[test]
    fn every_database_that_is_open_for_writing_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let names = [
            "cache.db",
            "history.db",
            "cache-debug.db",
            "runc-overlayfs/metadata_v2.db",
            "runc-overlayfs/containerdmeta.db",
            "runc-native/snapshots/metadata.db",
            "containerd-overlayfs/metadata_v2.db",
        ];
        for name in names {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = Bases::from(Dir::open(temp.path()).unwrap());
        assert_eq!(lock_databases(&root, &Worker::default()).unwrap().len(), names.len());
        for name in names {
            let path = temp.path().join(name);
            let writer = File::open(&path).unwrap();
            flock(&writer, FlockOperation::NonBlockingLockExclusive).unwrap();
            match lock_databases(&root, &Worker::default()) {
                Err(LockError::Database { path: found, .. }) => assert_eq!(found, path),
                other => panic!("{name}: {other:?}"),
            }
            drop(writer);
            let reader = File::open(&path).unwrap();
            flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
            lock_databases(&root, &Worker::default()).unwrap();
        }
    }
}

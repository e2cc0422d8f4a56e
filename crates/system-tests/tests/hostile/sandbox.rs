//! A place for a target beside things that nothing may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// How much a file system needs for the largest cases.
const ROOM: u64 = 1 << 30;

/// Where sandboxes are: in memory if there is room, since hundreds of conversions wait for the disk.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let roomy = rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ROOM);
    if roomy { memory.to_owned() } else { std::env::temp_dir() }
}

/// Everything of a file that an archive could change, but for the time of reading it.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Mode, owner, links, size, modification and change time.
    attributes: [i64; 9],
    content: Vec<u8>,
}

/// A directory with files of all kinds, which has to stay as it is, and room for targets beside it.
pub(crate) struct Sandbox {
    directory: TempDir,
    before: BTreeMap<PathBuf, State>,
}

impl Sandbox {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir_in(scratch())?;
        let outside = directory.path().join("outside");
        fs::create_dir(&outside)?;
        fs::create_dir(outside.join("dir"))?;
        fs::write(outside.join("dir/file"), "untouched")?;
        fs::write(outside.join("secret"), "untouched")?;
        fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o400))?;
        symlink("secret", outside.join("link"))?;
        fs::create_dir(directory.path().join("targets"))?;
        let before = states(&outside)?;
        Ok(Self { directory, before })
    }

    /// The directory that nothing may touch.
    pub(crate) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// A path for a target. Its parent is there, it is not.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.directory.path().join("targets").join(name)
    }

    /// A new, empty directory for the files of a snapshot.
    pub(crate) fn snapshot(&self, name: &str) -> Result<PathBuf> {
        let path = self.target(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Fails if anything changed but the targets.
    pub(crate) fn ensure_untouched(&self) -> Result<()> {
        let after = states(&self.outside())?;
        ensure!(after == self.before, "was {:#?}, is {after:#?}", self.before);
        let mut beside = Vec::new();
        for entry in self.directory.path().read_dir()? {
            beside.push(entry?.file_name());
        }
        beside.sort();
        ensure!(beside == ["outside", "targets"], "there is {beside:?}");
        Ok(())
    }
}

fn states(root: &Path) -> Result<BTreeMap<PathBuf, State>> {
    let mut states = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata()?;
        let content = if metadata.is_dir() {
            for entry in path.read_dir()? {
                pending.push(entry?.path());
            }
            Vec::new()
        } else if metadata.is_symlink() {
            path.read_link()?.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path)?
        };
        let attributes = [
            i64::from(metadata.mode()),
            i64::from(metadata.uid()),
            i64::from(metadata.gid()),
            metadata.nlink().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        states.insert(path, State { attributes, content });
    }
    Ok(states)
}

/// The names below `root`, in the order of bytes.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir()? {
            let entry = entry?;
            let path = entry.path();
            names.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                pending.push(path);
            }
        }
    }
    names.sort();
    Ok(names)
}

//! A place for a target beside files that must stay untouched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// Minimum space of a file system for the largest cases.
const ROOM: u64 = 1 << 30;

/// Returns the directory of sandboxes: in memory if there is enough, since hundreds of conversions would wait
/// for the disk.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let roomy = rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ROOM);
    if roomy { memory.to_owned() } else { std::env::temp_dir() }
}

/// All attributes of a file that an archive could change, except the access time.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Mode, owner, links, size, modification and change time.
    attributes: [i64; 9],
    content: Vec<u8>,
}

/// A directory with files of all kinds, which must stay unchanged, and space for targets beside it.
pub(crate) struct Sandbox {
    directory: TempDir,
    before: BTreeMap<PathBuf, State>,
}

impl Sandbox {
    pub(crate) fn new() -> Result<Self> {
        Self::within(&scratch())
    }

    /// Creates one on the disk that has the build directory: not all can be used in memory.
    pub(crate) fn on_disk() -> Result<Self> {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    fn within(scratch: &Path) -> Result<Self> {
        let directory = tempfile::tempdir_in(scratch)?;
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

    /// Returns the directory that must stay untouched.
    pub(crate) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// Returns a path for a target. Its parent exists, the target does not.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.directory.path().join("targets").join(name)
    }

    /// Creates a new, empty directory for the files of a snapshot.
    pub(crate) fn snapshot(&self, name: &str) -> Result<PathBuf> {
        let path = self.target(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Fails if anything except the targets changed.
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

/// Returns the names below `root`, sorted by bytes.
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

//! `config.toml` of containerd: the settings that affect the location of its data (containerd v2.4.2
//! `cmd/containerd/server/config/config.go`, `plugins/snapshots/overlay/plugin/plugin.go`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ConfigError, ReadConfigError, Table, member, parse, read_text, string};
use crate::machine::{Machine, PlaceError};

/// The plugin whose `root_path` moves the snapshotter.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.overlayfs";
/// Maximum number of files, with imported ones. containerd has no limit and rejects cycles.
const MOST_FILES: usize = 100;

/// The location of a containerd's data, as configured.
///
/// ```
/// use std::path::Path;
///
/// use bkstate::config::ContainerdConfig;
///
/// let temp = tempfile::tempdir()?;
/// let path = temp.path().join("config.toml");
/// std::fs::write(&path, "version = 3\nroot = \"/data\"\nimports = [\"conf.d/*.toml\"]\n")?;
/// std::fs::create_dir(temp.path().join("conf.d"))?;
/// let moved = "[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = \"/fast\"\n";
/// std::fs::write(temp.path().join("conf.d/snapshots.toml"), moved)?;
///
/// let config = ContainerdConfig::read(&path)?;
/// assert_eq!(config.root.as_deref(), Some(Path::new("/data")));
/// assert_eq!(config.snapshotter.as_deref(), Some(Path::new("/fast")));
///
/// // That of this machine, if it has one.
/// let here = Path::new(ContainerdConfig::PATH);
/// let config = here.exists().then(|| ContainerdConfig::read(here)).transpose()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerdConfig {
    /// `root`, if it is set. The default is `/var/lib/containerd`.
    pub root: Option<PathBuf>,
    /// `root_path` of the overlayfs snapshotter, if it is set. By default it is in the root.
    pub snapshotter: Option<PathBuf>,
}

/// The default root (`defaults/defaults_unix.go`).
const DEFAULT_ROOT: &str = "/var/lib/containerd";

impl ContainerdConfig {
    /// The file that containerd reads by default (`defaults/defaults_unix.go`).
    pub const PATH: &str = "/etc/containerd/config.toml";

    /// Returns the root of the containerd, configured or not.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use bkstate::config::ContainerdConfig;
    ///
    /// assert_eq!(ContainerdConfig::default().root_or_default(), Path::new("/var/lib/containerd"));
    /// ```
    pub fn root_or_default(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new(DEFAULT_ROOT))
    }

    /// Reads the file `path` and the files that it imports. Imported settings take precedence.
    ///
    /// # Errors
    /// Returns an error if one of the files cannot be read or is invalid.
    pub fn read(path: &Path) -> Result<Self, ReadConfigError> {
        Self::read_on(&Machine::default(), path)
    }

    /// Reads the file `path` for the containerd of `machine`, and the files of that machine that it imports. The
    /// paths that it returns are those on that machine.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use bkstate::config::ContainerdConfig;
    /// use bkstate::machine::Machine;
    ///
    /// let image = tempfile::tempdir()?;
    /// std::fs::create_dir_all(image.path().join("etc/containerd/conf.d"))?;
    /// let path = image.path().join("etc/containerd/config.toml");
    /// std::fs::write(&path, "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n")?;
    /// let imported = image.path().join("etc/containerd/conf.d/root.toml");
    /// std::fs::write(imported, "root = \"/data\"\n")?;
    ///
    /// let machine = Machine::with(&path, Path::new(ContainerdConfig::PATH)).unwrap();
    /// let config = ContainerdConfig::read_on(&machine, &path)?;
    /// assert_eq!(config.root.as_deref(), Some(Path::new("/data")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`ContainerdConfig::read`], and if a file of the machine cannot be found.
    pub fn read_on(machine: &Machine, path: &Path) -> Result<Self, ReadConfigError> {
        let mut config = Self::default();
        let mut pending = vec![path.to_owned()];
        let mut seen = Vec::new();
        while let Some(path) = pending.pop() {
            if seen.contains(&path) {
                continue;
            }
            if seen.len() == MOST_FILES {
                return Err(ReadConfigError::TooLarge { path });
            }
            let invalid = |source| ReadConfigError::Invalid { path: path.clone(), source };
            let table = parse(&read_text(&path)?).map_err(invalid)?;
            let Self { root, snapshotter } = Self::of(&table).map_err(invalid)?;
            config.root = root.or(config.root);
            config.snapshotter = snapshotter.or(config.snapshotter);
            let patterns = super::strings(&table, "imports").map_err(invalid)?;
            let mut imported = Vec::new();
            for pattern in patterns {
                imported.extend(imports(machine, &path, &pattern)?);
            }
            // The next one is the last of the list.
            imported.reverse();
            pending.extend(imported);
            seen.push(path);
        }
        Ok(config)
    }

    /// Returns the root of the containerd of `machine`, and the directory of its snapshotter if that is elsewhere.
    /// Both are paths of this machine.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use bkstate::config::ContainerdConfig;
    /// use bkstate::machine::Machine;
    ///
    /// let image = tempfile::tempdir()?;
    /// let path = image.path().join("etc/containerd/config.toml");
    /// let machine = Machine::with(&path, Path::new(ContainerdConfig::PATH)).ok_or("not in an image")?;
    /// let (root, snapshotter) = ContainerdConfig::default().directories(&machine)?;
    /// assert_eq!(root, image.path().join("var/lib/containerd"));
    /// assert_eq!(snapshotter, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if a directory cannot be found on the machine.
    pub fn directories(&self, machine: &Machine) -> Result<(PathBuf, Option<PathBuf>), PlaceError> {
        let root = machine.find(self.root_or_default())?;
        let snapshotter = self.snapshotter.as_deref().map(|path| machine.find(path)).transpose()?;
        Ok((root, snapshotter))
    }

    fn of(table: &Table) -> Result<Self, ConfigError> {
        let plugins = member(table, "plugins").and_then(Value::as_object);
        let plugin = plugins.and_then(|plugins| plugins.get(SNAPSHOTTER));
        let plugin = plugin.and_then(Value::as_object);
        let moved = plugin.map(|plugin| string(plugin, "root_path")).transpose()?.flatten();
        Ok(Self {
            root: string(table, "root")?.map(PathBuf::from),
            snapshotter: moved.map(PathBuf::from),
        })
    }
}

/// Returns the files of `machine` that the file at `path` imports with `pattern`, in order.
fn imports(machine: &Machine, path: &Path, pattern: &str) -> Result<Vec<PathBuf>, ReadConfigError> {
    // A relative one belongs to the directory of the file.
    let beside = path.parent().unwrap_or(Path::new(""));
    let (machine, pattern) = match machine.path_of(beside) {
        _ if Path::new(pattern).is_absolute() => (machine, PathBuf::from(pattern)),
        Some(beside) => (machine, beside.join(pattern)),
        // A file that is not on the machine.
        None => (&Machine::default(), beside.join(pattern)),
    };
    if !pattern.as_os_str().as_encoded_bytes().contains(&b'*') {
        return Ok(vec![machine.find(&pattern)?]);
    }
    let is_pattern = |name: &&Path| name.as_os_str().as_encoded_bytes().contains(&b'*');
    let fixed =
        pattern.ancestors().skip(1).find(|above| !is_pattern(above)).unwrap_or(Path::new("/"));
    let rest = pattern.strip_prefix(fixed).unwrap_or(&pattern);
    let wrong = || ReadConfigError::Invalid {
        path: path.to_owned(),
        source: ConfigError::Type { key: "imports", expected: "a list of paths" },
    };
    let on_machine = machine.find(fixed)?.join(rest);
    let paths =
        on_machine.to_str().and_then(|pattern| glob::glob(pattern).ok()).ok_or_else(wrong)?;
    // A directory that cannot be listed has nothing to import, as for containerd.
    let found = paths.filter_map(Result::ok);
    // A file can be a link of the machine.
    found.map(|found| Ok(machine.find(&machine.path_of(&found).unwrap_or(found))?)).collect()
}

//! `config.toml` of containerd: the settings that affect the location of its data (containerd v2.4.2
//! `cmd/containerd/server/config/config.go`, `plugins/snapshots/overlay/plugin/plugin.go`).

use std::path::{Path, PathBuf};

use toml::Table;

use super::{ConfigError, ReadConfigError, member, on, parse, read_text, string};

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
        Self::read_on(Path::new("/"), path)
    }

    /// Reads the file `path` of the machine whose file system is at `machine`, and the files that it imports
    /// there. The paths that it returns are those on that machine.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use bkstate::config::ContainerdConfig;
    ///
    /// let machine = tempfile::tempdir()?;
    /// let path = machine.path().join(ContainerdConfig::PATH.trim_start_matches('/'));
    /// std::fs::create_dir_all(machine.path().join("etc/containerd/conf.d"))?;
    /// std::fs::write(&path, "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n")?;
    /// let imported = machine.path().join("etc/containerd/conf.d/root.toml");
    /// std::fs::write(imported, "root = \"/data\"\n")?;
    ///
    /// let config = ContainerdConfig::read_on(machine.path(), &path)?;
    /// assert_eq!(config.root.as_deref(), Some(Path::new("/data")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`ContainerdConfig::read`].
    pub fn read_on(machine: &Path, path: &Path) -> Result<Self, ReadConfigError> {
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
            let mut imported = imports(machine, &path, &table).map_err(invalid)?;
            // The next one is the last of the list.
            imported.reverse();
            pending.extend(imported);
            seen.push(path);
        }
        Ok(config)
    }

    fn of(table: &Table) -> Result<Self, ConfigError> {
        let plugins = member(table, "plugins").and_then(toml::Value::as_table);
        let plugin = plugins.and_then(|plugins| plugins.get(SNAPSHOTTER));
        let plugin = plugin.and_then(toml::Value::as_table);
        let moved = plugin.map(|plugin| string(plugin, "root_path")).transpose()?.flatten();
        Ok(Self {
            root: string(table, "root")?.map(PathBuf::from),
            snapshotter: moved.map(PathBuf::from),
        })
    }
}

/// Returns the files of `machine` that the file at `path` imports, in order.
fn imports(machine: &Path, path: &Path, table: &Table) -> Result<Vec<PathBuf>, ConfigError> {
    let wrong = ConfigError::Type { key: "imports", expected: "a list of paths" };
    let patterns = super::strings(table, "imports")?;
    let mut found = Vec::new();
    for pattern in patterns {
        let pattern = if Path::new(&pattern).is_absolute() {
            on(machine, Path::new(&pattern))
        } else {
            path.parent().unwrap_or(Path::new("")).join(pattern)
        };
        if !pattern.as_os_str().as_encoded_bytes().contains(&b'*') {
            found.push(pattern);
            continue;
        }
        let Some(Ok(paths)) = pattern.to_str().map(glob::glob) else { return Err(wrong) };
        // A directory that cannot be listed has nothing to import, as for containerd.
        found.extend(paths.filter_map(Result::ok));
    }
    Ok(found)
}

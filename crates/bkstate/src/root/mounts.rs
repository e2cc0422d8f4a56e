//! Finds mounts that use the files of a root, such as those of a running container.
//!
//! A snapshot in use is a directory of an overlay, or a bind mount. Both appear in `/proc/PID/mountinfo` of
//! every process that has the mount, see `proc_pid_mountinfo(5)`. A path means something else in each mount
//! namespace, so all paths are translated into places: a file system and the path in it.
//!
//! The mount of an image with packed snapshots belongs to the root, and does not count as a use of it. What is mounted from that
//! image is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::strangers::Users;
use super::{Holder, LockError};
use crate::dir::{Dir, DirError};
use crate::packed::{ImageId, PACKED};
use crate::snapshots::TREES;
use crate::worker::{Part, Worker};

/// Maximum size of a table to read. Any user can fill their own.
const MAX_TABLE: u64 = 64 << 20;

/// A directory of a file system, independent of its mount points.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Major and minor number of the file system.
    device: OsString,
    /// The path from the root of the file system.
    path: PathBuf,
}

impl Place {
    /// Returns the path from `self` to `other`, if that is the same directory or below it.
    fn down_to<'o>(&self, other: &'o Self) -> Option<&'o Path> {
        let same = self.device == other.device;
        other.path.strip_prefix(&self.path).ok().filter(|_| same)
    }
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    /// The mounted directory.
    place: Place,
    /// The mount point.
    point: PathBuf,
    /// The directories of an overlay.
    layers: Vec<PathBuf>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let device = OsString::from_vec(words.next()?.to_owned());
        let path = PathBuf::from(unescape(words.next()?));
        let point = PathBuf::from(unescape(words.next()?));
        // Optional fields end with a dash; type, source and options follow.
        let mut rest = words.skip_while(|word| *word != b"-").skip(1);
        let is_overlay = rest.next()? == b"overlay";
        let options = rest.nth(1).filter(|_| is_overlay).unwrap_or_default();
        Some(Self { id, parent, place: Place { device, path }, point, layers: layers(options) })
    }
}

/// Returns the directories in the options of an overlay. The kernel escapes commas in them, and separates the
/// lower ones by colons, which the mounting program may have escaped with a backslash.
fn layers(options: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for option in options.split(|&byte| byte == b',') {
        let Some(equals) = option.iter().position(|&byte| byte == b'=') else { continue };
        let (key, value) = (&option[..equals], unescape(&option[equals + 1..]));
        match key {
            b"lowerdir" => found.extend(split_lower(value.as_bytes())),
            b"lowerdir+" | b"datadir+" | b"upperdir" | b"workdir" => {
                found.push(PathBuf::from(value));
            }
            _ => {}
        }
    }
    found
}

fn split_lower(value: &[u8]) -> Vec<PathBuf> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => parts.push(Vec::new()),
            byte => {
                let byte = if byte == b'\\' { bytes.next().copied() } else { Some(byte) };
                if let Some(part) = parts.last_mut() {
                    part.extend(byte);
                }
            }
        }
    }
    // Two colons precede a data-only layer.
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsString::from_vec(part))).collect()
}

/// Undoes escapes such as `\040`.
fn unescape(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

/// The mounts of a namespace, in the order in which they were made.
#[derive(Debug)]
struct Table(Vec<Mount>);

impl Table {
    fn read(path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(MAX_TABLE).read_to_end(&mut text)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Translates `path` in this namespace: a later mount hides earlier ones.
    fn place(&self, path: &Path) -> Option<Place> {
        self.0.iter().rev().find_map(|mount| place_in(mount, path))
    }

    /// Returns the first part of `root` that a mount uses, as a path in `root`, and the mount.
    ///
    /// `resolve` returns the link-free path of a directory of an overlay.
    fn user(
        &self,
        root: &Place,
        resolve: impl Fn(&Mount, &Path) -> Result<PathBuf, DirError>,
    ) -> Result<Option<(PathBuf, &Mount)>, DirError> {
        let covered = |mount: &Mount| {
            let parent = self.0.iter().find(|other| other.id == mount.parent)?;
            place_in(parent, &mount.point)
        };
        let on = |mount: &Mount| Some(root.down_to(&covered(mount)?)?.to_owned());
        let images = self.0.iter().filter_map(|mount| {
            on(mount).filter(|part| is_of_image(part)).map(|part| (part, &mount.place))
        });
        let images: Vec<_> = images.collect();
        let part_of = |place: &Place| {
            let image =
                || images.iter().find_map(|(part, image)| Some(part.join(image.down_to(place)?)));
            root.down_to(place).map(Path::to_owned).or_else(image)
        };
        for mount in &self.0 {
            let covered = covered(mount);
            let covered = covered.filter(|place| !root.down_to(place).is_some_and(is_of_image));
            // The root itself may be a mount, and may be mounted elsewhere, and so may an image.
            let inside = [Some(&mount.place), covered.as_ref()].into_iter().flatten();
            let mut inside = inside.filter_map(part_of);
            if let Some(part) =
                inside.find(|part| !part.as_os_str().is_empty() && !is_of_image(part))
            {
                return Ok(Some((part, mount)));
            }
            for layer in &mount.layers {
                let layer = self.place(&resolve(mount, layer)?);
                if let Some(part) = layer.as_ref().and_then(part_of) {
                    return Ok(Some((part, mount)));
                }
            }
        }
        Ok(None)
    }
}

/// Returns whether `part` of a root is the mount point of an image with packed snapshots.
fn is_of_image(part: &Path) -> bool {
    let names = part.strip_prefix(PACKED).ok().and_then(Path::to_str);
    names.is_some_and(|name| name.parse::<ImageId>().is_ok())
}

/// Returns the place of `path` if it is in `mount`.
fn place_in(mount: &Mount, path: &Path) -> Option<Place> {
    let below = path.strip_prefix(&mount.point).ok()?;
    let Place { device, path } = &mount.place;
    Some(Place { device: device.clone(), path: path.join(below).components().collect() })
}

/// Rejects a root of which a part is mounted, if `/proc` shows that to us.
pub(super) fn ensure_unused(root: &Dir) -> Result<(), LockError> {
    // Without /proc nothing can be known, and a daemon could not have run here.
    let Some(own) = there("/proc/self/mountinfo", Table::read)? else { return Ok(()) };
    let link = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    let Some(path) = there(link, target)? else { return Ok(()) };
    let Some(place) = own.place(&path) else { return Ok(()) };
    let mounted = |part: PathBuf, mount: &Mount, holder| LockError::Mounted {
        part: root.path().join(part),
        point: mount.point.clone(),
        holder,
    };
    if let Some((part, mount)) = own.user(&place, |mount, layer| resolve(root, mount, layer))? {
        return Err(mounted(part, mount, None));
    }
    let namespace = |link: &Path| {
        let namespace = File::open(link)?;
        Ok((namespace.metadata()?.ino(), namespace))
    };
    let own = there("/proc/self/ns/mnt", namespace)?;
    let mut seen: BTreeSet<u64> = own.into_iter().map(|(number, _)| number).collect();
    let users = Users::of(root)?;
    for pid in processes()? {
        let found = visible(format!("/proc/{pid}/ns/mnt"), namespace)?;
        let Some((number, namespace)) = found.filter(|(number, _)| !seen.contains(number)) else {
            continue;
        };
        if users.are_strangers_to(&namespace) {
            seen.insert(number);
            continue;
        }
        // If this process has ended, another one may show the same namespace.
        let table = visible(format!("/proc/{pid}/mountinfo"), Table::read)?;
        let Some(table) = table else { continue };
        seen.insert(number);
        if let Some((part, mount)) = table.user(&place, |_, layer| Ok(layer.to_owned()))? {
            return Err(mounted(part, mount, Some(Holder::process(pid))));
        }
    }
    Ok(())
}

/// Reads the target of a link.
fn target(link: &Path) -> io::Result<PathBuf> {
    std::fs::read_link(link)
}

/// Returns what `read` finds at `path`, if the path exists.
fn there<T>(
    path: impl Into<PathBuf>,
    read: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<Option<T>, DirError> {
    let path = path.into();
    match read(&path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DirError { action: "read", path, source }),
    }
}

/// Same as [`there`] for another process, which can end at any time, or belong to another user and be hidden
/// from us.
fn visible<T>(
    path: impl Into<PathBuf>,
    read: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<Option<T>, DirError> {
    match there(path, read) {
        Err(error) => match error.source.raw_os_error().map(Errno::from_raw_os_error) {
            // The kernel returns INVAL for a process that has ended and was not waited for.
            Some(Errno::SRCH | Errno::INVAL | Errno::ACCESS | Errno::PERM) => Ok(None),
            _ => Err(error),
        },
        found => found,
    }
}

fn processes() -> Result<Vec<u32>, DirError> {
    let list = |path: &Path| std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>();
    let entries = there("/proc", list)?.unwrap_or_default();
    let names = entries.iter().map(std::fs::DirEntry::file_name);
    let mut pids: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Returns the link-free path of the directory `layer` of an overlay in our own namespace.
///
/// containerd shortens long lists to paths relative to the directory of the snapshots (v2.3.3
/// `core/mount/mount_linux.go` `compactLowerdirOption`), and the kernel does not show that directory. But an
/// overlay without an upper directory has the inode number of its uppermost layer.
fn resolve(root: &Dir, mount: &Mount, layer: &Path) -> Result<PathBuf, DirError> {
    // A directory that was unmounted or removed in the meantime, or is hidden from us, cannot lead elsewhere.
    if layer.is_absolute() {
        return Ok(visible(layer, Path::canonicalize)?.unwrap_or_else(|| layer.to_owned()));
    }
    let inode = |path: &Path| visible(path, |path| Ok(std::fs::metadata(path)?.ino()));
    for worker in Worker::in_root(root)? {
        let way = worker.way(Part::Snapshotter);
        let snapshotter =
            way.iter().fold(root.path().to_owned(), |path, (name, _)| path.join(name));
        let path = snapshotter.join(TREES).join(layer);
        if let Some(found) = inode(&path)?
            && inode(&mount.point)? == Some(found)
        {
            return Ok(visible(&path, Path::canonicalize)?.unwrap_or(path));
        }
    }
    Ok(layer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:2 / /var/lib rw,relatime - ext4 /dev/sda2 rw
24 22 0:5 / /proc rw - proc proc rw
";

    fn place(device: &str, path: &str) -> Place {
        Place { device: device.into(), path: path.into() }
    }

    /// Returns the part of the root `/var/lib/buildkit` of [`HOST`] that the mount in `line` uses.
    fn part(line: &str) -> Option<PathBuf> {
        let root = Table::parse(HOST.as_bytes()).place(Path::new("/var/lib/buildkit")).unwrap();
        assert_eq!(root, place("8:2", "/buildkit"));
        let table = Table::parse(format!("{HOST}{line}\n").as_bytes());
        table.user(&root, |_, layer| Ok(layer.to_owned())).unwrap().map(|(part, _)| part)
    }

    fn overlay(options: &str) -> Option<PathBuf> {
        part(&format!("30 22 0:40 / /mnt rw - overlay overlay rw,{options},uuid=on"))
    }

    #[test]
    fn a_bind_mount_of_a_directory_of_the_root_uses_it() {
        let bind =
            |path: &str| part(&format!("30 22 8:2 {path} /mnt rw shared:3 - ext4 /dev/sda2 rw"));
        assert_eq!(bind("/buildkit/a\\040b"), Some("a b".into()));
        // The whole root in a container, a directory beside it, and one above it.
        for other in ["/buildkit", "/buildkit-2/a", "/"] {
            assert_eq!(bind(other), None, "{other}");
        }
        assert_eq!(part("30 22 8:1 /buildkit/a /mnt rw - ext4 /dev/sda1 rw"), None);
    }

    #[test]
    fn what_is_mounted_in_the_root_uses_it_and_the_root_may_be_a_mount() {
        let at = |point: &str| part(&format!("30 23 0:50 / {point} rw - tmpfs tmpfs rw"));
        assert_eq!(at("/var/lib/buildkit/run"), Some("run".into()));
        assert_eq!(at("/var/lib/buildkit"), None);
        assert_eq!(at("/var/lib/other"), None);
    }

    #[test]
    fn the_image_of_packed_snapshots_belongs_to_the_root() {
        let image = "30 23 7:0 / /var/lib/buildkit/packed/1 ro - erofs /dev/loop0 ro";
        let with = |line: &str| part(&format!("{image}\n{line}"));
        assert_eq!(part(image), None);
        for other in ["packed", "packed/01", "packed/1/7", "packed/x", "other/1"] {
            let line = image.replace("packed/1", other);
            assert_eq!(part(&line), Some(other.into()), "{other}");
        }
        // A directory of the root that is mounted there.
        let bind = "30 23 8:2 /buildkit/a /var/lib/buildkit/packed/1 rw - ext4 /dev/sda2 rw";
        assert_eq!(part(bind), Some("a".into()));
        // Several roots may have one image.
        assert_eq!(with("31 22 7:0 / /srv/packed/1 ro - erofs /dev/loop0 ro"), None);
        // A view of a snapshot, and a container on several.
        let view = with("31 22 7:0 /7/fs /mnt ro - erofs /dev/loop0 ro");
        assert_eq!(view, Some("packed/1/7/fs".into()));
        let inside = with("31 30 0:50 / /var/lib/buildkit/packed/1/7 rw - tmpfs tmpfs rw");
        assert_eq!(inside, Some("packed/1/7".into()));
        let overlay =
            "31 22 0:40 / /mnt rw - overlay overlay rw,lowerdir=/var/lib/buildkit/packed/1/7/fs";
        assert_eq!(with(overlay), Some("packed/1/7/fs".into()));
    }

    #[test]
    fn an_overlay_uses_all_its_directories() {
        for options in [
            "lowerdir=/var/lib/buildkit/s/1/fs",
            "lowerdir=/a:/var/lib/buildkit/s/1/fs:/b",
            "lowerdir=/a::/var/lib/buildkit/s/1/fs",
            "lowerdir+=/a,lowerdir+=/var/lib/buildkit/s/1/fs",
            "lowerdir+=/a,datadir+=/var/lib/buildkit/s/1/fs",
            "lowerdir=/a\\134:b:/var/lib/buildkit/s/1/fs",
            "lowerdir=/a,upperdir=/var/lib/buildkit/s/1/fs,workdir=/c",
            "lowerdir=/a,upperdir=/c,workdir=/var/lib/buildkit/s/1/fs",
        ] {
            assert_eq!(overlay(options), Some("s/1/fs".into()), "{options}");
        }
        assert_eq!(overlay("lowerdir=/var/lib/buildkit/a\\054b\\134\\134c"), Some("a,b\\c".into()));
        assert_eq!(overlay("lowerdir=/var/lib/buildkit"), Some("".into()));
        for options in ["lowerdir=/var/lib/other:/buildkit", "lowerdir=1/fs:2/fs", "xino=off"] {
            assert_eq!(overlay(options), None, "{options}");
        }
    }

    #[test]
    fn the_same_path_in_another_namespace_is_another_place() {
        let root = place("8:2", "/buildkit");
        let container = |volume: &str| {
            let text = format!(
                "40 39 0:60 / / rw - overlay overlay rw,lowerdir=/x,upperdir=/y,workdir=/z\n\
                 41 40 8:2 {volume} /var/lib/buildkit rw - ext4 /dev/sda2 rw\n\
                 42 41 0:61 / /mnt rw - overlay overlay rw,lowerdir=/var/lib/buildkit/s/1/fs\n"
            );
            let table = Table::parse(text.as_bytes());
            table.user(&root, |_, layer| Ok(layer.to_owned())).unwrap().map(|(part, _)| part)
        };
        assert_eq!(container("/docker/volumes/builder"), None);
        assert_eq!(container("/buildkit"), Some("s/1/fs".into()));
    }

    #[test]
    fn a_later_mount_hides_what_is_below_it() {
        let text = format!("{HOST}30 22 8:3 / /var rw - ext4 /dev/sda3 rw\n");
        let table = Table::parse(text.as_bytes());
        assert_eq!(table.place(Path::new("/var/lib/x")), Some(place("8:3", "/lib/x")));
    }

    #[test]
    fn only_what_is_not_there_or_not_ours_to_see_is_passed_over() {
        let read =
            |errno: Errno| visible("/proc/1/ns/mnt", |_| io::Result::<()>::Err(errno.into()));
        for errno in [Errno::NOENT, Errno::SRCH, Errno::INVAL, Errno::ACCESS, Errno::PERM] {
            assert!(read(errno).unwrap().is_none(), "{errno}");
        }
        let error = read(Errno::IO).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /proc/1/ns/mnt");
        // Everything of our own process is visible to us.
        let own = there("/proc/self/x", |_| io::Result::<()>::Err(Errno::ACCESS.into()));
        let error = own.unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        assert_eq!(error.to_string(), "cannot read /proc/self/x");
    }

    #[test]
    fn lines_that_are_cut_off_are_passed_over() {
        let whole = "30 22 0:40 / /mnt rw - overlay overlay rw,lowerdir=/a";
        for end in 0..whole.len() {
            Table::parse(&whole.as_bytes()[..end]);
        }
        assert_eq!(Mount::parse(whole.as_bytes()).unwrap().layers, [Path::new("/a")]);
        assert_eq!(Mount::parse(b"30 22 0:40 / /mnt rw shared:1"), None);
        assert_eq!(unescape(b"\\04").as_bytes(), b"\\04");
        assert_eq!(unescape(b"\\999").as_bytes(), b"\\999");
    }
}

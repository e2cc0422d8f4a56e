//! Packed snapshots: their directories are in a read-only image, and links lead to its mount.
//!
//! ```text
//! packed/1.json    what the image has
//! packed/1.erofs   the image, unless it is elsewhere
//! packed/1/        where it is mounted: `content`, and a directory for each snapshot
//! runc-overlayfs/snapshots/snapshots/7 -> ../../../packed/1/7
//! ```
//!
//! A root is untrusted, so a link counts only if its target is exactly this, and the description of the image
//! has the snapshot. No link is ever followed: the directory is opened through `packed`, name by name. The file
//! `content` at the top of the mount tells the image from any other.
//!
//! ```
//! use std::os::unix::fs::symlink;
//!
//! use bkstate::Digest;
//! use bkstate::dir::Dir;
//! use bkstate::packed::{Image, ImageId, Images, Mounted, ParseImageIdError, Uuid};
//! use bkstate::snapshots::Trees;
//! use bkstate::worker::Worker;
//!
//! let temp = tempfile::tempdir()?;
//! let root = Dir::open(temp.path())?;
//! assert!(Images::open(&root)?.is_empty());
//!
//! // An image with the snapshot 7.
//! let content = Digest::of("what the trees have");
//! let image = Image {
//!     size: 4096,
//!     digest: Digest::of("the image"),
//!     uuid: Uuid::of(&content),
//!     content,
//!     file: None,
//!     snapshots: [7].into(),
//! };
//! assert_eq!(image.uuid.to_string().parse(), Ok(image.uuid));
//! let id: ImageId = "1".parse()?;
//! let refused: Result<ImageId, ParseImageIdError> = "01".parse();
//! assert!(refused.is_err());
//! Images::create(&root)?.add(id, &image)?;
//! let images = Images::open(&root)?;
//! assert_eq!((images.get(id), images.next_id()), (Some(&image), "2".parse()?));
//! assert_eq!(images.iter().count(), 1);
//!
//! // Snapshots are found through links to its mount, once that is there.
//! let trees = temp.path().join("snapshots");
//! std::fs::create_dir(&trees)?;
//! symlink("../../../packed/1/7", trees.join("7"))?;
//! symlink("/etc", trees.join("8"))?;
//! assert!(matches!(images.mounted(id)?, Mounted::No));
//! let trees = Trees::open(&root, Worker::default().form())?.with_images(images);
//! assert_eq!((trees.find(7)?.packed, trees.find(7)?.fs), (Some(id), false));
//! assert!(trees.find(8)?.is_foreign_link && trees.fs(8).is_err());
//!
//! let mount = temp.path().join("packed/1");
//! std::fs::create_dir_all(mount.join("7/fs"))?;
//! std::fs::write(mount.join(Image::MARKER), Image::marker(&content))?;
//! assert!(trees.find(7)?.fs && trees.fs(7).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod image;
mod superblock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use image::{Image, ParseUuidError, ReadImageError, Uuid};
pub use superblock::Superblock;

use crate::dir::{Dir, DirError, FileKind, if_there};
use crate::snapshots::Trees;
use crate::state::State;

/// The directory in the root.
pub(crate) const PACKED: &str = "packed";
const DESCRIPTION: &str = ".json";
/// What is written before it has its name.
const NEW: &str = ".new";
const IMAGE: &str = ".erofs";
/// The way from the directory of the snapshots to the root, for the OCI worker with overlayfs.
const UP: &str = "../../..";
/// Longer contents of the file are not read. A digest has 71 bytes.
const MAX_CONTENT: u64 = 256;

/// The number of an image in a root, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(NonZeroU32);

/// The text is not the number of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the number of an image")]
pub struct ParseImageIdError(String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ImageId {
    type Err = ParseImageIdError;

    /// Only the form in which it is printed is accepted: one number has one name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().map(Self).filter(|id| id.to_string() == text);
        number.ok_or_else(|| ParseImageIdError(text.to_owned()))
    }
}

impl ImageId {
    /// Returns the name of the file of the image in `packed`.
    pub(crate) fn file(self) -> String {
        format!("{self}{IMAGE}")
    }

    fn description(self) -> String {
        format!("{self}{DESCRIPTION}")
    }

    /// Returns the target of the link to the snapshot with this id.
    pub(crate) fn target(self, snapshot: u64) -> String {
        format!("{UP}/{PACKED}/{self}/{snapshot}")
    }

    /// Returns the image to which `target` leads, if it is exactly the target of `snapshot`.
    pub(crate) fn of_target(target: &[u8], snapshot: u64) -> Option<Self> {
        let target = std::str::from_utf8(target).ok()?;
        let rest = target.strip_prefix(UP)?.strip_prefix('/')?.strip_prefix(PACKED)?;
        let (id, _) = rest.strip_prefix('/')?.split_once('/')?;
        let id: Self = id.parse().ok()?;
        (id.target(snapshot) == target).then_some(id)
    }
}

/// What is at the mount point of an image.
#[derive(Debug)]
pub enum Mounted {
    /// Nothing.
    No,
    /// The image.
    Yes(Dir),
    /// Something else, such as another image.
    Other,
}

/// The images in a root.
///
/// ```
/// use bkstate::Digest;
/// use bkstate::dir::Dir;
/// use bkstate::packed::{Image, Images, Mounted, Uuid};
///
/// let temp = tempfile::tempdir()?;
/// let mut images = Images::create(&Dir::open(temp.path())?)?;
/// let id = images.next_id();
/// let packed = images.dir().ok_or("it was created")?;
/// packed.create_file("1.erofs", 0o600)?;
/// // A run that is killed here has begun an image that no link leads into.
/// images.remove_unfinished()?;
/// assert!(images.file(id)?.is_none());
///
/// let content = Digest::of("what the trees have");
/// let (digest, uuid) = (Digest::of("the image"), Uuid::of(&content));
/// images.add(id, &Image { size: 0, digest, uuid, content, file: None, snapshots: [7].into() })?;
/// assert_eq!(images.image_path(id), temp.path().join("packed/1.erofs"));
/// assert_eq!(images.mount_point(id), temp.path().join("packed/1"));
/// assert!(matches!(images.mounted(id)?, Mounted::No));
/// assert!(images.get(id).is_some() && images.iter().count() == 1);
/// images.remove(id)?;
/// assert!(images.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Images {
    /// `packed`, if it exists.
    dir: Option<Dir>,
    known: BTreeMap<ImageId, Image>,
    unreadable: BTreeSet<ImageId>,
    /// The highest number that any name has.
    last: u32,
}

impl Images {
    /// Returns none.
    pub(crate) fn none() -> Self {
        Self { dir: None, known: BTreeMap::new(), unreadable: BTreeSet::new(), last: 0 }
    }

    /// Reads the descriptions in `root`. Those that cannot be understood count as missing; verification reports
    /// them.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read.
    pub fn open(root: &Dir) -> Result<Self, DirError> {
        let is_directory =
            root.find(PACKED)?.is_some_and(|found| found.kind == FileKind::Directory);
        if !is_directory {
            return Ok(Self::none());
        }
        Self::read(root.dir(PACKED)?)
    }

    /// Same as [`open`](Self::open), but creates the directory if it is missing.
    ///
    /// # Errors
    /// Returns an error if the directory can be neither read nor created.
    pub fn create(root: &Dir) -> Result<Self, DirError> {
        match if_there(root.dir(PACKED))? {
            Some(dir) => Self::read(dir),
            None => Self::read(root.create_dir(PACKED, 0o700)?),
        }
    }

    fn read(dir: Dir) -> Result<Self, DirError> {
        let mut images = Self::none();
        for entry in dir.entries()? {
            let Some(name) = entry.to_str() else { continue };
            let number = name.split_once('.').map_or(name, |(number, _)| number);
            let Ok(id) = number.parse::<ImageId>() else { continue };
            images.last = images.last.max(id.0.get());
            if name != id.description() {
                continue;
            }
            match Image::read(&dir, name) {
                Ok(image) => drop(images.known.insert(id, image)),
                Err(_) => drop(images.unreadable.insert(id)),
            }
        }
        images.dir = Some(dir);
        Ok(images)
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns the description of an image.
    pub fn get(&self, id: ImageId) -> Option<&Image> {
        self.known.get(&id)
    }

    /// Returns all images, by number.
    pub fn iter(&self) -> impl Iterator<Item = (ImageId, &Image)> {
        self.known.iter().map(|(id, image)| (*id, image))
    }

    /// Returns those whose descriptions cannot be understood.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = ImageId> {
        self.unreadable.iter().copied()
    }

    /// Reads a description once more, for its error.
    pub(crate) fn read_again(&self, id: ImageId) -> Result<Image, ReadImageError> {
        Image::read(self.existing()?, &id.description())
    }

    /// Returns the lowest number that is higher than all that names have.
    pub fn next_id(&self) -> ImageId {
        ImageId(NonZeroU32::MIN.saturating_add(self.last))
    }

    /// Returns `packed`, if it exists.
    pub fn dir(&self) -> Option<&Dir> {
        self.dir.as_ref()
    }

    /// Returns the path of the mount point of an image; for messages only.
    pub fn mount_point(&self, id: ImageId) -> PathBuf {
        self.path(&id.to_string())
    }

    /// Returns the path of the file of an image, which may be elsewhere; for messages only.
    pub fn image_path(&self, id: ImageId) -> PathBuf {
        let elsewhere = self.get(id).and_then(|image| image.file.clone());
        elsewhere.unwrap_or_else(|| self.path(&id.file()))
    }

    /// Returns the path of the description of an image; for messages only.
    pub(crate) fn description_path(&self, id: ImageId) -> PathBuf {
        self.path(&id.description())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.as_ref().map_or(Path::new(PACKED), Dir::path).join(name)
    }

    /// Examines the mount point of an image.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn mounted(&self, id: ImageId) -> Result<Mounted, DirError> {
        let Some(dir) = &self.dir else { return Ok(Mounted::No) };
        let point = match if_there(dir.dir(id.to_string().as_str())) {
            Ok(None) => return Ok(Mounted::No),
            Ok(Some(point)) => point,
            Err(error) if error.is_no_directory() => return Ok(Mounted::Other),
            Err(error) => return Err(error),
        };
        if let (Some(image), Some(content)) = (self.get(id), content_of(&point)?)
            && content == Image::marker(&image.content).as_bytes()
        {
            return Ok(Mounted::Yes(point));
        }
        Ok(if point.entries()?.is_empty() { Mounted::No } else { Mounted::Other })
    }

    /// Returns the image to which a link leads with this target, as that of `snapshot`.
    pub(crate) fn of_link(&self, target: &[u8], snapshot: u64) -> Option<ImageId> {
        let id = ImageId::of_target(target, snapshot)?;
        self.get(id)?.snapshots.contains(&snapshot).then_some(id)
    }

    /// Opens the directory of `snapshot` in a mounted image.
    ///
    /// # Errors
    /// Returns an error if the image is not mounted, or lacks it.
    pub(crate) fn tree(&self, id: ImageId, snapshot: u64) -> Result<Dir, DirError> {
        let kind = |text: &'static str| DirError {
            action: "open",
            path: self.mount_point(id).join(snapshot.to_string()),
            source: Error::new(ErrorKind::NotFound, text),
        };
        match self.mounted(id)? {
            Mounted::Yes(point) => match point.dir(snapshot.to_string().as_str()) {
                Err(error) if error.is_no_directory() => {
                    Err(kind("the image has something else than a directory there"))
                }
                opened => opened,
            },
            Mounted::No => Err(kind("the image with it is not mounted")),
            Mounted::Other => Err(kind("something else than the image with it is mounted")),
        }
    }

    /// Opens the file of an image, if it is in the root.
    ///
    /// # Errors
    /// Returns an error if it is not a regular file, or cannot be opened.
    pub fn file(&self, id: ImageId) -> Result<Option<std::fs::File>, DirError> {
        match &self.dir {
            Some(dir) => if_there(dir.file(id.file().as_str())),
            None => Ok(None),
        }
    }

    /// Writes the description of a complete image. From here on links to it count.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn add(&mut self, id: ImageId, image: &Image) -> Result<(), DirError> {
        let dir = self.existing()?;
        let (name, new) = (id.description(), format!("{id}{NEW}"));
        if_there(dir.remove_tree(new.as_str()))?;
        let mut file = dir.create_file(new.as_str(), 0o600)?;
        let written = file.write_all(image.to_json().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| DirError {
            action: "write",
            path: dir.path().join(&new),
            source,
        })?;
        dir.replace(new.as_str(), dir, name.as_str())?;
        dir.sync()?;
        self.last = self.last.max(id.0.get());
        self.known.insert(id, image.clone());
        Ok(())
    }

    /// Removes the description of an image, then its mount point, then its file, if that is in the root. The
    /// mount point must not be in use.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be removed.
    pub fn remove(&mut self, id: ImageId) -> Result<(), DirError> {
        let dir = self.existing()?;
        if_there(dir.remove_dir(id.to_string().as_str()))?;
        if_there(dir.remove_file(id.description().as_str()))?;
        dir.sync()?;
        if_there(dir.remove_file(id.file().as_str()))?;
        if_there(dir.remove_file(format!("{id}{NEW}").as_str()))?;
        self.known.remove(&id);
        Ok(())
    }

    /// Removes what was begun and has no description: nothing leads there.
    ///
    /// # Errors
    /// Returns an error if it cannot be removed.
    pub fn remove_unfinished(&mut self) -> Result<(), DirError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut begun = Vec::new();
        for entry in dir.entries()? {
            let Some(name) = entry.to_str() else { continue };
            let number = name.split_once('.').map_or(name, |(number, _)| number);
            let Ok(id) = number.parse::<ImageId>() else { continue };
            let is_known = self.known.contains_key(&id) || self.unreadable.contains(&id);
            if !is_known && !begun.contains(&id) {
                begun.push(id);
            }
        }
        begun.into_iter().try_for_each(|id| self.remove(id))
    }

    fn existing(&self) -> Result<&Dir, DirError> {
        self.dir.as_ref().ok_or_else(|| DirError {
            action: "open",
            path: PACKED.into(),
            source: ErrorKind::NotFound.into(),
        })
    }
}

/// ```
/// use bkstate::ids::WorkerId;
/// use bkstate::state::State;
/// use bkstate::worker::Worker;
///
/// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// assert!(state.packed(&[])?.is_empty());
/// # Ok::<(), bkstate::dir::DirError>(())
/// ```
impl State {
    /// Returns the image of each packed snapshot, by the id of the snapshot. `trees` are the directories of its
    /// snapshots.
    ///
    /// # Errors
    /// Returns an error if they cannot be examined.
    pub fn packed(&self, trees: &[Trees]) -> Result<BTreeMap<u64, ImageId>, DirError> {
        let mut packed = BTreeMap::new();
        for trees in trees.iter().filter(|trees| !trees.images().is_empty()) {
            for snapshot in self.snapshots.by_name.values() {
                if let Some(image) = trees.find(snapshot.id)?.packed {
                    packed.insert(snapshot.id, image);
                }
            }
        }
        Ok(packed)
    }
}

/// Reads the file at the top of what is mounted, if there is one.
fn content_of(point: &Dir) -> Result<Option<Vec<u8>>, DirError> {
    if point.find(Image::MARKER)?.is_none_or(|found| found.kind != FileKind::File) {
        return Ok(None);
    }
    let mut content = Vec::new();
    let read = point.file(Image::MARKER)?.take(MAX_CONTENT).read_to_end(&mut content);
    let failed =
        |source| DirError { action: "read", path: point.path().join(Image::MARKER), source };
    read.map_err(failed)?;
    Ok(Some(content))
}

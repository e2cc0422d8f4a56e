//! The directories of snapshots: `<id>/fs` for a layer's files and `<id>/work` for overlayfs, or `<id>` with all
//! files. Of a packed snapshot, `<id>` is a link into an [image](crate::packed).
//!
//! Source: containerd v2.3.3 `plugins/snapshots/overlay/overlay.go`, `plugins/snapshots/native/native.go`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::dir::{Dir, DirError, FileKind, Found, if_there};
use crate::packed::{ImageId, Images};
use crate::worker::TreeForm;

/// Their common directory, in that of the snapshotter.
pub(crate) const TREES: &str = "snapshots";
const FS: &str = "fs";
const WORK: &str = "work";

/// Which directories of a snapshot exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directories {
    /// `<id>` itself.
    pub top: bool,
    /// `<id>/fs`.
    pub fs: bool,
    /// `<id>/work`.
    pub work: bool,
    /// The image to which the link `<id>` leads. If that is not mounted, none of the directories exists.
    pub packed: Option<ImageId>,
    /// Whether `<id>` is a link that leads elsewhere. It is never followed.
    pub is_foreign_link: bool,
}

/// The directory `snapshots` beside `metadata.db`.
///
/// A directory can be replaced by a link into an image, and back:
///
/// ```
/// use bkstate::Digest;
/// use bkstate::dir::Dir;
/// use bkstate::packed::{Image, Images, Uuid};
/// use bkstate::snapshots::Trees;
/// use bkstate::worker::Worker;
///
/// let temp = tempfile::tempdir()?;
/// let root = Dir::open(temp.path())?;
/// let content = Digest::of("what the trees have");
/// let (digest, uuid) = (Digest::of("the image"), Uuid::of(&content));
/// let image = Image { size: 0, digest, uuid, content, file: None, snapshots: [7].into() };
/// let mut images = Images::create(&root)?;
/// let id = images.next_id();
/// images.add(id, &image)?;
///
/// let trees = Trees::create(&root, Worker::default().form())?.with_images(images);
/// trees.create_snapshot(7)?;
/// let aside = root.create_dir("aside", 0o700)?;
/// trees.pack(7, id, &aside)?;
/// assert_eq!(trees.find(7)?.packed, Some(id));
/// assert!(trees.snapshot(7).is_err() && trees.images().get(id).is_some(), "not mounted");
///
/// // And back: the directory comes from `aside`, where the link is then.
/// trees.unpack(7, &aside)?;
/// assert!(trees.find(7)?.fs && aside.link_target("7").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trees {
    dir: Dir,
    form: TreeForm,
    images: Images,
}

impl Trees {
    /// Creates the empty directory in the snapshotter's.
    ///
    /// # Errors
    /// Returns an error if it exists or cannot be created.
    pub fn create(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        Ok(Self::of(snapshotter.create_dir(TREES, 0o700)?, form))
    }

    /// Opens the directory in the snapshotter's.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn open(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        Ok(Self::of(snapshotter.dir(TREES)?, form))
    }

    fn of(dir: Dir, form: TreeForm) -> Self {
        Self { dir, form, images: Images::none() }
    }

    /// Sets the images of the root, into which links may lead.
    #[must_use]
    pub fn with_images(self, images: Images) -> Self {
        Self { images, ..self }
    }

    /// Returns the images of the root.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Opens the directory in the snapshotter's, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns an error if it can be neither opened nor created.
    pub fn open_or_create(snapshotter: &Dir, form: TreeForm) -> Result<Self, DirError> {
        match if_there(snapshotter.dir(TREES))? {
            Some(dir) => Ok(Self::of(dir, form)),
            None => Self::create(snapshotter, form),
        }
    }

    /// Moves all directories to `target`, where none of them may exist.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses. Directories that were moved before stay moved.
    pub fn move_all(&self, target: &Self) -> Result<(), DirError> {
        for entry in self.dir.entries()? {
            self.dir.rename(&*entry.name, &target.dir, &*entry.name)?;
        }
        target.dir.sync()
    }

    /// Removes the directory `name` and everything in it, or the link `name`.
    ///
    /// # Errors
    /// Returns an error if something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), DirError> {
        self.dir.remove_tree(name)
    }

    /// Returns the path of the directory; for messages only.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns whether files can be moved between this directory and `other`.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be examined.
    pub fn shares_file_system(&self, other: &Dir) -> Result<bool, DirError> {
        self.dir.shares_file_system(other)
    }

    /// Creates the directories of the snapshot `id` and returns the one for its files.
    ///
    /// # Errors
    /// Returns an error if they exist or cannot be created.
    pub fn create_snapshot(&self, id: u64) -> Result<Dir, DirError> {
        let name = id.to_string();
        match self.form {
            TreeForm::Overlay(_) => {
                let snapshot = self.dir.create_dir(name.as_str(), 0o700)?;
                snapshot.create_dir(WORK, 0o711)?;
                snapshot.create_dir(FS, 0o755)
            }
            TreeForm::Full(_) => self.dir.create_dir(name.as_str(), 0o755),
        }
    }

    /// Opens the directory with the files of the snapshot `id`. Of a packed one, the image has to be mounted.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn fs(&self, id: u64) -> Result<Dir, DirError> {
        let snapshot = self.snapshot(id)?;
        match self.form {
            TreeForm::Overlay(_) => snapshot.dir(FS),
            TreeForm::Full(_) => Ok(snapshot),
        }
    }

    /// Opens the directory `<id>` itself, as [`fs`](Self::fs) does.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be opened.
    pub fn snapshot(&self, id: u64) -> Result<Dir, DirError> {
        match self.dir.dir(id.to_string().as_str()) {
            Err(error) if error.is_no_directory() => match self.link(id)? {
                Some(image) => self.images.tree(image, id),
                None => Err(error),
            },
            opened => opened,
        }
    }

    /// Returns the image to which `<id>` leads; `None` if it leads elsewhere, or is not a link.
    fn link(&self, id: u64) -> Result<Option<ImageId>, DirError> {
        let name = id.to_string();
        let is_link = |found: Found| found.kind == FileKind::Link;
        if !self.dir.find(name.as_str())?.is_some_and(is_link) {
            return Ok(None);
        }
        Ok(self.images.of_link(&self.dir.link_target(name.as_str())?, id))
    }

    /// Replaces the directory of the snapshot `id` by a link into `image`. The directory is in `aside` then, an
    /// empty directory of the same file system. At any time `<id>` is one of the two.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses. Nothing is changed then.
    pub fn pack(&self, id: u64, image: ImageId, aside: &Dir) -> Result<(), DirError> {
        let name = id.to_string();
        aside.create_link(name.as_str(), &image.target(id))?;
        aside.exchange(name.as_str(), &self.dir, name.as_str())
    }

    /// Replaces the link of the snapshot `id` by the directory of that name in `aside`, where the link is then.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses. Nothing is changed then.
    pub fn unpack(&self, id: u64, aside: &Dir) -> Result<(), DirError> {
        let name = id.to_string();
        aside.exchange(name.as_str(), &self.dir, name.as_str())
    }

    /// Returns the names of all directories, including those that belong to no snapshot.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, DirError> {
        let entries = self.dir.entries()?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// Returns which directories of the snapshot `id` exist, without following links other than those into images.
    /// One with all files is its own `fs` and `work`.
    ///
    /// # Errors
    /// Returns an error if they cannot be examined.
    pub fn find(&self, id: u64) -> Result<Directories, DirError> {
        let is_dir = |found: Option<Found>| found.is_some_and(|f| f.kind == FileKind::Directory);
        let found = self.dir.find(id.to_string().as_str())?;
        let (dir, packed) = match found.map(|found| found.kind) {
            Some(FileKind::Directory) => (self.snapshot(id)?, None),
            Some(FileKind::Link) => {
                let Some(image) = self.link(id)? else {
                    return Ok(Directories { is_foreign_link: true, ..Directories::default() });
                };
                match if_there(self.images.tree(image, id))? {
                    Some(dir) => (dir, Some(image)),
                    None => {
                        return Ok(Directories { packed: Some(image), ..Directories::default() });
                    }
                }
            }
            _ => return Ok(Directories::default()),
        };
        let there = Directories { top: true, packed, ..Directories::default() };
        Ok(match self.form {
            TreeForm::Full(_) => Directories { fs: true, work: true, ..there },
            TreeForm::Overlay(_) => {
                Directories { fs: is_dir(dir.find(FS)?), work: is_dir(dir.find(WORK)?), ..there }
            }
        })
    }
}

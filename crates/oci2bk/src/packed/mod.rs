//! Packs the trees of a root into a read-only image, and copies them back.
//!
//! The directories of snapshots that no daemon changes any more get into one EROFS image, and links lead to the
//! place in the root where it is mounted ([`bkstate::packed`]). The databases stay as they are. mkfs.erofs makes the
//! image; then every entry in it is compared with the directories, before any of them goes.
//!
//! Every step leaves a sound root: each snapshot is a directory, or a link into a complete image. A run that was
//! killed is completed by the next one.
//!
//! ```no_run
//! use oci2bk::packed::{Compression, PackReport, PackedError, Packer, UndoReport};
//!
//! let packer = Packer::new().compression(Compression::Lz4);
//! let PackReport { image, snapshots, kept, .. } = packer.pack("/var/lib/buildkit")?;
//! if let Some(image) = image {
//!     println!("{snapshots} snapshots are in {}, {kept} stay directories", image.path.display());
//!     println!("mount -t erofs -o ro,loop {} {}", image.path.display(), image.mount_point.display());
//! }
//!
//! let UndoReport { snapshots, still_mounted, .. } = packer.undo("/var/lib/buildkit")?;
//! println!("{snapshots} snapshots are directories again, {} images can go", still_mounted.len());
//! # Ok::<(), PackedError>(())
//! ```

mod content;
mod copy;
mod data;
mod error;
mod mkfs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bkstate::dir::{Dir, DirError, if_there};
use bkstate::kernel::in_private_mounts;
use bkstate::packed::{Image, ImageId, Images, Mounted, Superblock, Uuid};
use bkstate::root::Location;
use bkstate::snapshots::{Kind, Trees};
use bkstate::state::{Damage, Scratch, Staging, State, VerifyError};
use bkstate::usage::Totals;
use bkstate::worker::Part;
use bkstate::{Digest, Root};
use codec::digest::Hasher;
use rustix::fs::{Timespec, Timestamps};

pub use error::PackedError;
pub use mkfs::{Compression, UnknownCompression};

use crate::cancel::Cancel;
use crate::parallel::{in_parallel, processors};
use crate::progress::{self, Progress, Silent, Stage};
use content::{Amounts, Content};
use mkfs::Mkfs;

/// What mkfs.erofs reads, in the scratch directory: each tree is mounted there.
const SOURCE: &str = "source";
/// Where the image is mounted to be compared.
const MOUNT: &str = "mount";
/// Directories that links have replaced, or links that directories have replaced.
const ASIDE: &str = "aside";
/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

/// Packs the trees of roots, and copies them back.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
///
/// use oci2bk::packed::{Compression, Packer};
/// use oci2bk::{Cancel, Event};
///
/// let show = |event: Event<'_>| println!("{event:?}");
/// let packer = Packer::new()
///     .compression(Compression::None)
///     // Into a file elsewhere, which is mounted below the root later.
///     .image("/srv/trees.erofs")
///     // Also what is packed already, so that there is one image.
///     .all(true)
///     .jobs(NonZeroUsize::MIN)
///     .progress(Arc::new(show))
///     .cancel(Cancel::new());
/// # let _ = packer;
/// ```
#[derive(Clone)]
pub struct Packer {
    compression: Compression,
    image: Option<PathBuf>,
    all: bool,
    jobs: NonZeroUsize,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

/// What was packed.
///
/// ```
/// let mut report = oci2bk::packed::PackReport::default();
/// report.root = "/var/lib/buildkit".into();
/// let json = oci2bk::text::to_json_line(&report)?;
/// assert!(json.starts_with(r#"{"root":"/var/lib/buildkit","image":null,"#), "{json}");
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PackReport {
    /// The root.
    pub root: PathBuf,
    /// The image that was made; `None` if there was nothing to pack.
    pub image: Option<PackedImage>,
    /// Number of snapshots in it.
    pub snapshots: usize,
    /// Number of entries in their trees.
    pub entries: u64,
    /// Total size of their files in bytes.
    pub bytes: u64,
    /// What a daemon counts for all records whose trees are packed, in bytes. Collecting them frees none of it.
    pub record_bytes: u64,
    /// Number of snapshots that stay directories, because a daemon may change them: cache mounts, local sources.
    pub kept: usize,
    /// Number of snapshots that stay as they are, because they have names of 255 bytes, which some releases of
    /// mkfs.erofs do not take.
    pub too_long: usize,
    /// Number of snapshots whose packing an earlier run had begun, and this one completed.
    pub completed: usize,
    /// The images that were removed, because no snapshot is in them.
    pub removed: Vec<PathBuf>,
    /// The mount points of images to which no link leads, and that could not be removed because they are mounted.
    pub still_mounted: Vec<PathBuf>,
}

/// What was copied back.
///
/// ```
/// let json = oci2bk::text::to_json_line(&oci2bk::packed::UndoReport::default())?;
/// assert!(json.starts_with(r#"{"root":"","snapshot_count":0,"#), "{json}");
/// # Ok::<(), oci2bk::FormatError>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct UndoReport {
    /// The root.
    pub root: PathBuf,
    /// Number of snapshots that are directories again.
    pub snapshots: usize,
    /// The images that were removed.
    pub removed: Vec<PathBuf>,
    /// The mount points of images to which no link leads any more, and that could not be removed because they are
    /// mounted.
    pub still_mounted: Vec<PathBuf>,
}

/// An image that was made.
///
/// ```
/// use oci2bk::packed::{PackReport, PackedImage};
///
/// fn checksum_line(report: &PackReport) -> Option<String> {
///     let PackedImage { path, digest, .. } = report.image.as_ref()?;
///     Some(format!("{}  {}", digest.hex(), path.display()))
/// }
/// assert_eq!(checksum_line(&PackReport::default()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedImage {
    /// Its number in the root.
    pub id: ImageId,
    /// The file.
    pub path: PathBuf,
    /// Where it has to be mounted.
    pub mount_point: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// The UUID of its file system, which follows from the content of the trees.
    pub uuid: Uuid,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { compression, image, all, jobs, cancel, .. } = self;
        f.debug_struct("Packer")
            .field("compression", compression)
            .field("image", image)
            .field("all", all)
            .field("jobs", jobs)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}

impl Packer {
    /// Creates one that packs new snapshots with the default compression into the root itself.
    pub fn new() -> Self {
        Self {
            compression: Compression::default(),
            image: None,
            all: false,
            jobs: processors(),
            progress: Arc::new(Silent),
            cancel: Cancel::new(),
        }
    }

    /// Sets how files are compressed.
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Sets the file that the image is written to, which may not exist yet. Without it, the image is in the root.
    #[must_use]
    pub fn image(self, path: impl Into<PathBuf>) -> Self {
        Self { image: Some(path.into()), ..self }
    }

    /// Sets whether to pack what is packed already once more, so that one image has everything.
    #[must_use]
    pub fn all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Sets the number of trees to read in parallel; the default is the number of processors.
    #[must_use]
    pub fn jobs(self, jobs: NonZeroUsize) -> Self {
        Self { jobs, ..self }
    }

    /// Reports events to `progress`, from several threads.
    #[must_use]
    pub fn progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Stops with [`PackedError::Cancelled`] as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// Packs the trees of the root at `location` that are directories, and that no daemon changes any more.
    ///
    /// # Errors
    /// Returns an error if the root is in use, damaged, or of a worker whose trees cannot be packed; if mkfs.erofs
    /// is missing, or something cannot be written or mounted; or if the image has not exactly what the directories
    /// have. The root is sound then, and has everything that it had.
    pub fn pack(&self, location: impl Into<Location>) -> Result<PackReport, PackedError> {
        let root = open(location.into())?;
        let mkfs = Mkfs::find(self.compression)?;
        let state = read(&root)?;
        let place = self.image.as_deref().map(|path| new_place(path, &root)).transpose()?;
        let mut report = PackReport { root: root.path().to_owned(), ..PackReport::default() };
        // A conversion that was stopped has left nothing that is needed, or the state would be refused.
        Staging::remove_dead_run(&root)?;
        let mut images = Images::create(root.dir())?;
        images.remove_unfinished()?;
        let scratch = Scratch::create(&root)?;
        report.completed = self.complete(&root, &state, &scratch)?;
        let Some(trees) = root.trees()? else { return Ok(report) };
        let (packed, directories) = chosen(&state, &trees)?;
        let wanted = if self.all && (packed.len() > 1 || !directories.is_empty()) {
            packed.values().flatten().chain(&directories).copied().collect()
        } else {
            directories
        };
        let is_packed = |id: &&u64| packed.values().any(|ids| ids.contains(*id));
        let all = state.snapshots.by_name.len();
        let packed_before: usize = packed.values().map(BTreeSet::len).sum();
        let new = wanted.iter().filter(|id| !is_packed(id)).count();
        report.kept = all.saturating_sub(packed_before + new);
        if !wanted.is_empty() {
            let made = self.make(&root, &scratch, &mut images, &mkfs, &wanted, place)?;
            if let Some(made) = made {
                (report.snapshots, report.entries) = (made.snapshots.len(), made.amounts.entries);
                report.bytes = made.amounts.bytes;
                self.swap_in(&root, &scratch, made.image.id, &made.snapshots)?;
                report.image = Some(made.image);
            }
            report.too_long = wanted.len() - report.snapshots;
        }
        drop(scratch);
        let rest = remove_unused(&root, &state)?;
        (report.removed, report.still_mounted) = (rest.removed, rest.mounted);
        // Only cache mounts have to be measured; without them the advice is the same.
        let totals = root.usage().map(|usages| Totals::of(&usages)).unwrap_or_default();
        report.record_bytes = totals.packed.max(0).cast_unsigned();
        Ok(report)
    }

    /// Copies the packed trees of the root at `location` back to directories, and removes the images. One that is
    /// mounted stays until a later call.
    ///
    /// # Errors
    /// Returns an error if the root is in use or damaged, an image is elsewhere and not mounted, or a tree cannot be
    /// copied. The root is sound then, and has everything that it had.
    pub fn undo(&self, location: impl Into<Location>) -> Result<UndoReport, PackedError> {
        let root = open(location.into())?;
        let state = read(&root)?;
        let mut report = UndoReport { root: root.path().to_owned(), ..UndoReport::default() };
        let Some(trees) = root.trees()? else { return Ok(report) };
        Staging::remove_dead_run(&root)?;
        let (packed, _) = chosen(&state, &trees)?;
        if !packed.is_empty() {
            let scratch = Scratch::create(&root)?;
            let done = progress::stage(&*self.progress, Stage::Trees);
            let all: Vec<u64> = packed.values().flatten().copied().collect();
            let ids: Vec<ImageId> = packed.keys().copied().collect();
            let copies = scratch.dir().create_dir(ASIDE, 0o700)?;
            self.privately(&root, &scratch, &ids, |inside| {
                let copies = inside.scratch.dir(ASIDE)?;
                in_parallel(&all, self.jobs, |id| self.copy_back(*id, &inside.trees, &copies))
            })?;
            root.dir().sync_file_system()?;
            done();
            let done = progress::stage(&*self.progress, Stage::Publish);
            for id in &all {
                trees.unpack(*id, &copies)?;
            }
            root.dir().sync_file_system()?;
            report.snapshots = all.len();
            done();
        }
        let rest = remove_unused(&root, &state)?;
        (report.removed, report.still_mounted) = (rest.removed, rest.mounted);
        Ok(report)
    }

    fn copy_back(&self, id: u64, trees: &Trees, copies: &Dir) -> Result<(), PackedError> {
        let from = trees.snapshot(id)?;
        let to = copies.create_dir(id.to_string().as_str(), 0o700)?;
        copy::copy_tree(id, &from, &to, &self.cancel)?;
        self.compare(id, &from, &to, to.path())
    }

    /// Fails unless two trees of a snapshot are the same.
    fn compare(&self, id: u64, a: &Dir, b: &Dir, place: &Path) -> Result<(), PackedError> {
        let [of_a, of_b] = [a, b].map(|tree| Content::of(id, tree, &self.cancel));
        if of_a?.digest == of_b?.digest {
            return Ok(());
        }
        self.differs(id, a, b, place)
    }

    fn differs(&self, id: u64, a: &Dir, b: &Dir, place: &Path) -> Result<(), PackedError> {
        match content::difference(id, a, b, &self.cancel)? {
            Some(path) => Err(PackedError::Differs { place: place.to_owned(), snapshot: id, path }),
            None => Ok(()),
        }
    }

    /// Completes what an earlier run had begun: its image is complete, and some directories are not replaced yet.
    fn complete(
        &self,
        root: &Root,
        state: &State,
        scratch: &Scratch<'_>,
    ) -> Result<usize, PackedError> {
        let Some(trees) = root.trees()? else { return Ok(0) };
        let (_, directories) = chosen(state, &trees)?;
        let mut completed = 0;
        for (id, image) in trees.images().iter() {
            let begun: Vec<u64> = directories.intersection(&image.snapshots).copied().collect();
            // One that is elsewhere cannot be examined; its directories get into a new one.
            if begun.is_empty() || image.file.is_some() || trees.images().file(id)?.is_none() {
                continue;
            }
            let path = trees.images().image_path(id);
            let same = self.privately(root, scratch, &[id], |inside| {
                let images = inside.trees.images();
                let Mounted::Yes(mounted) = images.mounted(id)? else {
                    return Err(self.not_mounted(images, id));
                };
                in_parallel(&begun, self.jobs, |snapshot| {
                    let packed = mounted.dir(snapshot.to_string().as_str())?;
                    self.compare(*snapshot, &inside.trees.snapshot(*snapshot)?, &packed, &path)
                })?;
                Ok(())
            });
            match same {
                // Not those of the image, so they get into another one.
                Err(PackedError::Differs { .. } | PackedError::Mount { .. }) => continue,
                same => same?,
            }
            self.swap_in(root, scratch, id, &begun.iter().copied().collect())?;
            completed += begun.len();
        }
        Ok(completed)
    }

    fn not_mounted(&self, images: &Images, id: ImageId) -> PackedError {
        PackedError::OtherMount { image: images.image_path(id), point: images.mount_point(id) }
    }

    /// Makes an image of these snapshots, compares it with them, and describes it.
    fn make(
        &self,
        root: &Root,
        scratch: &Scratch<'_>,
        images: &mut Images,
        mkfs: &Mkfs,
        wanted: &BTreeSet<u64>,
        place: Option<PathBuf>,
    ) -> Result<Option<Made>, PackedError> {
        let id = images.next_id();
        let file = NewImage::create(images, id, place)?;
        let made = self.write(root, scratch, mkfs, wanted, &file);
        let (image, amounts) = match made {
            Ok(Some(made)) => made,
            made => {
                file.remove();
                // An error of making it is the one to report, and the next run cleans up too.
                let _ = images.remove_unfinished();
                return made.map(|_| None);
            }
        };
        let image = Image { file: file.elsewhere.clone(), ..image };
        if let Some(packed) = images.dir() {
            if_there(packed.dir(id.to_string().as_str()))?
                .map_or_else(|| packed.create_dir(id.to_string().as_str(), 0o700), Ok)?;
        }
        root.dir().sync_file_system()?;
        images.add(id, &image)?;
        let snapshots = image.snapshots;
        let image = PackedImage {
            id,
            path: file.path,
            mount_point: images.mount_point(id),
            size: image.size,
            digest: image.digest,
            uuid: image.uuid,
        };
        Ok(Some(Made { image, snapshots, amounts }))
    }

    fn write(
        &self,
        root: &Root,
        scratch: &Scratch<'_>,
        mkfs: &Mkfs,
        wanted: &BTreeSet<u64>,
        file: &NewImage,
    ) -> Result<Option<(Image, Amounts)>, PackedError> {
        let all: Vec<u64> = wanted.iter().copied().collect();
        let Some(trees) = root.trees()? else { return Err(gone(root)) };
        let (packed, _) = chosen(&read(root)?, &trees)?;
        let needed = packed.iter().filter(|(_, ids)| !ids.is_disjoint(wanted));
        let needed: Vec<ImageId> = needed.map(|(id, _)| *id).collect();
        scratch.dir().create_dir(SOURCE, 0o700)?;
        scratch.dir().create_dir(MOUNT, 0o700)?;
        self.privately(root, scratch, &needed, |inside| {
            let done = progress::stage(&*self.progress, Stage::Trees);
            let contents = in_parallel(&all, self.jobs, |id| {
                Content::of(*id, &inside.trees.snapshot(*id)?, &self.cancel)
            })?;
            done();
            let mut contents: BTreeMap<u64, Content> = all.into_iter().zip(contents).collect();
            let is_long = |tree: &Content| tree.amounts.longest_names > 0;
            if contents.values().any(is_long) && !mkfs.takes_longest_names(&self.cancel)? {
                contents.retain(|_, tree| !is_long(tree));
            }
            if contents.is_empty() {
                return Ok(None);
            }
            let mut content = Hasher::new();
            let mut amounts = Amounts::default();
            for (id, tree) in &contents {
                content.update(format!("{id} {}\n", tree.digest).as_bytes());
                amounts.entries += tree.amounts.entries;
                amounts.bytes = amounts.bytes.saturating_add(tree.amounts.bytes);
            }
            let content = content.finish();
            let uuid = Uuid::of(&content);

            let done = progress::stage(&*self.progress, Stage::Image);
            let source = inside.scratch.dir(SOURCE)?;
            for id in contents.keys() {
                self.cancel.check(PackedError::Cancelled)?;
                let name = id.to_string();
                let point = source.create_dir(name.as_str(), 0o700)?;
                bind(&inside.trees.snapshot(*id)?, &point)?;
            }
            let marker = Image::marker(&content);
            let marked = source.create_file(Image::MARKER, 0o444)?;
            std::io::Write::write_all(&mut &marked, marker.as_bytes())
                .map_err(|source| file.failed(source))?;
            forget_times(&marked, &source).map_err(|source| file.failed(source))?;
            mkfs.run(source.path(), &file.file, &file.path, uuid, &self.cancel)?;
            if !mkfs.has_own_times {
                Superblock::forget_time(&file.file).map_err(|source| file.failed(source))?;
            }
            file.file.sync_all().map_err(|source| file.failed(source))?;
            let (size, digest) = self.hash(file)?;
            done();

            let done = progress::stage(&*self.progress, Stage::Trees);
            let point = inside.scratch.dir(MOUNT)?;
            mkfs::mount(&file.path, point.path(), &self.cancel)?;
            let mounted = inside.scratch.dir(MOUNT)?;
            let pairs: Vec<_> = contents.iter().collect();
            in_parallel(&pairs, self.jobs, |(id, expected)| {
                let packed = mounted.dir(id.to_string().as_str())?;
                if Content::of(**id, &packed, &self.cancel)?.digest == expected.digest {
                    return Ok(());
                }
                self.differs(**id, &inside.trees.snapshot(**id)?, &packed, &file.path)
            })?;
            done();
            let snapshots = contents.into_keys().collect();
            Ok(Some((Image { size, digest, uuid, content, file: None, snapshots }, amounts)))
        })
    }

    /// Returns the size and the digest of an image.
    fn hash(&self, image: &NewImage) -> Result<(u64, Digest), PackedError> {
        let mut file = File::open(&image.path).map_err(|source| image.failed(source))?;
        let (mut size, mut hasher, mut buffer) = (0, Hasher::new(), vec![0; CHUNK]);
        loop {
            self.cancel.check(PackedError::Cancelled)?;
            let length = file.read(&mut buffer).map_err(|source| image.failed(source))?;
            if length == 0 {
                return Ok((size, hasher.finish()));
            }
            hasher.update(&buffer[..length]);
            size += length as u64;
        }
    }

    /// Replaces the directories of these snapshots by links into a complete image, then removes the directories.
    fn swap_in(
        &self,
        root: &Root,
        scratch: &Scratch<'_>,
        image: ImageId,
        wanted: &BTreeSet<u64>,
    ) -> Result<(), PackedError> {
        let done = progress::stage(&*self.progress, Stage::Publish);
        let Some(trees) = root.trees()? else { return Err(gone(root)) };
        scratch.dir().remove_tree(ASIDE)?;
        let aside = scratch.dir().create_dir(ASIDE, 0o700)?;
        for id in wanted {
            trees.pack(*id, image, &aside)?;
        }
        root.dir().sync_file_system()?;
        scratch.dir().remove_tree(ASIDE)?;
        done();
        Ok(())
    }

    /// Runs `work` with these images mounted where only it sees them.
    fn privately<T: Send>(
        &self,
        root: &Root,
        scratch: &Scratch<'_>,
        images: &[ImageId],
        work: impl FnOnce(&Inside) -> Result<T, PackedError> + Send,
    ) -> Result<T, PackedError> {
        let path = canonical(root)?;
        let expected =
            rustix::fs::fstat(root.dir()).map_err(|error| failed(&path, error.into()))?;
        let below = scratch.dir().path().strip_prefix(root.path()).unwrap_or(Path::new(""));
        let run = || {
            // Handles that were opened before do not lead to mounts of this thread.
            let opened = Dir::open(&path)?;
            let found = rustix::fs::fstat(&opened).map_err(|error| failed(&path, error.into()))?;
            if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino) {
                return Err(failed(&path, ErrorKind::NotFound.into()).into());
            }
            let worker = root.worker();
            let bases = bkstate::worker::Bases::from(opened.try_clone()?);
            let open_trees = || -> Result<Trees, DirError> {
                let snapshotter = worker.open_existing(&bases, Part::Snapshotter)?;
                let trees = Trees::open(&snapshotter, worker.form())?;
                Ok(trees.with_images(Images::open(&opened)?))
            };
            let trees = open_trees()?;
            for id in images {
                self.mount_privately(trees.images(), *id)?;
            }
            let mut inner = opened.try_clone()?;
            for name in below {
                inner = inner.dir(name.to_str().unwrap_or_default())?;
            }
            work(&Inside { trees, scratch: inner })
        };
        in_private_mounts(run).map_err(PackedError::Denied)?
    }

    /// Mounts an image on its mount point, unless it is mounted there.
    fn mount_privately(&self, images: &Images, id: ImageId) -> Result<(), PackedError> {
        let (image, point) = (images.image_path(id), images.mount_point(id));
        match images.mounted(id)? {
            Mounted::Yes(_) => return Ok(()),
            Mounted::Other => return Err(PackedError::OtherMount { image, point }),
            Mounted::No => {}
        }
        // A description names any file; only the one beside it is opened.
        if images.get(id).is_none_or(|image| image.file.is_some()) || images.file(id)?.is_none() {
            return Err(PackedError::NotMounted { image, point });
        }
        mkfs::mount(&image, &point, &self.cancel)?;
        match images.mounted(id)? {
            Mounted::Yes(_) => Ok(()),
            _ => Err(PackedError::OtherMount { image, point }),
        }
    }
}

/// A root, opened on a thread with mounts of its own.
struct Inside {
    trees: Trees,
    /// The scratch directory.
    scratch: Dir,
}

struct Made {
    image: PackedImage,
    snapshots: BTreeSet<u64>,
    amounts: Amounts,
}

/// The file of an image that is not complete yet.
struct NewImage {
    file: File,
    path: PathBuf,
    /// Its path for its description, if it is not in the root.
    elsewhere: Option<PathBuf>,
}

impl NewImage {
    fn create(images: &Images, id: ImageId, place: Option<PathBuf>) -> Result<Self, PackedError> {
        let Some(path) = place else {
            let path = images.image_path(id);
            let Some(packed) = images.dir() else { return Err(PackedError::Exists { path }) };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            return Ok(Self { file: packed.create_file(name, 0o600)?, path, elsewhere: None });
        };
        let mut options = File::options();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => Ok(Self { file, elsewhere: Some(path.clone()), path }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(PackedError::Exists { path })
            }
            Err(source) => Err(PackedError::Image { path, source }),
        }
    }

    fn failed(&self, source: std::io::Error) -> PackedError {
        PackedError::Image { path: self.path.clone(), source }
    }

    /// Removes an image elsewhere. One in the root is removed with what else was begun there.
    fn remove(&self) {
        let same = |found: std::fs::Metadata| {
            let own = self.file.metadata();
            own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
        };
        if let Some(path) = &self.elsewhere
            && std::fs::symlink_metadata(path).is_ok_and(same)
        {
            // The error of making it is the one to report.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens a root that exists, to change it.
fn open(location: Location) -> Result<Root, PackedError> {
    let worker = location.worker().clone();
    let root = match Root::check_to_write(location.clone())? {
        Some(root) => root,
        None => return Err(VerifyError::NoState { root: location.root().to_owned() }.into()),
    };
    if !root.worker().can_be_packed() {
        return Err(PackedError::Worker { worker: Box::new(worker) });
    }
    drop(root);
    Ok(Root::open_to_write(location)?)
}

/// Reads the state. Of a damaged one nothing is packed.
fn read(root: &Root) -> Result<State, PackedError> {
    let verified = root.verify_databases()?;
    let damage: Vec<_> = verified.damage.into_iter().filter(|d| !Damage::is_harmless(d)).collect();
    match verified.state.filter(|_| damage.is_empty()) {
        Some(state) => Ok(state),
        None => Err(PackedError::Damaged { root: root.path().to_owned(), damage }),
    }
}

/// Returns the snapshots in each image, and those that are directories and that no daemon changes any more.
fn chosen(
    state: &State,
    trees: &Trees,
) -> Result<(BTreeMap<ImageId, BTreeSet<u64>>, BTreeSet<u64>), PackedError> {
    let mut packed: BTreeMap<ImageId, BTreeSet<u64>> = BTreeMap::new();
    for (id, image) in state.packed(std::slice::from_ref(trees))? {
        packed.entry(image).or_default().insert(id);
    }
    let mut directories = BTreeSet::new();
    for snapshot in state.snapshots.by_name.values().filter(|s| s.kind == Kind::Committed) {
        let found = trees.find(snapshot.id)?;
        if found.fs && found.packed.is_none() {
            directories.insert(snapshot.id);
        }
    }
    Ok((packed, directories))
}

/// What became of the images to which no link leads.
#[derive(Default)]
struct Rest {
    removed: Vec<PathBuf>,
    mounted: Vec<PathBuf>,
}

fn remove_unused(root: &Root, state: &State) -> Result<Rest, PackedError> {
    let mut rest = Rest::default();
    let Some(trees) = root.trees()? else { return Ok(rest) };
    let (packed, _) = chosen(state, &trees)?;
    let mut images = Images::open(root.dir())?;
    let unused: Vec<_> =
        images.iter().map(|(id, _)| id).filter(|id| !packed.contains_key(id)).collect();
    for id in unused {
        let path = images.image_path(id);
        if !matches!(images.mounted(id)?, Mounted::No) {
            rest.mounted.push(images.mount_point(id));
            continue;
        }
        images.remove(id)?;
        rest.removed.push(path);
    }
    Ok(rest)
}

/// Checks the place of a new image, and returns it as an absolute path.
fn new_place(path: &Path, root: &Root) -> Result<PathBuf, PackedError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| PackedError::Image { path: path.to_owned(), source })?;
    if std::fs::symlink_metadata(&absolute).is_ok() {
        return Err(PackedError::Exists { path: absolute });
    }
    let above = absolute.parent().unwrap_or(Path::new("/"));
    let above = above
        .canonicalize()
        .map_err(|source| PackedError::Image { path: absolute.clone(), source })?;
    if above.starts_with(canonical(root)?) {
        return Err(PackedError::InRoot { path: absolute });
    }
    Ok(absolute)
}

fn canonical(root: &Root) -> Result<PathBuf, DirError> {
    root.path().canonicalize().map_err(|source| failed(root.path(), source))
}

fn failed(path: &Path, source: std::io::Error) -> DirError {
    DirError { action: "open the directory", path: path.to_owned(), source }
}

fn gone(root: &Root) -> PackedError {
    failed(root.path(), ErrorKind::NotFound.into()).into()
}

/// Mounts `directory` on `point` for this thread.
fn bind(directory: &Dir, point: &Dir) -> Result<(), PackedError> {
    let [from, to] =
        [directory, point].map(|dir| format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    rustix::mount::mount_bind(from, to).map_err(|error| PackedError::Bind {
        path: directory.path().to_owned(),
        source: error.into(),
    })
}

/// Gives the file and the directory the epoch as time of modification, so that an image has no other.
fn forget_times(file: &File, directory: &Dir) -> std::io::Result<()> {
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: epoch, last_modification: epoch };
    rustix::fs::futimens(file, &times)?;
    Ok(rustix::fs::futimens(directory, &times)?)
}

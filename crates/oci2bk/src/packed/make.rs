//! Makes an image of trees, and replaces the directories by links into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use bkstate::dir::{Dir, if_there};
use bkstate::packed::{Image, ImageId, Images, Mounted, Superblock, Uuid};
use bkstate::root::Location;
use bkstate::state::{Scratch, Staging, State};
use bkstate::usage::Totals;
use bkstate::{Digest, Root};
use codec::digest::Hasher;
use rustix::fs::{Timespec, Timestamps};

use super::content::{self, Amounts, Content};
use super::found::{chosen, open, read, remove_unused};
use super::mkfs::{self, Mkfs};
use super::place::{NewImage, new_place};
use super::private::{bind, gone, unbind};
use super::{ASIDE, PackReport, PackedError, PackedImage, Packer};
use crate::parallel::in_parallel;
use crate::progress::{self, Stage};

/// What mkfs.erofs reads, in the scratch directory: each tree is mounted there.
const SOURCE: &str = "source";
/// Where the image is mounted to be compared.
const MOUNT: &str = "mount";
/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

struct Made {
    image: PackedImage,
    snapshots: BTreeSet<u64>,
    amounts: Amounts,
}

impl Packer {
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

    /// Fails unless two trees of a snapshot are the same.
    pub(super) fn compare(
        &self,
        id: u64,
        a: &Dir,
        b: &Dir,
        place: &Path,
    ) -> Result<(), PackedError> {
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
            path: absolute(file.path)?,
            mount_point: absolute(images.mount_point(id))?,
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
            let source = inside.scratch.dir(SOURCE)?;
            for id in &all {
                bind(&inside.trees.snapshot(*id)?, &source, &id.to_string())?;
            }
            let contents = in_parallel(&all, self.jobs, |id| {
                Content::of(*id, &source.dir(id.to_string().as_str())?, &self.cancel)
            })?;
            done();
            let mut contents: BTreeMap<u64, Content> = all.into_iter().zip(contents).collect();
            let is_long = |tree: &Content| tree.amounts.longest_names > 0;
            if contents.values().any(is_long) && !mkfs.takes_longest_names(&self.cancel)? {
                for (id, _) in contents.iter().filter(|(_, tree)| is_long(tree)) {
                    unbind(&source, &id.to_string())?;
                }
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
            let marker = Image::marker(&content);
            let marked = source.create_file(Image::MARKER, 0o444)?;
            (&marked).write_all(marker.as_bytes()).map_err(|source| file.failed(source))?;
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
                self.differs(**id, &source.dir(id.to_string().as_str())?, &packed, &file.path)
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
}

/// Returns a path for other programs, which run elsewhere.
fn absolute(path: PathBuf) -> Result<PathBuf, PackedError> {
    std::path::absolute(&path).map_err(|source| PackedError::Image { path, source })
}

/// Gives the file and the directory the epoch as time of modification, so that an image has no other.
fn forget_times(file: &File, directory: &Dir) -> std::io::Result<()> {
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: epoch, last_modification: epoch };
    rustix::fs::futimens(file, &times)?;
    Ok(rustix::fs::futimens(directory, &times)?)
}

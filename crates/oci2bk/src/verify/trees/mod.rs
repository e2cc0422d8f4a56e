//! Compares unpacked trees with their layers.
//!
//! Each layer is unpacked again, by the code of a conversion, into a private directory outside of the root,
//! and the two trees are walked side by side. A model of the archive's result would save the disk space; but
//! it would have to imitate the kernel's treatment of links, replaced directories and inherited groups, and
//! its mistakes would be reported as damage.
//!
//! A snapshot that was unpacked from a layer must have all attributes in the layer. A snapshot in which a
//! step of a build ran existed before its layer, which has fewer attributes, see [`Origin`].

pub(crate) mod below;
mod compare;
pub(crate) mod entry;
mod full;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use bkstate::Digest;
use bkstate::content::BlobStore;
use bkstate::dir::{Dir, DirError, FileKind};
use bkstate::layers;
use bkstate::records::Record;
use bkstate::snapshots::{Kind, Snapshot, Snapshots, Trees};
use bkstate::state::{Parts, State};
use bkstate::worker::{TreeForm, Worker};

use super::{Verifier, VerifyError};
use crate::parallel::in_parallel;
use crate::progress::{self, Event, LayerWork, Unpacking};
use crate::unpack::{
    Allowance, Blob, EntryName, Layer, MOST_AT_ONCE, Placement, UnpackError, check_rights,
    unpack_within,
};

use compare::Comparison;
pub use entry::Difference;

/// A tree that differs from its layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeDamage {
    /// One entry differs.
    #[error("trees: {snapshot}/fs: {path} {difference} (layer {layer})")]
    Entry {
        /// The id of the snapshot.
        snapshot: u64,
        /// The blob of its layer.
        layer: Digest,
        /// The entry.
        path: EntryName,
        /// The difference.
        difference: Difference,
    },
    /// There are more differences than are listed.
    #[error("trees: {snapshot}/fs: {count} more entries differ (layer {layer})")]
    More {
        /// The id of the snapshot.
        snapshot: u64,
        /// The blob of its layer.
        layer: Digest,
        /// The number of the others.
        count: u64,
    },
    /// A part of the tree cannot be read.
    #[error("trees: {snapshot}/fs: cannot read {path} (layer {layer})")]
    Unreadable {
        /// The id of the snapshot.
        snapshot: u64,
        /// The blob of its layer.
        layer: Digest,
        /// The entry.
        path: EntryName,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The tree has lost extended attributes, those of one namespace or all, for example because a tool that
    /// does not keep them copied the root. An entry that was recorded when it was unpacked shows it.
    #[error(
        "trees: {snapshot}/fs: {path} has lost the extended attribute {name} that it was \
         unpacked with"
    )]
    LostAttributes {
        /// The id of the snapshot.
        snapshot: u64,
        /// The recorded entry.
        path: EntryName,
        /// The attribute.
        name: EntryName,
    },
    /// The tree has lost its whiteouts, for example because a tool that does not keep devices copied the
    /// root.
    #[error("trees: {snapshot}/fs: the whiteout {path} is gone")]
    LostWhiteouts {
        /// The id of the snapshot.
        snapshot: u64,
        /// The recorded whiteout.
        path: EntryName,
    },
    /// The layer cannot be unpacked, or does not match the record.
    #[error("trees: {snapshot}: cannot unpack its layer: {source}")]
    Layer {
        /// The id of the snapshot.
        snapshot: u64,
        /// The cause.
        source: Box<UnpackError>,
    },
}

impl TreeDamage {
    /// Returns the id of the snapshot.
    pub(crate) fn snapshot(&self) -> u64 {
        match self {
            Self::Entry { snapshot, .. }
            | Self::More { snapshot, .. }
            | Self::Unreadable { snapshot, .. }
            | Self::LostAttributes { snapshot, .. }
            | Self::LostWhiteouts { snapshot, .. }
            | Self::Layer { snapshot, .. } => *snapshot,
        }
    }

    /// Returns the kind of damage in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Entry { .. } | Self::More { .. } => "tree-differs",
            Self::Unreadable { .. } => "unreadable-tree",
            Self::LostAttributes { .. } => "lost-attributes",
            Self::LostWhiteouts { .. } => "lost-whiteouts",
            Self::Layer { .. } => "layer-of-tree",
        }
    }

    /// Returns what a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::Entry { .. } | Self::More { .. } => {
                "the daemon never looks: builds run on other files than the layer has that is \
                 exported"
            }
            Self::Unreadable { .. } => "builds that need the files fail",
            Self::LostAttributes { .. } => {
                "the daemon never looks: in builds, files that a layer deletes are visible again, and \
                 programs lack their capabilities"
            }
            Self::LostWhiteouts { .. } => {
                "the daemon never looks: in builds, files that a layer deletes are visible again"
            }
            Self::Layer { .. } => {
                "builds run on the files that are there, but what is exported cannot be unpacked or \
                 is refused"
            }
        }
    }
}

/// The results of the comparison.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The ids of the compared snapshots.
    pub(super) trees: BTreeSet<u64>,
    pub(super) damage: Vec<TreeDamage>,
}

impl Compared {
    /// Returns the ids of the snapshots that match their layers.
    pub(super) fn sound(&self) -> BTreeSet<u64> {
        let damaged: BTreeSet<u64> = self.damage.iter().map(TreeDamage::snapshot).collect();
        self.trees.difference(&damaged).copied().collect()
    }
}

/// The origin of the files of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// They were unpacked from the layer, by us or by a daemon.
    Layer,
    /// A step of a build made them, and the layer was made from them. The layer lacks fractions of seconds,
    /// sockets, extended attributes other than capabilities, entries that are the same in the layers below,
    /// and overlayfs' own attributes (containerd v2.3.3 `pkg/archive/tar.go` `ChangeWriter`, BuildKit v0.32.2
    /// `util/overlay/overlay_linux.go` `Changes`).
    Step,
}

/// Compares the committed snapshots of all records with a blob with those blobs.
pub(super) fn compare(
    state: &State,
    parts: &Parts,
    verifier: &Verifier<'_>,
) -> Result<Compared, VerifyError> {
    let temporary = tempfile::Builder::new().prefix("oci2bk-verify-").tempdir();
    let temporary = temporary.map_err(VerifyError::Temporary)?;
    let scratch = Dir::open(temporary.path())?.for_owner(state.worker.owners().root_on_disk());
    let tasks = tasks(state, parts)?;
    if !tasks.is_empty() {
        check_rights(&scratch, &state.worker).map_err(VerifyError::Rights)?;
    }
    let allowance = Allowance::of_comparison(&verifier.limits);
    progress::counted(&*verifier.progress, tasks.iter().map(|(tree, _)| &tree.work));
    let damage = in_parallel(&tasks, verifier.jobs.min(MOST_AT_ONCE), |(tree, store)| {
        verifier.check()?;
        let blob = store.blob(&tree.work.digest)?;
        let found = tree.compare_with(&blob, &scratch, verifier, &allowance)?;
        Ok::<_, VerifyError>((tree.snapshot, found))
    })?;
    // In the order of the snapshots, not of the tasks.
    let damage: BTreeMap<_, _> = damage.into_iter().collect();
    Ok(Compared {
        trees: damage.keys().copied().collect(),
        damage: damage.into_values().flatten().collect(),
    })
}

/// The snapshots of a state by their keys.
pub(crate) struct Keyed<'s> {
    state: &'s State,
    names: BTreeMap<&'s str, &'s str>,
}

impl<'s> Keyed<'s> {
    pub(crate) fn new(state: &'s State) -> Self {
        let namespaces = state.metadata.namespaces.values();
        let tables = namespaces.filter_map(|namespace| state.worker.table_of(namespace));
        let rows = tables.flat_map(|table| &table.rows);
        Self { state, names: rows.map(|(key, row)| (key.as_str(), row.name.as_str())).collect() }
    }

    /// Returns the committed snapshot with this key.
    pub(crate) fn committed(&self, key: &str) -> Option<&'s Snapshot> {
        let snapshot = self.state.snapshots.by_name.get(*self.names.get(key)?)?;
        (snapshot.kind == Kind::Committed).then_some(snapshot)
    }
}

/// An unpacked snapshot, and its expected content.
pub(crate) struct UnpackedLayer<'p> {
    snapshot: u64,
    worker: &'p Worker,
    trees: &'p Trees,
    origin: Origin,
    chain: Chain<'p>,
    all_trees: &'p [Trees],
    media_type: &'p str,
    diff_id: Digest,
    work: LayerWork,
}

/// Returns each snapshot that must match its layer, with the store that has the blob, the largest layers
/// first.
fn tasks<'p>(
    state: &'p State,
    parts: &'p Parts,
) -> Result<Vec<(UnpackedLayer<'p>, &'p BlobStore)>, DirError> {
    let keyed = Keyed::new(state);
    let mut tasks: BTreeMap<u64, _> = BTreeMap::new();
    for record in state.records.by_id.values() {
        let snapshot = record.snapshot.as_deref();
        let found = snapshot.and_then(|key| Some((key, keyed.committed(key)?)));
        let Some((key, snapshot)) = found.filter(|_| is_plain(record)) else { continue };
        let (Some(blob), Some(diff_id)) = (record.blob, record.diff_id) else { continue };
        if tasks.contains_key(&snapshot.id) {
            continue;
        }
        let Some((store, size)) = stored(blob, &parts.blobs)? else { continue };
        let description = record.description.clone();
        let work = LayerWork { digest: blob, size, to_read: size, description };
        let media_type = record.media_type.as_deref().unwrap_or_default();
        if let Some(tree) =
            UnpackedLayer::new(&keyed, &parts.trees, key, media_type, diff_id, work)?
        {
            tasks.insert(snapshot.id, (tree, store));
        }
    }
    let mut tasks: Vec<_> = tasks.into_values().collect();
    tasks.sort_by_key(|(tree, _)| std::cmp::Reverse(tree.work.size));
    Ok(tasks)
}

/// Returns whether the snapshot of a record is one complete layer. The daemon composes the snapshots of
/// merges and differences from other snapshots, and the snapshots of mutable records and their twins may
/// change.
fn is_plain(record: &Record) -> bool {
    record.is_lasting() && !record.is_composed()
}

/// Returns the store with the file of a blob, and its size.
pub(crate) fn stored(
    blob: Digest,
    stores: &[BlobStore],
) -> Result<Option<(&BlobStore, u64)>, DirError> {
    for store in stores {
        if let Some(found) = store.find(&blob)?.filter(|found| found.kind == FileKind::File) {
            return Ok(Some((store, found.size)));
        }
    }
    Ok(None)
}

/// Returns the first of the trees that contains the snapshot.
pub(super) fn holder(snapshot: u64, all: &[Trees]) -> Result<Option<&Trees>, DirError> {
    for trees in all {
        if trees.find(snapshot)?.fs {
            return Ok(Some(trees));
        }
    }
    Ok(None)
}

/// The snapshots below a snapshot, looked up on request: lists for all snapshots of a deep chain would take
/// quadratic memory.
#[derive(Clone, Copy)]
struct Chain<'s> {
    snapshots: &'s Snapshots,
    top: &'s Snapshot,
}

impl<'s> Chain<'s> {
    /// Returns the ids of the snapshots below, nearest first. Their number is limited in case they form a
    /// cycle.
    fn below(self) -> impl Iterator<Item = u64> {
        let names = &self.snapshots.by_name;
        let parent = |snapshot: &&'s Snapshot| names.get(snapshot.parent.as_ref()?);
        let chain = std::iter::successors(parent(&self.top), parent);
        chain.take(names.len()).map(|snapshot| snapshot.id)
    }
}

impl<'p> UnpackedLayer<'p> {
    /// Returns the snapshot `key`, if its directory is in `all_trees`.
    pub(crate) fn new(
        keyed: &Keyed<'p>,
        all_trees: &'p [Trees],
        key: &str,
        media_type: &'p str,
        diff_id: Digest,
        work: LayerWork,
    ) -> Result<Option<Self>, DirError> {
        let Some(snapshot) = keyed.committed(key) else { return Ok(None) };
        let Some(trees) = holder(snapshot.id, all_trees)? else { return Ok(None) };
        let origin = if layers::is_unpacked(key) { Origin::Layer } else { Origin::Step };
        Ok(Some(Self {
            snapshot: snapshot.id,
            worker: &keyed.state.worker,
            trees,
            origin,
            chain: Chain { snapshots: &keyed.state.snapshots, top: snapshot },
            all_trees,
            media_type,
            diff_id,
            work,
        }))
    }

    /// Returns the differences of the snapshot from `blob`, which is unpacked into a directory in `scratch`.
    pub(crate) fn compare_with(
        &self,
        blob: &dyn Blob,
        scratch: &Dir,
        verifier: &Verifier<'_>,
        allowance: &Allowance,
    ) -> Result<Vec<TreeDamage>, VerifyError> {
        verifier.progress.event(Event::LayerStarted(&self.work));
        let name = self.snapshot.to_string();
        let result = scratch
            .create_dir(name.as_str(), 0o755)
            .map_err(VerifyError::from)
            .and_then(|expected| self.run(blob, &expected, verifier, allowance));
        scratch.remove_tree(name.as_str())?;
        let found = result?;
        verifier.progress.event(Event::LayerFinished(&self.work));
        Ok(found)
    }

    fn run(
        &self,
        blob: &dyn Blob,
        expected: &Dir,
        verifier: &Verifier<'_>,
        allowance: &Allowance,
    ) -> Result<Vec<TreeDamage>, VerifyError> {
        let Verifier { progress, cancel, .. } = verifier;
        let unpacking = Unpacking { work: &self.work, before: 0, progress: &**progress, cancel };
        let layer = Layer::of(blob, &self.work, self.media_type, self.diff_id);
        let on_others = self.chain.below().next().is_some();
        let placement = if on_others { Placement::Overlay } else { Placement::Base };
        let (worker, fs) = (self.worker, expected.as_fd());
        let unpacked = unpack_within(&layer, fs, placement, worker, allowance, &unpacking);
        let settled = match unpacked {
            Ok(unpacked) => {
                let implied = &unpacked.implied;
                let settled = implied.settle_within(expected.as_fd(), self.lowers(), allowance)?;
                settled.map(|()| unpacked)
            }
            Err(error) => Err(error),
        };
        let unpacked = match settled {
            Ok(unpacked) => unpacked,
            Err(UnpackError::Cancelled { .. }) => return Err(VerifyError::Cancelled),
            Err(source) if source.is_input() && !source.is_total() => {
                let source = Box::new(source);
                return Ok(vec![TreeDamage::Layer { snapshot: self.snapshot, source }]);
            }
            Err(source) => return Err(VerifyError::Unpack(Box::new(source))),
        };
        // A new snapshot gets the owner of its root directory from the one below (containerd v2.3.3
        // plugins/snapshots/overlay/overlay.go createSnapshot).
        if let Some(lower) = self.lowers().next() {
            expected.copy_owner(&lower?)?;
        }
        let found = self.trees.fs(self.snapshot)?;
        let mut comparison = Comparison::new(self, &unpacked.implied, allowance);
        comparison.run(expected.as_fd(), found.as_fd());
        Ok(comparison.into_damage())
    }

    /// Returns the trees that show what is below, nearest first: of all snapshots below, or the nearest alone if
    /// it has all files. They are opened one after the other, because a chain can be longer than the limit on
    /// open files. Missing ones are reported elsewhere.
    fn lowers(&self) -> impl Iterator<Item = Result<Dir, DirError>> {
        let open = |id: u64| holder(id, self.all_trees)?.map(|trees| trees.fs(id)).transpose();
        let most = match self.worker.form() {
            TreeForm::Full(_) => 1,
            _ => usize::MAX,
        };
        self.chain.below().take(most).filter_map(move |id| open(id).transpose())
    }
}

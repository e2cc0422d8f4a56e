//! Exports a state.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use bkstate::content::BlobStore;
use bkstate::dir::{Dir, if_there};
use bkstate::snapshots::Trees;
use bkstate::state::State;
use bkstate::worker::{Executor, Part, StateFile, Worker};
use bkstate::{Digest, Root};
use crossbeam_channel::{Receiver, bounded};
use serde_json::{Value, json};

use super::StateImageError;
use super::document::{
    Blob, DEFAULT_TAG, Database, FILES, FORM, Item, LABEL, LIST, List, Stream, Tree, architecture,
};
use super::groups::groups;
use super::parts::PartWriter;
use crate::cancel::Cancel;
use crate::layout::artifact::{check_tag, descriptor};
use crate::layout::fresh::{NewDirectory, Replaced, is_free};
use crate::layout::write_archive::ArchiveWriter;
use crate::layout::{Layout, LayoutWriter, edited_index};
use crate::limits::Limits;
use crate::manifest::{OCI_IMAGE_CONFIG, OCI_INDEX, OCI_MANIFEST, REF_NAME};
use crate::pack::{Observer, PackError, View, finish, member, pack, pad};
use crate::parallel::processors;
use crate::progress::{Event, Progress, Silent, Stage};

/// The media type of the layers. What is in them is compressed already.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Number of parts of one stream that wait to be written.
const QUEUED: usize = 1;
/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;

/// Where a state is exported to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum StateTo<'a> {
    /// An image in the layout in a directory, which is created if it does not exist.
    Layout {
        /// The directory.
        path: &'a Path,
        /// The tag of the image; `state` if there is none.
        tag: Option<&'a str>,
    },
    /// A layout with the image, as a tar archive in an empty file.
    Archive {
        /// The file.
        file: &'a File,
        /// The tag of the image; `state` if there is none.
        tag: Option<&'a str>,
    },
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedState {
    /// The manifest of the image.
    pub manifest: Digest,
    /// Whether anything was changed: not if a layout has the same image already.
    pub changed: bool,
    /// Number of layers.
    pub layers: usize,
    /// The size of the layers in bytes.
    pub bytes: u64,
    /// Number of snapshots.
    pub snapshots: usize,
    /// Number of blobs.
    pub blobs: usize,
    /// Entries of the root that are not part of the state, such as the networks of a daemon.
    pub left_out: Vec<String>,
}

/// Exports the state of a stopped daemon.
///
/// ```no_run
/// use std::fs::File;
///
/// use oci2bk::state_image::{StateExporter, StateTo};
/// use oci2bk::{Cancel, Limits, Root};
///
/// let root = Root::open("/var/lib/buildkit")?;
/// let file = File::create("state.tar")?;
/// let exporter = StateExporter::new()
///     .limits(Limits::default())
///     .progress(std::sync::Arc::new(|_: oci2bk::Event<'_>| {}))
///     .cancel(Cancel::new());
/// let exported = exporter.export(&root, StateTo::Archive { file: &file, tag: Some("main") })?;
/// println!("{} bytes", exported.bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StateExporter {
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Default for StateExporter {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for StateExporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateExporter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl StateExporter {
    /// Creates an exporter with the default limits.
    pub fn new() -> Self {
        Self { limits: Limits::default(), progress: Arc::new(Silent), cancel: Cancel::new() }
    }

    /// Sets the limits on existing layouts.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`StateImageError::Cancelled`] as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Exports the state of `root`. The same root gives the same bytes. Memory does not grow with the files.
    ///
    /// # Errors
    /// Returns an error if the state is not sound, is not in the root alone, or cannot be read, or the place cannot be
    /// written. A layout is then unchanged, except for unreferenced blobs.
    pub fn export(&self, root: &Root, to: StateTo<'_>) -> Result<ExportedState, StateImageError> {
        let (StateTo::Layout { tag, .. } | StateTo::Archive { tag, .. }) = to;
        tag.map(check_tag).transpose()?;
        let tag = tag.unwrap_or(DEFAULT_TAG);
        let job = Job::of(self, root)?;
        self.progress.event(Event::StageStarted(Stage::Layers));
        let exported = match to {
            StateTo::Layout { path, .. } if is_free(path) => {
                let new = NewDirectory::prepare(path, Replaced::NONE)?;
                new.make_layout()?;
                let layout = Layout::open(new.staging().path(), &self.limits)?;
                let exported = job.to_layout(&layout, tag)?;
                drop(layout);
                new.publish()?;
                exported
            }
            StateTo::Layout { path, .. } => {
                job.to_layout(&Layout::open(path, &self.limits)?, tag)?
            }
            StateTo::Archive { file, .. } => job.to_archive(file, tag)?,
        };
        self.progress.event(Event::StageFinished(Stage::Layers));
        Ok(exported)
    }
}

/// What is to be exported.
struct Job<'e> {
    exporter: &'e StateExporter,
    worker: &'e Worker,
    trees: Option<Trees>,
    store: Option<BlobStore>,
    /// The snapshots and their sizes, by their ids.
    snapshots: Vec<(u64, u64)>,
    blobs: Vec<Blob>,
    /// The databases, by their place in [`FILES`].
    databases: Vec<(usize, Dir, &'static str)>,
    left_out: Vec<String>,
}

/// A stream that another thread packs.
struct Packing<'s> {
    item: Item,
    parts: Receiver<Vec<u8>>,
    thread: ScopedJoinHandle<'s, Result<Stream, StateImageError>>,
}

/// A place for blobs.
enum Store<'w, 'l, 'f> {
    Layout(&'w LayoutWriter<'l>),
    Archive(&'w mut ArchiveWriter<'f>),
}

/// The layers of the image so far.
#[derive(Default)]
struct Layers {
    list: Vec<Value>,
    bytes: u64,
    diff_ids: Vec<Digest>,
}

impl<'e> Job<'e> {
    fn of(exporter: &'e StateExporter, root: &'e Root) -> Result<Self, StateImageError> {
        let worker = root.worker();
        if worker.executor() != Executor::Oci {
            return Err(StateImageError::Shared { worker: Box::new(worker.clone()) });
        }
        let verified = root.verify_databases()?;
        let damage: Vec<_> = verified.damage.into_iter().filter(|d| !d.is_harmless()).collect();
        let Some(state) = verified.state.filter(|_| damage.is_empty()) else {
            return Err(StateImageError::Damaged { damage });
        };
        let trees = root.trees()?;
        let content = root.open_part(Part::Content)?;
        let store = content.map(|dir| if_there(BlobStore::open(&dir))).transpose()?.flatten();
        let mut snapshots: Vec<_> = state
            .snapshots
            .by_name
            .values()
            .map(|snapshot| (snapshot.id, snapshot.size.unwrap_or(0).max(0).cast_unsigned()))
            .collect();
        snapshots.sort_unstable();
        snapshots.dedup_by_key(|(id, _)| *id);
        // Rows without a directory are leftovers, or the state would be damaged.
        let mut there = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            if let Some(trees) = &trees
                && trees.find(snapshot.0)?.fs
            {
                there.push(snapshot);
            }
        }
        let snapshots = there;
        let files = store.as_ref().map(BlobStore::files).transpose()?.unwrap_or_default();
        // The build history has its own namespace.
        let named = |digest: &Digest| {
            state.metadata.namespaces.values().any(|of| of.content.contains_key(digest))
        };
        let blobs = files.into_iter().filter(|(digest, _)| named(digest));
        let mut blobs: Vec<_> = blobs.map(|(digest, size)| Blob { digest, size }).collect();
        // New blobs come last, as new snapshots do.
        let ages = ages(&state);
        blobs
            .sort_by_key(|blob| (ages.get(&blob.digest).copied().unwrap_or(u64::MAX), blob.digest));
        let mut databases = Vec::new();
        for (at, (file, _)) in FILES.into_iter().enumerate() {
            let place = worker.place(file);
            let Some(dir) = root.open_part(place.part)? else { continue };
            if dir.find(place.name)?.is_some() {
                databases.push((at, dir, place.name));
            }
        }
        let mut left_out = Vec::new();
        for entry in root.dir().entries()? {
            let name = entry.name.to_string_lossy().into_owned();
            let ours = [StateFile::Solver, StateFile::History, StateFile::SolverDebug];
            let is_ours = name == worker.directory()
                || worker.lock() == Some(&*name)
                || ours.iter().any(|file| name.starts_with(worker.name(*file)));
            if !is_ours {
                left_out.push(name);
            }
        }
        Ok(Self { exporter, worker, trees, store, snapshots, blobs, databases, left_out })
    }

    fn to_layout(&self, layout: &Layout, tag: &str) -> Result<ExportedState, StateImageError> {
        let mut writer = layout.writer()?;
        let (layers, config, manifest) = self.image(&mut Store::Layout(&writer))?;
        writer.put_blob(&config)?;
        let digest = writer.put_blob(&manifest)?;
        let has_tag = |entry: &crate::layout::Descriptor| {
            entry.annotations.get(REF_NAME).is_some_and(|named| named == tag)
        };
        let entry = entry(&manifest, tag);
        let edited = edited_index(writer.index(), has_tag, &[entry]);
        let edited = edited.map_err(StateImageError::List)?;
        let changed = edited.is_some();
        if let Some(edited) = edited {
            writer.put_index(edited)?;
        }
        Ok(self.exported(digest, changed, &layers))
    }

    fn to_archive(&self, file: &File, tag: &str) -> Result<ExportedState, StateImageError> {
        let mut archive = ArchiveWriter::new(file);
        let (layers, config, manifest) = self.image(&mut Store::Archive(&mut archive))?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry(&manifest, tag)],
        });
        let mut put = || {
            archive.put_blob(&config)?;
            archive.put_blob(&manifest)
        };
        let digest = put().map_err(StateImageError::Write)?;
        archive.finish(index.to_string().as_bytes()).map_err(StateImageError::Write)?;
        Ok(self.exported(digest, true, &layers))
    }

    fn exported(&self, manifest: Digest, changed: bool, layers: &Layers) -> ExportedState {
        ExportedState {
            manifest,
            changed,
            layers: layers.list.len(),
            bytes: layers.bytes,
            snapshots: self.snapshots.len(),
            blobs: self.blobs.len(),
            left_out: self.left_out.clone(),
        }
    }

    /// Writes the layers. Returns them, the config and the manifest.
    fn image(
        &self,
        store: &mut Store<'_, '_, '_>,
    ) -> Result<(Layers, Vec<u8>, Vec<u8>), StateImageError> {
        let layers = std::thread::scope(|scope| self.layers(scope, store))?;
        let config = json!({
            "architecture": architecture(),
            "config": {"Labels": BTreeMap::from([(LABEL, FORM)])},
            "os": "linux",
            "rootfs": {"diff_ids": layers.diff_ids, "type": "layers"},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_IMAGE_CONFIG, &config),
            "layers": layers.list,
        });
        Ok((layers, config, manifest.to_string().into_bytes()))
    }

    fn layers<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        store: &mut Store<'_, '_, '_>,
    ) -> Result<Layers, StateImageError> {
        let trees = self.snapshots.iter().map(|(id, _)| Item::Tree(*id));
        let databases = self.databases.iter().map(|(at, ..)| Item::Database(*at));
        let mut packings = Packings {
            job: self,
            scope,
            left: trees.chain(databases).collect(),
            started: VecDeque::new(),
        };
        let mut list = List {
            media_type: FORM.to_owned(),
            snapshotter: self.worker.snapshotter().to_owned(),
            trees: Vec::new(),
            blobs: self.blobs.clone(),
            databases: Vec::new(),
        };
        let mut layers = Layers::default();
        let sizes: Vec<_> = self.snapshots.iter().map(|(_, size)| *size).collect();
        let counts = groups(&sizes).into_iter().chain([self.databases.len()]).collect::<Vec<_>>();
        let (of_databases, of_trees) = counts.split_last().unwrap_or((&0, &[]));
        for count in of_trees {
            layers.add(store, |out| packings.write(*count, &mut list, out))?;
        }
        let sizes: Vec<_> = self.blobs.iter().map(|blob| blob.size).collect();
        let mut blobs = self.blobs.iter();
        for count in groups(&sizes) {
            layers.add(store, |out| {
                blobs.by_ref().take(count).try_for_each(|blob| self.blob(blob, out))
            })?;
        }
        layers.add(store, |out| packings.write(*of_databases, &mut list, out))?;
        let list = serde_json::to_vec(&list)
            .map_err(|source| StateImageError::List(codec::FormatError::new(source)))?;
        layers.add(store, |out| {
            out.write_all(&member(LIST.as_bytes(), list.len() as u64))
                .and_then(|()| out.write_all(&list))
                .and_then(|()| pad(&mut &mut *out, list.len() as u64))
                .map_err(StateImageError::Write)
        })?;
        Ok(layers)
    }

    fn blob(&self, blob: &Blob, out: &mut dyn Write) -> Result<(), StateImageError> {
        let name = Item::Blob(blob.digest).file(0);
        let Some(store) = &self.store else { return Ok(()) };
        let mut file = store.blob(&blob.digest)?;
        out.write_all(&member(name.as_bytes(), blob.size)).map_err(StateImageError::Write)?;
        let mut hasher = bkstate::digest::Hasher::new();
        let mut chunk = vec![0; CHUNK];
        let mut left = blob.size;
        while left > 0 {
            self.exporter.cancel.check(StateImageError::Cancelled)?;
            let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let read = |source| StateImageError::Read { path: store.path().into(), source };
            file.read_exact(&mut chunk[..length]).map_err(read)?;
            hasher.update(&chunk[..length]);
            out.write_all(&chunk[..length]).map_err(StateImageError::Write)?;
            left -= length as u64;
        }
        let found = hasher.finish();
        if found != blob.digest {
            return Err(StateImageError::Digest { name, expected: blob.digest, found });
        }
        pad(&mut &mut *out, blob.size).map_err(StateImageError::Write)
    }

    /// Packs `item` into `to`.
    fn pack(&self, item: Item, to: PartWriter<'_>) -> Result<Stream, StateImageError> {
        let mut to = to;
        match item {
            Item::Tree(id) => {
                let Some(trees) = &self.trees else {
                    return Err(StateImageError::Item {
                        name: item.to_string(),
                        problem: "is missing",
                    });
                };
                let fs = trees.fs(id)?;
                let view = View { owners: self.worker.owners(), hidden: &[], is_snapshot: true };
                let mut watcher = Watcher { cancel: &self.exporter.cancel };
                pack(&fs, view, &mut to, &mut watcher).map_err(|error| match error {
                    PackError::Cancelled => StateImageError::Cancelled,
                    PackError::Write(source) => StateImageError::Write(source),
                    source => StateImageError::Pack { id, source },
                })?;
            }
            Item::Database(at) => {
                let found = self.databases.iter().find(|(known, ..)| *known == at);
                let Some((_, dir, name)) = found else {
                    return Err(StateImageError::Item {
                        name: item.to_string(),
                        problem: "is missing",
                    });
                };
                let mut file = dir.file(*name)?;
                let path = || dir.path().join(name);
                io::copy(&mut file, &mut to)
                    .map_err(|source| StateImageError::Read { path: path(), source })?;
            }
            Item::Blob(_) => {}
        }
        to.finish().map_err(StateImageError::Write)
    }
}

/// The streams that are being packed, some ahead of the one that is being written.
struct Packings<'s, 'env> {
    job: &'s Job<'s>,
    scope: &'s Scope<'s, 'env>,
    left: VecDeque<Item>,
    started: VecDeque<Packing<'s>>,
}

impl Packings<'_, '_> {
    /// Writes the next `count` streams.
    fn write(
        &mut self,
        count: usize,
        list: &mut List,
        out: &mut dyn Write,
    ) -> Result<(), StateImageError> {
        for _ in 0..count {
            let Some(Packing { item, parts, thread }) = self.next()? else { break };
            let mut written = Ok(());
            for (part, content) in parts.iter().enumerate() {
                written = write_member(&item.file(part as u64), &content, out);
                if written.is_err() {
                    break;
                }
            }
            // The thread ends at once if nobody listens.
            drop(parts);
            let packed = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.map_err(StateImageError::Write)?;
            let stream = packed?;
            match item {
                Item::Tree(id) => list.trees.push(Tree { id, stream }),
                Item::Database(at) => {
                    let name = FILES[at].1.to_owned();
                    list.databases.push(Database { name, stream });
                }
                Item::Blob(_) => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Packing<'_>>, StateImageError> {
        self.job.exporter.cancel.check(StateImageError::Cancelled)?;
        let jobs: NonZeroUsize = processors();
        while self.started.len() < jobs.get()
            && let Some(item) = self.left.pop_front()
        {
            let (to, parts) = bounded(QUEUED);
            let job = self.job;
            let run = move || {
                let to = PartWriter::new(to).map_err(StateImageError::Write)?;
                job.pack(item, to)
            };
            let thread = Builder::new().spawn_scoped(self.scope, run);
            let thread = thread.map_err(StateImageError::Thread)?;
            self.started.push_back(Packing { item, parts, thread });
        }
        Ok(self.started.pop_front())
    }
}

fn write_member(name: &str, content: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let size = content.len() as u64;
    out.write_all(&member(name.as_bytes(), size))?;
    out.write_all(content)?;
    pad(&mut &mut *out, size)
}

/// Returns the first snapshot of each blob that has one.
fn ages(state: &State) -> BTreeMap<Digest, u64> {
    let worker = &state.worker;
    let table = worker.namespace_of(&state.metadata).and_then(|n| worker.table_of(n));
    let mut ages = BTreeMap::new();
    for (id, record) in &state.records.by_id {
        let row = table.and_then(|table| table.rows.get(record.snapshot_key(id)));
        let snapshot = row.and_then(|row| state.snapshots.by_name.get(&row.name));
        if let (Some(blob), Some(snapshot)) = (record.blob, snapshot) {
            let age = ages.entry(blob).or_insert(snapshot.id);
            *age = snapshot.id.min(*age);
        }
    }
    ages
}

/// Returns the entry of the image in an index.
fn entry(manifest: &[u8], tag: &str) -> Value {
    let mut entry = descriptor(OCI_MANIFEST, manifest);
    entry["annotations"] = json!({REF_NAME: tag});
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    entry
}

impl Layers {
    /// Adds a layer with what `write` writes; none if that is nothing.
    fn add(
        &mut self,
        store: &mut Store<'_, '_, '_>,
        write: impl FnOnce(&mut dyn Write) -> Result<(), StateImageError>,
    ) -> Result<(), StateImageError> {
        let failed = StateImageError::Write;
        let (digest, size) = match store {
            Store::Layout(writer) => {
                let mut blob = writer.begin_blob()?;
                write(&mut blob)?;
                finish(&mut blob).map_err(failed)?;
                blob.finish()?
            }
            Store::Archive(archive) => {
                let mut blob = archive.begin_blob().map_err(failed)?;
                write(&mut blob)?;
                finish(&mut blob).map_err(failed)?;
                blob.finish().map_err(failed)?
            }
        };
        self.list.push(json!({"mediaType": LAYER, "digest": digest, "size": size}));
        self.diff_ids.push(digest);
        self.bytes += size;
        Ok(())
    }
}

/// Ends the work on cancellation.
struct Watcher<'c> {
    cancel: &'c Cancel,
}

impl Observer for Watcher<'_> {
    fn file(&mut self, _path: &[u8]) {}

    fn read(&mut self, _bytes: u64) {}

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

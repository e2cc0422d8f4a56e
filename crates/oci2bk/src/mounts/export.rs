//! Exports cache mounts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use bkstate::digest::Hasher;
use bkstate::dir::Dir;
use bkstate::state::State;
use bkstate::worker::Worker;
use bkstate::{Digest, Root};
use serde_json::{Value, json};

use super::copy::copy;
use super::document::{DEFAULT_TAG, KIND, LAYER_ZSTD, ListedMount, MOUNTS_MEDIA_TYPE, config};
use super::exported::{ExportTo, Exported, ExportedMount};
use super::id::check_id;
use super::list::{Files, MountBase, RootMount, list};
use super::watch::{Hashed, Watcher};
use super::{MountsError, Selection};
use crate::cancel::Cancel;
use crate::export::CacheExport;
use crate::layout::artifact::{ArtifactPlace, TITLE, check_tag, descriptor, subject};
use crate::layout::fresh::{NewDirectory, Replaced, is_free};
use crate::layout::write_archive::ArchiveWriter;
use crate::layout::{Layout, LayoutWriter};
use crate::limits::Limits;
use crate::manifest::{OCI_INDEX, OCI_MANIFEST, REF_NAME};
use crate::pack::{PackError, View, pack};
use crate::progress::{Event, MountWork, Progress, Silent, Stage};
use crate::unpack::tree::ChunkWriter;
use crate::unpack::{Allowance, hidden_names};

/// The level of zstd that BuildKit uses by default.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 3;
/// The size of the buffer before a plain archive, in bytes.
const BUFFER: usize = 256 << 10;

/// Exports the cache mounts of a stopped daemon.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use oci2bk::mounts::{ExportTo, Exported, ExportedMount, Exporter, MountsError, PackError, Selection};
/// use oci2bk::{Cancel, Event, Limits, Root};
///
/// let root = Root::open("/var/lib/buildkit")?;
/// let to = ExportTo::Layout { path: "mounts".as_ref(), tag: None, subject: None };
/// let cancel = Cancel::new();
/// let show = |event: Event<'_>| println!("{event:?}");
/// let exporter =
///     Exporter::new().limits(Limits::default()).progress(Arc::new(show)).cancel(cancel.clone());
/// let Exported { mounts, .. } = match exporter.export(&root, &Selection::default(), to) {
///     Err(MountsError::Pack { id, source: PackError::Partial { .. } }) => {
///         panic!("{id} needs a daemon")
///     }
///     exported => exported?,
/// };
/// for ExportedMount { id, bytes, .. } in mounts {
///     println!("{id}: {bytes} bytes");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Exporter {
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

impl Default for Exporter {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Exporter {
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

    /// Stops with [`MountsError::Cancelled`] as soon as `cancel` requests it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Exports the mounts of `root` that `selection` names, or all. The same files give the same bytes. Memory
    /// does not grow with the files. If there are none, nothing is written into a layout.
    ///
    /// # Errors
    /// Returns an error if a mount does not exist or cannot be read, or the place cannot be written. A layout is
    /// then unchanged, except for unreferenced blobs.
    pub fn export(
        &self,
        root: &Root,
        selection: &Selection,
        to: ExportTo<'_>,
    ) -> Result<Exported, MountsError> {
        if let ExportTo::Layout { tag, .. } | ExportTo::Archive { tag, .. } = to {
            tag.map(check_tag).transpose()?;
        }
        let all = list(root)?;
        let (chosen, left_out) = choose(root, selection, all)?;
        match to {
            ExportTo::Layout { .. } if chosen.is_empty() => {
                return Ok(Exported {
                    mounts: Vec::new(),
                    left_out,
                    manifest: None,
                    changed: false,
                });
            }
            ExportTo::Archive { .. } if chosen.is_empty() => {
                return Err(MountsError::Nothing { place: root.path().display().to_string() });
            }
            _ => {}
        }
        let state = root.state()?;
        let files = Files::open(root)?;
        let job = Job { exporter: self, state: &state, files: &files, chosen: &chosen };
        self.progress.event(Event::StageStarted(Stage::Mounts));
        let (mounts, manifest, changed) = match to {
            ExportTo::Layout { path, tag, subject } => job.to_layout(path, tag, subject)?,
            ExportTo::Archive { file, tag } => job.to_archive(file, tag)?,
            ExportTo::Tar(file) => (vec![job.to_tar(file)?], None, true),
            ExportTo::Directory(path) => (vec![job.to_directory(path)?], None, true),
        };
        self.progress.event(Event::StageFinished(Stage::Mounts));
        Ok(Exported { mounts, left_out, manifest, changed })
    }
}

/// Returns the mounts to export, sorted by id and owner, and those that are left out.
fn choose(
    root: &Root,
    selection: &Selection,
    all: Vec<RootMount>,
) -> Result<(Vec<RootMount>, Vec<RootMount>), MountsError> {
    let place = || root.path().display().to_string();
    let mut chosen: Vec<RootMount> = Vec::new();
    let mut left_out = Vec::new();
    if selection.wanted.is_empty() {
        for mount in all.into_iter().filter(|mount| !mount.is_copy) {
            match mount.base {
                MountBase::Record(_) => left_out.push(mount),
                MountBase::Empty | MountBase::Owned(_) => chosen.push(mount),
            }
        }
    } else {
        for id in selection.ids() {
            let named = |mount: &&RootMount| {
                mount.record.as_str() == id || mount.id == id && !mount.is_copy
            };
            let found: Vec<_> = all.iter().filter(named).cloned().collect();
            if found.is_empty() {
                return Err(MountsError::NotThere { place: place(), id });
            }
            chosen.extend(found);
        }
        chosen.sort_by(|a, b| a.record.cmp(&b.record));
        chosen.dedup();
    }
    chosen.sort_by(|a, b| (&a.id, a.base.owner()).cmp(&(&b.id, b.base.owner())));
    for mount in &chosen {
        let id = || mount.id.chars().take(100).collect();
        check_id(&mount.id).map_err(|source| MountsError::Id { id: id(), source })?;
        if let MountBase::Record(record) = &mount.base {
            return Err(MountsError::OnResult { id: id(), record: record.clone() });
        }
    }
    let twice =
        chosen.windows(2).find(|pair| (&pair[0].id, &pair[0].base) == (&pair[1].id, &pair[1].base));
    match twice {
        Some(pair) => Err(MountsError::Twice { id: pair[0].id.clone() }),
        None => Ok((chosen, left_out)),
    }
}

/// The mounts of an artifact, its manifest, and whether anything changed.
type Done = (Vec<ExportedMount>, Option<Digest>, bool);

struct Job<'j> {
    exporter: &'j Exporter,
    state: &'j State,
    files: &'j Files,
    chosen: &'j [RootMount],
}

impl Job<'_> {
    fn to_layout(
        &self,
        path: &Path,
        tag: Option<&str>,
        subject: Option<&CacheExport>,
    ) -> Result<Done, MountsError> {
        if is_free(path) {
            let new = NewDirectory::prepare(path, Replaced::NONE)?;
            new.make_layout()?;
            let layout = Layout::open(new.staging().path(), &self.exporter.limits)?;
            let done = self.put_into(&layout, tag, subject)?;
            drop(layout);
            new.publish()?;
            return Ok(done);
        }
        let layout = Layout::open(path, &self.exporter.limits)?;
        self.put_into(&layout, tag, subject)
    }

    fn put_into(
        &self,
        layout: &Layout,
        tag: Option<&str>,
        cache: Option<&CacheExport>,
    ) -> Result<Done, MountsError> {
        let mut writer = layout.writer()?;
        let digest = cache.map(|cache| cache.manifest.digest);
        let tag = Some(tag.unwrap_or(DEFAULT_TAG));
        let place = ArtifactPlace::find(layout, writer.index(), KIND, digest, tag)?;
        let subject =
            cache.map(|cache| subject(&cache.layout, cache.manifest.digest)).transpose()?;
        let mut mounts = Vec::new();
        for mount in self.chosen {
            mounts.push(self.blob_of(mount, &writer)?);
        }
        let (config, manifest) = documents(&mounts, subject);
        writer.put_blob(&config)?;
        let (manifest, changed) = place.put(&mut writer, &manifest)?;
        Ok((mounts, Some(manifest), changed))
    }

    fn blob_of(
        &self,
        mount: &RootMount,
        writer: &LayoutWriter<'_>,
    ) -> Result<ExportedMount, MountsError> {
        let mut blob = writer.begin_blob()?;
        let exported = self.compressed(mount, &mut blob)?;
        Ok(ExportedMount { blob: Some(blob.finish()?), ..exported })
    }

    fn to_archive(&self, file: &File, tag: Option<&str>) -> Result<Done, MountsError> {
        let mut archive = ArchiveWriter::new(file);
        let mut mounts = Vec::new();
        for mount in self.chosen {
            let mut blob = archive.begin_blob().map_err(MountsError::Write)?;
            let exported = self.compressed(mount, &mut blob)?;
            let blob = blob.finish().map_err(MountsError::Write)?;
            mounts.push(ExportedMount { blob: Some(blob), ..exported });
        }
        let (config, manifest) = documents(&mounts, None);
        let mut entry = descriptor(OCI_MANIFEST, &manifest);
        entry["artifactType"] = MOUNTS_MEDIA_TYPE.into();
        entry["annotations"] = json!({REF_NAME: tag.unwrap_or(DEFAULT_TAG)});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        let mut finish = || {
            archive.put_blob(&config)?;
            archive.put_blob(&manifest)
        };
        let digest = finish().map_err(MountsError::Write)?;
        archive.finish(index.to_string().as_bytes()).map_err(MountsError::Write)?;
        Ok((mounts, Some(digest), true))
    }

    fn to_tar(&self, file: &File) -> Result<ExportedMount, MountsError> {
        let mount = self.only("tar:")?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let exported = self.packed(mount, &mut out)?;
        out.flush().map_err(MountsError::Write)?;
        file.sync_all().map_err(MountsError::Write)?;
        Ok(exported)
    }

    fn to_directory(&self, path: &Path) -> Result<ExportedMount, MountsError> {
        let mount = self.only("dir:")?;
        let new = NewDirectory::prepare(path, Replaced::NONE)?;
        let files = self.files.of_mount(self.state, mount)?;
        let allowance = Allowance::of_comparison(&self.exporter.limits);
        let pack = |out: &mut ChunkWriter| self.pack(mount, &files, out);
        let copied =
            copy(&mount.id, pack, new.staging().as_fd(), &Worker::default().here(), &allowance);
        let (exported, tree) = copied?;
        new.publish()?;
        Ok(ExportedMount { diff_id: tree.diff_id, bytes: tree.bytes, ..exported })
    }

    /// Returns the only mount, for a form that has no list.
    fn only(&self, form: &'static str) -> Result<&RootMount, MountsError> {
        match self.chosen {
            [mount] => Ok(mount),
            mounts => Err(MountsError::One { form, count: mounts.len() }),
        }
    }

    #[cfg(not(feature = "zstd"))]
    #[allow(clippy::unused_self, reason = "it stands for the one below")]
    fn compressed(&self, _: &RootMount, _: &mut impl Write) -> Result<ExportedMount, MountsError> {
        Err(MountsError::Write(crate::unpack::without_zstd()))
    }

    /// Writes the compressed archive of a mount.
    #[cfg(feature = "zstd")]
    fn compressed(
        &self,
        mount: &RootMount,
        out: &mut impl Write,
    ) -> Result<ExportedMount, MountsError> {
        let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(MountsError::Write)?;
        let exported = self.packed(mount, &mut encoder)?;
        encoder.finish().map_err(MountsError::Write)?;
        Ok(exported)
    }

    /// Writes the archive of a mount, and hashes it.
    fn packed(
        &self,
        mount: &RootMount,
        out: &mut impl Write,
    ) -> Result<ExportedMount, MountsError> {
        let files = self.files.of_mount(self.state, mount)?;
        let mut hashed = Hashed { out, hasher: Hasher::new(), bytes: 0 };
        let exported = self.pack(mount, &files, &mut hashed)?;
        let (diff_id, bytes) = (hashed.hasher.finish(), hashed.bytes);
        Ok(ExportedMount { diff_id, bytes, ..exported })
    }

    fn pack(
        &self,
        mount: &RootMount,
        files: &Dir,
        out: &mut impl Write,
    ) -> Result<ExportedMount, MountsError> {
        let Exporter { progress, cancel, .. } = self.exporter;
        let work = MountWork { id: mount.id.clone(), size: mount.size.max(0).cast_unsigned() };
        progress.event(Event::MountStarted(&work));
        let mut watcher = Watcher {
            work: &work,
            progress: &**progress,
            cancel,
            done: 0,
            credentials: Vec::new(),
            credential_count: 0,
        };
        let worker = &self.state.worker;
        let hidden = match mount.base {
            // It is the upper directory of an overlay, and not mounted itself.
            MountBase::Owned(_) => hidden_names(worker.form().marks()),
            MountBase::Empty | MountBase::Record(_) => &[],
        };
        let view = View { owners: worker.owners(), hidden, is_snapshot: false };
        let packed =
            pack(files, view, out, &mut watcher).map_err(|error| self.failed(mount, error))?;
        let Watcher { credentials, credential_count, .. } = watcher;
        progress.event(Event::MountFinished(&work));
        Ok(ExportedMount {
            id: mount.id.clone(),
            owner: mount.base.owner(),
            record: mount.record.clone(),
            entries: packed.entries,
            bytes: 0,
            diff_id: Digest::of([]),
            blob: None,
            left_out: packed.left_out,
            credentials,
            credential_count,
        })
    }

    fn failed(&self, mount: &RootMount, error: PackError) -> MountsError {
        match error {
            PackError::Cancelled => MountsError::Cancelled,
            source => MountsError::Pack { id: mount.id.clone(), source },
        }
    }
}

/// Returns the config and the manifest of the artifact.
fn documents(mounts: &[ExportedMount], subject: Option<Value>) -> (Vec<u8>, Vec<u8>) {
    let listed: Vec<_> = mounts
        .iter()
        .enumerate()
        .map(|(layer, mount)| ListedMount {
            id: mount.id.clone(),
            owner: mount.owner,
            layer,
            diff_id: mount.diff_id,
            size: mount.bytes,
            entries: mount.entries,
        })
        .collect();
    let config = config(&listed).to_string();
    let layers = mounts.iter().enumerate().filter_map(|(layer, mount)| {
        let (digest, size) = mount.blob?;
        let title = format!("mount-{layer}.tar.zst");
        Some(json!({
            "mediaType": LAYER_ZSTD,
            "digest": digest,
            "size": size,
            "annotations": {TITLE: title},
        }))
    });
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": MOUNTS_MEDIA_TYPE,
        "config": descriptor(MOUNTS_MEDIA_TYPE, config.as_bytes()),
        "layers": layers.collect::<Value>(),
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    (config.into(), manifest.to_string().into())
}

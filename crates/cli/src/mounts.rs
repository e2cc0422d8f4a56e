//! `oci2bk mounts`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use bkstate::mounts::form;
use bkstate::root::Location;
use bkstate::{Root, Time};
use oci2bk::CacheExport;
use oci2bk::document::{self, MountsOfLayout, MountsOfRoot};
use oci2bk::inspect::{Place, find};
use oci2bk::layout::Layout;
use oci2bk::mounts::{
    ExportTo, Exported, ExportedMount, Exporter, Importer, MountBase, MountsArtifact, MountsError,
    Outcome, Owner, RootMount, Selection, Wanted, list,
};
use oci2bk::source::Source;
use oci2bk::text::{self, one_line, shortened, size};
use serde::Serialize;

use crate::args::{Format, Mounts, MountsCommand, MountsExport, MountsImport, MountsLs, To};
use crate::clock::source_date_epoch;
use crate::failure::Failure;
use crate::output::{self, NewFile, note};
use crate::progress::Display;
use crate::signals::Signals;
use crate::table::{Page, WIDE, time};

pub(crate) fn run(arguments: &Mounts) -> Result<(), Failure> {
    match &arguments.command {
        MountsCommand::Ls(arguments) => ls(arguments),
        MountsCommand::Export(arguments) => export(arguments),
        MountsCommand::Import(arguments) => import(arguments),
    }
}

fn ls(arguments: &MountsLs) -> Result<(), Failure> {
    let of_root = |location: Location| {
        let root = Root::open(location)?;
        let mounts = list(&root)?;
        let document = MountsOfRoot { root: root.path(), mounts: &mounts };
        print(arguments.format, || root_table(&mounts), &document)
    };
    let Some(place) = &arguments.place else {
        return of_root(arguments.daemon.resolve(None)?.location);
    };
    match find(place)? {
        Place::Root(root) => of_root(arguments.daemon.resolve(Some(&root))?.location),
        Place::Source(source) => {
            let limits = arguments.limits.limits();
            let source = source.on_disk();
            let layout = Layout::open(&source.path, &limits).map_err(MountsError::from)?;
            let all = MountsArtifact::all(&layout).map_err(MountsError::from)?;
            let document = MountsOfLayout { layout: &source.path, artifacts: &all };
            print(arguments.format, || layout_table(&all), &document)
        }
    }
}

fn print(
    format: Format,
    table: impl FnOnce() -> String,
    document: &impl Serialize,
) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let page = table();
            if page.is_empty() { Ok(()) } else { output::result(&page) }
        }
        Format::Json => output::result(&text::to_json(document)?),
    }
}

/// Returns a mount in the words of a Dockerfile.
pub(crate) fn words(id: &str, base: &MountBase, is_copy: bool) -> String {
    let options = match base {
        MountBase::Owned(owner) => format!(",{owner}"),
        MountBase::Record(record) => format!(",from={record}"),
        _ => String::new(),
    };
    let copy = if is_copy { ",sharing=private" } else { "" };
    format!("{}{options}{copy}", form(id))
}

fn root_table(mounts: &[RootMount]) -> String {
    let mut page = Page::default();
    let rows = mounts.iter().map(|mount| {
        [
            shortened(&mount.id, WIDE),
            shortened(&words(&mount.id, &mount.base, mount.is_copy), WIDE),
            size(mount.size.max(0).cast_unsigned()),
            time(mount.last_used_at),
            one_line(mount.record.as_str()),
        ]
    });
    page.table("cache mounts", ["ID", "FORM", ">SIZE", "LAST USED", "RECORD"], rows);
    page.finish()
}

fn base(owner: Option<Owner>) -> MountBase {
    owner.map_or(MountBase::Empty, MountBase::Owned)
}

fn layout_table(all: &[MountsArtifact]) -> String {
    let mut page = Page::default();
    for artifact in all {
        let tags: Vec<_> = artifact.tags.iter().map(|tag| one_line(tag)).collect();
        let tags = if tags.is_empty() { String::new() } else { format!(" {}", tags.join(" ")) };
        let of = artifact.subject.map(|subject| format!(", of {subject}")).unwrap_or_default();
        let heading = format!("cache mounts in {}{tags}{of}", artifact.manifest);
        let rows = artifact.mounts.iter().map(|mount| {
            [
                shortened(&mount.id, WIDE),
                shortened(&words(&mount.id, &base(mount.owner), false), WIDE),
                size(mount.size),
                mount.entries.to_string(),
                artifact.blob(mount).map(|(_, bytes)| size(bytes)).unwrap_or_default(),
            ]
        });
        page.table(&heading, ["ID", "FORM", ">SIZE", ">ENTRIES", ">PACKED"], rows);
    }
    page.finish()
}

fn export(arguments: &MountsExport) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let limits = arguments.limits.limits();
    let location = arguments.daemon.resolve(arguments.root())?.location;
    let cache = match &arguments.attach {
        Some(source) => Some(only_cache(source, &limits)?),
        None => None,
    };
    let root = Root::open(location)?;
    let signals = Signals::catch()?;
    let exporter =
        Exporter::new().limits(limits).progress(display.clone()).cancel(signals.cancel());
    let run = |to: ExportTo<'_>| {
        let exported = exporter.export(&root, &arguments.selection(), to);
        exported.map_err(|error| Failure::under(&signals, error))
    };
    let attached = || cache.as_ref().map(|cache| cache.layout.path().to_owned());
    let (place, exported) = match &arguments.to {
        None => {
            let path = attached().unwrap_or_default();
            let to = ExportTo::Layout { path: &path, tag: None, subject: cache.as_ref() };
            (path.clone(), run(to)?)
        }
        Some(To::Layout { path, tag }) => {
            let (tag, subject) = (tag.as_deref(), cache.as_ref());
            (path.clone(), run(ExportTo::Layout { path, tag, subject })?)
        }
        Some(To::Archive { path, tag }) => {
            let tag = tag.as_deref();
            let write = |file: &File| run(ExportTo::Archive { file, tag });
            (path.clone(), to_file(path, write)?)
        }
        Some(To::Tar(path)) => (path.clone(), to_file(path, |file| run(ExportTo::Tar(file)))?),
        Some(To::Directory(path)) => (path.clone(), run(ExportTo::Directory(path))?),
    };
    display.finish();
    warn_of_export(&exported);
    output::result(&match arguments.format {
        Format::Table => exported_table(&place, &exported),
        Format::Json => {
            text::to_json(&document::MountsExport { place: &place, exported: &exported })?
        }
    })
}

/// Returns the cache to which mounts are attached.
fn only_cache(source: &Source, limits: &oci2bk::Limits) -> Result<CacheExport, Failure> {
    let mut all = CacheExport::read_all(source, limits)?;
    // An inline cache has one for each platform. Mounts are of all of them.
    all.truncate(1);
    all.pop().ok_or_else(|| MountsError::Nothing { place: source.to_string() }.into())
}

fn to_file(
    path: &Path,
    write: impl FnOnce(&File) -> Result<Exported, Failure>,
) -> Result<Exported, Failure> {
    let failed = |source| Failure::MountsFile { path: path.to_owned(), source };
    let new = NewFile::create(path).map_err(failed)?;
    let exported = write(new.file())?;
    new.publish().map_err(failed)?;
    Ok(exported)
}

fn warn_of_export(exported: &Exported) {
    for mount in &exported.left_out {
        let words = words(&mount.id, &mount.base, false);
        note(format_args!(
            "warning: the cache mount {words} was left out: its files are on those of a stage or image"
        ));
    }
    for mount in &exported.mounts {
        let ExportedMount { id, credentials, credential_count, left_out, .. } = mount;
        if *credential_count > 0 {
            let more = credential_count.saturating_sub(credentials.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            note(format_args!(
                "warning: the cache mount {id} has files that hold credentials by their names: {}{more}; \
                 look at them before you publish what was exported",
                credentials.join(", ")
            ));
        }
        if *left_out > 0 {
            note(format_args!(
                "warning: {left_out} sockets and devices of the cache mount {id} were left out"
            ));
        }
    }
}

fn exported_table(place: &Path, exported: &Exported) -> String {
    let place = text::path(place);
    if exported.mounts.is_empty() {
        return "there are no cache mounts to export".to_owned();
    }
    let verb = if exported.changed { "has" } else { "had already" };
    let count = count(exported.mounts.len());
    let mut lines = vec![format!("{place} {verb} {count}")];
    lines.extend(exported.mounts.iter().map(|mount| {
        let words = words(&mount.id, &base(mount.owner), false);
        let packed = mount.blob.map(|(_, bytes)| format!(", {} packed", size(bytes)));
        format!(
            "  {}  {} in {} entries{}",
            one_line(&if words.is_empty() { mount.id.clone() } else { words }),
            size(mount.bytes),
            mount.entries,
            packed.unwrap_or_default()
        )
    }));
    lines.extend(exported.manifest.map(|manifest| format!("  artifact {manifest}")));
    lines.join("\n")
}

fn count(mounts: usize) -> String {
    match mounts {
        1 => "1 cache mount".to_owned(),
        mounts => format!("{mounts} cache mounts"),
    }
}

fn import(arguments: &MountsImport) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let daemon = arguments.root.resolve()?;
    let last_used: Option<Time> = match arguments.last_used {
        None => source_date_epoch()?,
        given => given,
    };
    let signals = Signals::catch()?;
    let importer = Importer::new()
        .existing(arguments.exists.into())
        .target(daemon.target(arguments.buildkit)?)
        .last_used(last_used)
        .limits(arguments.limits.limits())
        .progress(display.clone())
        .cancel(signals.cancel());
    let (source, selection) = (&arguments.source, arguments.selection());
    let imported = importer
        .import(source, &selection, arguments.owner(), daemon.location)
        .map_err(|error| Failure::under(&signals, error))?;
    display.finish();
    let document = document::MountsImport { source: source.to_string(), imported };
    output::result(&match arguments.format {
        Format::Table => import_lines(&document).join("\n"),
        Format::Json => text::to_json(&document)?,
    })
}

/// The cache mounts that are attached to caches, and which of them are to be imported.
pub(crate) struct AttachedMounts<'e> {
    /// With the ids for each cache.
    caches: Vec<(&'e CacheExport, Selection)>,
}

impl<'e> AttachedMounts<'e> {
    /// Finds those of `exports`. Each that `selection` names must be attached to one of them.
    pub(crate) fn find(
        exports: &'e [CacheExport],
        selection: Selection,
    ) -> Result<Self, MountsError> {
        let mut caches = Vec::new();
        let mut missing: BTreeSet<_> = selection.ids().collect();
        for export in exports {
            let Some(artifact) = MountsArtifact::attached(export)? else { continue };
            let has = |id: &String| artifact.mounts.iter().any(|mount| mount.id == *id);
            let there: Vec<_> = selection.ids().filter(has).collect();
            missing.retain(|id| !there.contains(id));
            if selection.wanted.is_empty() || !there.is_empty() {
                let wanted = there.into_iter().map(Wanted::Id).collect();
                caches.push((export, Selection { wanted, ..Selection::default() }));
            }
        }
        let place = || {
            let sources: Vec<_> = exports.iter().map(|export| export.source.to_string()).collect();
            sources.join(" ")
        };
        match missing.into_iter().next() {
            Some(id) => Err(MountsError::NotThere { place: place(), id }),
            None => {
                if caches.is_empty() {
                    note(format_args!("warning: no cache mounts are attached to {}", place()));
                }
                Ok(Self { caches })
            }
        }
    }

    /// Imports them.
    pub(crate) fn import(
        &self,
        importer: &Importer,
        location: &Location,
    ) -> Result<Vec<document::MountsImport>, MountsError> {
        let imported = self.caches.iter().map(|(export, selection)| {
            let imported = importer.import_attached(export, selection, location.clone())?;
            let source = export.source.to_string();
            Ok(imported.map(|imported| document::MountsImport { source, imported }))
        });
        imported.filter_map(Result::transpose).collect()
    }
}

/// Returns lines that say what was taken, and from where.
pub(crate) fn import_lines(document: &document::MountsImport) -> Vec<String> {
    let document::MountsImport { source, imported } = document;
    let from = match imported.manifest {
        Some(manifest) => format!("{}, artifact {manifest}", one_line(source)),
        None => one_line(source),
    };
    let root = text::path(&imported.root);
    let mut lines = vec![format!("{} of {from} in {root}", count(imported.mounts.len()))];
    lines.extend(imported.mounts.iter().map(|mount| {
        let words = words(&mount.id, &base(mount.owner), false);
        let words = one_line(&if words.is_empty() { mount.id.clone() } else { words });
        let content = match mount.outcome {
            Outcome::Kept => String::new(),
            _ => format!("  {} in {} entries", size(mount.bytes), mount.entries),
        };
        format!("  {words}  {}{content}", mount.outcome.name())
    }));
    lines
}

//! `oci2bk state`.

use bkstate::Root;
use oci2bk::document;
use oci2bk::state_image::{ExportedState, ImportedState, StateExporter, StateImporter, StateTo};
use oci2bk::text::{self, one_line, size};

use crate::args::{Format, State, StateCommand, StateExport, StateImport};
use crate::failure::Failure;
use crate::output::{self, NewFile, note};
use crate::progress::Display;
use crate::signals::Signals;

pub(crate) fn run(arguments: &State) -> Result<(), Failure> {
    match &arguments.command {
        StateCommand::Export(arguments) => export(arguments),
        StateCommand::Import(arguments) => import(arguments),
    }
}

fn export(arguments: &StateExport) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let location = arguments.daemon.resolve(arguments.root())?.location;
    let root = Root::open(location)?;
    let signals = Signals::catch()?;
    let exporter = StateExporter::new()
        .limits(arguments.limits.limits())
        .progress(display.clone())
        .cancel(signals.cancel());
    let run = |to: StateTo<'_>| {
        exporter.export(&root, to).map_err(|error| Failure::under(&signals, error))
    };
    let (path, tag) = (&arguments.to.path, arguments.to.tag.as_deref());
    let exported = if arguments.to.is_archive {
        let failed = |source| Failure::StateFile { path: path.clone(), source };
        let new = NewFile::create(path).map_err(failed)?;
        let exported = run(StateTo::Archive { file: new.file(), tag })?;
        new.publish().map_err(failed)?;
        exported
    } else {
        run(StateTo::Layout { path, tag })?
    };
    display.finish();
    if !exported.left_out.is_empty() {
        let names: Vec<_> = exported.left_out.iter().map(|name| one_line(name)).collect();
        note(format_args!("warning: not part of the state, and left out: {}", names.join(", ")));
    }
    output::result(&match arguments.format {
        Format::Table => {
            let ExportedState { manifest, layers, bytes, snapshots, blobs, changed, .. } = exported;
            let verb = if changed { "has" } else { "had already" };
            format!(
                "{} {verb} the state\n  {snapshots} snapshots, {blobs} blobs\n  {layers} layers, {}\n  \
                 image {manifest}",
                text::path(path),
                size(bytes)
            )
        }
        Format::Json => text::to_json(&document::StateExport { place: path, exported: &exported })?,
    })
}

fn import(arguments: &StateImport) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let daemon = arguments.root.resolve()?;
    let signals = Signals::catch()?;
    let importer = StateImporter::new()
        .limits(arguments.limits.limits())
        .progress(display.clone())
        .cancel(signals.cancel());
    let imported = importer
        .import(&arguments.source, daemon.location)
        .map_err(|error| Failure::under(&signals, error))?;
    display.finish();
    output::result(&match arguments.format {
        Format::Table => {
            let ImportedState { root, manifest, snapshots, blobs, entries, .. } = imported;
            let from = manifest.map(|manifest| format!("\n  image {manifest}"));
            format!(
                "{} has the state of {}\n  {snapshots} snapshots with {entries} entries, {blobs} blobs{}",
                text::path(&root),
                one_line(&arguments.source.to_string()),
                from.unwrap_or_default()
            )
        }
        Format::Json => {
            let source = arguments.source.to_string();
            text::to_json(&document::StateImport { source, imported: &imported })?
        }
    })
}

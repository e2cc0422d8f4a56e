//! `oci2bk inspect`.

mod export;
mod root;

use std::path::Path;
use std::sync::Arc;

use bkstate::root::Location;
use graph::Graph;
use oci2bk::export::CacheExport;
use oci2bk::inspect::{Export, Place, Root, Unread, find};
use oci2bk::sizes::{Sizer, Sizes};
use oci2bk::source::Source;
use oci2bk::text::{self, with_causes};
use oci2bk::{Plan, Preparer};
use serde::Serialize;

use crate::args::{Inspect, InspectFormat};
use crate::failure::Failure;
use crate::hint::behind;
use crate::hint::{of_key_source, of_limit};
use crate::keys::{read_dockerfiles, read_source};
use crate::output::{self, note};
use crate::progress::Display;
use crate::signals::Signals;
use crate::summary::damaged_in;
use crate::warning::Speaker;

pub(crate) fn run(arguments: &Inspect) -> Result<(), Failure> {
    // With --engine the first word is not a place.
    let Some(place) = arguments.place.as_ref().filter(|_| !arguments.storage.engine) else {
        return look_into_root(&arguments.storage.of_engine()?.location, arguments);
    };
    match find(place)? {
        Place::Source(source) => look_into_export(&source, arguments),
        Place::Root(root) => look_into_root(&arguments.storage.daemon(&root)?.location, arguments),
    }
}

impl Inspect {
    /// Returns the id or digest to which the output is limited.
    fn only(&self) -> Option<String> {
        let first = || self.place.as_ref().map(|word| word.to_string_lossy().into_owned());
        self.only.clone().or_else(|| first().filter(|_| self.storage.engine))
    }
}

fn look_into_export(source: &Source, arguments: &Inspect) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    let exports = CacheExport::read_all(source, &limits)?;
    let preparer = Preparer::new()
        .keys(arguments.keys.iter().cloned())
        .dockerfiles(arguments.dockerfile.sources())
        .exported_by(arguments.exported_by)
        .limits(limits)
        .progress(Arc::new(Speaker));
    let keyring = preparer.keyring(&exports)?;
    let target = arguments.buildkit.unwrap_or_default();
    let mut export = Export::new(&exports, &keyring, target)?;
    if arguments.sizes {
        let plan = Plan::for_target(&exports, &keyring, target)?;
        export.sizes = Some(sizes(&plan, arguments)?);
    }
    let only = arguments.only();
    let export = match &only {
        Some(word) => export.only(word).ok_or_else(|| nothing(arguments, word))?,
        None => export,
    };
    let table = || export::table(&export, only.is_some());
    print(arguments.format, table, &export, || Graph::from(&export))
}

/// Measures what the layers of a plan take.
fn sizes(plan: &Plan, arguments: &Inspect) -> Result<Sizes, Failure> {
    let display = Display::shared(arguments.progress);
    let signals = Signals::catch()?;
    let sizer = Sizer::new()
        .limits(arguments.limits.limits())
        .progress(display.clone())
        .cancel(signals.cancel());
    let sizes = sizer.measure(plan).map_err(|error| Failure::under(&signals, error))?;
    display.finish();
    Ok(sizes)
}

fn look_into_root(location: &Location, arguments: &Inspect) -> Result<(), Failure> {
    let path = location.root();
    if arguments.buildkit.is_some() {
        let place = path.display().to_string();
        return Err(Failure::NoRelease { place, why: "is a root: its keys are made already" });
    }
    if arguments.sizes {
        return Err(Failure::SizesOfRoot { place: path.display().to_string() });
    }
    let limits = arguments.limits.limits();
    let mut sources = Vec::new();
    for source in &arguments.keys {
        sources.extend(read_source(source, &limits)?);
    }
    sources.extend(read_dockerfiles(&arguments.dockerfile.sources(), &[], &limits)?);
    let root = Root::read(location.clone(), &sources, &limits)?;
    warn(path, &root);
    let only = arguments.only();
    let root = match &only {
        Some(word) => root.only(word).ok_or_else(|| nothing(arguments, word))?,
        None => root,
    };
    let table = || root::table(&root, only.is_some());
    print(arguments.format, table, &root, || Graph::from(&root))
}

fn nothing(arguments: &Inspect, word: &str) -> Failure {
    let place = arguments.place.as_ref().filter(|_| !arguments.storage.engine);
    let place = place.map(|place| place.to_string_lossy().into_owned());
    let place = place.unwrap_or_else(|| "Docker Engine".to_owned());
    Failure::NoSuchThing { place, word: word.to_owned() }
}

/// Warns on stderr about missing or unreliable information.
fn warn(path: &Path, root: &Root) {
    for unread in &root.unread {
        let hint = match unread {
            Unread::Names(error) => of_key_source(error),
            _ => None,
        };
        let hint = hint.or_else(|| of_limit(unread));
        note(format_args!("warning: {}{}", with_causes(unread), behind(hint)));
    }
    if !root.damage.is_empty() {
        note(format_args!(
            "warning: {}, so parts of this may be wrong; list the damage with oci2bk verify",
            damaged_in(path, root.damage.len())
        ));
    }
}

fn print(
    format: InspectFormat,
    table: impl FnOnce() -> String,
    document: &impl Serialize,
    graph: impl FnOnce() -> Graph,
) -> Result<(), Failure> {
    output::result(&match format {
        InspectFormat::Table => table(),
        InspectFormat::Json => text::to_json(document)?,
        // They end with a line feed.
        InspectFormat::Dot => graph::dot(&graph()).trim_end().to_owned(),
        InspectFormat::Svg => graph::svg(&graph()).trim_end().to_owned(),
    })
}

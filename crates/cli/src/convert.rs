//! `oci2bk convert`.

use std::path::Path;

use oci2bk::convert::{ConvertError, check_root, remove_remains};
use oci2bk::document::{Conversion, Preview};
use oci2bk::gc::Collection;
use oci2bk::keys::SourceSummary;
use oci2bk::mounts::{Existing, Importer};
use oci2bk::plan::Requirement;
use oci2bk::prepare::Prepared;
use oci2bk::sparse::{self, SparseError};
use oci2bk::text;
use oci2bk::{CacheExport, Converter, Keyring, Preparer};

use crate::args::{Convert, Format, Places};
use crate::clock;
use crate::clock::source_date_epoch;
use crate::failure::{Failure, KnownDockerfile};
use crate::gc;
use crate::mounts::AttachedMounts;
use crate::output;
use crate::progress::Display;
use crate::report::destination;
use crate::signals::Signals;
use crate::{summary, warning};

pub(crate) fn run(arguments: &Convert) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let last_used = match arguments.last_used {
        None => source_date_epoch()?,
        given => given,
    };

    if let Some(directory) = &arguments.sparse_layout {
        sparse::check_place(directory)?;
    }
    let Places { sources, root } = &arguments.places;
    let daemon = arguments.daemon.resolve(root.as_deref())?;
    let location = daemon.location.clone();

    let limits = arguments.limits.limits();
    let preparer = Preparer::new()
        .keys(arguments.keys.iter().cloned())
        .dockerfiles(arguments.dockerfile.sources(&arguments.platforms))
        .images(arguments.images.iter().cloned())
        .platforms(arguments.platforms.iter().cloned())
        .target(daemon.target(arguments.buildkit)?)
        .exported_by(arguments.exported_by)
        .now(clock::now())
        .limits(limits)
        .progress(display.clone());
    let mut prepared = preparer.prepare(sources)?;
    if arguments.drop_unused_layers {
        prepared.plan.drop_unused_layers();
    }
    let Prepared { exports, keyring, plan, .. } = &prepared;
    if arguments.sparse_layout.is_some() && exports.is_empty() {
        return Err(SparseError::NoCache.into());
    }
    let mounts = match arguments.mounts() {
        Some(selection) => Some(AttachedMounts::find(exports, selection)?),
        None => None,
    };

    let mut converter = Converter::new()
        .extract(arguments.layers.extract)
        .blobs(arguments.layers.blobs)
        .trust_blobs(arguments.layers.trust_blobs)
        .last_used(last_used)
        .limits(limits)
        .progress(display.clone());
    if let Some(jobs) = arguments.jobs {
        converter = converter.jobs(jobs);
    }
    check_root(location.clone())?;
    let destination = destination(plan, &daemon, arguments.buildkit.is_some());
    // Without a key source, no steps are expected.
    let asked = arguments.requirement() == Some(Requirement::Keys) || keyring.has_sources();
    let refused = refusal(arguments, &prepared, asked);
    if arguments.dry_run {
        let shares = converter.preview(plan, location.clone())?;
        display.say_warnings();
        let preview = Preview::new(&prepared, &destination, shares);
        match arguments.format {
            Format::Table => output::result::<Failure>(&summary::plan(&preview))?,
            // A program gets one document, and that of a failure is the error.
            Format::Json if refused.is_some() => {}
            Format::Json => output::result::<Failure>(&text::to_json(&preview)?)?,
        }
    }
    display.say_warnings();
    if let Some(failure) = refused {
        return Err(failure);
    }
    if asked {
        warning::of_losses(plan);
    }
    warning::of_dropped(plan);
    warning::of_unused_layers(plan);
    warning::of_releases(plan);
    if arguments.dry_run {
        return Ok(());
    }

    // Nothing has been written yet, so until here signals have their default effect.
    let signals = Signals::catch()?;
    let converter = converter.cancel(signals.cancel());
    let done = converter.convert(plan, location.clone()).map_err(|error| {
        // What the library has no time to remove; a second signal ends this.
        if matches!(error, ConvertError::Cancelled)
            && let Err(error) = remove_remains(location.clone())
        {
            return error.into();
        }
        Failure::under(&signals, error)
    })?;
    let stage_seconds = display.finish();
    let root = done.root.as_path();
    warning::of_packed(&done.left_packed);

    let collection = Collection::new(&daemon.gc, plan.target, done.collected_bytes, root)?;
    if let Some(collection) = &collection {
        gc::warn(collection, last_used.or(plan.newest()));
    }
    let mut conversion = Conversion::new(&prepared, destination, &done);
    conversion.gc = collection;
    conversion.stage_seconds = stage_seconds;
    if let Some(directory) = &arguments.sparse_layout {
        let sparse = sparse::write(exports, directory, &limits).map_err(Failure::SparseOfDone)?;
        conversion.cache_from =
            sparse.caches.iter().map(|cache| cache.source.attributes()).collect();
        conversion.sparse_layout = Some(sparse);
    }
    if let Some(attached) = &mounts {
        let importer = Importer::new()
            .existing(Existing::Keep)
            .target(plan.target)
            .last_used(last_used)
            .limits(limits)
            .progress(display.clone())
            .cancel(signals.cancel());
        let imported = attached.import(&importer, &location);
        conversion.mounts = imported.map_err(Failure::MountsOfDone)?;
    }
    if let Some(path) = &arguments.metadata_file {
        let json = text::to_json(&conversion)? + "\n";
        output::write_file(path, json.as_bytes())
            .map_err(|source| Failure::MetadataFile { path: path.clone(), source })?;
    }
    output::result(&match arguments.format {
        Format::Table => summary::report(&conversion),
        Format::Json => text::to_json(&conversion)?,
    })
}

/// Returns why the plan is not carried out: it lacks what the user asks for.
fn refusal(arguments: &Convert, prepared: &Prepared, asked: bool) -> Option<Failure> {
    let Prepared { exports, keyring, plan, .. } = prepared;
    let required = arguments.requirement();
    let unkeyed: Vec<_> = plan.unkeyed().cloned().collect();
    // Another requirement says how many steps may lack keys.
    let needs_keys = required.is_none_or(|required| required == Requirement::Keys);
    if !unkeyed.is_empty() && asked && needs_keys && !arguments.allow_unkeyed {
        let foreign = foreign(keyring, exports);
        let dockerfile = dockerfile(arguments, exports);
        return Some(Failure::Unkeyed { lost: unkeyed, foreign, dockerfile });
    }
    let requirement = required?;
    let shortfalls = plan.unmet(requirement);
    (!shortfalls.is_empty()).then_some(Failure::Incomplete { requirement, shortfalls })
}

/// Returns what is known of the Dockerfile of `exports`. One that nobody named is not read.
fn dockerfile(arguments: &Convert, exports: &[CacheExport]) -> KnownDockerfile {
    if !arguments.dockerfile.files.is_empty() {
        return KnownDockerfile::Given;
    }
    let places = exports.iter().flat_map(|export| export.layout.path().ancestors().take(2));
    let file = places.map(|place| place.join("Dockerfile")).find(|file| file.is_file());
    file.map_or(KnownDockerfile::None, KnownDockerfile::Found)
}

/// Returns the key sources that do not belong to any of `exports`.
fn foreign(keyring: &Keyring, exports: &[CacheExport]) -> Vec<String> {
    let is_ours = |cache| exports.iter().any(|export| export.manifest.digest == cache);
    let sources = keyring.sources();
    // A builder's history has other builds too.
    let has_ours = |path: &Path| sources.iter().any(|s| s.matches && s.description.path == path);
    let of_other = |source: &SourceSummary| {
        let path = source.description.path.as_path();
        match source.attached_to {
            Some(cache) if !is_ours(cache) => Some(format!(
                "the keys attached in {} belong to another cache, {cache}; attach keys after each export",
                path.display()
            )),
            _ if !has_ours(path) => Some(format!(
                "no key of {} fits the cache: it belongs to another build",
                path.display()
            )),
            _ => None,
        }
    };
    let mut lines: Vec<_> = sources.iter().filter_map(of_other).collect();
    lines.dedup();
    lines
}

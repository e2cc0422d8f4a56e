//! `oci2bk convert`.

use std::path::Path;
use std::time::Instant;

use bkstate::root::{OpenRootError, strangers};
use oci2bk::convert::{ConvertError, check_root, remove_remains};
use oci2bk::gc::Collection;
use oci2bk::image::ImageError;
use oci2bk::keys::{SourceError, SourceSummary};
use oci2bk::llb::Platform;
use oci2bk::mounts::{Existing, Importer};
use oci2bk::plan::Requirement;
use oci2bk::sparse::{self, SparseError};
use oci2bk::text;
use oci2bk::{BaseImage, CacheExport, Converter, Inputs, Keyring, Limits, Plan};

use crate::args::{Convert, Format, KeyPath, Places};
use crate::clock;
use crate::failure::Failure;
use crate::gc;
use crate::keys::read_source;
use crate::last_used::source_date_epoch;
use crate::mounts::AttachedMounts;
use crate::output;
use crate::progress::Display;
use crate::report::{Destination, Report, Timings};
use crate::signals::Signals;
use crate::sparse::Written;
use crate::warmth::cache_from;
use crate::{summary, warning};

pub(crate) fn run(arguments: &Convert) -> Result<(), Failure> {
    let display = Display::shared(arguments.progress);
    let mut timings = Timings::new();
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

    let started = Instant::now();
    let limits = arguments.limits.limits();
    let platforms = match arguments.platforms.as_slice() {
        [] => vec![Platform::of_machine()],
        given => given.to_vec(),
    };
    let Inputs { exports, images: whole, .. } = Inputs::read(sources, &platforms, &limits)?;
    if arguments.sparse_layout.is_some() && exports.is_empty() {
        return Err(SparseError::NoCache.into());
    }
    let mounts = match arguments.mounts() {
        Some(selection) => Some(AttachedMounts::find(&exports, selection)?),
        None => None,
    };
    timings.add("read", started.elapsed());

    let started = Instant::now();
    let mut keyring = keyring(&exports, &arguments.keys, &limits)?;
    let read = |image| BaseImage::read(image, &limits);
    let images = arguments.images.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    keyring.add_scanners(images.iter().flatten());
    timings.add("keys", started.elapsed());

    let started = Instant::now();
    let mut plan = Plan::for_target(&exports, &keyring, daemon.target(arguments.buildkit)?)?;
    plan.add_images_of(&exports)?;
    for image in &whole {
        plan.add_layers(image)?;
        plan.add_images(std::slice::from_ref(&image.image));
    }
    warning::of_nameless_images(&whole);
    for images in &images {
        add_layers_there(&mut plan, images, &platforms)?;
        warning::of_unused_images(&plan.add_images(images));
    }
    if !location.worker().has_images() {
        warning::of_names_without_store(plan.images.keys());
    }
    if arguments.drop_unused_layers {
        plan.drop_unused_layers();
    }
    timings.add("plan", started.elapsed());

    let mut converter = Converter::new()
        .extract(arguments.layers.extract)
        .blobs(arguments.layers.blobs)
        .trust_blobs(arguments.layers.trust_blobs)
        .last_used(last_used)
        .limits(limits);
    if let Some(jobs) = arguments.jobs {
        converter = converter.jobs(jobs);
    }
    check_root(location.clone())?;
    let destination = Destination::new(&plan, &daemon, arguments.buildkit.is_some());
    for directory in location.directories() {
        let found = strangers(directory, location.worker()).map_err(OpenRootError::Root)?;
        warning::of_strangers(directory, &found);
    }
    if arguments.dry_run {
        let shares = converter.preview(&plan, location.clone())?;
        output::result::<Failure>(&match arguments.format {
            Format::Table => summary::plan(&plan, &destination, &keyring, shares),
            Format::Json => summary::plan_as_json(&plan, &destination, &keyring, shares)?,
        })?;
    }
    let unkeyed: Vec<_> = plan.unkeyed().cloned().collect();
    // Without a key source, no steps are expected.
    let required = arguments.requirement();
    let asked = required == Some(Requirement::Keys) || keyring.has_sources();
    // Another requirement says how many steps may lack keys.
    let needs_keys = required.is_none_or(|required| required == Requirement::Keys);
    if !unkeyed.is_empty() && asked && needs_keys && !arguments.allow_unkeyed {
        let foreign = foreign(&keyring, &exports);
        return Err(Failure::Unkeyed { lost: unkeyed, foreign });
    }
    if let Some(requirement) = required {
        let shortfalls = plan.unmet(requirement);
        if !shortfalls.is_empty() {
            return Err(Failure::Incomplete { requirement, shortfalls });
        }
    }
    if asked {
        warning::of_losses(&plan);
    }
    warning::of_dropped(&plan);
    warning::of_unused_layers(&plan);
    warning::of_releases(&plan);
    if let Some(now) = clock::now() {
        warning::of_future(&plan, now);
    }
    if arguments.dry_run {
        return Ok(());
    }

    // Nothing has been written yet, so until here signals have their default effect.
    let signals = Signals::catch()?;
    let converter = converter.progress(display.clone()).cancel(signals.cancel());
    let done = converter.convert(&plan, location.clone()).map_err(|error| {
        // What the library has no time to remove; a second signal ends this.
        if matches!(error, ConvertError::Cancelled)
            && let Err(error) = remove_remains(location.clone())
        {
            return error.into();
        }
        Failure::under(&signals, error)
    })?;
    timings.extend(display.finish());
    let root = done.root.as_path();
    warning::of_mended(root, &done.mended);
    warning::of_different(root, &done.legacy.different);
    warning::of_trailing(&done.trailing);
    warning::of_bad_copies(&done.bad_copies);
    warning::of_unleased(done.unleased.len());
    warning::of_packed(&done.left_packed);
    warning::of_left_out(done.left_out);

    let collection = Collection::new(&daemon.gc, plan.target, done.collected_bytes, root)?;
    if let Some(collection) = &collection {
        gc::warn(collection, last_used.or(plan.newest()));
    }
    let destination = Destination { root: root.to_owned(), ..destination };
    let mut report = Report::new(destination, &plan, &keyring, &done, collection, timings);
    report.cache_from = cache_from(&exports);
    if let Some(directory) = &arguments.sparse_layout {
        let sparse = sparse::write(&exports, directory, &limits).map_err(Failure::SparseOfDone)?;
        let sparse = Written::new(directory, &sparse);
        report.cache_from = sparse.cache_from();
        report.sparse_layout = Some(sparse);
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
        report.mounts = imported.map_err(Failure::MountsOfDone)?;
    }
    if let Some(path) = &arguments.metadata_file {
        let json = text::to_json(&report)? + "\n";
        output::write_file(path, json.as_bytes())
            .map_err(|source| Failure::MetadataFile { path: path.clone(), source })?;
    }
    output::result(&match arguments.format {
        Format::Table => summary::report(&report),
        Format::Json => text::to_json(&report)?,
    })
}

/// Adds the existing layers of base images: manifest and config are useful alone, too.
fn add_layers_there(
    plan: &mut Plan,
    images: &[BaseImage],
    platforms: &[Platform],
) -> Result<(), Failure> {
    for (image, platform) in
        images.iter().flat_map(|image| platforms.iter().map(move |p| (image, p)))
    {
        match image.whole(platform) {
            Ok(whole) => plan.add_layers(&whole)?,
            // An image store has only whole images.
            Err(
                ImageError::NoPlatform { .. }
                | ImageError::NoManifest { .. }
                | ImageError::NoLayer { .. },
            ) if image.name.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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

/// Reads the key sources: those named by the user, then those inside the layouts, then those beside them. The
/// first source with a key also names the step, and keys attached to a layout only have its kind.
pub(crate) fn keyring(
    exports: &[CacheExport],
    named: &[KeyPath],
    limits: &Limits,
) -> Result<Keyring, Failure> {
    let mut keyring = Keyring::for_exports(exports);
    for source in named.iter().map(|source| read_source(source, limits)) {
        for document in source? {
            keyring.add(document, limits).map_err(SourceError::from)?;
        }
    }
    keyring.read_layouts(exports)?;
    for export in exports {
        keyring.add_scanners(&BaseImage::in_layout(&export.layout)?);
    }
    for error in keyring.read_beside(exports) {
        warning::of_found(&error);
    }
    let signed = keyring.sources().iter().filter(|source| source.signed);
    signed.for_each(|source| warning::of_signature(&source.description));
    Ok(keyring)
}

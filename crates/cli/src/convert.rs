//! `oci2bk convert`.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use bkstate::Digest;
use bkstate::gc::GcConfig;
use oci2bk::convert::{Options, check_root, convert, preview};
use oci2bk::export::CacheExport;
use oci2bk::image::BaseImage;
use oci2bk::keys::{self, Keyring};
use oci2bk::limits::Limits;
use oci2bk::plan::Plan;

use crate::args::{Convert, Format, Places};
use crate::failure::Failure;
use crate::gc::Collection;
use crate::output;
use crate::progress::Display;
use crate::report::{Report, Timings};
use crate::summary;

pub(crate) fn run(arguments: &Convert) -> Result<(), Failure> {
    let display = Display::new(arguments.progress);
    let mut timings = Timings::new();

    let gc_config = arguments.config.as_deref().map(GcConfig::read).transpose()?;

    let started = Instant::now();
    let Places { sources, root } = &arguments.places;
    let limits = arguments.limits.limits();
    let read = |source| CacheExport::read_all(source, &limits);
    let exports = sources.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let exports: Vec<_> = exports.into_iter().flatten().collect();
    timings.add("read", started.elapsed());

    let started = Instant::now();
    let keyring = keyring(&exports, arguments, &limits)?;
    timings.add("keys", started.elapsed());

    let started = Instant::now();
    let mut plan = Plan::for_target(&exports, &keyring, arguments.buildkit);
    add_images(&mut plan, &exports, arguments, &limits)?;
    timings.add("plan", started.elapsed());

    let options = Options {
        extract: arguments.layers.extract,
        jobs: arguments.jobs.unwrap_or_else(processors),
        blobs: arguments.layers.blobs,
        trust_blobs: arguments.layers.trust_blobs,
        last_used: arguments.last_used.or(arguments.source_date_epoch.and_then(|epoch| epoch.0)),
        limits,
    };
    check_root(root)?;
    if arguments.dry_run {
        let shares = preview(&plan, root, &options)?;
        output::result(&match arguments.format {
            Format::Table => summary::plan(&plan, &keyring, shares),
            Format::Json => summary::plan_as_json(&plan, &keyring, shares)?,
        })?;
    }
    let unkeyed: Vec<_> = plan.unkeyed().cloned().collect();
    if !unkeyed.is_empty() && !arguments.allow_unkeyed {
        return Err(Failure::Unkeyed(unkeyed));
    }
    summary::warn_of_losses(&plan);
    summary::warn_of_releases(&plan);
    if arguments.dry_run {
        return Ok(());
    }

    let done = convert(&plan, &exports, root, &options, &display)?;
    timings.extend(display.finish());
    summary::warn_of_mended(root, &done.mended);

    let gc_config = gc_config.unwrap_or_default();
    let gc = Collection::new(&gc_config, plan.target, done.record_bytes, root)?;
    if let Some(gc) = &gc {
        gc.warn(options.last_used.or(plan.newest()));
    }
    let report = Report::new(root, &plan, &keyring, &done, gc, timings);
    if let Some(path) = &arguments.metadata_file {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, json)
            .map_err(|source| Failure::MetadataFile { path: path.clone(), source })?;
    }
    output::result(&match arguments.format {
        Format::Table => summary::report(&report),
        Format::Json => serde_json::to_string_pretty(&report)?,
    })
}

/// What the key sources know: what the user names, then what lies inside the layouts. The first
/// that has a key names the step too, and keys attached to a layout have no more than its kind.
fn keyring(
    exports: &[CacheExport],
    arguments: &Convert,
    limits: &Limits,
) -> Result<Keyring, Failure> {
    let wanted: BTreeSet<Digest> =
        exports.iter().flat_map(|export| export.config.digests_with_inputs()).collect();
    let mut keyring = Keyring::new();
    for path in &arguments.keys {
        for source in keys::read_source(path, limits)? {
            keyring.add(source.description, source.candidates, &wanted);
        }
    }
    // The exports of the platforms of an image follow each other and share a layout.
    for layout in exports.chunk_by(|a, b| Arc::ptr_eq(&a.layout, &b.layout)) {
        let Some(export) = layout.first() else { continue };
        for source in keys::read_layout(&export.layout)? {
            keyring.add(source.description, source.candidates, &wanted);
        }
    }
    Ok(keyring)
}

/// Adds the base images that lie inside the layouts of the caches and those that the user names.
fn add_images(
    plan: &mut Plan,
    exports: &[CacheExport],
    arguments: &Convert,
    limits: &Limits,
) -> Result<(), Failure> {
    for export in exports {
        // Most of what lies beside a cache is no base of it.
        plan.add_images(&BaseImage::in_layout(&export.layout)?);
    }
    for image in &arguments.images {
        let unused = plan.add_images(&BaseImage::read(image, limits)?);
        summary::warn_of_unused_images(&unused);
    }
    Ok(())
}

pub(crate) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

//! Tables of an export.

use std::collections::{BTreeMap, BTreeSet};

use graph::Graph;
use oci2bk::config::RecordIndex;
use oci2bk::inspect::{Export, ExportStep, Warmth, count};
use oci2bk::plan::MissReason;
use oci2bk::sizes::Sizes;
use oci2bk::text::{one_line, short_digest, size};

use crate::table::{Page, bytes, name, tally, time, unnamed};

/// Formats the tables. `detailed` shows everything known about each item.
pub(super) fn table(export: &Export, detailed: bool) -> String {
    let order = Graph::from(export).in_order();
    let mut page = Page::default();
    for source in &export.sources {
        let exporter = source.exporter.map(|exporter| format!(", made by BuildKit {exporter}"));
        page.line(format!(
            "{} {}, {} records{}",
            one_line(&source.reference),
            source.manifest,
            source.records,
            exporter.unwrap_or_default()
        ));
    }
    for key in &export.keys {
        page.line(format!(
            "  {} keys from {}, of {} op digests",
            key.resolved,
            one_line(&key.description.to_string()),
            key.candidates
        ));
    }
    page.line(format!(
        "  for BuildKit {}: {}",
        export.target,
        tally(&count(export.steps.iter().map(|s| s.warmth)))
    ));
    if let Some(sizes) = &export.sizes {
        sizes_of_root(&mut page, sizes);
    }
    if detailed {
        let places: BTreeMap<_, _> =
            export.steps.iter().map(|step| ((step.source, step.number), step)).collect();
        let mut above: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for step in &export.steps {
            for input in &step.inputs {
                above.entry((step.source, input.step)).or_default().insert(step.number);
            }
        }
        for step in order.iter().map(|&step| &export.steps[step]) {
            let called = |number: RecordIndex| {
                let step = places.get(&(step.source, number));
                step.map_or_else(|| format!("record {number}"), |step| called(step))
            };
            let above = above.remove(&(step.source, step.number)).unwrap_or_default();
            thing(&mut page, export, step, called, above);
        }
    } else {
        page.table(
            "steps",
            ["STEP", "STATE", "DIGEST", "LAYER", "PACKED", ">SIZE", ">LAYERS", "CREATED"],
            order.iter().map(|&step| row(export, &export.steps[step])),
        );
    }
    page.table(
        "layers",
        ["LAYER", "BLOB", ">SIZE", "PACKED", "ON", "CREATED"],
        export.layers.iter().map(|layer| {
            [
                layer.number.to_string(),
                short_digest(&layer.blob.to_string()),
                layer.bytes.map_or("missing".to_owned(), size),
                layer.compression_word().unwrap_or_default().to_owned(),
                layer.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                time(layer.created_at),
            ]
        }),
    );
    let cold = export.steps.iter().filter(|step| step.warmth.is_cold());
    page.table("run again, or may", ["STEP", "WHY"], cold.map(|step| [called(step), why(step)]));
    page.finish()
}

/// Adds what a root takes, for each way to convert.
fn sizes_of_root(page: &mut Page, sizes: &Sizes) {
    let blobs = Taken { bytes: sizes.blob_bytes, files: sizes.blobs as u64 };
    let trees = Taken { bytes: sizes.disk_bytes, files: sizes.inodes };
    let both = Taken {
        bytes: blobs.bytes.saturating_add(trees.bytes),
        files: blobs.files.saturating_add(trees.files),
    };
    page.table(
        "sizes of a root, besides its databases",
        ["CONVERTED", ">SIZE", ">FILES", "WHICH ARE"],
        [
            ("as it is", both, "packed and unpacked layers"),
            ("with --blobs none", trees, "unpacked layers"),
            ("with --no-extract", blobs, "packed layers"),
        ]
        .map(|(how, taken, what)| {
            [how.to_owned(), size(taken.bytes), taken.files.to_string(), what.to_owned()]
        }),
    );
}

/// What something takes on a disk.
#[derive(Clone, Copy)]
struct Taken {
    bytes: u64,
    files: u64,
}

fn called(step: &ExportStep) -> String {
    match &step.name {
        Some(text) => name(Some(text)),
        None => unnamed(step.warmth),
    }
}

fn row(export: &Export, step: &ExportStep) -> [String; 8] {
    let result = step.results.first();
    let layer = result.and_then(|result| export.layer(step.source, result.layer));
    [
        called(step),
        step.warmth.word().to_owned(),
        short_digest(&step.digest.to_string()),
        layer.map(|layer| short_digest(&layer.blob.to_string())).unwrap_or_default(),
        layer.and_then(|layer| layer.compression_word()).unwrap_or_default().to_owned(),
        bytes(layer.and_then(|layer| layer.bytes)),
        result.map(|result| result.depth.to_string()).unwrap_or_default(),
        time(result.and_then(|result| result.created_at)),
    ]
}

fn why(step: &ExportStep) -> String {
    let reason = step.misses.first().map(|miss| match miss.reason {
        MissReason::NoOp => "its key comes from a cache.db or a keys file and cannot be translated",
        MissReason::Patterns => "files that its wildcards match may be hashed differently",
        MissReason::Links => "directories with symbolic links are hashed differently since v0.14",
        _ => "its key may differ in this release",
    });
    match step.warmth {
        Warmth::MayMiss => reason.unwrap_or("it builds on a step that may run again").to_owned(),
        Warmth::WillMiss => reason.unwrap_or(step.warmth.meaning()).to_owned(),
        Warmth::NoLayers => {
            let missing = step.missing.first().map(ToString::to_string).unwrap_or_default();
            format!("the cache lacks layer {}", short_digest(&missing))
        }
        Warmth::NoKey => "no key source has its op digest".to_owned(),
        Warmth::NoInput => "it builds on a step that runs again".to_owned(),
        _ => String::new(),
    }
}

fn thing(
    page: &mut Page,
    export: &Export,
    step: &ExportStep,
    called: impl Fn(RecordIndex) -> String,
    above: BTreeSet<RecordIndex>,
) {
    let mut members = vec![
        ("digest", step.digest.to_string()),
        ("state", format!("{}: {}", step.warmth.word(), step.warmth.meaning())),
    ];
    if step.warmth.is_cold() {
        members.push(("why", why(step)));
    }
    if let Some(key) = &step.key {
        members.push(("op digest", one_line(key.op_digest.as_str())));
        let source = export.keys[key.source].description.to_string();
        members.push(("key from", one_line(&source)));
    }
    for input in &step.inputs {
        let of = called(input.step);
        let part = if input.selector.is_empty() {
            String::new()
        } else {
            format!(" ({})", one_line(&input.selector))
        };
        members.push(("builds on", format!("input {}: {of}{part}", input.input)));
    }
    members.extend(above.into_iter().map(|number| ("is below", called(number))));
    for result in &step.results {
        let layer = export.layer(step.source, result.layer);
        let blob = layer.map(|layer| layer.blob.to_string()).unwrap_or_default();
        members.push((
            "result",
            format!("{} layers, {}, up to {blob}", result.depth, size(result.bytes)),
        ));
        if let Some(layer) = layer {
            members.push((
                "layer",
                [
                    bytes(layer.bytes),
                    layer.compression_word().unwrap_or_default().to_owned(),
                    time(layer.created_at),
                ]
                .join(" "),
            ));
            members.push((
                "diffID",
                layer.diff_id.map(|digest| digest.to_string()).unwrap_or_default(),
            ));
        }
    }
    page.thing(&step.name.as_deref().map_or_else(|| unnamed(step.warmth), one_line), &members);
}

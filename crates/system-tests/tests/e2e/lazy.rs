//! A layer of a base image that cannot be unpacked, and need not be: a daemon leaves it packed, and so does a
//! conversion.

use anyhow::{Result, ensure};

use crate::build::Options;
use crate::case::{Case, Export, Keys};
use crate::export::CacheExport;
use crate::images::Image;
use crate::merging::bench;
use crate::proof::ensure_same_steps;
use crate::state;
use crate::world::World;

const LAZY: Case = Case {
    name: "lazy",
    dockerfile: || "FROM {registry}/unpackable\nCOPY --link a /a\n".into(),
    context: |context| drop(context.file("a", "a\n")),
    edit: |context| drop(context.file("a", "edited\n")),
    arguments: &[],
    export: Export::MAX,
    // An export without files does not unpack it.
    keys: Keys::Attestation,
};

/// Returns an archive whose only entry is a hard link to a missing file.
fn hard_link_to_nothing() -> Vec<u8> {
    let mut header = [0; 512];
    let fields: [(usize, &[u8]); 9] = [
        (0, b"link"),
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00000000000\0"),
        (136, b"00000000000\0"),
        (148, b"        "),
        (156, b"1gone"),
        (257, b"ustar\x0000"),
    ];
    for (at, field) in fields {
        header[at..at + field.len()].copy_from_slice(field);
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.resize(3 * 512, 0);
    archive
}

/// The cache of a build on such a base image becomes a root that is as warm as the original. A step that
/// needs the files fails there as on a natural root.
pub(crate) fn prove(world: &World) -> Result<()> {
    let bench = bench(world, "lazy")?;
    let daemon = world.start(&bench.path("natural"))?;
    let image = Image::build(
        world,
        &daemon,
        &bench.path("unpackable"),
        "FROM {registry}/busybox\nRUN echo more > /more\n",
    )?;
    image.add_layer(&hard_link_to_nothing())?;
    image.push(world)?;
    let made = bench.make(&daemon, &LAZY)?;
    let edited = bench.build(&daemon, &LAZY, true)?;
    daemon.stop()?;

    let root = bench.path("converted");
    let report = bench.convert_with(&made, &root, &[])?;
    // The layer itself, and the copied file, which is above it in the cache.
    let left = report["left_packed"].as_array().map_or(0, Vec::len);
    ensure!(left == 2, "{left} layers are left packed: {report:#}");
    state::ensure_verified(&world.tools, &root, true)?;

    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &LAZY, false)?;
    ensure_same_steps(LAZY.keys, &made.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    // The base image alone is not a result of the cache: only a merge is above it. So the daemon looks it up,
    // and finds its layers.
    let again = bench.build(&daemon, &LAZY, true)?;
    let [before, after] = [&edited, &again].map(|report| report.cached(Keys::Donor));
    ensure!(
        before == after,
        "after the edit {after:?} are cached, and on the natural root {before:?}"
    );
    again.ensure_nothing_imported(|_| false)?;
    let exported = bench.path("exported");
    let export = Some((&*exported, ""));
    bench.build_with(&daemon, &LAZY, false, &Options { export, ..Options::default() })?;
    made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    state::ensure_prunable(&world.tools, daemon, &root)
}

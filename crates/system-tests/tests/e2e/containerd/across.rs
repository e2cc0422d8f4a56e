//! The cache of a buildkitd with the OCI worker, such as a builder in a container, for a builder on a containerd.

use anyhow::Result;

use crate::build::Options;
use crate::case::Case;
use crate::export::CacheExport;
use crate::host::Host;
use crate::merging::{TODAY, bench};
use crate::proof::ensure_same_steps;
use crate::world::World;

/// Steps have no network, because the engines here have no bridge: the network is part of their keys.
const CASE: Case = Case { arguments: &["--opt", "force-network-mode=none"], ..TODAY };

/// Checks that the builder has every step cached, unpacks nothing, and exports the same cache again.
pub(crate) fn prove(world: &World) -> Result<()> {
    let bench = bench(world, "across")?;
    let exporter = world.within(Host::Buildkitd).start(&bench.path("exporter"))?;
    let made = bench.make(&exporter, &CASE)?;
    exporter.stop()?;

    let root = bench.path("root");
    bench.convert(&made, &root)?;
    let daemon = world.start(&root)?;
    let warm = bench.build(&daemon, &CASE, false)?;
    ensure_same_steps(CASE.keys, &made.warm, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    let exported = bench.path("exported");
    let export = Some((&*exported, ""));
    bench.build_with(&daemon, &CASE, false, &Options { export, ..Options::default() })?;
    made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
    daemon.stop().map(drop)
}

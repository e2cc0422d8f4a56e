//! Words of reports.

use std::path::PathBuf;

use oci2bk::document::{Containerd, Destination};
use oci2bk::plan::{LostReason, Plan, ShortfallKind};
use oci2bk::release::Target;
use oci2bk::text::{self, one_line};

use crate::daemon::DaemonRoot;

/// Returns the destination of `plan` for `daemon`. The release is that of `dockerd` unless it was `given`.
pub(crate) fn destination(plan: &Plan, daemon: &DaemonRoot, given: bool) -> Destination {
    let dockerd = daemon.dockerd.as_ref().filter(|_| !given);
    let mut destination = Destination::new(plan, &daemon.location);
    destination.dockerd = dockerd.map(|dockerd| dockerd.path.clone());
    destination
}

/// Says a destination in lines, if it is more than a root.
pub(crate) fn destination_lines(destination: &Destination, target: Target) -> Vec<String> {
    let Destination { containerd, owner_map, dockerd, images, .. } = destination;
    let containerd = containerd.iter().map(|Containerd { root, namespace, .. }| {
        format!("layers in the namespace {namespace} of the containerd in {}", text::path(root))
    });
    let owners = owner_map.iter().map(|map| format!("owners of the map {map}"));
    let contains = |program: &PathBuf| {
        format!("for BuildKit {target}, which {} contains", text::path(program))
    };
    let images = images.keys().map(|name| format!("the image {}", one_line(name)));
    containerd.chain(owners).chain(dockerd.iter().map(contains)).chain(images).collect()
}

/// Returns what a shortfall is, in a few words.
pub(crate) fn why(kind: ShortfallKind) -> &'static str {
    match kind {
        ShortfallKind::NoKey => "no key",
        ShortfallKind::Unproven => "no proven key",
        ShortfallKind::LostInput => "no key below",
        ShortfallKind::SbomScan => "SBOM scan",
        ShortfallKind::MissingLayer => "a layer is missing",
        ShortfallKind::NotFound => "this release of BuildKit looks for another key",
        ShortfallKind::UnusedLayer => "no step leads to the layer",
        other => other.name(),
    }
}

/// Returns the number of records of `plan` that are lost for `reason`.
pub(crate) fn lost_for(plan: &Plan, reason: LostReason) -> usize {
    plan.lost.iter().filter(|lost| lost.reason == reason).count()
}

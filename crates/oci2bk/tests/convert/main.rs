//! Conversions of the committed fixtures through the library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod archives;
mod blobs;
mod cache;
mod cancelled;
mod chains;
mod copies;
mod fixture;
mod legacy;
mod merging;
mod packed;
mod partial;
mod pinned;
mod refused;
mod releases;
mod repeated;
mod snapshotters;
mod tree;
mod verified;
mod witnesses;
mod work;

use std::num::NonZeroUsize;
use std::path::Path;

use bkstate::Root;
use oci2bk::convert::{ConvertError, Converter, Report};
use oci2bk::export::CacheExport;
use oci2bk::plan::{LostReason, Plan};

use fixture::{ALL, Fixture, can_extract};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn converter(extract: bool) -> Converter {
    Converter::new().extract(extract).jobs(TWO)
}

/// Converts `exports`, whose steps may lack keys, into `root`.
fn converted(
    exports: &[CacheExport],
    fixtures: &[&Fixture],
    root: &Path,
    converter: &Converter,
) -> Result<Report, ConvertError> {
    let plan = Plan::new(exports, &fixture::keyring(exports, fixtures)).unwrap();
    converter.convert(&plan, root)
}

/// Returns whether to unpack, as far as this user can.
fn extracting() -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(|extract| !extract || can_extract())
}

/// Returns the ways to convert that this user can use.
fn ways() -> impl Iterator<Item = Converter> {
    extracting().map(converter)
}

#[test]
fn every_record_is_resolved_by_its_keys() {
    for fixture in ALL {
        let exports = [fixture.export()];
        let keyring = fixture::keyring(&exports, &[fixture]);
        let plan = Plan::new(&exports, &keyring).unwrap();
        assert_eq!(plan.lost.len(), 0, "{}: {:#?}", fixture.name, plan.lost);
        assert_eq!(plan.dropped.len(), 0, "{}", fixture.name);
        let with_inputs: std::collections::BTreeSet<_> =
            exports[0].config.digests_with_inputs().collect();
        assert_eq!(keyring.len(), with_inputs.len(), "{}", fixture.name);
    }
}

#[test]
fn every_record_with_inputs_is_lost_without_keys() {
    for fixture in ALL {
        let exports = [fixture.export()];
        let plan = Plan::new(&exports, &fixture::keyring(&exports, &[])).unwrap();
        assert!(plan.steps.iter().all(|step| step.links.is_empty()));
        assert!(plan.lost.iter().all(|lost| lost.reason == LostReason::NoKey));
        assert_eq!(plan.lost.len(), exports[0].config.digests_with_inputs().count());
    }
}

#[test]
fn a_converted_root_is_sound_and_has_what_the_plan_says() {
    for fixture in ALL {
        for extract in extracting() {
            let temp = tempfile::tempdir().unwrap();
            // Created with all directories above it.
            let root = temp.path().join("var/lib/buildkit");
            let exports = [fixture.export()];
            let plan = Plan::new(&exports, &fixture::keyring(&exports, &[fixture])).unwrap();
            let report = converter(extract).convert(&plan, &root).unwrap();
            let opened = Root::open(&root).unwrap();
            assert!(opened.verify_databases().unwrap().damage.is_empty());
            let state = opened.state().unwrap();
            assert_eq!(state.records.by_id.len(), plan.layers.len());
            assert_eq!(state.solver.links.len(), plan.steps.len());
            assert_eq!(report.blobs, plan.blobs.len());
            let snapshots = if extract { plan.snapshots.len() } else { 0 };
            assert_eq!(report.snapshots, snapshots);
            assert_eq!(state.snapshots.by_name.len(), snapshots);
            assert_eq!(report.entries > 0, extract);
            for blob in plan.blobs.keys() {
                let copy = root.join("runc-overlayfs/content/blobs/sha256").join(blob.hex());
                let content = std::fs::read(copy).unwrap();
                assert_eq!(bkstate::Digest::of(content), *blob);
            }
        }
    }
}

#[test]
fn several_caches_make_one_root() {
    let exports: Vec<_> = ALL.iter().map(Fixture::export).collect();
    let fixtures: Vec<_> = ALL.iter().collect();
    for converter in ways() {
        let temp = tempfile::tempdir().unwrap();
        let report = converted(&exports, &fixtures, temp.path(), &converter).unwrap();
        let blobs: std::collections::BTreeSet<_> =
            exports.iter().flat_map(|export| export.manifest.layers.keys()).collect();
        assert_eq!(report.blobs, blobs.len());
    }
}

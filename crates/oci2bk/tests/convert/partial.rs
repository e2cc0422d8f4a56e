//! Partial copies of a cache: existing parts work, missing parts are reported.

use std::fs;

use bkstate::Digest;
use bkstate::Root;
use oci2bk::plan::Plan;

use super::fixture::{self, ALL, Copy};
use super::ways;

/// The fixture that is copied in part.
const MANIFEST: usize = 1;

/// Returns the number of steps of `plan` with a result.
fn with_result(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| !step.results.is_empty()).count()
}

/// Checks that the copy converts to a sound root without `missing` and the results that need it.
fn converts_without(copy: &Copy, missing: Digest) {
    let whole = [ALL[MANIFEST].export()];
    let whole = Plan::new(&whole, &fixture::keyring(&whole, &[&ALL[MANIFEST]])).unwrap();
    for converter in ways() {
        let exports = [copy.export()];
        let plan = Plan::new(&exports, &fixture::keyring(&exports, &[&ALL[MANIFEST]])).unwrap();
        assert!(!plan.dropped.is_empty());
        for dropped in &plan.dropped {
            assert_eq!(dropped.missing, missing);
            assert!(dropped.name.is_some(), "{dropped:?}");
        }
        assert_eq!(plan.steps.len(), whole.steps.len());
        assert_eq!(with_result(&plan) + plan.dropped.len(), with_result(&whole));
        assert!(with_result(&plan) > 0);
        let temp = tempfile::tempdir().unwrap();
        let report = converter.convert(&plan, temp.path()).unwrap();
        assert!(report.blobs < whole.blobs.len());
        assert!(Root::open(temp.path()).unwrap().verify_databases().unwrap().damage.is_empty());
    }
}

#[test]
fn a_layer_whose_blob_is_missing() {
    let copy = ALL[MANIFEST].copy();
    let blob = copy.top_layer();
    fs::remove_file(copy.blob(&blob)).unwrap();
    converts_without(&copy, blob);
}

#[test]
fn a_layer_that_the_manifest_does_not_describe() {
    let copy = ALL[MANIFEST].copy();
    let blob = copy.top_layer();
    copy.edit_manifest(|manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        layers.retain(|layer| layer["digest"] != blob.to_string());
    });
    converts_without(&copy, blob);
}

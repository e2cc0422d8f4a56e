//! A cancelled conversion or verification ends soon, and leaves the root as it was.

use std::path::Path;
use std::sync::{Arc, Mutex};

use oci2bk::convert::ConvertError;
use oci2bk::verify::VerifyError;
use oci2bk::{Cancel, Event, Plan, Progress, Root, Verifier};

use super::fixture::{self, ALL};
use super::tree::describe;
use super::{TWO, converted, converter, extracting};

/// Returns the name of an event, in the order of the stages.
fn word(event: Event<'_>) -> String {
    match event {
        Event::StageStarted(stage) => format!("{} starts", stage.name()),
        Event::StageFinished(stage) => format!("{} ends", stage.name()),
        Event::LayersCounted { .. } => "layers counted".to_owned(),
        Event::LayerStarted(_) => "layer starts".to_owned(),
        Event::LayerAdvanced { .. } => "layer advances".to_owned(),
        Event::LayerFinished(_) => "layer ends".to_owned(),
        event => panic!("{event:?}"),
    }
}

/// Cancels at the event `moment`; records the events before and after it.
fn cancelling(moment: &str, cancel: &Cancel, seen: &Arc<Mutex<Vec<String>>>) -> Arc<dyn Progress> {
    let (moment, cancel, seen) = (moment.to_owned(), cancel.clone(), Arc::clone(seen));
    Arc::new(move |event: Event<'_>| {
        let word = word(event);
        if word == moment {
            cancel.cancel();
        }
        seen.lock().unwrap().push(word);
    })
}

/// Converts the second fixture into `root`, cancelled at `moment`.
fn convert_until(
    moment: &str,
    root: &Path,
    extract: bool,
) -> (Result<(), ConvertError>, Vec<String>) {
    let exports = [ALL[1].export()];
    let plan = Plan::new(&exports, &fixture::keyring(&exports, &[&ALL[1]])).unwrap();
    let (cancel, seen) = (Cancel::new(), Arc::default());
    let progress = cancelling(moment, &cancel, &seen);
    let converter = converter(extract).progress(progress).cancel(cancel.clone());
    let result = converter.convert(&plan, root).map(drop);
    let seen = seen.lock().unwrap().clone();
    (result, seen)
}

#[test]
fn a_cancelled_conversion_leaves_the_root_as_it_was() {
    for extract in extracting() {
        let root = tempfile::tempdir().unwrap();
        converted(&[ALL[0].export()], &[&ALL[0]], root.path(), &converter(extract)).unwrap();
        let before = describe(root.path());
        let mut moments = vec!["layers starts", "layer starts", "layer ends", "layers ends"];
        if extract {
            moments.extend(["layer advances", "settle starts", "settle ends"]);
        }
        moments.extend(["verify starts", "verify ends"]);
        for moment in moments {
            let (result, seen) = convert_until(moment, root.path(), extract);
            let error = result.unwrap_err();
            assert!(matches!(error, ConvertError::Cancelled), "{moment}: {error}");
            assert_eq!(error.to_string(), "the conversion was cancelled; the root is as it was");
            assert!(!seen.contains(&"publish starts".to_owned()), "{moment}");
            assert!(describe(root.path()) == before, "{moment}");
        }
    }
}

#[test]
fn no_layer_is_begun_after_a_conversion_was_cancelled() {
    for extract in extracting() {
        let root = tempfile::tempdir().unwrap();
        let (_, seen) = convert_until("layer starts", root.path(), extract);
        let begun = seen.iter().filter(|word| *word == "layer starts").count();
        assert!((1..=TWO.get()).contains(&begun), "{seen:?}");
        assert!(!seen.contains(&"layers ends".to_owned()));
    }
}

#[test]
fn what_is_being_published_is_published() {
    let root = tempfile::tempdir().unwrap();
    let (result, _) = convert_until("publish starts", root.path(), false);
    result.unwrap();
    let report = Verifier::new().verify(&Root::open(root.path()).unwrap()).unwrap();
    assert!(report.damage.is_empty() && report.counts.records > 0, "{report:#?}");
}

#[test]
fn a_conversion_that_is_cancelled_before_it_begins_makes_no_root() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let exports = [ALL[1].export()];
    let plan = Plan::new(&exports, &fixture::keyring(&exports, &[&ALL[1]])).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let result = converter(false).cancel(cancel).convert(&plan, &root);
    let error = result.unwrap_err();
    assert!(matches!(error, ConvertError::Cancelled), "{error}");
    assert_eq!(error.to_string(), "the conversion was cancelled; the root is as it was");
    assert!(!root.exists());
}

#[test]
fn a_verification_can_be_cancelled_while_it_hashes_and_while_it_compares() {
    for extract in extracting() {
        let root = tempfile::tempdir().unwrap();
        converted(&[ALL[0].export()], &[&ALL[0]], root.path(), &converter(extract)).unwrap();
        let opened = Root::open(root.path()).unwrap();
        let mut moments = vec!["blobs starts", "layer starts", "layer advances"];
        if extract {
            moments.push("trees starts");
        }
        for moment in moments {
            let (cancel, seen) = (Cancel::new(), Arc::default());
            let progress = cancelling(moment, &cancel, &seen);
            let verifier = Verifier::new().trees(extract).jobs(TWO);
            let result = verifier.progress(progress).cancel(cancel.clone()).verify(&opened);
            let error = result.unwrap_err();
            assert!(matches!(error, VerifyError::Cancelled), "{moment}: {error}");
            assert_eq!(error.to_string(), "the verification was cancelled");
        }
    }
}

//! Several copies of a cache: a bad copy of a blob does no harm if another is good.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bkstate::Digest;
use oci2bk::convert::{ConvertError, Converter, Report, StoreBlobs};
use oci2bk::export::{CacheExport, ExportError};
use oci2bk::layout::BadCopy;
use oci2bk::limits::Limits;
use oci2bk::plan::Plan;
use oci2bk::source::{Reference, Source};
use oci2bk::warning::Warning;
use oci2bk::{Event, Progress};

use super::fixture::{self, ALL, Copy};
use super::tree::describe;
use super::{converter, ways};

const MANIFEST: usize = 1;

fn read(copies: &[&Copy]) -> Result<Vec<CacheExport>, ExportError> {
    let source = |copy: &&Copy| Source { path: copy.path(), reference: Reference::Default };
    let sources: Vec<_> = copies.iter().map(source).collect();
    CacheExport::read_sources(&sources, &Limits::default())
}

fn convert(
    exports: &[CacheExport],
    root: &Path,
    converter: &Converter,
) -> Result<Report, ConvertError> {
    let keyring = fixture::keyring(exports, &[&ALL[MANIFEST]]);
    converter.convert(&Plan::new(exports, &keyring).unwrap(), root)
}

/// Returns the content of the root from the whole cache.
fn expected(converter: &Converter) -> String {
    let (first, second) = (ALL[MANIFEST].copy(), ALL[MANIFEST].copy());
    let root = tempfile::tempdir().unwrap();
    let report = convert(&read(&[&first, &second]).unwrap(), root.path(), converter).unwrap();
    assert!(report.bad_copies.is_empty());
    describe(root.path())
}

/// A way to damage a copy of a blob, and whether it is detected before the blob is read.
type Fault = (&'static str, fn(&Path), bool);

const FAULTS: [Fault; 3] = [
    (
        "a flipped bit",
        |path| {
            let mut content = fs::read(path).unwrap();
            *content.last_mut().unwrap() ^= 1;
            fs::write(path, content).unwrap();
        },
        false,
    ),
    (
        "cut off",
        |path| {
            let content = fs::read(path).unwrap();
            fs::write(path, &content[..content.len() - 1]).unwrap();
        },
        true,
    ),
    (
        "a directory",
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        true,
    ),
];

/// Returns the ways to convert, with each way to store blobs that reads them.
/// Notes the copies of which warnings tell.
fn noting(warned: &Arc<Mutex<BTreeSet<BadCopy>>>) -> Arc<dyn Progress> {
    let warned = Arc::clone(warned);
    Arc::new(move |event: Event<'_>| {
        if let Event::Warning(Warning::BadCopy { copy }) = event {
            warned.lock().unwrap().insert(copy.clone());
        }
    })
}

fn all_ways() -> impl Iterator<Item = Converter> {
    let of =
        |way: Converter| [StoreBlobs::Auto, StoreBlobs::Copy].map(|blobs| way.clone().blobs(blobs));
    ways()
        .flat_map(of)
        .chain(fixture::can_extract().then(|| converter(true).blobs(StoreBlobs::None)))
}

#[test]
fn a_good_copy_is_taken_wherever_it_is() {
    for way in all_ways() {
        let whole = expected(&way);
        for (fault, make, _) in FAULTS {
            for bad_first in [true, false] {
                let (bad, good) = (ALL[MANIFEST].copy(), ALL[MANIFEST].copy());
                let blobs = [bad.largest_layer(), bad.top_layer()];
                blobs.iter().for_each(|blob| make(&bad.blob(blob)));
                let copies = if bad_first { [&bad, &good] } else { [&good, &bad] };
                let root = tempfile::tempdir().unwrap();
                let warned = Arc::new(Mutex::new(BTreeSet::new()));
                let way = way.clone().progress(noting(&warned));
                let report = convert(&read(&copies).unwrap(), root.path(), &way).unwrap();
                assert_eq!(*warned.lock().unwrap(), report.bad_copies, "{fault}");
                assert!(describe(root.path()) == whole, "{fault}");
                let passed: Vec<_> = report.bad_copies.iter().map(|bad| bad.blob).collect();
                if bad_first {
                    assert!(blobs.iter().all(|blob| passed.contains(blob)), "{fault}");
                    assert!(report.bad_copies.iter().all(|it| it.layout == bad.path()));
                } else {
                    assert_eq!(passed, [], "{fault}");
                }
            }
        }
    }
}

#[test]
fn each_of_two_copies_has_what_the_other_lacks() {
    for way in all_ways() {
        let whole = expected(&way);
        let (first, second) = (ALL[MANIFEST].copy(), ALL[MANIFEST].copy());
        fs::remove_file(first.blob(&first.largest_layer())).unwrap();
        FAULTS[0].1(&second.blob(&second.top_layer()));
        let exports = read(&[&first, &second]).unwrap();
        assert!(exports.iter().all(|export| export.config.dropped.is_empty()));
        let root = tempfile::tempdir().unwrap();
        let report = convert(&exports, root.path(), &way).unwrap();
        assert!(report.bad_copies.is_empty(), "the first has that one");
        assert!(describe(root.path()) == whole);
    }
}

#[test]
fn if_no_copy_is_good_all_are_named() {
    for (fault, make, is_seen_early) in FAULTS {
        let copies = [ALL[MANIFEST].copy(), ALL[MANIFEST].copy()];
        let blob = copies[0].largest_layer();
        copies.iter().for_each(|copy| make(&copy.blob(&blob)));
        let found = read(&[&copies[0], &copies[1]]);
        let bad = if is_seen_early {
            let Err(error) = found else { panic!("{fault}") };
            assert!(error.to_string().starts_with("no copy of a layer can be used: "), "{error}");
            let ExportError::NoGoodCopy { copies } = error else { panic!("{fault}: {error}") };
            copies
        } else {
            let root = tempfile::tempdir().unwrap();
            let error = convert(&found.unwrap(), root.path(), &converter(false)).unwrap_err();
            assert!(error.is_input(), "{error}");
            assert!(
                error.to_string().contains(" is damaged: its content has the digest "),
                "{error}"
            );
            let ConvertError::NoGoodCopy { copies } = error else { panic!("{error}") };
            assert_eq!(describe(root.path()), "", "nothing is left");
            copies
        };
        let named: Vec<_> = bad.iter().map(|bad| (bad.blob, bad.layout.clone())).collect();
        let expected: [(Digest, _); 2] = [0, 1].map(|copy| (blob, copies[copy].path()));
        assert_eq!(named, expected, "{fault}");
    }
}

//! What a conversion of a layout comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bkstate::dir::Dir;
use bkstate::state::verify;
use oci2bk::convert::{ConvertError, Options, Report, convert};
use oci2bk::export::{CacheExport, ExportError};
use oci2bk::keys::{Keyring, SourceError, read_layout, read_source};
use oci2bk::limits::Limits;
use oci2bk::plan::Plan;
use oci2bk::progress::Silent;
use oci2bk::source::SourceRef;

/// Where a conversion stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Keys(#[from] SourceError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

/// Converts what `source` names with the keys of `keys`, unpacking if this user can.
///
/// Asserts that nothing else is changed, and that the root is not made if the fault shows before
/// layers are read.
pub(super) fn converted_within(
    source: &SourceRef,
    keys: &[&Path],
    limits: &Limits,
) -> Result<(Plan, Report), Fault> {
    let before = files(&source.path);
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let extract = rustix::process::geteuid().is_root();
    let options = Options { extract, limits: *limits, ..Options::default() };
    let result = attempt(source, keys, &root, &options);
    assert_eq!(files(&source.path), before, "the source was changed");
    let names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    match &result {
        Ok(_) => {
            assert_eq!(names, ["root"]);
            assert!(verify(&Dir::open(&root).unwrap()).unwrap().damage.is_empty());
        }
        Err(Fault::Export(_) | Fault::Keys(_)) => assert!(names.is_empty(), "{names:?}"),
        Err(Fault::Convert(error)) => {
            assert!(error.is_input(), "{error:?}");
            let left: Vec<_> =
                fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["buildkitd.lock"]);
        }
    }
    result
}

/// Converts the cache in the layout at `path`, with the keys that lie in it.
pub(super) fn converted(path: &Path) -> Result<(Plan, Report), Fault> {
    converted_with(path, &[])
}

/// Converts the cache in the layout at `path`, with the keys of `keys` and those that lie in it.
pub(super) fn converted_with(path: &Path, keys: &[&Path]) -> Result<(Plan, Report), Fault> {
    converted_within(&path.to_str().unwrap().parse().unwrap(), keys, &Limits::default())
}

/// Why the layout at `path` has no usable export.
pub(super) fn export_error(path: &Path) -> ExportError {
    match converted(path) {
        Err(Fault::Export(error)) => error,
        Err(fault) => panic!("{fault:?}"),
        Ok((plan, _)) => panic!("converted: {plan:?}"),
    }
}

fn attempt(
    source: &SourceRef,
    keys: &[&Path],
    root: &Path,
    options: &Options,
) -> Result<(Plan, Report), Fault> {
    let (exports, plan) = read(source, keys, &options.limits)?;
    let report = convert(&plan, &exports, root, options, &Silent)?;
    Ok((plan, report))
}

/// What would be converted: for the many cases that differ in a byte.
pub(super) fn planned(path: &Path, keys: &[&Path]) -> Result<Plan, Fault> {
    let source = path.to_str().unwrap().parse().unwrap();
    read(&source, keys, &Limits::default()).map(|(_, plan)| plan)
}

/// The exports of `source`, and the plan for them with the keys of `keys` and those that lie in it.
pub(super) fn read(
    source: &SourceRef,
    keys: &[&Path],
    limits: &Limits,
) -> Result<(Vec<CacheExport>, Plan), Fault> {
    let exports = CacheExport::read_all(source, limits)?;
    let wanted: BTreeSet<_> =
        exports.iter().flat_map(|export| export.config.digests_with_inputs()).collect();
    let mut keyring = Keyring::new();
    for path in keys {
        for source in read_source(path, limits)? {
            keyring.add(source.description, source.candidates, &wanted);
        }
    }
    for source in read_layout(&exports[0].layout)? {
        keyring.add(source.description, source.candidates, &wanted);
    }
    let plan = Plan::new(&exports, &keyring);
    Ok((exports, plan))
}

/// Everything below `path`, or the file that it is, as type, size and time of the last change.
fn files(path: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let seen = (metadata.mode(), metadata.size(), metadata.ctime(), metadata.ctime_nsec());
        found.insert(path, seen);
    }
    found
}

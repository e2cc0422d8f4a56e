//! The outcome of converting a layout.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bkstate::{About, Classified, Root};
use oci2bk::convert::{ConvertError, Converter, Report};
use oci2bk::export::{CacheExport, ExportError};
use oci2bk::keys::{Keyring, SourceError};
use oci2bk::limits::Limits;
use oci2bk::plan::{Plan, PlanError};
use oci2bk::source::Source;

/// The step at which a conversion failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Keys(#[from] SourceError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl Fault {
    fn error(&self) -> &dyn Classified {
        match self {
            Self::Export(error) => error,
            Self::Keys(error) => error,
            Self::Plan(error) => error,
            Self::Convert(error) => error,
        }
    }
}

impl Classified for Fault {
    fn about(&self) -> About {
        self.error().about()
    }
}

/// Converts `source` with the keys of `keys`, unpacking if this user can.
///
/// Asserts that nothing else is changed, and that the root is not created if the fault is detected before
/// layers are read.
pub(super) fn converted_within(
    source: &Source,
    keys: &[&Path],
    limits: &Limits,
) -> Result<(Plan, Report), Fault> {
    let before = files(&source.path);
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let extract = rustix::process::geteuid().is_root();
    let converter = Converter::new().extract(extract).jobs(NonZeroUsize::MIN).limits(*limits);
    let result = read(source, keys, limits).and_then(|plan| {
        let report = converter.convert(&plan, &root)?;
        Ok((plan, report))
    });
    assert_eq!(files(&source.path), before, "the source was changed");
    let names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    match &result {
        Ok(_) => {
            assert_eq!(names, ["root"]);
            assert!(Root::open(&root).unwrap().verify_databases().unwrap().damage.is_empty());
        }
        Err(Fault::Export(_) | Fault::Keys(_) | Fault::Plan(_)) => {
            assert!(names.is_empty(), "{names:?}")
        }
        Err(Fault::Convert(error)) => {
            assert!(error.is_input(), "{error:?}");
            let left: Vec<_> =
                fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["buildkitd.lock"]);
        }
    }
    result
}

/// Converts the cache in the layout at `path`, with the keys in it.
pub(super) fn converted(path: &Path) -> Result<(Plan, Report), Fault> {
    converted_with(path, &[])
}

/// Converts the cache in the layout at `path`, with the keys of `keys` and those in it.
pub(super) fn converted_with(path: &Path, keys: &[&Path]) -> Result<(Plan, Report), Fault> {
    converted_within(&path.to_str().unwrap().parse().unwrap(), keys, &Limits::default())
}

/// Returns why the layout at `path` has no usable export.
pub(super) fn export_error(path: &Path) -> ExportError {
    match converted(path) {
        Err(Fault::Export(error)) => error,
        Err(fault) => panic!("{fault:?}"),
        Ok((plan, _)) => panic!("converted: {plan:?}"),
    }
}

/// Returns the plan: for the many cases that differ in one byte.
pub(super) fn planned(path: &Path, keys: &[&Path]) -> Result<Plan, Fault> {
    let source = path.to_str().unwrap().parse().unwrap();
    read(&source, keys, &Limits::default())
}

/// Returns the plan for the exports of `source` with the keys of `keys` and those in it.
pub(super) fn read(source: &Source, keys: &[&Path], limits: &Limits) -> Result<Plan, Fault> {
    let exports = CacheExport::read_all(source, limits)?;
    let mut keyring = Keyring::for_exports(&exports);
    for path in keys {
        keyring.read(path, limits)?;
    }
    keyring.read_layouts(&exports)?;
    Ok(Plan::new(&exports, &keyring)?)
}

/// Returns everything at or below `path`, as type, size and time of the last change.
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

/// Returns the processor time of this thread, which other processes do not affect.
pub(super) fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    // After the name, which may have spaces, in hundredths of a second (`proc_pid_stat(5)`).
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

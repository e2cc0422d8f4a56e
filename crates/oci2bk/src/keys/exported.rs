//! Provenance in the output of `--output type=local` or `type=tar`.
//!
//! BuildKit v0.34.2 (`exporter/local/fs.go`) puts it beside the files of the build as `provenance.json`,
//! after the `attestation-prefix`. With several platforms each has a directory, such as `linux_amd64`, or
//! without `platform-split` a file, such as `provenance.linux_amd64.json`.

use std::fs::File;
use std::path::PathBuf;

use bkstate::dir::{Dir, DirError, FileKind};

const EXTENSION: &str = ".json";
const PROVENANCE: &str = "provenance";

/// Returns whether the member `name` of an archive exported with `--output type=tar` is provenance. It has
/// the same places as in a directory.
pub(super) fn is_member(name: &str) -> bool {
    match name.split_once('/') {
        None => is_provenance(name),
        Some((directory, name)) => {
            is_platform(directory) && !name.contains('/') && is_provenance(name)
        }
    }
}

/// Returns the provenance files in the directory of an exported build.
pub(super) fn provenance(dir: &Dir) -> Result<Vec<(PathBuf, File)>, DirError> {
    let mut found = Vec::new();
    add(dir, &mut found)?;
    for entry in dir.entries()? {
        if entry.is_dir && entry.to_str().is_some_and(is_platform) {
            add(&dir.dir(entry.name.as_c_str())?, &mut found)?;
        }
    }
    Ok(found)
}

fn add(dir: &Dir, found: &mut Vec<(PathBuf, File)>) -> Result<(), DirError> {
    for entry in dir.entries()? {
        let Some(name) = entry.to_str().filter(|name| is_provenance(name)) else { continue };
        // Other files of a build with that name are not provenance.
        if dir.find(name)?.is_some_and(|found| found.kind == FileKind::File) {
            found.push((dir.path().join(name), dir.file(name)?));
        }
    }
    Ok(())
}

/// Returns whether a directory may belong to a platform.
fn is_platform(name: &str) -> bool {
    name.contains('_')
}

fn is_provenance(name: &str) -> bool {
    let stem = name.strip_suffix(EXTENSION);
    stem.is_some_and(|stem| {
        stem.ends_with(PROVENANCE)
            || stem.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(PROVENANCE))
    })
}

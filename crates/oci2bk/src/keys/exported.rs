//! Provenance in what `--output type=local` wrote.
//!
//! BuildKit v0.34.2 (`exporter/local/fs.go`) puts it beside the files of the build as `provenance.json`, after
//! the `attestation-prefix`. Of several platforms each has a directory, such as `linux_amd64`, or without
//! `platform-split` a file, such as `provenance.linux_amd64.json`.

use std::fs::File;
use std::path::PathBuf;

use bkstate::dir::{Dir, DirError, FileKind};

const EXTENSION: &str = ".json";
const PROVENANCE: &str = "provenance";

/// The files with provenance in the directory that a build was exported to.
pub(super) fn provenance(dir: &Dir) -> Result<Vec<(PathBuf, File)>, DirError> {
    let mut found = Vec::new();
    add(dir, &mut found)?;
    for entry in dir.entries()? {
        let is_platform = entry.to_str().is_some_and(|name| name.contains('_'));
        if entry.is_dir && is_platform {
            add(&dir.dir(entry.name.as_c_str())?, &mut found)?;
        }
    }
    Ok(found)
}

fn add(dir: &Dir, found: &mut Vec<(PathBuf, File)>) -> Result<(), DirError> {
    for entry in dir.entries()? {
        let Some(name) = entry.to_str().filter(|name| is_provenance(name)) else { continue };
        // What else a build has of that name is not provenance.
        if dir.find(name)?.is_some_and(|found| found.kind == FileKind::File) {
            found.push((dir.path().join(name), dir.file(name)?));
        }
    }
    Ok(())
}

fn is_provenance(name: &str) -> bool {
    let stem = name.strip_suffix(EXTENSION);
    stem.is_some_and(|stem| {
        stem.ends_with(PROVENANCE)
            || stem.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(PROVENANCE))
    })
}

//! The root directory of a builder, with everything in it that has keys.

use bkstate::dir::{Dir, DirError};

/// The files of a root that keys are in, those that name the steps first
/// (BuildKit v0.32.2 `cmd/buildkitd/main.go`).
pub(super) const DATABASES: [&str; 3] = ["history.db", "cache-debug.db", "cache.db"];

/// Where a Docker volume has its files, such as that of a `docker-container` builder.
const VOLUME_DATA: &str = "_data";

/// The root that `dir` is, or that the Docker volume `dir` has; nothing if it is neither.
pub(super) fn find(dir: Dir) -> Result<Option<Dir>, DirError> {
    if is_root(&dir)? {
        return Ok(Some(dir));
    }
    if dir.size(VOLUME_DATA)?.is_none() {
        return Ok(None);
    }
    let data = dir.dir(VOLUME_DATA)?;
    Ok(is_root(&data)?.then_some(data))
}

fn is_root(dir: &Dir) -> Result<bool, DirError> {
    for name in DATABASES {
        if dir.size(name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

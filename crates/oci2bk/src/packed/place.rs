//! The file of a new image.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::packed::{ImageId, Images};

use super::PackedError;
use super::private::canonical;

/// The file of an image that is not complete yet.
pub(super) struct NewImage {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Its path for its description, if it is not in the root.
    pub(super) elsewhere: Option<PathBuf>,
}

impl NewImage {
    pub(super) fn create(
        images: &Images,
        id: ImageId,
        place: Option<PathBuf>,
    ) -> Result<Self, PackedError> {
        let Some(path) = place else {
            let path = images.image_path(id);
            let Some(packed) = images.dir() else { return Err(PackedError::Exists { path }) };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            return Ok(Self { file: packed.create_file(name, 0o600)?, path, elsewhere: None });
        };
        let mut options = File::options();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => Ok(Self { file, elsewhere: Some(path.clone()), path }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(PackedError::Exists { path })
            }
            Err(source) => Err(PackedError::Image { path, source }),
        }
    }

    pub(super) fn failed(&self, source: std::io::Error) -> PackedError {
        PackedError::Image { path: self.path.clone(), source }
    }

    /// Removes an image elsewhere. One in the root is removed with what else was begun there.
    pub(super) fn remove(&self) {
        let same = |found: std::fs::Metadata| {
            let own = self.file.metadata();
            own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
        };
        if let Some(path) = &self.elsewhere
            && std::fs::symlink_metadata(path).is_ok_and(same)
        {
            // The error of making it is the one to report.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Checks the place of a new image, and returns it as an absolute path.
pub(super) fn new_place(path: &Path, root: &Root) -> Result<PathBuf, PackedError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| PackedError::Image { path: path.to_owned(), source })?;
    if std::fs::symlink_metadata(&absolute).is_ok() {
        return Err(PackedError::Exists { path: absolute });
    }
    let above = absolute.parent().unwrap_or(Path::new("/"));
    let above = above
        .canonicalize()
        .map_err(|source| PackedError::Image { path: absolute.clone(), source })?;
    if above.starts_with(canonical(root)?) {
        return Err(PackedError::InRoot { path: absolute });
    }
    Ok(absolute)
}

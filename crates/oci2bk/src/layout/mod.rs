//! OCI image layouts: directories with `oci-layout`, `index.json` and `blobs/sha256/`, or tar archives of
//! one.
//!
//! BuildKit's `type=local` cache exporter writes this format (BuildKit `client/ociindex/ociindex.go` for the
//! top-level files, containerd's local content store for the blobs). Nothing in a layout is trusted: every
//! file is opened relative to one handle without following symbolic links, must be a regular file, and is
//! checked against its digest before its content is used.
//!
//! # Reading
//!
//! Documents are read whole, within [limits](Limits); layers, whose size is unbounded, in pieces or in place.
//!
//! ```
//! use oci2bk::layout::{BlobError, BlobFile, Descriptor, Layout};
//! use oci2bk::{Digest, Limits};
//!
//! let layout = Layout::open("fixtures/zstd/cache".as_ref(), &Limits::default())?;
//! let [cache] = layout.entries() else { panic!("{} has several", layout.path().display()) };
//! assert!(layout.is_directory() && layout.annotations().is_empty());
//!
//! let manifest = layout.read_blob(cache, layout.limits().of_manifest())?;
//! let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
//! let layer: Descriptor = serde_json::from_value(manifest["layers"][0].clone())?;
//!
//! layout.verify_blob(&layer)?;
//! let mut bytes = 0;
//! layout.stream_blob(&layer, |piece| {
//!     bytes += piece.len() as u64;
//!     Ok::<_, BlobError>(())
//! })?;
//! assert_eq!(bytes, layer.size);
//!
//! // Opening a blob does not check its content.
//! let blob: BlobFile = layout.open_blob(&layer)?;
//! assert_eq!(blob.left(), layer.size);
//! let mut magic = [0; 4];
//! blob.read_at(&mut magic, 0)?;
//! assert_eq!(magic, [0x28, 0xb5, 0x2f, 0xfd]);
//! // In a directory each blob is a separate file, which can be linked.
//! assert!(blob.whole().is_some());
//!
//! // A blob can be read without a reference to it.
//! assert_eq!(layout.describe_blob(layer.digest)?.size, layer.size);
//! let absent = layout.describe_blob(Digest::of("nothing")).unwrap_err();
//! assert!(matches!(absent, BlobError::Missing { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Errors name the rejected part:
//!
//! ```
//! use std::fs;
//! use std::os::unix::fs::symlink;
//!
//! use oci2bk::Limits;
//! use oci2bk::layout::{ArchiveError, FileKind, Layout, LayoutError};
//!
//! let temporary = tempfile::tempdir()?;
//! symlink("/etc/passwd", temporary.path().join("index.json"))?;
//! let error = Layout::open(temporary.path(), &Limits::default()).unwrap_err();
//! assert!(matches!(error, LayoutError::NotAFile { kind: FileKind::Symlink, .. }));
//!
//! let archive = temporary.path().join("cache.tar.xz");
//! fs::write(&archive, b"\xfd7zXZ\0")?;
//! let error = Layout::open(&archive, &Limits::default()).unwrap_err();
//! assert!(matches!(error, LayoutError::Archive { source: ArchiveError::Compressed { .. }, .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An archive of `docker save` is read as a layout with documents generated in memory, if everything in its
//! `manifest.json` exists:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::layout::{ArchiveError, DockerError, Layout, LayoutError};
//!
//! let list = br#"[{"Config": "c.json", "RepoTags": ["app:main"], "Layers": ["a/layer.tar"]}]"#;
//! let mut header = tar::Header::new_ustar();
//! header.set_size(list.len() as u64);
//! let mut archive = tar::Builder::new(Vec::new());
//! archive.append_data(&mut header, "manifest.json", &list[..])?;
//! let temporary = tempfile::tempdir()?;
//! let path = temporary.path().join("image.tar");
//! std::fs::write(&path, archive.into_inner()?)?;
//!
//! let error = Layout::open(&path, &Limits::default()).unwrap_err();
//! let LayoutError::Archive { source: ArchiveError::Docker(error), .. } = error else {
//!     panic!("{error}")
//! };
//! assert!(matches!(error, DockerError::Missing { member } if member == "a/layer.tar"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The index of an image for several platforms lists the platform of each:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::layout::{Layout, Platform};
//! use oci2bk::manifest::Document;
//!
//! let image = Layout::open("fixtures/manifest/keys/image".as_ref(), &Limits::default())?;
//! let Document::Index(index) = Document::read(&image, &image.entries()[0])? else {
//!     panic!("it is for one platform");
//! };
//! let platforms: Vec<&Platform> =
//!     index.manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).collect();
//! let is_image = |platform: &&&Platform| platform.os == "linux" && platform.architecture == "amd64";
//! // The other one is the manifest of its provenance.
//! assert_eq!(platforms.iter().filter(is_image).count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing
//!
//! A layout in a directory can be extended, by one program at a time:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::layout::{Layout, LayoutWriter, WriteError, edited_index};
//! use oci2bk::manifest::OCI_INDEX;
//! use serde_json::json;
//!
//! let temporary = tempfile::tempdir()?;
//! std::fs::create_dir_all(temporary.path().join("blobs/sha256"))?;
//! let empty = json!({"schemaVersion": 2, "manifests": []}).to_string();
//! std::fs::write(temporary.path().join("index.json"), &empty)?;
//!
//! let layout = Layout::open(temporary.path(), &Limits::default())?;
//! let mut writer: LayoutWriter<'_> = layout.writer()?;
//! assert!(matches!(layout.writer(), Err(WriteError::InUse { .. })));
//!
//! let digest = writer.put_blob(empty.as_bytes())?;
//! let entry = json!({"mediaType": OCI_INDEX, "digest": digest, "size": empty.len()});
//! let edited = edited_index(writer.index(), |_| false, std::slice::from_ref(&entry))?;
//! writer.put_index(edited.expect("it was not there"))?;
//! // It has only that entry, so nothing changes.
//! assert_eq!(edited_index(writer.index(), |_| false, &[entry])?, None);
//!
//! let again = Layout::open(temporary.path(), &Limits::default())?;
//! assert_eq!(again.entries()[0].digest, digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
pub(crate) mod artifact;
mod blob;
pub(crate) mod copies;
mod descriptor;
mod docker;
pub(crate) mod fresh;
mod made;
mod mirror;
mod open;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;
pub(crate) mod write_archive;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use codec::FormatError;
use codec::from_objects;
use serde::Deserialize;

pub use archive::ArchiveError;
pub use artifact::PutArtifactError;
pub use blob::BlobError;
pub use copies::BadCopy;
pub(crate) use descriptor::null_as_default;
pub use descriptor::{Descriptor, Platform};
pub use docker::DockerError;
pub use fresh::NewDirectoryError;
pub use mirror::MirrorError;
pub use open::FileKind;
pub use store::BlobFile;
pub use write::{LayoutWriter, WriteError, edited_index};

use crate::json::{self, TooComplex};
use crate::limits::Limits;
use crate::manifest::{Document, DocumentError, Index};
use crate::source::{Reference, hint};
use open::OpenError;
pub(crate) use store::{INDEX, OCI_LAYOUT};
use store::{Name, Store};

/// The only version of the layout (OCI image-spec 1.1, `image-layout.md`).
pub(crate) const VERSION: &str = "1.0.0";

/// An open layout.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    store: Store,
    limits: Limits,
    index: Index,
}

/// Why a path is not a usable layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The path does not exist.
    #[error("{} is not there{}", path.display(), hint(path))]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The directory or archive cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// It is neither a directory nor a file.
    #[error("{path} is {kind}; an OCI layout is a directory or a tar archive of one")]
    NotALayout {
        /// The path.
        path: PathBuf,
        /// Its kind.
        kind: FileKind,
    },
    /// The file is not a usable archive.
    #[error("{path} is not a usable tar archive of an OCI layout")]
    Archive {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ArchiveError,
    },
    /// The directory looks like a mirror of a cache in S3 or Azure, but cannot be used as one.
    #[error("cannot use {} as the mirror of a cache in S3 or Azure", path.display())]
    Mirror {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: MirrorError,
    },
    /// `index.json` is missing.
    #[error(
        "{} is neither an OCI layout (it has no index.json) nor the mirror of a cache in S3 or Azure (it \
         has no manifests/ and blobs/)",
        path.display()
    )]
    NoIndex {
        /// The directory or archive.
        path: PathBuf,
    },
    /// `oci-layout` or `index.json` is not a regular file.
    #[error("{path} is {kind}, and only regular files are read")]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: FileKind,
    },
    /// `oci-layout` or `index.json` cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// `oci-layout` or `index.json` exceeds the limit on its size.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes ([`Limits::manifest`](crate::Limits::manifest)).
        limit: u64,
    },
    /// `oci-layout` or `index.json` has more content than any real one.
    #[error("{path} is not a file of a layout")]
    TooComplex {
        /// The file.
        path: PathBuf,
        /// The exceeded limit.
        #[source]
        source: TooComplex,
    },
    /// `oci-layout` is not the expected JSON.
    #[error("{path} does not state the version of an OCI layout")]
    Version {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The version of the layout is unknown.
    #[error("{path} states version {version:?} of the OCI layout; only {VERSION} is known")]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version, shortened to 100 characters.
        version: String,
    },
    /// `index.json` is not an index.
    #[error("{path} is not an index of manifests")]
    Index {
        /// The file.
        path: PathBuf,
        /// The cause; `None` if it is a well-formed manifest.
        #[source]
        source: Option<DocumentError>,
    },
}

impl Layout {
    /// Opens the layout in the directory `path`, or in the tar archive `path`.
    ///
    /// `path` itself may be a symbolic link; nothing below it may be one. A missing `oci-layout` file is
    /// accepted, because BuildKit before v0.12 did not write one. Other formats with the same content are
    /// read as a layout: mirrors of caches in S3 or Azure, and archives of `docker save`.
    ///
    /// # Errors
    /// Returns an error if the directory or archive or one of the two files cannot be read or is malformed.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, LayoutError> {
        Self::open_for(path, &Reference::Default, limits)
    }

    /// Same as [`Layout::open`], with a known reference: other parts of a mirror are not read then.
    ///
    /// # Errors
    /// Same as [`Layout::open`].
    ///
    /// ```
    /// use oci2bk::layout::{Layout, LayoutError, MirrorError};
    /// use oci2bk::manifest::{Selected, select};
    /// use oci2bk::source::Reference;
    /// use oci2bk::{Digest, Limits};
    ///
    /// // A mirror of two caches, one with a truncated manifest.
    /// let mirror = tempfile::tempdir()?;
    /// for name in ["manifests", "blobs"] {
    ///     std::fs::create_dir(mirror.path().join(name))?;
    /// }
    /// std::fs::write(mirror.path().join(format!("blobs/{}", Digest::of("layer"))), "layer")?;
    /// std::fs::write(mirror.path().join("manifests/main"), r#"{"records":[]}"#)?;
    /// std::fs::write(mirror.path().join("manifests/other"), r#"{"records":["#)?;
    ///
    /// let main = Reference::Tag("main".to_owned());
    /// let layout = Layout::open_for(mirror.path(), &main, &Limits::default())?;
    /// assert!(matches!(select(&layout, &main)?, Selected::Cache { .. }));
    ///
    /// let error = Layout::open(mirror.path(), &Limits::default()).unwrap_err();
    /// let LayoutError::Mirror { source: MirrorError::Json { path, .. }, .. } = error else {
    ///     panic!("{error}")
    /// };
    /// assert!(path.ends_with("manifests/other"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_for(
        path: &Path,
        reference: &Reference,
        limits: &Limits,
    ) -> Result<Self, LayoutError> {
        let store = Store::open(path, reference, limits)?;
        let version_file = path.join(Name::OciLayout.to_string());
        if let Some(content) = read_file(&store, Name::OciLayout, &version_file, limits)? {
            check_version(&version_file, &content)?;
        }
        let index = path.join(Name::Index.to_string());
        let content = read_file(&store, Name::Index, &index, limits)?
            .ok_or_else(|| LayoutError::NoIndex { path: path.to_owned() })?;
        let index_error = |source| LayoutError::Index { path: index, source };
        match Document::parse(&content) {
            Ok(Document::Index(index)) => {
                Ok(Self { path: path.to_owned(), store, limits: *limits, index })
            }
            Ok(Document::Manifest(_)) => Err(index_error(None)),
            Err(error) => Err(index_error(Some(error))),
        }
    }

    /// Returns the opened directory or archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the limits with which the layout was opened.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the entries of `index.json`, in order.
    pub fn entries(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// Returns the annotations of `index.json` itself.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.index.annotations
    }

    /// Returns whether the layout is a directory, which BuildKit can read, and not an archive.
    pub fn is_directory(&self) -> bool {
        self.store.directory().is_some()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
struct OciLayout {
    image_layout_version: String,
}

from_objects!(OciLayout);

fn check_version(path: &Path, content: &[u8]) -> Result<(), LayoutError> {
    let OciLayout { image_layout_version: version } = json::parse(content)
        .map_err(|source| LayoutError::Version { path: path.to_owned(), source })?;
    if version == VERSION {
        return Ok(());
    }
    let version = version.chars().take(100).collect();
    Err(LayoutError::UnknownVersion { path: path.to_owned(), version })
}

/// Reads the file `name` of the layout, at `path`; `None` if it does not exist.
fn read_file(
    store: &Store,
    name: Name,
    path: &Path,
    limits: &Limits,
) -> Result<Option<Vec<u8>>, LayoutError> {
    let io_error = |source| LayoutError::Io { path: path.to_owned(), source };
    let mut file = match store.file(name) {
        Ok(file) if file.left() > limits.manifest => {
            return Err(LayoutError::TooLarge { path: path.to_owned(), limit: limits.manifest });
        }
        Ok(file) => file,
        Err(OpenError::Missing) => return Ok(None),
        Err(OpenError::NotRegular(kind)) => {
            return Err(LayoutError::NotAFile { path: path.to_owned(), kind });
        }
        Err(OpenError::Io(source)) => return Err(io_error(source)),
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(io_error)?;
    json::check(&content, limits)
        .map_err(|source| LayoutError::TooComplex { path: path.to_owned(), source })?;
    Ok(Some(content))
}

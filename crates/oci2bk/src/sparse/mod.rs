//! Sparse layouts: the parts of a cache from which a build finds its steps, without the layers.
//!
//! A daemon that imports a cache reads its top object and its config. It reads a layer only to unpack or
//! export it (BuildKit v0.34.2 `cache/remotecache/import.go`, `cache/remote.go`). With a root that has the
//! layers, a layout without them is equivalent for `--cache-from`, and takes a few kilobytes.
//!
//! For each cache, a sparse layout has: the entries of `index.json` with its tags, its top object and its
//! config (for an inline cache the index, the manifests and the configs of the image), and the keys attached
//! to it. Its `index.json` has the annotation [`ANNOTATION`].
//!
//! ```
//! use oci2bk::plan::PlanError;
//! use oci2bk::sparse::{self, Sparse, SparseCache};
//! use oci2bk::{CacheExport, Keyring, Limits, Plan};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/zstd/cache".parse()?], &limits)?;
//! let temporary = tempfile::tempdir()?;
//! let path = temporary.path().join("index-of-cache");
//! sparse::check_place(&path)?;
//! let Sparse { caches, bytes, .. } = sparse::write(&exports, &path, &limits)?;
//! let [SparseCache { digest, source, .. }] = caches.as_slice() else { panic!("it is one") };
//! assert_eq!(*digest, exports[0].manifest.digest);
//! assert!(bytes < 10_000);
//! println!("--cache-from {}", source.attributes());
//!
//! let layout = oci2bk::layout::Layout::open(&path, &limits)?;
//! assert_eq!(layout.annotations()[sparse::ANNOTATION], "true");
//! // It has the steps, but nothing to convert.
//! let exports = CacheExport::read_all(source, &limits)?;
//! assert!(exports[0].is_sparse());
//! let error = Plan::new(&exports, &Keyring::for_exports(&exports)).unwrap_err();
//! assert!(matches!(error, PlanError::Sparse { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data;
mod documents;
mod error;
mod place;
mod tags;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use bkstate::Digest;
use serde_json::{Value, json};

use crate::export::CacheExport;
use crate::keys::{KeysFile, attach, read_layout};
use crate::layout::fresh::{self, NewDirectory};
use crate::layout::{Layout, LayoutWriter};
use crate::limits::Limits;
use crate::manifest::{OCI_INDEX, REF_NAME};
use crate::source::{Reference, Source};

use documents::Documents;
pub use error::SparseError;
use place::REPLACED;
use tags::{Tagged, with_tags};

/// The annotation in the `index.json` of a sparse layout. A directory with it can be replaced.
pub const ANNOTATION: &str = "dev.oci2bk.sparse";

/// The written layout. As JSON it is what the command prints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sparse {
    /// The directory.
    pub path: PathBuf,
    /// The caches, in the given order. If two sources name the same cache, it counts once.
    pub caches: Vec<SparseCache>,
    /// Total size of the blobs, in bytes.
    pub bytes: u64,
}

/// A cache in a sparse layout.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SparseCache {
    /// The source of the cache.
    pub of: Source,
    /// The digest of its top object; for an inline cache, that of the image or its index.
    pub digest: Digest,
    /// Its place in the layout. It is named by its digest if another cache has its tag.
    pub source: Source,
}

/// Writes the sparse layout of `exports` into the directory `path`, which must not exist, be empty, or be a sparse
/// layout, which is replaced.
///
/// # Errors
/// See [`SparseError`]. `path` is unchanged then.
pub fn write(exports: &[CacheExport], path: &Path, limits: &Limits) -> Result<Sparse, SparseError> {
    let caches = with_tags(exports);
    if caches.is_empty() {
        return Err(SparseError::NoCache);
    }
    let mut documents = Documents::default();
    let entries = caches.iter().map(|cache| documents.add(cache.export));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let place = NewDirectory::prepare(path, REPLACED)?;
    place.make_layout()?;
    let staging = Layout::open(place.staging().path(), limits)?;
    let mut writer = staging.writer()?;
    for content in documents.blobs() {
        writer.put_blob(content)?;
    }
    put_index(&mut writer, &caches, entries)?;
    drop(writer);
    for Tagged { export, .. } in &caches {
        attach_keys(export, place.staging().path(), limits)?;
    }
    drop(staging);
    place.publish()?;
    let caches = caches.iter().map(|cache| SparseCache {
        of: cache.export.source.clone(),
        digest: cache.export.found.digest,
        source: Source { path: path.to_owned(), reference: cache.reference() },
    });
    Ok(Sparse { path: path.to_owned(), caches: caches.collect(), bytes: documents.bytes() })
}

/// Checks a path as [`write()`] does, without writing.
///
/// # Errors
/// See [`SparseError`].
pub fn check_place(path: &Path) -> Result<(), SparseError> {
    Ok(fresh::check_place(path, REPLACED)?)
}

fn put_index(
    writer: &mut LayoutWriter<'_>,
    caches: &[Tagged<'_>],
    found: Vec<Value>,
) -> Result<(), SparseError> {
    let mut entries = Vec::new();
    for (Tagged { tags, .. }, entry) in caches.iter().zip(found) {
        entries.extend(tags.iter().map(|tag| {
            let mut entry = entry.clone();
            entry["annotations"] = json!({REF_NAME: tag});
            entry
        }));
        if tags.is_empty() {
            entries.push(entry);
        }
    }
    let index: Value = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": entries,
        "annotations": {ANNOTATION: "true"},
    });
    Ok(writer.put_index(index.to_string().into())?)
}

/// Attaches the keys that are attached to `export` to its copy in the layout `copy`.
fn attach_keys(export: &CacheExport, copy: &Path, limits: &Limits) -> Result<(), SparseError> {
    let mut sources = read_layout(&export.layout).map_err(Box::new)?;
    sources.retain(|source| source.attached_to == Some(export.manifest.digest));
    let keys = KeysFile::from_sources(&sources);
    if keys.is_empty() {
        return Ok(());
    }
    let reference = Reference::Digest(export.found.digest);
    let source = Source { path: copy.to_owned(), reference };
    for copy in CacheExport::read_all(&source, limits).map_err(Box::new)? {
        if copy.manifest.digest == export.manifest.digest {
            attach(&copy, &keys, None).map_err(Box::new)?;
        }
    }
    Ok(())
}

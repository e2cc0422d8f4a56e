//! Reads and validates whole cache exports.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::{Classified as _, Digest};

use crate::config::{CacheConfig, ConfigError};
use crate::layout::copies::{self, Unusable};
use crate::layout::{BadCopy, BlobError, Layout, LayoutError};
use crate::limits::Limits;
use crate::manifest::{CacheManifest, FoundCache, InlineCache, SelectError, Selected, select};
use crate::source::Source;

/// A cache export. The layer blobs exist, but have not been read.
///
/// ```
/// use oci2bk::export::ExportError;
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let sources = ["fixtures/index/cache".parse()?, "fixtures/min/cache".parse()?];
/// let exports = CacheExport::read_sources(&sources, &limits)?;
/// for export in &exports {
///     println!("{}: {}", export.source, export.manifest.digest);
///     // Every step comes after its inputs.
///     for &index in export.config.records_inputs_first() {
///         let record = &export.config.records[index];
///         println!("  {}: {} results", record.digest, record.results.len());
///         for layer in record.results.iter().flat_map(|result| export.config.layers(&result.chain)) {
///             // The layers of results exist, and have the right size.
///             let blob = export.config.nodes[layer].blob;
///             export.layout.open_blob(&export.manifest.layers[&blob].descriptor)?;
///         }
///     }
/// }
/// assert!(!exports.iter().any(CacheExport::is_sparse));
/// // With `mode=min`, only some of the steps have results.
/// assert!(exports[1].config.records.iter().any(|record| record.results.is_empty()));
///
/// // The caller decides whether a cache may have millions of layers.
/// let limits = Limits { cache_layers: 3, ..limits };
/// let error = CacheExport::read_all(&sources[0], &limits).unwrap_err();
/// assert!(matches!(error, ExportError::TooManyLayers { limit: 3, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheExport {
    /// The source of the export.
    pub source: Source,
    /// The layout with the blobs, which several exports may share.
    pub layout: Arc<Layout>,
    /// The reference to it in the layout; for an inline cache, the image or the index of its platforms.
    pub found: FoundCache,
    /// The top object of the cache, without layers whose blobs are missing from the layout.
    pub manifest: CacheManifest,
    /// The steps and their results.
    pub config: CacheConfig,
}

/// Why a cache export cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The directory is not a usable layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The layout has no usable cache with that name.
    #[error(transparent)]
    Select(#[from] Box<SelectError>),
    /// The cache config cannot be read or is corrupt.
    #[error("cannot read the config of the cache in {path}")]
    ConfigBlob {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: BlobError,
    },
    /// It has more layers than any real cache.
    #[error("the cache in {path} lists more than {limit} layers")]
    TooManyLayers {
        /// The layout.
        path: PathBuf,
        /// The limit ([`Limits::cache_layers`](crate::Limits::cache_layers)).
        limit: u64,
    },
    /// The file of a layer is not a regular file, or has the wrong size.
    #[error("cannot use a layer of the cache in {path}")]
    LayerBlob {
        /// The layout.
        path: PathBuf,
        /// The cause.
        #[source]
        source: BlobError,
    },
    /// Several layouts have the file of a layer, but none of the copies is a regular file of the right size.
    #[error("no copy of a layer can be used: {}", copies::all(copies))]
    NoGoodCopy {
        /// The copies.
        copies: Vec<BadCopy>,
    },
    /// The cache is empty.
    #[error("the cache {cache} in {path} has no records, so no step would be cached")]
    NoRecords {
        /// The layout.
        path: PathBuf,
        /// The top object of the cache.
        cache: Digest,
    },
    /// The cache config is invalid.
    #[error("cannot use the cache config {digest} in {path}")]
    Config {
        /// The layout.
        path: PathBuf,
        /// The config.
        digest: Digest,
        /// The cause.
        #[source]
        source: ConfigError,
    },
}

impl ExportError {
    /// Returns whether the input is the cause, and not the machine.
    ///
    /// ```
    /// use oci2bk::{CacheExport, Limits};
    ///
    /// let directory = tempfile::tempdir()?;
    /// std::fs::write(directory.path().join("index.json"), "{")?;
    /// let source = directory.path().to_string_lossy().parse()?;
    /// let error = CacheExport::read_all(&source, &Limits::default()).unwrap_err();
    /// assert!(error.is_input());
    /// // A path that leads nowhere says nothing of the input.
    /// let error = CacheExport::read_all(&"/nowhere".parse()?, &Limits::default()).unwrap_err();
    /// assert!(!error.is_input());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_input(&self) -> bool {
        self.class().is_of_input()
    }
}

impl CacheExport {
    /// Reads the caches of `sources`, one after the other, as [`read_all`](Self::read_all) does. A layer may
    /// be in the layout of another cache.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn read_sources(sources: &[Source], limits: &Limits) -> Result<Vec<Self>, ExportError> {
        let sources: Vec<_> = sources.iter().map(Source::on_disk).collect();
        let layouts =
            sources.iter().map(|source| open(source, limits)).collect::<Result<Vec<_>, _>>()?;
        let mut exports = Vec::with_capacity(sources.len());
        for (source, layout) in sources.iter().zip(&layouts) {
            exports.extend(Self::read_in(source, layout, &layouts)?);
        }
        Ok(exports)
    }

    /// Reads the cache of `source`: manifest and config, but not the layers. The result is one export, or for
    /// an inline cache one for each platform of the image.
    ///
    /// A layer whose blob is missing from the layout counts as not described: the results that need it are
    /// dropped. For the others the size is checked, not the content.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn read_all(source: &Source, limits: &Limits) -> Result<Vec<Self>, ExportError> {
        let source = source.on_disk();
        let layout = open(&source, limits)?;
        Self::read_in(&source, &layout, std::slice::from_ref(&layout))
    }

    /// Reads the cache in `layout`, whose layers may be in any of `layouts`.
    pub(crate) fn read_in(
        source: &Source,
        layout: &Arc<Layout>,
        layouts: &[Arc<Layout>],
    ) -> Result<Vec<Self>, ExportError> {
        let layouts = own_first([layout].into_iter().chain(layouts).map(|layout| &**layout));
        let exports = match select(layout, &source.reference).map_err(Box::new)? {
            Selected::Cache { found, manifest } => {
                vec![Self::from_manifest(source, layout, &layouts, found, *manifest)?]
            }
            Selected::Inline { found, platforms } => platforms
                .into_iter()
                .map(|cache| Self::from_inline(source, layout, &layouts, found.clone(), cache))
                .collect::<Result<_, _>>()?,
        };
        match exports.first() {
            Some(first) if exports.iter().all(|export| export.config.records.is_empty()) => {
                let (path, cache) = (source.path.clone(), first.manifest.digest);
                Err(ExportError::NoRecords { path, cache })
            }
            _ => Ok(exports),
        }
    }

    fn from_manifest(
        source: &Source,
        layout: &Arc<Layout>,
        layouts: &[&Layout],
        found: FoundCache,
        mut manifest: CacheManifest,
    ) -> Result<Self, ExportError> {
        let content =
            layout.read_blob(&manifest.config, layout.limits().of_config()).map_err(|error| {
                ExportError::ConfigBlob { path: source.path.clone(), source: error }
            })?;
        drop_missing(layouts, &mut manifest)?;
        let config = CacheConfig::parse(&content, &manifest.layers);
        Self::new(source, layout, found, manifest, config)
    }

    fn from_inline(
        source: &Source,
        layout: &Arc<Layout>,
        layouts: &[&Layout],
        found: FoundCache,
        InlineCache { mut manifest, blobs, records }: InlineCache,
    ) -> Result<Self, ExportError> {
        drop_missing(layouts, &mut manifest)?;
        let config = CacheConfig::parse_inline(&records, &blobs, &manifest.layers);
        Self::new(source, layout, found, manifest, config)
    }

    fn new(
        source: &Source,
        layout: &Arc<Layout>,
        found: FoundCache,
        manifest: CacheManifest,
        config: Result<CacheConfig, ConfigError>,
    ) -> Result<Self, ExportError> {
        let config = config.map_err(|error| ExportError::Config {
            path: source.path.clone(),
            digest: manifest.config.digest,
            source: error,
        })?;
        let limit = layout.limits().cache_layers;
        if config.listed_layers() as u64 > limit {
            return Err(ExportError::TooManyLayers { path: source.path.clone(), limit });
        }
        Ok(Self { source: source.clone(), layout: Arc::clone(layout), found, manifest, config })
    }
}

impl CacheExport {
    /// Returns whether the cache lists layers but has none of them, as in a [sparse layout](crate::sparse).
    pub fn is_sparse(&self) -> bool {
        self.manifest.layers.is_empty() && !self.config.dropped.is_empty()
    }
}

pub(crate) fn open(source: &Source, limits: &Limits) -> Result<Arc<Layout>, LayoutError> {
    Layout::open_for(&source.path, &source.reference, limits).map(Arc::new)
}

/// Returns the layouts of `exports`. The platforms of an image are adjacent and share one.
pub(crate) fn layouts(exports: &[CacheExport]) -> impl Iterator<Item = &Arc<Layout>> {
    let shared = exports.chunk_by(|a, b| Arc::ptr_eq(&a.layout, &b.layout));
    shared.filter_map(|exports| exports.first().map(|export| &export.layout))
}

/// Returns those of `all` with different paths, in order.
pub(crate) fn own_first<'l>(all: impl Iterator<Item = &'l Layout>) -> Vec<&'l Layout> {
    let mut layouts: Vec<&Layout> = Vec::new();
    for layout in all {
        if layouts.iter().all(|known| known.path() != layout.path()) {
            layouts.push(layout);
        }
    }
    layouts
}

/// Drops the layers that no layout has, and rejects those with only invalid copies: checking a file costs
/// nothing, and nothing has been written yet.
fn drop_missing(layouts: &[&Layout], manifest: &mut CacheManifest) -> Result<(), ExportError> {
    let mut missing = BTreeSet::new();
    for (digest, layer) in &manifest.layers {
        match copies::is_there(layouts, &layer.descriptor) {
            Ok(true) => {}
            Ok(false) => drop(missing.insert(*digest)),
            Err(bad) => return Err(unusable(*digest, bad)),
        }
    }
    manifest.layers.retain(|digest, _| !missing.contains(digest));
    Ok(())
}

fn unusable(blob: Digest, mut bad: Unusable<'_>) -> ExportError {
    match (bad.pop(), bad.is_empty()) {
        (Some((layout, source)), true) => {
            ExportError::LayerBlob { path: layout.path().to_owned(), source }
        }
        (last, _) => {
            let copies = bad.iter().chain(&last);
            let copies = copies.map(|(layout, error)| BadCopy::new(blob, layout, error));
            ExportError::NoGoodCopy { copies: copies.collect() }
        }
    }
}

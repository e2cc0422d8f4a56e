//! A whole cache export, read and validated.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bkstate::Digest;

use crate::config::{CacheConfig, ConfigError};
use crate::layout::copies::{self, Unusable};
use crate::layout::{ArchiveError, BadCopy, BlobError, Layout, LayoutError};
use crate::limits::Limits;
use crate::manifest::{CacheManifest, FoundCache, InlineCache, SelectError, Selected, select};
use crate::source::Source;

/// A cache export. The layer blobs have not been read, but are there.
///
/// ```
/// use oci2bk::export::ExportError;
/// use oci2bk::{CacheExport, Limits};
///
/// let limits = Limits::default();
/// let sources = ["../../fixtures/index/cache".parse()?, "../../fixtures/min/cache".parse()?];
/// let exports = CacheExport::read_sources(&sources, &limits)?;
/// for export in &exports {
///     println!("{}: {}", export.source, export.manifest.digest);
///     // Every step comes after those it builds on.
///     for &index in export.config.records_inputs_first() {
///         let record = &export.config.records[index];
///         println!("  {}: {} results", record.digest, record.results.len());
///         for layer in record.results.iter().flat_map(|result| export.config.layers(&result.chain)) {
///             // What results are made of is there, and has the right size.
///             let blob = export.config.nodes[layer].blob;
///             export.layout.open_blob(&export.manifest.layers[&blob].descriptor)?;
///         }
///     }
/// }
/// assert!(!exports.iter().any(CacheExport::is_sparse));
/// // Of `mode=min`, only some of the steps have results.
/// assert!(exports[1].config.records.iter().any(|record| record.results.is_empty()));
///
/// // What may be a cache of millions of layers is up to the caller.
/// let limits = Limits { cache_layers: 3, ..limits };
/// let error = CacheExport::read_all(&sources[0], &limits).unwrap_err();
/// assert!(matches!(error, ExportError::TooManyLayers { limit: 3, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheExport {
    /// Where the export was read from.
    pub source: Source,
    /// The layout that holds the blobs, which several exports may share.
    pub layout: Arc<Layout>,
    /// What leads to it in the layout; of an inline cache, the image or the index of its platforms.
    pub found: FoundCache,
    /// The top object of the cache, without the layers whose blobs the layout lacks.
    pub manifest: CacheManifest,
    /// The steps and their results.
    pub config: CacheConfig,
}

/// Why a cache export could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The directory is not a usable layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The layout has no usable cache of that name.
    #[error(transparent)]
    Select(#[from] Box<SelectError>),
    /// The cache config cannot be read or is corrupt.
    #[error("cannot read the config of the cache in {path}")]
    ConfigBlob {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BlobError,
    },
    /// There are more layers than in any real cache.
    #[error(
        "the cache in {path} lists more than {limit} layers; allow for more with --limit \
         cache-layers"
    )]
    TooManyLayers {
        /// The layout.
        path: PathBuf,
        /// How many it may list.
        limit: u64,
    },
    /// The file of a layer is not one, or not as large as it should be.
    #[error("cannot use a layer of the cache in {path}")]
    LayerBlob {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BlobError,
    },
    /// Several layouts have the file of a layer, and none of the copies is one, or as large as it should be.
    #[error("no copy of a layer can be used: {}", copies::all(copies))]
    NoGoodCopy {
        /// The copies.
        copies: Vec<BadCopy>,
    },
    /// There is nothing in the cache.
    #[error(
        "the cache {cache} in {path} has no records, so no step would be cached; export the cache of a \
         build again with --cache-to type=local,dest=DIR,mode=max"
    )]
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
        /// What is wrong with it.
        #[source]
        source: ConfigError,
    },
}

impl ExportError {
    /// Whether the input is to blame, rather than the machine.
    ///
    /// ```
    /// use oci2bk::{CacheExport, Limits};
    ///
    /// let error = CacheExport::read_all(&"/nowhere".parse()?, &Limits::default()).unwrap_err();
    /// assert!(error.is_input());
    /// # Ok::<(), oci2bk::source::ParseSourceError>(())
    /// ```
    pub fn is_input(&self) -> bool {
        let no_room = |error: &ArchiveError| matches!(error, ArchiveError::Temporary { .. });
        !matches!(self, Self::Layout(LayoutError::Archive { source, .. }) if no_room(source))
    }
}

impl CacheExport {
    /// Reads the caches that `sources` name, one after the other, as [`read_all`](Self::read_all) reads
    /// each. A layer may also be in the layout of another than the cache that lists it.
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

    /// Reads the cache that `source` names: manifest and config, but not the layers. This is one
    /// export, except that an inline cache is one for each platform of the image.
    ///
    /// A layer whose blob is not in the layout counts as not described: the results that need it
    /// are left out. Of the others the size is checked, not the content.
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
    /// Whether the cache lists layers and none of them is there, as in a [sparse layout](crate::sparse).
    pub fn is_sparse(&self) -> bool {
        self.manifest.layers.is_empty() && !self.config.dropped.is_empty()
    }
}

pub(crate) fn open(source: &Source, limits: &Limits) -> Result<Arc<Layout>, LayoutError> {
    Layout::open_for(&source.path, &source.reference, limits).map(Arc::new)
}

/// The layouts of `exports`. Those of the platforms of an image follow each other and share one.
pub(crate) fn layouts(exports: &[CacheExport]) -> impl Iterator<Item = &Arc<Layout>> {
    let shared = exports.chunk_by(|a, b| Arc::ptr_eq(&a.layout, &b.layout));
    shared.filter_map(|exports| exports.first().map(|export| &export.layout))
}

/// Those of `all` that are at different paths, in their order.
pub(crate) fn own_first<'l>(all: impl Iterator<Item = &'l Layout>) -> Vec<&'l Layout> {
    let mut layouts: Vec<&Layout> = Vec::new();
    for layout in all {
        if layouts.iter().all(|known| known.path() != layout.path()) {
            layouts.push(layout);
        }
    }
    layouts
}

/// Drops the layers that no layout has, and refuses those that all have something else of: looking
/// at a file costs nothing, and nothing has been written yet.
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

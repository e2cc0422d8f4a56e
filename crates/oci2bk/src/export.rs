//! A whole cache export, read and validated.

use std::path::PathBuf;

use bkstate::Digest;

use crate::config::{CacheConfig, ConfigError};
use crate::layout::{BlobError, Layout, LayoutError, limits};
use crate::manifest::{CacheManifest, SelectError, select};
use crate::source::SourceRef;

/// A cache export. The layer blobs have not been read.
#[derive(Debug)]
pub struct CacheExport {
    /// Where the export was read from.
    pub source: SourceRef,
    /// The layout that holds the blobs.
    pub layout: Layout,
    /// The top object of the cache.
    pub manifest: CacheManifest,
    /// The steps and their results.
    pub config: CacheConfig,
}

/// Why a cache export could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory is not a usable layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The layout has no usable cache of that name.
    #[error("cannot use the cache in {path}")]
    Select {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<SelectError>,
    },
    /// The cache config cannot be read or is corrupt.
    #[error("cannot read the config of the cache in {path}")]
    ConfigBlob {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BlobError,
    },
    /// The cache config is invalid.
    #[error("cache config {digest} in {path} is invalid")]
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

impl CacheExport {
    /// Reads the cache that `source` names: manifest and config, but not the layers.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn read(source: &SourceRef) -> Result<Self, ExportError> {
        let path = &source.directory;
        let layout = Layout::open(path)?;
        let manifest = select(&layout, &source.reference)
            .map_err(|source| ExportError::Select { path: path.clone(), source: source.into() })?;
        let content = layout
            .read_blob(&manifest.config, limits::CONFIG)
            .map_err(|source| ExportError::ConfigBlob { path: path.clone(), source })?;
        let config = CacheConfig::parse(&content, &manifest.layers).map_err(|source| {
            ExportError::Config { path: path.clone(), digest: manifest.config.digest, source }
        })?;
        Ok(Self { source: source.clone(), layout, manifest, config })
    }
}

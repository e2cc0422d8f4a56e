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
        let manifest = select(&layout, &source.reference).map_err(Box::new)?;
        let content = layout
            .read_blob(&manifest.config, limits::CONFIG)
            .map_err(|source| ExportError::ConfigBlob { path: path.clone(), source })?;
        let config = CacheConfig::parse(&content, &manifest.layers).map_err(|source| {
            ExportError::Config { path: path.clone(), digest: manifest.config.digest, source }
        })?;
        Ok(Self { source: source.clone(), layout, manifest, config })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::layout::testing::{TestLayout, digest_of};
    use crate::manifest::{CACHE_CONFIG, Style};

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    /// A layout with one cache in it, and its config's descriptor.
    fn exported(style: Style) -> (TestLayout, Value) {
        let layout = TestLayout::new();
        let mut layer = layout.blob(LAYER, "layer");
        layer["annotations"] = json!({"containerd.io/uncompressed": Digest::of("tar")});
        let digest = Digest::of("record");
        let config = json!({
            "layers": [{"blob": digest_of(&layer), "parent": -1}],
            "records": [{"digest": digest, "layers": [{"layer": 0}]}],
        });
        let config = layout.cache(style, &[layer], &config);
        (layout, config)
    }

    fn read(layout: &TestLayout) -> Result<CacheExport, ExportError> {
        CacheExport::read(&layout.path().to_str().unwrap().parse().unwrap())
    }

    #[test]
    fn both_styles_are_read() {
        for style in [Style::Index, Style::ImageManifest] {
            let (layout, config) = exported(style);
            let export = read(&layout).unwrap();
            assert_eq!(export.manifest.style, style);
            assert_eq!(export.manifest.config.digest, digest_of(&config));
            let blob = export.config.nodes[0].blob;
            let layer = &export.manifest.layers[&blob];
            export.layout.verify_blob(&layer.descriptor).unwrap();
        }
    }

    #[test]
    fn a_missing_or_corrupt_config_is_named() {
        let (layout, config) = exported(Style::ImageManifest);
        let path = layout.blob_path(digest_of(&config));
        let content = fs::read_to_string(&path).unwrap();
        fs::write(&path, content.replace("-1", "-2")).unwrap();
        let error = read(&layout).unwrap_err();
        assert!(matches!(
            error,
            ExportError::ConfigBlob { source: BlobError::Digest { .. }, path } if path == layout.path()
        ));
        fs::remove_file(&path).unwrap();
        let error = read(&layout).unwrap_err();
        let ExportError::ConfigBlob { source: BlobError::Missing { digest }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(digest, digest_of(&config));
    }

    #[test]
    fn an_oversized_config_is_not_read() {
        let layout = TestLayout::new();
        let digest = Digest::of("config");
        let size = limits::CONFIG + 1;
        fs::File::create(layout.blob_path(digest)).unwrap().set_len(size).unwrap();
        let config = json!({"mediaType": CACHE_CONFIG, "digest": digest, "size": size});
        layout.index(&[layout.json("", &json!({"config": config, "layers": []}))]);
        let error = read(&layout).unwrap_err();
        let ExportError::ConfigBlob { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, BlobError::TooLarge { .. }), "{source}");
    }

    #[test]
    fn an_invalid_config_is_named() {
        let layout = TestLayout::new();
        let config = layout.json(CACHE_CONFIG, &json!({"layers": [{"blob": Digest::of("a")}]}));
        layout.index(&[layout.json("", &json!({"config": config, "layers": []}))]);
        let error = read(&layout).unwrap_err();
        let ExportError::Config { digest, source, .. } = error else { panic!("{error}") };
        assert_eq!(digest, digest_of(&config));
        assert!(matches!(source, ConfigError::ParentLoop { layer: 0 }), "{source}");
    }

    #[test]
    fn a_layout_without_a_cache_is_named() {
        let layout = TestLayout::new();
        assert!(matches!(read(&layout), Err(ExportError::Select(_))));
        fs::remove_file(layout.path().join("index.json")).unwrap();
        assert!(matches!(read(&layout), Err(ExportError::Layout(LayoutError::NoIndex { .. }))));
    }
}

//! Reads and validates whole cache exports.

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
/// let sources = ["../../fixtures/index/cache".parse()?, "../../fixtures/min/cache".parse()?];
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
    /// let error = CacheExport::read_all(&"/nowhere".parse()?, &Limits::default()).unwrap_err();
    /// assert!(error.is_input());
    /// # Ok::<(), oci2bk::source::ParseSourceError>(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::{NodeIndex, RecordIndex};
    use crate::layout::testing::{TestLayout, digest_of, inline_cache};
    use crate::manifest::{CACHE_CONFIG, Style};

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    /// Returns a layout with one cache in it, and its config's descriptor.
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
        let exports = CacheExport::read_all(
            &layout.path().to_str().unwrap().parse().unwrap(),
            &Limits::default(),
        );
        exports.map(|mut exports| exports.remove(0))
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
    fn a_missing_or_damaged_config_is_named() {
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
    fn results_whose_layers_are_not_there_are_dropped_and_the_rest_stays() {
        let layout = TestLayout::new();
        let layers = ["a", "b", "c"].map(|name| {
            let mut layer = layout.blob(LAYER, name);
            layer["annotations"] = json!({"containerd.io/uncompressed": Digest::of("tar")});
            layer
        });
        let nodes: Vec<_> = layers
            .iter()
            .zip(-1..)
            .map(|(layer, parent)| json!({"blob": digest_of(layer), "parent": parent}))
            .collect();
        let record = |layer: usize| json!({"digest": Digest::of(layer.to_string()), "layers": [{"layer": layer}]});
        let config = json!({"layers": nodes, "records": [record(0), record(1), record(2)]});
        layout.cache(Style::ImageManifest, &layers, &config);
        fs::remove_file(layout.blob_path(digest_of(&layers[1]))).unwrap();
        let export = read(&layout).unwrap();
        let results: Vec<_> = export.config.records.iter().map(|r| r.results.len()).collect();
        assert_eq!(results, [1, 0, 0]);
        let dropped: Vec<_> =
            export.config.dropped.iter().map(|d| (d.record.0, d.missing)).collect();
        assert_eq!(dropped, [(1, digest_of(&layers[1])), (2, digest_of(&layers[1]))]);
        assert!(!export.manifest.layers.contains_key(&digest_of(&layers[1])));
    }

    #[test]
    fn each_platform_of_an_inline_cache_is_an_export() {
        let layout = TestLayout::new();
        let platform = |name: &str| {
            let layers = [layout.blob(LAYER, name), layout.blob(LAYER, "shared")];
            let records = json!([
                {"digest": Digest::of("root")},
                {"digest": Digest::of(name), "inputs": [[{"link": 0}]], "layers": [{"layer": 1}]},
                {"digest": Digest::of("copy"), "inputs": [[{"link": 1}]],
                 "chains": [{"layers": [1, 0], "createdAt": "2026-11-21T20:27:19Z"}]},
            ]);
            layout.image(
                &layers,
                &json!({
                    "moby.buildkit.cache.v0": inline_cache(&records),
                    "rootfs": {"diff_ids": [Digest::of("x"), Digest::of("y")]},
                }),
            )
        };
        let platforms = [platform("amd64"), platform("arm64")];
        layout.index(&[layout.json("", &json!({"manifests": platforms}))]);
        let source = layout.path().to_str().unwrap().parse().unwrap();
        let exports = CacheExport::read_all(&source, &Limits::default()).unwrap();
        for (export, name) in exports.iter().zip(["amd64", "arm64"]) {
            let config = &export.config;
            let blobs: Vec<_> = config.nodes.iter().map(|node| (node.blob, node.parent)).collect();
            assert_eq!(
                blobs,
                [(Digest::of(name), None), (Digest::of("shared"), Some(NodeIndex(0)))]
            );
            let chains = config.records.iter().flat_map(|record| &record.results);
            let chains: Vec<_> = chains.map(|result| config.layers(&result.chain)).collect();
            assert_eq!(chains, [[0, 1], [1, 0]].map(|chain| chain.map(NodeIndex)));
        }
        assert_eq!(exports.len(), 2);
        assert!(Arc::ptr_eq(&exports[0].layout, &exports[1].layout));
    }

    #[test]
    fn invalid_records_of_an_inline_cache_are_named() {
        for (records, layers) in [
            (json!([{"digest": Digest::of("r"), "layers": [{"layer": 1}]}]), 1),
            (json!([{"digest": Digest::of("r"), "layers": [{"layer": 0}]}]), 0),
            (json!({"records": []}), 1),
        ] {
            let layout = TestLayout::new();
            let layer = layout.blob(LAYER, "a");
            let members = json!({
                "moby.buildkit.cache.v0": inline_cache(&records),
                "rootfs": {"diff_ids": vec![Digest::of("x"); layers]},
            });
            layout.index(&[layout.image(&vec![layer; layers], &members)]);
            let error = read(&layout).unwrap_err();
            assert!(matches!(error, ExportError::Config { .. }), "{error}");
        }
    }

    #[test]
    fn a_cache_without_records_is_refused() {
        for config in [json!({}), json!({"records": null}), json!({"layers": [], "records": []})] {
            let layout = TestLayout::new();
            layout.cache(Style::ImageManifest, &[], &config);
            assert!(matches!(read(&layout), Err(ExportError::NoRecords { .. })), "{config}");
        }
        let of = |records: &Value| json!({"moby.buildkit.cache.v0": inline_cache(records), "rootfs": {}});
        let layout = TestLayout::new();
        // Go's empty list.
        let empty = layout.image(&[], &of(&Value::Null));
        layout.index(std::slice::from_ref(&empty));
        assert!(matches!(read(&layout), Err(ExportError::NoRecords { .. })));
        // One of the platforms of an image may have none.
        let full = layout.image(&[], &of(&json!([{"digest": Digest::of("root")}])));
        layout.index(&[layout.json("", &json!({"manifests": [empty, full]}))]);
        assert_eq!(read(&layout).unwrap().config.records.len(), 0);
    }

    #[test]
    fn a_config_that_buildkits_own_importer_refuses_for_its_size_is_read() {
        // BuildKit v0.32 `cache/remotecache/import.go` `readBlob`: 1 MiB.
        let record = |n: usize| match n {
            0 => json!({"digest": Digest::of("root")}),
            n => json!({"digest": Digest::of(n.to_string()), "inputs": [[{"link": n - 1}]]}),
        };
        let records: Vec<_> = (0..20_000).map(record).collect();
        let layout = TestLayout::new();
        let config = layout.cache(Style::ImageManifest, &[], &json!({"records": records}));
        assert!(config["size"].as_u64().unwrap() > 2 << 20);
        let export = read(&layout).unwrap();
        assert_eq!(export.config.records.len(), 20_000);
        assert_eq!(export.config.records_inputs_first().last(), Some(&RecordIndex(19_999)));
    }

    #[test]
    fn an_oversized_config_is_not_read() {
        let layout = TestLayout::new();
        let digest = Digest::of("config");
        let size = Limits::default().config + 1;
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
        assert!(matches!(source, ConfigError::ParentLoop { layer: NodeIndex(0) }), "{source}");
    }

    #[test]
    fn a_layout_without_a_cache_is_named() {
        let layout = TestLayout::new();
        assert!(matches!(read(&layout), Err(ExportError::Select(_))));
        fs::remove_file(layout.path().join("index.json")).unwrap();
        assert!(matches!(read(&layout), Err(ExportError::Layout(LayoutError::NoIndex { .. }))));
    }
}

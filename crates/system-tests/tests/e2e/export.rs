//! Compares two cache exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The annotation of a layer with the time of its record.
const CREATED_AT: &str = "buildkit/createdat";

/// A cache export in a layout.
#[derive(Debug)]
pub(crate) struct CacheExport {
    dir: PathBuf,
    /// The digest of its manifest, or of its index.
    pub(crate) digest: String,
}

/// The parts of an export.
#[derive(Debug)]
struct Parts {
    config_digest: String,
    config: Config,
    /// The descriptors of the layers by digest.
    layers: BTreeMap<String, Value>,
}

/// The cache config (buildkit's `cache/remotecache/v1/types`).
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    blob: String,
    /// Zero is omitted from the JSON; no parent is -1.
    #[serde(default)]
    parent: i64,
}

#[derive(Debug, Deserialize)]
struct Record {
    digest: String,
    #[serde(default)]
    layers: Vec<RecordResult>,
    #[serde(default)]
    inputs: Vec<Vec<Input>>,
}

#[derive(Debug, Deserialize)]
struct RecordResult {
    layer: usize,
    #[serde(rename = "createdAt")]
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct Input {
    #[serde(default)]
    selector: String,
    link: usize,
}

impl CacheExport {
    /// Opens the last export with `tag` in `dir`'s `index.json`.
    pub(crate) fn open(dir: &Path, tag: &str) -> Result<Self> {
        let path = dir.join("index.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let index: Value = serde_json::from_slice(&text)?;
        let entries = index["manifests"].as_array().context("index.json has no manifests")?;
        let named = |entry: &&Value| {
            entry["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag)
        };
        let entry =
            entries.iter().rfind(named).with_context(|| format!("{tag} is not in {index}"))?;
        let digest = entry["digest"].as_str().context("an entry without a digest")?;
        Ok(Self { dir: dir.to_owned(), digest: digest.to_owned() })
    }

    /// Fails unless `other`, made by a daemon on this export, has the same digest. There are two exceptions,
    /// where buildkit v0.32.2 itself differs:
    ///
    /// If one blob has two parents, or two records have one digest (one op over different inputs), the same
    /// daemon numbers them in either order: it sorts layers by blob and unsorted parent, and records by
    /// digest and the digests of their inputs (`cache/remotecache/v1/utils.go`, `sortConfig`). The blob has
    /// the time of either record. Such exports count as the same if they differ only in the numbering and
    /// that time.
    ///
    /// A layer that was recompressed for the export (`force-compression`) loses the annotation with its time
    /// (`cache/remote.go`, `getRemote`), but a record must have one (`cache/manager.go`,
    /// `initializeMetadata`), so the next exporter has one to annotate.
    pub(crate) fn ensure_same(&self, other: &Self) -> Result<()> {
        if self.digest == other.digest {
            return Ok(());
        }
        let (ours, theirs) = (self.parts()?, other.parts()?);
        let mut known = Known::default();
        let same_config = ours.config_digest == theirs.config_digest
            || (ours.config.has_twins()
                && known.records(&ours.config)? == known.records(&theirs.config)?);
        ensure!(
            same_config,
            "{} has the config {}, {} has {}",
            self.digest,
            ours.config_digest,
            other.digest,
            theirs.config_digest
        );
        let twins = ours.config.twin_blobs();
        for (digest, our) in &ours.layers {
            let mut their = theirs.layers.get(digest).context(digest.clone())?.clone();
            let time = &our["annotations"][CREATED_AT];
            if time.is_null() {
                if let Some(annotations) = their["annotations"].as_object_mut() {
                    annotations.remove(CREATED_AT);
                }
            } else if twins.contains(digest.as_str()) {
                their["annotations"][CREATED_AT] = time.clone();
            }
            ensure!(*our == their, "a layer was {our}, is {their}");
        }
        ensure!(ours.layers.len() == theirs.layers.len(), "{} has more layers", other.digest);
        Ok(())
    }

    /// Returns the digests of its layers.
    pub(crate) fn layers(&self) -> Result<BTreeSet<String>> {
        Ok(self.parts()?.layers.into_keys().collect())
    }

    /// Returns the digests of its layers without compression.
    pub(crate) fn diff_ids(&self) -> Result<BTreeSet<String>> {
        let layers = self.parts()?.layers.into_values();
        let diff_ids = layers.filter_map(|layer| {
            layer["annotations"]["containerd.io/uncompressed"].as_str().map(str::to_owned)
        });
        Ok(diff_ids.collect())
    }

    fn parts(&self) -> Result<Parts> {
        let manifest: Value = self.read(&self.digest)?;
        let mut config_digest = None;
        let mut layers = BTreeMap::new();
        let lists = [&manifest["manifests"], &manifest["layers"]];
        let listed = lists.into_iter().filter_map(Value::as_array).flatten();
        for descriptor in listed.chain([&manifest["config"]]).filter(|value| value.is_object()) {
            let digest = descriptor["digest"].as_str().context("no digest")?.to_owned();
            if descriptor["mediaType"] == CONFIG {
                config_digest = Some(digest);
            } else {
                layers.insert(digest, descriptor.clone());
            }
        }
        let config_digest = config_digest.context("the export has no cache config")?;
        Ok(Parts { config: self.read(&config_digest)?, config_digest, layers })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, digest: &str) -> Result<T> {
        let path = self.dir.join("blobs").join(digest.replace(':', "/"));
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

impl Config {
    fn has_twins(&self) -> bool {
        let records: BTreeSet<_> = self.records.iter().map(|record| &record.digest).collect();
        records.len() < self.records.len() || !self.twin_blobs().is_empty()
    }

    /// Returns the blobs with more than one parent.
    fn twin_blobs(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let blobs = self.layers.iter().map(|layer| layer.blob.as_str());
        blobs.filter(|blob| !seen.insert(*blob)).collect()
    }

    /// Returns the blobs of a layer and of all below it.
    fn chain(&self, layer: usize) -> Result<Vec<&str>> {
        let mut chain = Vec::new();
        let mut next = Some(layer);
        while let Some(index) = next {
            let layer = self.layers.get(index).context("a layer number out of range")?;
            ensure!(chain.len() <= self.layers.len(), "the layers form a loop");
            chain.push(layer.blob.as_str());
            next = usize::try_from(layer.parent).ok();
        }
        Ok(chain)
    }
}

/// Descriptions of records that do not depend on the numbering of a config, each with a unique number: the
/// content of a record, with the numbers of the descriptions that it links to.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, usize>);

impl Known {
    /// Returns the numbers of all records of a config, in order.
    fn records(&mut self, config: &Config) -> Result<Vec<usize>> {
        let mut done = BTreeMap::new();
        for record in 0..config.records.len() {
            self.record(config, record, &mut done)?;
        }
        let mut numbers: Vec<_> = done.into_values().collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn record(
        &mut self,
        config: &Config,
        index: usize,
        done: &mut BTreeMap<usize, usize>,
    ) -> Result<usize> {
        if let Some(number) = done.get(&index) {
            return Ok(*number);
        }
        let record = config.records.get(index).context("a record number out of range")?;
        let mut description = record.digest.clone();
        for result in &record.layers {
            let chain = config.chain(result.layer)?;
            description += &format!("\nresult {} {chain:?}", result.created_at);
        }
        for alternatives in &record.inputs {
            let mut numbers = Vec::new();
            for input in alternatives {
                numbers.push((self.record(config, input.link, done)?, &input.selector));
            }
            numbers.sort_unstable();
            description += &format!("\ninput {numbers:?}");
        }
        let next = self.0.len();
        let number = *self.0.entry(description).or_insert(next);
        done.insert(index, number);
        Ok(number)
    }
}

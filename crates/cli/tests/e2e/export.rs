//! Comparing two cache exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A cache export in a layout.
#[derive(Debug)]
pub(crate) struct CacheExport {
    dir: PathBuf,
    /// The digest of its manifest, or of its index.
    pub(crate) digest: String,
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
    /// Zero is left out of the JSON; no parent is -1.
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
    /// The export that `dir`'s `index.json` lists last under `tag`.
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

    /// Fails unless `other` is the same export: the same digest.
    ///
    /// One exception: where one blob lies on two parents, or two records have one digest (one op
    /// over different inputs), one and the same daemon numbers them in either order: buildkit
    /// v0.32.2 sorts layers by blob and unsorted parent, and records by digest and the digests of
    /// their inputs (`cache/remotecache/v1/utils.go`, `sortConfig`). Such exports are the same if
    /// they differ in nothing but the numbering.
    pub(crate) fn ensure_same(&self, other: &Self) -> Result<()> {
        if self.digest == other.digest {
            return Ok(());
        }
        let (ours, theirs) = (self.config()?, other.config()?);
        let mut known = Known::default();
        ensure!(
            ours.has_twins() && known.records(&ours)? == known.records(&theirs)?,
            "the export {} is not {}",
            other.digest,
            self.digest
        );
        Ok(())
    }

    fn config(&self) -> Result<Config> {
        let manifest: Value = self.read(&self.digest)?;
        let in_index = manifest["manifests"].as_array().into_iter().flatten();
        let config = in_index
            .chain([&manifest["config"]])
            .find(|descriptor| descriptor["mediaType"] == CONFIG)
            .and_then(|descriptor| descriptor["digest"].as_str())
            .context("the export has no cache config")?;
        self.read(config)
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
        let blobs: BTreeSet<_> = self.layers.iter().map(|layer| &layer.blob).collect();
        records.len() < self.records.len() || blobs.len() < self.layers.len()
    }

    /// The blobs of a layer and of all below it.
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

/// Descriptions of records that do not depend on how a config numbers them, each with a number of
/// its own: what a record says, with the numbers of the descriptions that it links to.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, usize>);

impl Known {
    /// The numbers of all records of a config, in order.
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

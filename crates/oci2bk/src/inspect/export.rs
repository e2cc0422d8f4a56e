//! The content of an export, and what a daemon would find of it.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::{Digest, Time};
use llb::OpDigest;
use llb::release::Target;
use typed_index_collections::{TiSlice, TiVec, ti_vec};

use super::{Warmth, names};
use crate::config::{CacheConfig, Chain, NodeIndex, Record, RecordIndex};
use crate::export::CacheExport;
use crate::index::by_index;
use crate::keys::{KeySourceIndex, Keyring, Resolved, SourceSummary};
use crate::manifest::Compression;
use crate::plan::{LostReason, MissReason, Plan, PlanError, Source, SourceIndex};
use crate::sizes::Sizes;

/// Exports, with the data about their records.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Export {
    /// The daemon for which the export would be converted.
    pub target: Target,
    /// The exports.
    pub sources: Vec<Source>,
    /// The key sources, and the contribution of each.
    pub keys: Vec<SourceSummary>,
    /// The layers, each on top of its parent. One blob under two parents is two layers.
    pub layers: Vec<ExportLayer>,
    /// The records.
    pub steps: Vec<ExportStep>,
    /// What a root with all of the layers would take, if a caller has [measured](crate::sizes) it.
    pub sizes: Option<Sizes>,
}

/// A layer on top of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportLayer {
    /// The source.
    pub source: SourceIndex,
    /// Its index in the config of the source.
    pub number: NodeIndex,
    /// The blob.
    pub blob: Digest,
    /// The layer below.
    pub parent: Option<NodeIndex>,
    /// Size of the blob in bytes; `None` if it is missing.
    pub bytes: Option<u64>,
    /// The compression of the blob.
    pub compression: Option<Compression>,
    /// The digest of the uncompressed layer.
    pub diff_id: Option<Digest>,
    /// Its creation time.
    pub created_at: Option<Time>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStep {
    /// The source.
    pub source: SourceIndex,
    /// Its index in the config of the source.
    pub number: RecordIndex,
    /// The digest of the record in the export.
    pub digest: Digest,
    /// The step in the words of a Dockerfile, if a key source has it.
    pub name: Option<String>,
    /// Its key, if it needs one and a source has it.
    pub key: Option<StepKey>,
    /// Its warmth for the daemon.
    pub warmth: Warmth,
    /// Why the daemon may have another name for it.
    pub misses: Vec<StepMiss>,
    /// The lowest missing layer of each dropped result.
    pub missing: Vec<Digest>,
    /// Its inputs.
    pub inputs: Vec<StepInput>,
    /// Its results.
    pub results: Vec<StepResult>,
}

/// The op digest of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepKey {
    /// The digest, as computed by the exporter.
    pub op_digest: OpDigest,
    /// The output of the record's op.
    pub output: u32,
    /// The key source.
    pub source: KeySourceIndex,
}

/// Why a daemon may not find a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepMiss {
    /// The reason.
    pub reason: MissReason,
    /// Whether it is certain, for any build.
    pub certain: bool,
}

/// One way in which an input can match.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepInput {
    /// The number of the input.
    pub input: usize,
    /// The part of it that the op uses.
    pub selector: String,
    /// The record.
    pub step: RecordIndex,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepResult {
    /// Its topmost layer.
    pub layer: NodeIndex,
    /// All its layers, lowest first, if they are not the topmost layer and those below it.
    pub explicit: Vec<NodeIndex>,
    /// Number of its layers.
    pub depth: usize,
    /// Total size of their blobs, in bytes.
    pub bytes: u64,
    /// When the step ran.
    pub created_at: Option<Time>,
}

impl Export {
    /// Describes `exports`, with the keys of `keyring`, for a daemon of the release `target`.
    ///
    /// # Errors
    /// Returns an error if they cannot be converted together.
    pub fn new(
        exports: &[CacheExport],
        keyring: &Keyring,
        target: Target,
    ) -> Result<Self, PlanError> {
        let plan = Plan::of_any(exports, keyring, target)?;
        let mut misses: BTreeMap<(SourceIndex, Digest), Vec<StepMiss>> = BTreeMap::new();
        for miss in &plan.misses {
            let of_record = misses.entry((miss.source, miss.record)).or_default();
            of_record.push(StepMiss { reason: miss.reason, certain: miss.certain });
        }
        let unproven = plan.lost.iter().filter(|lost| lost.reason == LostReason::Unproven);
        let unproven: BTreeSet<_> = unproven.map(|lost| (lost.source, lost.digest)).collect();
        let mut view = Self {
            target,
            sources: plan.sources,
            keys: keyring.sources().to_vec(),
            layers: Vec::new(),
            steps: Vec::new(),
            sizes: None,
        };
        for (source, export) in (0..).map(SourceIndex).zip(exports) {
            view.layers.extend(layers(source, export));
            let key = |digest: &Digest| {
                keyring.get(digest).filter(|_| !unproven.contains(&(source, *digest)))
            };
            view.steps.extend(steps(source, export, key, &misses));
        }
        Ok(view)
    }

    /// Returns only the part that `word` names, a digest or a prefix of one, with related parts: records,
    /// their layers, their inputs and dependents. `None` if it names nothing.
    pub fn only(&self, word: &str) -> Option<Self> {
        let is = |digest: &Digest| names(word, &digest.to_string());
        let layers: BTreeSet<_> = self
            .layers
            .iter()
            .filter(|layer| is(&layer.blob) || layer.diff_id.as_ref().is_some_and(is))
            .map(|layer| (layer.source, layer.number))
            .collect();
        let meant: BTreeSet<_> = self
            .steps
            .iter()
            .filter(|step| {
                let key = step.key.as_ref();
                is(&step.digest)
                    || key.is_some_and(|key| names(word, key.op_digest.as_str()))
                    || step.missing.iter().any(is)
                    || step.results.iter().any(|r| layers.contains(&(step.source, r.layer)))
            })
            .map(|step| (step.source, step.number))
            .collect();
        if meant.is_empty() && layers.is_empty() {
            return None;
        }
        let near: BTreeSet<_> = self
            .steps
            .iter()
            .flat_map(|step| step.inputs.iter().map(move |input| (step, input)))
            .flat_map(|(step, input)| {
                let ends = [(step.source, step.number), (step.source, input.step)];
                let tied = ends.iter().any(|end| meant.contains(end));
                ends.into_iter().filter(move |_| tied)
            })
            .collect();
        let keep = |step: &&ExportStep| {
            let place = (step.source, step.number);
            meant.contains(&place) || near.contains(&place)
        };
        let steps: Vec<_> = self.steps.iter().filter(keep).cloned().collect();
        let results = steps.iter().filter(|step| meant.contains(&(step.source, step.number)));
        let mut kept = layers;
        kept.extend(results.flat_map(|step| step.results.iter().map(|r| (step.source, r.layer))));
        let keep = |layer: &&ExportLayer| kept.contains(&(layer.source, layer.number));
        let layers = self.layers.iter().filter(keep).cloned().collect();
        Some(Self {
            target: self.target,
            sources: self.sources.clone(),
            keys: self.keys.clone(),
            layers,
            steps,
            sizes: self.sizes,
        })
    }

    /// Returns the layer `number` of a source.
    pub fn layer(&self, source: SourceIndex, number: NodeIndex) -> Option<&ExportLayer> {
        let place = |layer: &ExportLayer| (layer.source, layer.number);
        let at = self.layers.binary_search_by_key(&(source, number), place).ok()?;
        self.layers.get(at)
    }
}

impl ExportLayer {
    /// Returns the compression of the blob: `tar`, `gzip` or `zstd`.
    pub fn compression_word(&self) -> Option<&'static str> {
        self.compression.map(|compression| match compression {
            Compression::None => "tar",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

fn layers(source: SourceIndex, export: &CacheExport) -> impl Iterator<Item = ExportLayer> {
    by_index(&export.config.nodes).iter_enumerated().map(move |(number, node)| {
        let blob = export.manifest.layers.get(&node.blob);
        ExportLayer {
            source,
            number,
            blob: node.blob,
            parent: node.parent,
            bytes: blob.map(|blob| blob.descriptor.size),
            compression: blob.map(|blob| blob.compression),
            diff_id: blob.map(|blob| blob.diff_id),
            created_at: blob.and_then(|blob| blob.created_at),
        }
    })
}

fn steps<'k>(
    source: SourceIndex,
    export: &CacheExport,
    key_of: impl Fn(&Digest) -> Option<&'k Resolved>,
    misses: &BTreeMap<(SourceIndex, Digest), Vec<StepMiss>>,
) -> TiVec<RecordIndex, ExportStep> {
    let config = &export.config;
    let stacks = stacks(export);
    let mut missing: BTreeMap<RecordIndex, Vec<Digest>> = BTreeMap::new();
    for dropped in &config.dropped {
        missing.entry(dropped.record).or_default().push(dropped.missing);
    }
    let mut steps: TiVec<RecordIndex, _> = by_index(&config.records)
        .iter_enumerated()
        .map(|(number, record)| {
            let key = key_of(&record.digest).filter(|_| !record.inputs.is_empty());
            ExportStep {
                source,
                number,
                digest: record.digest,
                name: key.and_then(|key| key.name.clone()),
                key: key.map(|key| StepKey {
                    op_digest: key.op_digest.clone(),
                    output: key.output,
                    source: key.source,
                }),
                warmth: Warmth::Source,
                misses: misses.get(&(source, record.digest)).cloned().unwrap_or_default(),
                missing: missing.remove(&number).unwrap_or_default(),
                inputs: inputs(record),
                results: results(record, config, &stacks),
            }
        })
        .collect();
    // A step with missing layers is also one that the daemon may not find.
    let mut may_miss: TiVec<RecordIndex, _> = ti_vec![false; steps.len()];
    for &number in config.records_inputs_first() {
        let cold = |step: RecordIndex| {
            // A result without its layers still has a key.
            matches!(steps[step].warmth, Warmth::NoKey | Warmth::NoInput | Warmth::WillMiss)
        };
        let record = &config.records[number];
        let lost =
            record.inputs.iter().any(|alternatives| alternatives.iter().all(|i| cold(i.record)));
        let in_doubt = |step: RecordIndex| cold(step) || may_miss[step];
        let doubtful = !steps[number].misses.is_empty()
            || record.inputs.iter().any(|ways| ways.iter().all(|i| in_doubt(i.record)));
        let warmth = warmth(&steps[number], lost, doubtful);
        may_miss[number] = doubtful;
        steps[number].warmth = warmth;
    }
    steps
}

/// `doubtful` means that the daemon may not find the step or one of its inputs.
fn warmth(step: &ExportStep, lost_input: bool, doubtful: bool) -> Warmth {
    let has_result = !step.results.is_empty();
    match () {
        () if step.inputs.is_empty() && has_result => Warmth::Warm,
        () if step.inputs.is_empty() && step.missing.is_empty() => Warmth::Source,
        () if !step.inputs.is_empty() && step.key.is_none() => Warmth::NoKey,
        () if lost_input => Warmth::NoInput,
        () if step.misses.iter().any(|miss| miss.certain) => Warmth::WillMiss,
        () if !has_result && !step.missing.is_empty() => Warmth::NoLayers,
        () if doubtful => Warmth::MayMiss,
        () if has_result => Warmth::Warm,
        () => Warmth::KeyOnly,
    }
}

fn inputs(record: &Record) -> Vec<StepInput> {
    let inputs = record.inputs.iter().enumerate().flat_map(|(input, alternatives)| {
        alternatives.iter().map(move |alternative| StepInput {
            input,
            selector: alternative.selector.clone(),
            step: alternative.record,
        })
    });
    inputs.collect()
}

/// Returns, for each layer, the number of layers from it downwards, and their bytes. Walking each chain would
/// take forever if many are long.
fn stacks(export: &CacheExport) -> TiVec<NodeIndex, (usize, u64)> {
    let config = &export.config;
    let mut stacks: TiVec<NodeIndex, (usize, u64)> = ti_vec![(0, 0); config.nodes.len()];
    for &number in config.nodes_parents_first() {
        let node = &config.nodes[number];
        let (depth, below) = node.parent.map_or((0, 0), |parent| stacks[parent]);
        let own = export.manifest.layers.get(&node.blob).map_or(0, |blob| blob.descriptor.size);
        stacks[number] = (depth + 1, below.saturating_add(own));
    }
    stacks
}

fn results(
    record: &Record,
    config: &CacheConfig,
    stacks: &TiSlice<NodeIndex, (usize, u64)>,
) -> Vec<StepResult> {
    let result = |(chain, created_at): (&Chain, Option<Time>)| {
        let own = |layer: NodeIndex| {
            let below = config.nodes[layer].parent.map_or(0, |parent| stacks[parent].1);
            stacks[layer].1 - below
        };
        let (layer, explicit, (depth, bytes)) = match chain {
            Chain::Top(top) => (*top, Vec::new(), stacks[*top]),
            Chain::Explicit { top, .. } => {
                let layers = config.layers(chain);
                let bytes =
                    layers.iter().fold(0, |sum: u64, &layer| sum.saturating_add(own(layer)));
                let depth = layers.len();
                (*top, layers, (depth, bytes))
            }
        };
        StepResult { layer, explicit, depth, bytes, created_at }
    };
    record.results.iter().map(|r| result((&r.chain, r.created_at))).collect()
}

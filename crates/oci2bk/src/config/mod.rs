//! The cache config, version 0: the steps of a cache, and the layers of their results.
//!
//! Source: BuildKit v0.32 `cache/remotecache/v1/types/spec.go` (the JSON), `v1/parse.go` (the importer) and
//! `v1/chains.go` (the exporter).
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use oci2bk::Digest;
//! use oci2bk::config::{
//!     CacheConfig, Chain, ConfigError, DroppedResult, Input, MAX_SELECTOR, Node, NodeIndex, Record,
//!     RecordIndex, ResultChain,
//! };
//! use oci2bk::manifest::LayerBlob;
//! use serde_json::json;
//!
//! let digest = |name: &str| Digest::of(name);
//! let have = |name: &str| {
//!     let descriptor = serde_json::from_value(json!({
//!         "mediaType": "application/vnd.oci.image.layer.v1.tar",
//!         "digest": digest(name),
//!         "size": 1024,
//!         "annotations": {"containerd.io/uncompressed": digest(name)},
//!     }))?;
//!     Ok::<_, Box<dyn std::error::Error>>((digest(name), LayerBlob::from_descriptor(descriptor)?))
//! };
//! let layers: BTreeMap<Digest, LayerBlob> = [have("base")?, have("top")?].into();
//!
//! // A step on top of another one. It has two results; a layer of one of them was not copied.
//! let mut json = json!({
//!     "layers": [
//!         {"blob": digest("base"), "parent": -1},
//!         {"blob": digest("top"), "parent": 0},
//!         {"blob": digest("lost"), "parent": 0},
//!     ],
//!     "records": [
//!         {"digest": digest("RUN"), "layers": [{"layer": 1}, {"layer": 2}],
//!          "inputs": [[{"selector": "/src", "link": 1}]]},
//!         {"digest": digest("FROM"), "chains": [{"layers": [0]}]},
//!     ],
//! });
//! let config = CacheConfig::parse(json.to_string().as_bytes(), &layers)?;
//! let (base, top) = (NodeIndex(0), NodeIndex(1));
//! assert_eq!(config.nodes[top], Node { blob: digest("top"), parent: Some(base) });
//! let chain = Chain::Top(top);
//! assert_eq!(config.layers(&chain), [base, top]);
//! let result = ResultChain { chain, created_at: None };
//! let input = Input { selector: "/src".to_owned(), record: RecordIndex(1) };
//! let inputs = vec![vec![input]];
//! assert_eq!(config.records[0], Record { digest: digest("RUN"), results: vec![result], inputs });
//! let (record, missing) = (RecordIndex(0), digest("lost"));
//! assert_eq!(config.dropped, [DroppedResult { record, digest: digest("RUN"), missing }]);
//!
//! // In such an order, a loop over all of them finds its dependencies done.
//! assert_eq!(config.records_inputs_first(), [1, 0].map(RecordIndex));
//! assert_eq!(config.nodes_parents_first()[0], base);
//! // A search for keys needs those of steps with inputs; for the others the digest is the key.
//! assert_eq!(config.digests_with_inputs().collect::<Vec<_>>(), [digest("RUN")]);
//! // The three nodes, and the one of the chain.
//! assert_eq!(config.listed_layers(), 4);
//!
//! // Only the records, as in an image: the layers are those of the image.
//! let records = json["records"].to_string();
//! let blobs = ["base", "top", "lost"].map(digest);
//! let inline = CacheConfig::parse_inline(records.as_bytes(), &blobs, &layers)?;
//! assert_eq!(inline.nodes[2], Node { blob: digest("lost"), parent: Some(top) });
//!
//! // References to nothing or to themselves, and values that cannot be stored, are rejected.
//! json["records"][0]["inputs"][0][0]["selector"] = "x".repeat(MAX_SELECTOR + 1).into();
//! let error = CacheConfig::parse(json.to_string().as_bytes(), &layers).unwrap_err();
//! assert!(matches!(error, ConfigError::SelectorTooLong { .. }));
//! json["records"][0]["inputs"][0][0] = json!({"link": 0});
//! let error = CacheConfig::parse(json.to_string().as_bytes(), &layers).unwrap_err();
//! assert!(matches!(error, ConfigError::RecordLoop { record: RecordIndex(0), .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod document;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bkstate::{Digest, Time};
use codec::FormatError;
use typed_index_collections::{TiVec, ti_vec};

use crate::index::index;
use crate::json;
use crate::manifest::LayerBlob;

/// Maximum length of a link's selector, in bytes. BuildKit's are digests (v0.32.2
/// `solver/llbsolver/ops/{exec,file}.go`). It is part of a key in `cache.db`, whose length is limited.
pub const MAX_SELECTOR: usize = 1024;

/// A cache config with valid references and without loops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The layers on top of their parents. One blob under two parents is two nodes.
    pub nodes: Vec<Node>,
    /// The steps.
    ///
    /// Several records can have the same digest: it names the operation, and the same operation on other
    /// inputs is another record. BuildKit's importer merges records of equal digest and inputs; here they are
    /// kept, since both have the same key and merge in the state.
    pub records: Vec<Record>,
    /// The results that were dropped because the cache lacks one of their layers.
    pub dropped: Vec<DroppedResult>,
    nodes_parents_first: Vec<NodeIndex>,
    records_inputs_first: Vec<RecordIndex>,
}

index! {
    /// The index of a [`Node`] in [`CacheConfig::nodes`].
    pub struct NodeIndex of Node;
}

index! {
    /// The index of a [`Record`] in [`CacheConfig::records`].
    pub struct RecordIndex of Record;
}

/// A layer on top of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The layer blob. The blobs of nodes that no result uses may be missing.
    pub blob: Digest,
    /// The parent node.
    pub parent: Option<NodeIndex>,
}

/// A step, and its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key itself for a record without inputs; otherwise a hash of the op digest and output index, which
    /// cannot be inverted.
    pub digest: Digest,
    /// The results whose layers the cache has.
    pub results: Vec<ResultChain>,
    /// For each input of the op, the alternatives of which one must match; never empty.
    pub inputs: Vec<Vec<Input>>,
}

/// A result: a stack of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultChain {
    /// The layers.
    pub chain: Chain,
    /// When the step ran, if known.
    pub created_at: Option<Time>,
}

/// A stack of layers; [`CacheConfig::layers`] lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// This node on top of all its ancestors.
    Top(NodeIndex),
    /// Nodes whose own parents do not matter.
    Explicit {
        /// The nodes below the topmost, lowest first.
        lower: Vec<NodeIndex>,
        /// The topmost node.
        top: NodeIndex,
    },
}

/// One way in which an input of a record can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The part of the input that the op uses, verbatim; empty for all of it.
    pub selector: String,
    /// The record whose result is the input.
    pub record: RecordIndex,
}

/// A result that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedResult {
    /// The record.
    pub record: RecordIndex,
    /// The digest of the record.
    pub digest: Digest,
    /// The lowest layer of the result that is missing from the manifest or the layout.
    pub missing: Digest,
}

/// Why a cache config is invalid. Indexes are positions in the config's `layers` and `records`, from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not JSON, or a member is missing or has the wrong form.
    #[error("the JSON of the cache config is malformed")]
    Json(#[from] FormatError),
    /// A layer's parent does not exist.
    #[error("layer {layer} of the cache config has the parent {parent}, which is not there")]
    NoParent {
        /// The layer.
        layer: NodeIndex,
        /// Its parent.
        parent: i64,
    },
    /// A layer is its own ancestor. (A missing `parent` means layer 0.)
    #[error("layer {layer} of the cache config is its own ancestor")]
    ParentLoop {
        /// The layer.
        layer: NodeIndex,
    },
    /// A result's layer does not exist.
    #[error("record {record} ({digest}) has a result with layer {layer}, which is not there")]
    NoLayer {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
        /// The layer.
        layer: i64,
    },
    /// A result lists no layers.
    #[error("record {record} ({digest}) has a result without layers")]
    EmptyChain {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
    },
    /// An input has no alternatives, so the record could never match.
    #[error("record {record} ({digest}) has nothing to match its input {input}")]
    EmptyInput {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
        /// The input.
        input: usize,
    },
    /// A selector is longer than a daemon could store.
    #[error(
        "record {record} ({digest}) has a selector of {length} bytes; they have up to {MAX_SELECTOR}"
    )]
    SelectorTooLong {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
        /// Length of the selector in bytes.
        length: usize,
    },
    /// An input's record does not exist.
    #[error("record {record} ({digest}) links to record {link}, which is not there")]
    NoRecord {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
        /// The index in the link.
        link: i64,
    },
    /// A record is a direct or indirect input of itself.
    #[error("record {record} ({digest}) is an input of itself")]
    RecordLoop {
        /// The record.
        record: RecordIndex,
        /// Its digest.
        digest: Digest,
    },
}

impl CacheConfig {
    /// Parses and validates a cache config. `layers` are the available blobs; results that need another one
    /// are dropped, as BuildKit's importer drops those that need a blob which the manifest does not describe.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(
        content: &[u8],
        layers: &BTreeMap<Digest, LayerBlob>,
    ) -> Result<Self, ConfigError> {
        Self::validate(json::parse(content)?, layers)
    }

    /// Parses and validates the records of an inline cache, which does not have its own layers: its nodes are
    /// the image's layers `blobs`, lowest first, each on top of the previous one. `layers` are the available
    /// ones.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse_inline(
        records: &[u8],
        blobs: &[Digest],
        layers: &BTreeMap<Digest, LayerBlob>,
    ) -> Result<Self, ConfigError> {
        // Go writes an empty list as `null`.
        let records: Option<_> = json::parse(records)?;
        let layer = |(blob, parent)| document::Layer { blob, parent };
        let nodes = blobs.iter().copied().zip(-1..).map(layer).collect();
        Self::validate(
            document::Config { layers: nodes, records: records.unwrap_or_default() },
            layers,
        )
    }

    fn validate(
        config: document::Config,
        layers: &BTreeMap<Digest, LayerBlob>,
    ) -> Result<Self, ConfigError> {
        let nodes = nodes(config.layers)?;
        let nodes_parents_first = order::parents_first(&nodes)?;
        let missing = missing_blobs(&nodes, &nodes_parents_first, layers);
        let mut dropped = Vec::new();
        let count = config.records.len();
        let mut records = Vec::with_capacity(count);
        for (index, record) in TiVec::from(config.records).into_iter_enumerated() {
            let digest = record.digest;
            let results = results(index, &record, nodes.len())?;
            let inputs = inputs(index, digest, record.inputs, count)?;
            let is_complete = |result: &ResultChain| {
                let missing = match &result.chain {
                    Chain::Top(top) => missing[*top],
                    Chain::Explicit { lower, top } => {
                        let mut blobs = lower.iter().chain([top]).map(|&node| nodes[node].blob);
                        blobs.find(|blob| !layers.contains_key(blob))
                    }
                };
                dropped.extend(missing.map(|missing| DroppedResult {
                    record: index,
                    digest,
                    missing,
                }));
                missing.is_none()
            };
            let results = results.into_iter().filter(is_complete).collect();
            records.push(Record { digest, results, inputs });
        }
        let records_inputs_first = order::inputs_first(&records)?;
        Ok(Self { nodes, records, dropped, nodes_parents_first, records_inputs_first })
    }

    /// Returns the nodes of `chain`, lowest first.
    ///
    /// This walks the whole chain; if all chains are needed, one pass over
    /// [`CacheConfig::nodes_parents_first`] takes linear time.
    pub fn layers(&self, chain: &Chain) -> Vec<NodeIndex> {
        match chain {
            Chain::Explicit { lower, top } => lower.iter().chain([top]).copied().collect(),
            Chain::Top(top) => {
                let parent = |&node: &NodeIndex| self.nodes[node].parent;
                let mut layers: Vec<_> = std::iter::successors(Some(*top), parent).collect();
                layers.reverse();
                layers
            }
        }
    }

    /// Returns the digests of the records whose op digests are needed: all with inputs.
    pub fn digests_with_inputs(&self) -> impl Iterator<Item = Digest> {
        let with_inputs = self.records.iter().filter(|record| !record.inputs.is_empty());
        with_inputs.map(|record| record.digest)
    }

    /// Returns the number of layers that the cache lists: its nodes, plus those of explicit chains.
    pub fn listed_layers(&self) -> usize {
        let results = self.records.iter().flat_map(|record| &record.results);
        results.fold(self.nodes.len(), |sum, result| match &result.chain {
            Chain::Top(_) => sum,
            Chain::Explicit { lower, .. } => sum.saturating_add(lower.len() + 1),
        })
    }

    /// Returns all nodes, each after its parent.
    pub fn nodes_parents_first(&self) -> &[NodeIndex] {
        &self.nodes_parents_first
    }

    /// Returns all records, each after the records that its inputs link to.
    pub fn records_inputs_first(&self) -> &[RecordIndex] {
        &self.records_inputs_first
    }
}

/// Returns `number` as an index into `length` items, if it is valid.
fn checked<I: From<usize>>(number: i64, length: usize) -> Option<I> {
    usize::try_from(number).ok().filter(|&index| index < length).map(I::from)
}

fn nodes(layers: Vec<document::Layer>) -> Result<Vec<Node>, ConfigError> {
    let length = layers.len();
    let node = |(layer, document::Layer { blob, parent })| {
        let parent = match parent {
            -1 => None,
            parent => Some(checked(parent, length).ok_or(ConfigError::NoParent { layer, parent })?),
        };
        Ok(Node { blob, parent })
    };
    TiVec::from(layers).into_iter_enumerated().map(node).collect()
}

/// Returns, for each node, the lowest blob of its chain without a descriptor.
fn missing_blobs(
    nodes: &[Node],
    parents_first: &[NodeIndex],
    layers: &BTreeMap<Digest, LayerBlob>,
) -> TiVec<NodeIndex, Option<Digest>> {
    let mut missing = ti_vec![None; nodes.len()];
    for &index in parents_first {
        let Node { blob, parent } = nodes[index];
        let below = parent.and_then(|parent| missing[parent]);
        missing[index] = below.or((!layers.contains_key(&blob)).then_some(blob));
    }
    missing
}

fn results(
    index: RecordIndex,
    record: &document::Record,
    nodes: usize,
) -> Result<Vec<ResultChain>, ConfigError> {
    let digest = record.digest;
    let node =
        |layer| checked(layer, nodes).ok_or(ConfigError::NoLayer { record: index, digest, layer });
    let known = |time: Option<Time>| time.filter(|time| !time.is_zero());
    let mut results = Vec::with_capacity(record.results.len() + record.chains.len());
    for result in &record.results {
        let chain = Chain::Top(node(result.layer)?);
        results.push(ResultChain { chain, created_at: known(result.created_at) });
    }
    for chain in &record.chains {
        let Some((top, lower)) = chain.layers.split_last() else {
            return Err(ConfigError::EmptyChain { record: index, digest });
        };
        let lower = lower.iter().map(|&layer| node(layer)).collect::<Result<_, _>>()?;
        let explicit = Chain::Explicit { lower, top: node(*top)? };
        results.push(ResultChain { chain: explicit, created_at: known(chain.created_at) });
    }
    Ok(results)
}

fn inputs(
    record: RecordIndex,
    digest: Digest,
    inputs: Vec<Vec<document::Input>>,
    records: usize,
) -> Result<Vec<Vec<Input>>, ConfigError> {
    let alternative = |document::Input { selector, link }| match checked(link, records) {
        _ if selector.len() > MAX_SELECTOR => {
            Err(ConfigError::SelectorTooLong { record, digest, length: selector.len() })
        }
        Some(record) => Ok(Input { selector, record }),
        None => Err(ConfigError::NoRecord { record, digest, link }),
    };
    let alternatives = |(input, alternatives): (_, Vec<_>)| {
        if alternatives.is_empty() {
            return Err(ConfigError::EmptyInput { record, digest, input });
        }
        alternatives.into_iter().map(alternative).collect()
    };
    inputs.into_iter().enumerate().map(alternatives).collect()
}

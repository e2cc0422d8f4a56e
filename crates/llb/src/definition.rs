//! LLB from clients and frontends: a `pb.Definition`, or a dump of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codec::{Digest, FormatError};
use serde::Deserialize;

use super::graph::{Graph, Metadata, ProtoShape, ShapedOp, Unresolved, digest_of};
use super::op::{Kind, Op};
use super::platform::Platform;
use super::proto;

/// Maximum number of ops, mounts and file actions in a protobuf definition, in total. Builds of a thousand
/// steps have a few thousand.
pub const MAX_PARTS: usize = 100_000;

/// The ops of a definition.
///
/// Unlike provenance, it does not name the platform of the daemon, which applies to ops without a platform.
/// Clients and frontends of BuildKit set it in every op.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// All ops, inputs first.
    pub ops: Vec<Op>,
    /// The graph of the ops, if each comes after its inputs.
    pub graph: Option<Arc<Graph>>,
}

/// Why a document is not a definition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// It is not such a protobuf message.
    #[error("it is not LLB in protobuf")]
    Protobuf(#[from] FormatError),
    /// It is a message without ops, such as an empty file.
    #[error("it has no ops")]
    Empty,
    /// It is larger than any build.
    #[error("it has more than {MAX_PARTS} ops, mounts and file actions")]
    TooLarge,
    /// An input of an op is missing. Bytes that happen to be a valid message fail here.
    #[error("op {index} builds on one that is not there, so it is not a whole definition")]
    MissingInput {
        /// The index of the op, from 0.
        index: usize,
    },
    /// A line is not output of `buildctl debug dump-llb`.
    #[error("op {index} of the dump is malformed")]
    Dump {
        /// The index of the op, from 0.
        index: usize,
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// It is not a frontend's response to `frontend.convertllb`.
    #[error("it is not a definition in JSON, as a Dockerfile frontend answers")]
    Answer(#[source] FormatError),
    /// An input of an op is missing, or ops form a cycle.
    #[error("an op builds on {input}, which is not there or builds on that op itself")]
    NoOrder {
        /// The digest by which the op names the input.
        input: String,
    },
}

/// Decodes a message.
fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, FormatError> {
    M::decode(bytes).map_err(FormatError::new)
}

impl Definition {
    /// Reads a `pb.Definition` in protobuf (BuildKit v0.32.2 `solver/pb/ops.proto`), which `buildctl build`
    /// reads from stdin. Each op is a message in it, and names its inputs by the digests of their messages.
    ///
    /// # Errors
    /// Returns an error if it is not one, has no ops, is too large, or lacks an input of an op.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, DefinitionError> {
        let proto::Definition { def: messages, mut metadata } = decode(bytes)?;
        let mut parts = messages.len();
        for message in &messages {
            parts = parts.saturating_add(decode::<proto::Outline>(message)?.parts());
        }
        if parts > MAX_PARTS {
            return Err(DefinitionError::TooLarge);
        }
        let known: BTreeSet<_> = messages.iter().map(|op| Digest::of(op).to_string()).collect();
        let mut steps = Vec::new();
        let last = messages.len().checked_sub(1).ok_or(DefinitionError::Empty)?;
        for (index, message) in messages.into_iter().enumerate() {
            let id = digest_of(&message);
            let message: proto::Op = decode(&message)?;
            if !message.inputs.iter().all(|input| known.contains(&input.digest)) {
                return Err(DefinitionError::MissingInput { index });
            }
            let shape = ProtoShape::from(&message);
            let (kind, inputs, platform) = message.into_op();
            let unknown = if index == last { Kind::Return } else { Kind::Unknown };
            let op = Op { inputs, kind: kind.unwrap_or(unknown), platform };
            let known = metadata.remove(&id).unwrap_or_default();
            steps.push(Unresolved {
                shaped: ShapedOp::new(op, shape),
                metadata: Metadata {
                    ignore_cache: known.ignore_cache,
                    description: known.description,
                },
                digest: Some(id.clone()),
                id,
            });
        }
        Ok(Self::new(steps))
    }

    /// Reads the response of a Dockerfile frontend since v1.20 to the request `frontend.convertllb`, as
    /// `docker buildx build --call=convertllb,format=json` prints it: ops in protobuf's JSON by their
    /// digests, and metadata (BuildKit v0.34.2 `frontend/subrequests/convertllb`). Like LLB in protobuf, it
    /// has symbolic links and exact times. Text after the document is ignored.
    ///
    /// # Errors
    /// Returns an error if it does not have that form, has no ops, or lacks an input of an op.
    pub fn from_convertllb(json: &[u8]) -> Result<Self, DefinitionError> {
        #[derive(Deserialize)]
        struct Answer {
            def: BTreeMap<String, proto::Op>,
            #[serde(default)]
            metadata: BTreeMap<String, Metadata>,
        }
        let mut documents = serde_json::Deserializer::from_slice(json).into_iter();
        let answer = documents.next().ok_or(DefinitionError::Empty)?;
        let Answer { def, mut metadata } =
            answer.map_err(FormatError::new).map_err(DefinitionError::Answer)?;
        if def.is_empty() {
            return Err(DefinitionError::Empty);
        }
        let used: BTreeSet<_> =
            def.values().flat_map(|op| &op.inputs).map(|input| input.digest.clone()).collect();
        let steps = inputs_first(def)?.into_iter().map(|(id, message)| {
            let shape = ProtoShape::from(&message);
            let (kind, inputs, platform) = message.into_op();
            // The result of the build is the op that no other builds on.
            let unknown = if used.contains(&id) { Kind::Unknown } else { Kind::Return };
            let op = Op { inputs, kind: kind.unwrap_or(unknown), platform };
            Unresolved {
                shaped: ShapedOp::new(op, shape),
                metadata: metadata.remove(&id).unwrap_or_default(),
                digest: Some(id.clone()),
                id,
            }
        });
        Ok(Self::new(steps.collect()))
    }

    fn new(steps: Vec<Unresolved>) -> Self {
        let ops = steps.iter().map(|step| step.shaped.op.clone()).collect();
        Self { ops, graph: Graph::resolve(steps, Platform::released_for()).map(Arc::new) }
    }

    /// Reads the output of `buildctl debug dump-llb`: for each op a JSON object with `Op`, `Digest` and
    /// `OpMetadata` (`cmd/buildctl/debug/dumpllb.go`), in the spelling of any release. Like provenance, it
    /// omits symbolic links.
    ///
    /// # Errors
    /// Returns an error if a line does not have that form, or there are no lines.
    pub fn from_dump(json: &[u8]) -> Result<Self, DefinitionError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Line {
            op: ShapedOp,
            #[serde(default)]
            digest: String,
            #[serde(default)]
            op_metadata: Option<Metadata>,
        }
        let lines = serde_json::Deserializer::from_slice(json).into_iter();
        let ops = lines.enumerate().map(|(index, line)| {
            let line = line.map_err(FormatError::new);
            let line = line.map_err(|source| DefinitionError::Dump { index, source });
            line.map(|Line { op, digest, op_metadata }| Unresolved {
                shaped: op,
                metadata: op_metadata.unwrap_or_default(),
                digest: Some(digest.clone()),
                id: digest,
            })
        });
        let steps: Vec<_> = ops.collect::<Result<_, _>>()?;
        if steps.is_empty() { Err(DefinitionError::Empty) } else { Ok(Self::new(steps)) }
    }
}

/// Returns `ops`, given by their digests, in dependency order.
fn inputs_first(
    ops: BTreeMap<String, proto::Op>,
) -> Result<Vec<(String, proto::Op)>, DefinitionError> {
    let no_order =
        |input: &str| DefinitionError::NoOrder { input: input.chars().take(100).collect() };
    let ops: Vec<(String, proto::Op)> = ops.into_iter().collect();
    let index: BTreeMap<&str, usize> = ops.iter().map(|(id, _)| id.as_str()).zip(0..).collect();
    let mut above = vec![Vec::new(); ops.len()];
    let mut waits_for = vec![0_usize; ops.len()];
    for (op, (_, message)) in ops.iter().enumerate() {
        let inputs: BTreeSet<_> = message.inputs.iter().map(|input| &*input.digest).collect();
        for input in inputs {
            above[*index.get(input).ok_or_else(|| no_order(input))?].push(op);
            waits_for[op] += 1;
        }
    }
    let mut ready: Vec<usize> = (0..ops.len()).filter(|op| waits_for[*op] == 0).collect();
    let (mut places, mut place) = (vec![0; ops.len()], 0);
    while let Some(op) = ready.pop() {
        places[op] = place;
        place += 1;
        for &next in &above[op] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                ready.push(next);
            }
        }
    }
    // If any op still waits, at least one of those is itself an input of another op.
    if let Some(op) = (0..ops.len()).find(|&op| waits_for[op] > 0 && !above[op].is_empty()) {
        return Err(no_order(&ops[op].0));
    }
    let mut placed: Vec<_> = places.into_iter().zip(ops).collect();
    placed.sort_unstable_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, op)| op).collect())
}

#[cfg(test)]
mod tests;

//! The graph of a whole build.

use std::collections::{BTreeMap, BTreeSet};

use codec::Digest;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::name::step_name;
use super::op::{Kind, Op};
use super::platform::Platform;
use super::proto;

/// A frontend's description of a step for people (BuildKit v0.32.2 `client/llb/state.go` `WithCustomName`).
const CUSTOM_NAME: &str = "llb.customname";

/// The graph of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Candidates for the platform of the daemon, which applies to ops without a platform.
    pub platforms: Vec<Platform>,
    /// The steps, in dependency order.
    pub steps: Vec<Step>,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The op.
    pub op: Op,
    /// Its inputs; as many as the op has.
    pub inputs: Vec<Output>,
    /// What a source fetches, such as `docker-image://docker.io/library/debian@sha256:…` or
    /// `local://context`.
    pub identifier: Option<String>,
    /// The frontend's name for it, such as `[build 2/6] RUN make`.
    pub custom_name: Option<String>,
    /// The digest of the op with its inputs, which names it in progress events.
    pub digest: Option<String>,
    /// Whether the build must run it even if it is cached.
    pub ignores_cache: bool,
}

/// An output of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    /// Index of the step.
    pub step: usize,
    /// Index of the output.
    pub output: u32,
}

impl Step {
    /// Returns its name in messages.
    pub fn name(&self) -> String {
        match (&self.custom_name, &self.identifier) {
            (Some(name), _) => name.clone(),
            (None, Some(identifier)) => identifier.clone(),
            (None, None) => step_name(&self.op),
        }
    }

    /// Returns whether it only marks the result of the build.
    pub fn is_return(&self) -> bool {
        self.op.kind == Kind::Return
    }
}

/// A step whose inputs are not resolved yet.
pub(super) struct Unresolved {
    /// Its name in the inputs of others.
    pub(super) id: String,
    pub(super) shaped: ShapedOp,
    pub(super) metadata: Metadata,
    pub(super) digest: Option<String>,
}

/// Metadata of an op.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) ignore_cache: bool,
    pub(super) description: BTreeMap<String, String>,
}

/// An op with the names of its inputs and its source identifier.
pub(super) struct ShapedOp {
    pub(super) op: Op,
    pub(super) inputs: Vec<(String, i64)>,
    pub(super) identifier: Option<String>,
}

impl ShapedOp {
    pub(super) fn new(op: Op, message: ProtoShape) -> Self {
        Self { op, inputs: message.inputs, identifier: message.identifier }
    }
}

/// The parts of a protobuf op that are not in [`Op`].
pub(super) struct ProtoShape {
    inputs: Vec<(String, i64)>,
    identifier: Option<String>,
}

impl From<&proto::Op> for ProtoShape {
    fn from(message: &proto::Op) -> Self {
        let inputs = message.inputs.iter().map(|input| (input.digest.clone(), input.index));
        let identifier = message.source.as_ref().map(|source| source.identifier.clone());
        Self { inputs: inputs.collect(), identifier }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonShape {
    inputs: Vec<JsonInput>,
    #[serde(rename = "Op")]
    op: Option<JsonKind>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonInput {
    digest: String,
    index: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonKind {
    #[serde(alias = "Source")]
    source: Option<JsonSource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonSource {
    identifier: String,
}

impl<'de> Deserialize<'de> for ShapedOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        let op = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        // An op that can be read is an object.
        let shape: JsonShape = serde_json::from_str(json.get()).map_err(de::Error::custom)?;
        let inputs = shape.inputs.into_iter().map(|input| (input.digest, input.index));
        let source = shape.op.and_then(|kind| kind.source);
        let identifier = source.map(|source| source.identifier).filter(|text| !text.is_empty());
        Ok(Self { op, inputs: inputs.collect(), identifier })
    }
}

impl Graph {
    /// Builds the graph of `steps`; `None` if an input of a step does not come before it.
    pub(super) fn resolve(steps: Vec<Unresolved>, platforms: Vec<Platform>) -> Option<Self> {
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        let mut resolved = Vec::with_capacity(steps.len());
        for step in steps {
            let Unresolved { id, shaped, mut metadata, digest } = step;
            let inputs = shaped.inputs.iter().map(|(id, output)| {
                let step = *index.get(id)?;
                Some(Output { step, output: u32::try_from(*output).ok()? })
            });
            let inputs = inputs.collect::<Option<Vec<_>>>()?;
            index.insert(id, resolved.len());
            resolved.push(Step {
                op: shaped.op,
                inputs,
                identifier: shaped.identifier,
                custom_name: metadata
                    .description
                    .remove(CUSTOM_NAME)
                    .filter(|name| !name.is_empty()),
                digest,
                ignores_cache: metadata.ignore_cache,
            });
        }
        Some(Self { platforms, steps: resolved })
    }

    /// Returns the outputs that are the result of the build.
    pub fn results(&self) -> Vec<Output> {
        let returned = self.steps.iter().filter(|step| step.is_return());
        let returned: Vec<_> = returned.flat_map(|step| step.inputs.iter().copied()).collect();
        if !returned.is_empty() {
            return returned;
        }
        // Provenance of older releases has no step that marks the result: it is the step that no other builds
        // on.
        let built_on: BTreeSet<_> =
            self.steps.iter().flat_map(|step| &step.inputs).map(|input| input.step).collect();
        let last = (0..self.steps.len()).filter(|step| !built_on.contains(step));
        last.map(|step| Output { step, output: 0 }).collect()
    }

    /// Returns, for each step, its outputs that are used by other steps or are the result.
    pub fn outputs(&self) -> Vec<Vec<u32>> {
        let mut outputs = vec![Vec::new(); self.steps.len()];
        for input in self.steps.iter().flat_map(|step| &step.inputs) {
            if let Some(outputs) = outputs.get_mut(input.step) {
                outputs.push(input.output);
            }
        }
        for outputs in &mut outputs {
            outputs.sort_unstable();
            outputs.dedup();
        }
        // Provenance has no step that marks the result: it is the step that no other builds on.
        for (step, outputs) in self.steps.iter().zip(&mut outputs) {
            if outputs.is_empty() && !step.is_return() {
                outputs.push(0);
            }
        }
        outputs
    }
}

/// Returns the digest by which the ops of a definition name each other.
pub(super) fn digest_of(message: &[u8]) -> String {
    Digest::of(message).to_string()
}

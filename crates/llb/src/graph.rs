//! A whole build: its ops, and how they hang together.

use std::collections::{BTreeMap, BTreeSet};

use codec::Digest;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::name::step_name;
use super::op::{Kind, Op};
use super::platform::Platform;
use super::proto;

/// The description that frontends give a step for people (BuildKit v0.32.2 `client/llb/state.go`
/// `WithCustomName`).
const CUSTOM_NAME: &str = "llb.customname";

/// What a build asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The platforms one of which is that of the daemon, on which ops run that name none.
    pub platforms: Vec<Platform>,
    /// The steps, each after those it builds on.
    pub steps: Vec<Step>,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub op: Op,
    /// What it builds on; as many as the op has inputs.
    pub inputs: Vec<Output>,
    /// What a source fetches, such as `docker-image://docker.io/library/debian@sha256:…` or
    /// `local://context`.
    pub identifier: Option<String>,
    /// What the frontend calls it, such as `[build 2/6] RUN make`.
    pub custom_name: Option<String>,
    /// The digest of the op with its inputs, by which progress names it.
    pub digest: Option<String>,
    /// Whether the build is to run it in any case.
    pub ignores_cache: bool,
}

/// An output of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    /// Index of the step.
    pub step: usize,
    /// Which of its outputs.
    pub output: u32,
}

impl Step {
    /// What to call it when talking to people.
    pub fn name(&self) -> String {
        match (&self.custom_name, &self.identifier) {
            (Some(name), _) => name.clone(),
            (None, Some(identifier)) => identifier.clone(),
            (None, None) => step_name(&self.op),
        }
    }

    /// Whether it only names the result of the build.
    pub fn is_return(&self) -> bool {
        self.op.kind == Kind::Return
    }
}

/// A step whose inputs are not resolved yet.
pub(super) struct Unresolved {
    /// What others call it.
    pub(super) id: String,
    pub(super) shaped: ShapedOp,
    pub(super) metadata: Metadata,
    pub(super) digest: Option<String>,
}

/// What is known of an op besides it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) ignore_cache: bool,
    pub(super) description: BTreeMap<String, String>,
}

/// An op with the inputs that it names and what it fetches.
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

/// What of a protobuf op does not go into [`Op`].
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
    /// The build of `steps`; nothing if one of them builds on what does not come before it.
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

    /// The outputs that are the result of the build.
    pub fn results(&self) -> Vec<Output> {
        let returned = self.steps.iter().filter(|step| step.is_return());
        let returned: Vec<_> = returned.flat_map(|step| step.inputs.iter().copied()).collect();
        if !returned.is_empty() {
            return returned;
        }
        // Provenance of older releases has no step that names the result: it is what nothing builds on.
        let built_on: BTreeSet<_> =
            self.steps.iter().flat_map(|step| &step.inputs).map(|input| input.step).collect();
        let last = (0..self.steps.len()).filter(|step| !built_on.contains(step));
        last.map(|step| Output { step, output: 0 }).collect()
    }

    /// The steps that something builds on or that are the result, with the outputs that are asked
    /// of them.
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
        // Provenance has no step that names the result: it is what nothing builds on.
        for (step, outputs) in self.steps.iter().zip(&mut outputs) {
            if outputs.is_empty() && !step.is_return() {
                outputs.push(0);
            }
        }
        outputs
    }
}

/// The digests of what a definition is made of, as they name each other.
pub(super) fn digest_of(message: &[u8]) -> String {
    Digest::of(message).to_string()
}

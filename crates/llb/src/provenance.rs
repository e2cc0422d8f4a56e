//! Ops in SLSA provenance.
//!
//! With `mode=max`, BuildKit records the whole LLB of a build in its provenance
//! (`solver/llbsolver/provenance`). The document has four forms: SLSA v0.2 (the default up to BuildKit v0.27)
//! or v1 (since v0.28), each as an in-toto statement around the predicate or as the bare predicate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codec::FormatError;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::graph::{Graph, Metadata, ShapedOp, Unresolved};
use super::material::{Material, ResolvedImage};
use super::op::Op;
use super::platform::{ParsePlatformError, Platform};
use crate::release::Span;

/// The ops and other facts of a build in a provenance document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Platform of the daemon, which applies to ops without a platform.
    pub default_platform: Platform,
    /// All ops that the result depends on, inputs first.
    pub ops: Vec<Op>,
    /// The graph of the ops, if each comes after its inputs.
    pub graph: Option<Arc<Graph>>,
    /// The possible releases of the daemon; `None` if the document does not tell, as before v0.30.
    pub builder: Option<Span>,
    /// The images that the build resolved but that none of its ops fetches: of frontends, of SBOM scanners,
    /// and of other platforms.
    pub images: Vec<ResolvedImage>,
}

/// Why a document has no ops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// Not JSON, or not of the right shape.
    #[error("the provenance is not JSON of the SLSA form")]
    Json(#[source] FormatError),
    /// JSON of another kind.
    #[error("the document is not SLSA provenance: it has neither buildDefinition nor invocation")]
    NotProvenance,
    /// Provenance without LLB.
    #[error("the provenance does not list the build's ops; record it with mode=max")]
    NoOps,
    /// A platform cannot be parsed.
    #[error("the provenance names an unknown platform for the builder")]
    Platform(#[source] ParsePlatformError),
}

/// The predicate of v1, or of v0.2, or a statement around either.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    predicate: Option<Predicate>,
    #[serde(default)]
    build_definition: Option<BuildDefinition>,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    build_config: Option<BuildConfig>,
    #[serde(default, deserialize_with = "lenient")]
    materials: Vec<Material>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    /// v1: `ProvenancePredicateSLSA1` in `provenance/types/types.go`.
    #[serde(default)]
    build_definition: Option<BuildDefinition>,
    /// v0.2: `ProvenancePredicateSLSA02`.
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    build_config: Option<BuildConfig>,
    #[serde(default, deserialize_with = "lenient")]
    materials: Vec<Material>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    #[serde(default)]
    internal_parameters: InternalParameters,
    #[serde(default, deserialize_with = "lenient")]
    external_parameters: ExternalParameters,
    #[serde(default, deserialize_with = "lenient")]
    resolved_dependencies: Vec<Material>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ExternalParameters {
    request: Request,
}

/// The parameters of the client: `Parameters` in `provenance/types/types.go`.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    compatibility_version: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct InternalParameters {
    build_config: Option<BuildConfig>,
    builder_platform: String,
    #[serde(deserialize_with = "lenient")]
    dockerfile_version: Option<String>,
}

#[derive(Deserialize)]
struct Invocation {
    #[serde(default)]
    environment: Environment,
    #[serde(default, deserialize_with = "lenient")]
    parameters: Request,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Environment {
    platform: String,
    #[serde(deserialize_with = "lenient")]
    dockerfile_version: Option<String>,
}

/// Reads an optional hint: a value of another form counts as missing. The operator of a daemon may add other
/// values to the parameters (`ProvenanceCustomEnv`).
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(json.get()).unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildConfig {
    #[serde(default)]
    llb_definition: Vec<Step>,
    /// The step of each digest of an op with its inputs.
    #[serde(default)]
    digest_mapping: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    id: String,
    op: Option<ShapedOp>,
    /// Step and output, such as `step3:0`. The op's own list is empty.
    #[serde(default)]
    inputs: Vec<String>,
}

impl Provenance {
    /// Reads a provenance document in any of the four forms.
    ///
    /// # Errors
    /// Returns an error if it is something else, or does not list the ops.
    pub fn from_json(json: &[u8]) -> Result<Self, ProvenanceError> {
        let document: Document = serde_json::from_slice(json)
            .map_err(FormatError::new)
            .map_err(ProvenanceError::Json)?;
        let predicate = document.predicate.unwrap_or(Predicate {
            build_definition: document.build_definition,
            invocation: document.invocation,
            build_config: document.build_config,
            materials: document.materials,
        });
        let (platform, config, builder, materials) = match predicate {
            Predicate { build_definition: Some(definition), .. } => {
                let (internal, external) =
                    (definition.internal_parameters, definition.external_parameters);
                let builder = builder(internal.dockerfile_version.as_deref(), &external.request);
                let materials = definition.resolved_dependencies;
                (internal.builder_platform, internal.build_config, builder, materials)
            }
            Predicate { invocation: Some(invocation), build_config, materials, .. } => {
                let Invocation { environment, parameters } = invocation;
                let builder = builder(environment.dockerfile_version.as_deref(), &parameters);
                (environment.platform, build_config, builder, materials)
            }
            _ => return Err(ProvenanceError::NotProvenance),
        };
        let (steps, digests) =
            config.map(|config| (config.llb_definition, config.digest_mapping)).unwrap_or_default();
        if steps.is_empty() {
            return Err(ProvenanceError::NoOps);
        }
        let default_platform: Platform = platform.parse().map_err(ProvenanceError::Platform)?;
        let digests: BTreeMap<_, _> = digests.into_iter().map(|(d, step)| (step, d)).collect();
        let steps: Vec<_> = steps.into_iter().filter_map(|step| step.resolved(&digests)).collect();
        let ops = steps.iter().map(|step| step.shaped.op.clone()).collect();
        let images = images(&materials, &steps);
        let graph = Graph::resolve(steps, vec![default_platform.clone()]).map(Arc::new);
        Ok(Self { default_platform, ops, graph, builder, images })
    }
}

/// Returns the possible releases of the daemon, from both values.
fn builder(dockerfile_version: Option<&str>, request: &Request) -> Option<Span> {
    let of_frontend = dockerfile_version.and_then(Span::of_builtin_frontend);
    let of_request = request.compatibility_version.map(|_| Span::with_compatibility_version());
    of_frontend.or(of_request)
}

/// Maximum number of images; no build resolves more without fetching them.
const MOST_IMAGES: usize = 64;

/// Returns the images of `materials` that none of `steps` fetches.
fn images(materials: &[Material], steps: &[Unresolved]) -> Vec<ResolvedImage> {
    let identifiers = steps.iter().filter_map(|step| step.shaped.identifier.as_deref());
    let fetched = identifiers.filter_map(|identifier| identifier.rsplit_once('@'));
    let fetched: BTreeSet<_> = fetched.map(|(_, digest)| digest.to_owned()).collect();
    let images = materials.iter().filter_map(Material::image);
    images.filter(|image| !fetched.contains(&image.digest.to_string())).take(MOST_IMAGES).collect()
}

impl Step {
    fn resolved(self, digests: &BTreeMap<String, String>) -> Option<Unresolved> {
        let mut shaped = self.op?;
        shaped.op.inputs = shaped.op.inputs.max(self.inputs.len());
        let output = |input: &String| {
            let (step, output) = input.rsplit_once(':')?;
            Some((step.to_owned(), output.parse().ok()?))
        };
        // A malformed one refers to no existing step.
        let inputs = self.inputs.iter().map(|input| output(input).unwrap_or_default());
        shaped.inputs = inputs.collect();
        let digest = digests.get(&self.id).cloned();
        Some(Unresolved { id: self.id, shaped, metadata: Metadata::default(), digest })
    }
}

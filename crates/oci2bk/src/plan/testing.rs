//! Hand-made exports and plans of them, for tests. Their layer blobs only have the right size.

use std::collections::BTreeSet;
use std::sync::Arc;

use bkstate::Digest;
use llb::op::{ExecOp, Kind, Mount, Op};
use llb::{Base, Encoding, OpDigest, Vertex};
use serde_json::{Value, json};

use super::Plan;
use crate::export::CacheExport;
use crate::keys::{Candidate, KeySource, Keyring, SourceDescription, SourceKind};
use crate::layout::testing::{TestLayout, annotated, digest_of, layer};
use crate::limits::Limits;
use crate::manifest::Style;
use crate::place::Scope;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The scope of a conversion with blobs.
pub(crate) const fn scope(extract: bool) -> Scope {
    Scope { extract, blobs: true }
}

/// Returns the descriptor of a layer with only the required data.
pub(crate) fn plain(name: &str) -> Value {
    let mut layer = layer(name, GZIP);
    let diff_id = layer["annotations"]["containerd.io/uncompressed"].take();
    layer["annotations"] = json!({"containerd.io/uncompressed": diff_id});
    layer
}

/// Returns the descriptor of the same layer as [`plain`], with another compression.
pub(crate) fn recompressed(name: &str) -> Value {
    let mut layer = plain(name);
    layer["mediaType"] = ZSTD.into();
    layer["digest"] = Digest::of(format!("zstd of {name}")).to_string().into();
    layer
}

/// Returns the descriptor of a layer with a description and a time.
pub(crate) fn described(name: &str) -> Value {
    layer(name, GZIP)
}

pub(crate) fn with_annotation(layer: Value, name: &str, value: &str) -> Value {
    annotated(layer, name, value)
}

pub(crate) fn blob(name: &str) -> Digest {
    Digest::of(name)
}

pub(crate) fn diff_id(name: &str) -> Digest {
    Digest::of(format!("tar of {name}"))
}

/// Returns the op digest of the step `name`.
pub(crate) fn op(name: &str) -> OpDigest {
    OpDigest::from(Digest::of(format!("op {name}")))
}

/// Returns the digest of the record of the step `name` in an export.
pub(crate) fn record(name: &str) -> Digest {
    op(name).record(0)
}

/// Returns the member `layers` of a record whose only result has the top node `top`.
pub(crate) fn result(top: usize) -> Value {
    json!([{"layer": top}])
}

/// Creates an export with these layer descriptors, nodes `(blob, parent)` and records.
pub(crate) fn export(
    layers: &[Value],
    nodes: &[(&str, i64)],
    records: &Value,
) -> (TestLayout, CacheExport) {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(name, parent)| json!({"blob": Digest::of(name), "parent": parent}))
        .collect();
    let config = json!({"layers": nodes, "records": records});
    let layout = TestLayout::new();
    layout.cache(Style::ImageManifest, layers, &config);
    for layer in layers {
        let size = usize::try_from(layer["size"].as_u64().unwrap()).unwrap();
        std::fs::write(layout.blob_path(digest_of(layer)), vec![0; size]).unwrap();
    }
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let export = CacheExport::read_all(&source, &Limits::default()).unwrap().remove(0);
    (layout, export)
}

/// Returns a keyring with the op digests of the steps with these names.
pub(crate) fn keyring(names: &[&str]) -> Keyring {
    keyring_with_bases(names, None)
}

/// Returns the same from a source that knows to which input every step adds one layer.
pub(crate) fn keyring_with_bases(names: &[&str], base: Option<Base>) -> Keyring {
    let candidates = names.iter().map(|name| Candidate {
        op_digest: op(name),
        outputs: 1,
        name: Some(format!("RUN {name}")),
        encoding: base.map(|_| Encoding::NEWEST),
        vertex: base.map(one_layer_more),
        builder: None,
    });
    let wanted: BTreeSet<_> = names.iter().map(|name| record(name)).collect();
    let description = SourceDescription {
        path: "provenance.json".into(),
        kind: SourceKind::Provenance,
        part: None,
    };
    let mut keyring = Keyring::new(wanted);
    let source = KeySource::from_digests(candidates.collect(), description);
    keyring.add(source, &Limits::default()).unwrap();
    keyring
}

/// Returns a command that adds a layer to its input `base`.
fn one_layer_more(base: Base) -> Arc<Vertex> {
    let input = i64::try_from(base.input).unwrap();
    let root = Mount { input, dest: "/".to_owned(), ..Mount::default() };
    let exec = ExecOp { mounts: vec![root], ..ExecOp::default() };
    let op = Op { inputs: base.inputs, kind: Kind::Exec(exec.into()), platform: None };
    Arc::new(Vertex { op, default_platform: "linux/amd64".parse().unwrap() })
}

/// Returns the plan of one export in which the steps with these names have keys.
pub(crate) fn planned(
    layers: &[Value],
    nodes: &[(&str, i64)],
    records: &Value,
    keys: &[&str],
) -> Plan {
    let (_layout, export) = export(layers, nodes, records);
    Plan::new(&[export], &keyring(keys)).unwrap()
}

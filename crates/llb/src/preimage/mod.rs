//! The JSON documents whose hashes are op digests.
//!
//! Each function returns the exact text that the daemon of the encoding's release hashes. Field order is that
//! of the generated Go structs, and zero values are omitted unless stated (`solver/pb/ops.pb.go`).

mod error;
pub(super) mod exec;
pub(super) mod file;

use std::collections::BTreeMap;

use codec::FormatError;
use codec::gojson;
use serde::Serialize;

use super::encoding::{Encoding, Release};
use super::op::{BuildOp, DiffOp, InputIndex, Kind, MergeOp, Op, PassthroughOp};
use super::platform::Platform;
pub use error::NotComputable;

use error::MAX_MOUNTS;

type Json = Result<String, FormatError>;

fn go<T: Serialize>(document: &T, encoding: Encoding) -> Json {
    gojson::to_string_with(document, encoding.escapes)
}

/// Returns an index as the release prints it: omitted when 0, or always printed.
fn index(value: i64, release: Release) -> Option<i64> {
    (value != 0 || !release.omits_zero_indexes()).then_some(value)
}

#[derive(Serialize)]
struct Input {
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<i64>,
}

impl Input {
    fn new(input: InputIndex, release: Release) -> Self {
        Self { input: index(input.input, release) }
    }
}

/// Returns the JSON whose hash is the op digest.
pub(super) fn document(
    op: &Op,
    encoding: Encoding,
    default_platform: &Platform,
) -> Result<String, NotComputable> {
    Ok(match &op.kind {
        Kind::Exec(exec) if exec.mounts.len() > MAX_MOUNTS => {
            return Err(NotComputable::TooManyMounts { count: exec.mounts.len() });
        }
        Kind::Exec(exec) => {
            let platform = op.platform.as_ref().unwrap_or(default_platform).normalized();
            exec::exec(exec, &platform, encoding)?
        }
        Kind::File(file) => file::file(file, op.inputs, encoding)?,
        Kind::Merge(merge) => self::merge(merge, encoding)?,
        Kind::Diff(diff) => self::diff(diff, encoding)?,
        Kind::Build(build) if build.has_definition => return Err(NotComputable::NestedDefinition),
        Kind::Build(build) => self::build(build, encoding)?,
        Kind::Passthrough(op) => self::passthrough(op, encoding)?,
        Kind::Source => return Err(NotComputable::Source),
        Kind::Return => return Err(NotComputable::Return),
        Kind::Unknown => return Err(NotComputable::Unknown),
    })
}

/// `ops/merge.go`.
fn merge(op: &MergeOp, encoding: Encoding) -> Json {
    #[derive(Serialize)]
    struct Document {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Merge")]
        op: Merge,
    }
    #[derive(Serialize)]
    struct Merge {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        inputs: Vec<Input>,
    }
    let inputs = op.inputs.iter().map(|input| Input::new(*input, encoding.release)).collect();
    go(&Document { kind: "buildkit.merge.v0", op: Merge { inputs } }, encoding)
}

/// `ops/diff.go`.
fn diff(op: &DiffOp, encoding: Encoding) -> Json {
    #[derive(Serialize)]
    struct Document {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Diff")]
        op: Diff,
    }
    #[derive(Serialize)]
    struct Diff {
        lower: Input,
        upper: Input,
    }
    let lower = Input::new(op.lower, encoding.release);
    let upper = Input::new(op.upper, encoding.release);
    go(&Document { kind: "buildkit.diff.v0", op: Diff { lower, upper } }, encoding)
}

/// `ops/build.go`, which has the op as `Exec`.
pub(super) fn build(op: &BuildOp, encoding: Encoding) -> Json {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Exec")]
        op: Build<'a>,
    }
    #[derive(Serialize)]
    struct Build<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        builder: Option<i64>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        inputs: BTreeMap<&'a str, Input>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        attrs: &'a BTreeMap<String, String>,
    }
    let inputs = op
        .inputs
        .iter()
        .map(|(name, input)| (name.as_str(), Input::new(*input, encoding.release)))
        .collect();
    let builder = index(op.builder, encoding.release);
    let op = Build { builder, inputs, attrs: &op.attrs };
    go(&Document { kind: "buildkit.build.v0", op }, encoding)
}

/// `ops/passthrough.go`.
fn passthrough(op: &PassthroughOp, encoding: Encoding) -> Json {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Passthrough")]
        op: &'a PassthroughOp,
    }
    go(&Document { kind: "buildkit.passthrough.v0", op }, encoding)
}

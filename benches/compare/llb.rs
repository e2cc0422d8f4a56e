//! The build that the generated cache is of: a chain of steps that each make a directory, the
//! cache having one layer for each.
//!
//! What a step does does not matter to a daemon that finds it in the cache: it takes the layer from
//! there, whatever is in it. The build to be timed has one step more than the cache. That one has to
//! run, and for that the daemon must unpack every layer below it.

use anyhow::{Context as _, Result};
use bkstate::Digest;
use oci2bk::llb::{Definition, Encoding, Platform, digest};
use prost::Message;

/// `pb.Definition` and what is needed of the messages in it (BuildKit v0.32.2
/// `solver/pb/ops.proto`).
#[derive(Clone, PartialEq, Message)]
struct Build {
    #[prost(bytes = "vec", repeated, tag = "1")]
    def: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Op {
    #[prost(message, repeated, tag = "1")]
    inputs: Vec<Input>,
    #[prost(message, optional, tag = "4")]
    file: Option<FileOp>,
}

#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, Message)]
struct FileOp {
    #[prost(message, repeated, tag = "2")]
    actions: Vec<FileAction>,
}

#[derive(Clone, PartialEq, Message)]
struct FileAction {
    #[prost(int64, tag = "1")]
    input: i64,
    #[prost(int64, tag = "2")]
    secondary_input: i64,
    #[prost(int64, tag = "3")]
    output: i64,
    #[prost(message, optional, tag = "6")]
    mkdir: Option<MkdirAction>,
}

#[derive(Clone, PartialEq, Message)]
struct MkdirAction {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(int32, tag = "2")]
    mode: i32,
    #[prost(int64, tag = "5")]
    timestamp: i64,
}

/// A chain of `steps` steps and one more, in protobuf as `buildctl build` takes it on stdin.
pub(crate) fn build(steps: usize) -> Vec<u8> {
    let mut def: Vec<Vec<u8>> = Vec::new();
    let below = |def: &[Vec<u8>]| {
        let input = |op: &Vec<u8>| Input { digest: Digest::of(op).to_string() };
        def.last().map(input).into_iter().collect::<Vec<_>>()
    };
    for step in 0..=steps {
        let path = if step < steps { format!("/step-{step}") } else { "/one-more".to_owned() };
        let inputs = below(&def);
        let mkdir = MkdirAction { path, mode: 0o755, timestamp: -1 };
        let action = FileAction {
            input: if inputs.is_empty() { -1 } else { 0 },
            secondary_input: -1,
            output: 0,
            mkdir: Some(mkdir),
        };
        def.push(Op { inputs, file: Some(FileOp { actions: vec![action] }) }.encode_to_vec());
    }
    // The last vertex only names the result.
    def.push(Op { inputs: below(&def), file: None }.encode_to_vec());
    Build { def }.encode_to_vec()
}

/// What a cache of the first `steps` steps of `build` calls them.
pub(crate) fn records(build: &[u8], steps: usize) -> Result<Vec<Digest>> {
    let ops = Definition::from_protobuf(build)?.ops;
    let platform = Platform::default();
    let record = |op| Ok(digest(op, Encoding::NEWEST, &platform)?.record(0));
    ops.iter().take(steps).map(record).collect::<Result<_>>().context("the generated build")
}

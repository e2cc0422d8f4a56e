//! The ops of LLB, as far as their digests depend on them (BuildKit v0.32.2,
//! `solver/pb/ops.proto`).
//!
//! A message whose JSON is the same in all releases implements `Serialize` here, with Go's field
//! names and order; the others are written by `preimage`. Of the fields that BuildKit clears before
//! it hashes, addresses of extra hosts and proxy settings are not kept at all.

mod exec;
mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json;
use super::platform::Platform;

pub use exec::{
    CacheOpt, CdiDevice, ExecOp, ExtraHost, Meta, Mount, SecretEnv, SecretOpt, TmpfsOpt, Ulimit,
};
pub use file::{
    Action, ChownOpt, CopyAction, FileAction, FileOp, MkdirAction, MkfileAction, NamedUser,
    RmAction, SymlinkAction, UserOpt,
};

/// One vertex of a build (`pb.Op`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// How many inputs the op has. A file op's digest depends on it.
    pub inputs: usize,
    /// What the op does.
    pub kind: Kind,
    /// Where it runs; the daemon's own platform if not given.
    pub platform: Option<Platform>,
}

/// What an op does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Runs a command.
    Exec(Box<ExecOp>),
    /// Copies, makes and removes files.
    File(FileOp),
    /// Lays inputs over each other.
    Merge(MergeOp),
    /// Takes what one input changed over another.
    Diff(DiffOp),
    /// Runs a nested build.
    Build(BuildOp),
    /// Hands inputs through as outputs (v0.31 and later).
    Passthrough(PassthroughOp),
    /// Fetches something. Its key depends on what was found, so the op does not say it.
    Source,
    /// The last vertex of a definition, which only names the result.
    Return,
    /// An op that no release known here has.
    Unknown,
}

impl Op {
    /// How many outputs the op may have: those it can be asked for are `0..outputs()`.
    ///
    /// An op with more outputs than mounts or actions does not exist, so a number made up in a
    /// hostile document does not make anybody count far.
    pub fn outputs(&self) -> u32 {
        let outputs = match &self.kind {
            Kind::Exec(exec) => bounded(exec.mounts.iter().map(|mount| mount.output)),
            Kind::File(file) => bounded(file.actions.iter().map(|action| action.output)),
            Kind::Passthrough(passthrough) => passthrough.outputs.len(),
            Kind::Merge(_)
            | Kind::Diff(_)
            | Kind::Build(_)
            | Kind::Source
            | Kind::Return
            | Kind::Unknown => 1,
        };
        u32::try_from(outputs.max(1)).unwrap_or(u32::MAX)
    }
}

fn bounded(outputs: impl ExactSizeIterator<Item = i64>) -> usize {
    let most = outputs.len().saturating_add(1);
    let highest = outputs.max().unwrap_or_default().max(0);
    usize::try_from(highest).map_or(most, |highest| highest.saturating_add(1).min(most))
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An input by index (`pb.MergeInput`, `pb.LowerDiffInput`, `pb.UpperDiffInput`, `pb.BuildInput`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct InputIndex {
    /// Index of the op's input, -1 for an empty file system.
    pub input: i64,
}

/// Lays inputs over each other (`pb.MergeOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct MergeOp {
    /// From the lowest up.
    pub inputs: Vec<InputIndex>,
}

/// Takes what one input changed over another (`pb.DiffOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct DiffOp {
    /// Before.
    pub lower: InputIndex,
    /// After.
    pub upper: InputIndex,
}

/// Runs a nested build (`pb.BuildOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct BuildOp {
    /// What builds: index of the op's input, -1 for LLB as it is.
    pub builder: i64,
    /// Named inputs.
    pub inputs: BTreeMap<String, InputIndex>,
    /// Whether the op carries a whole definition. No frontend or client of BuildKit sends one.
    #[serde(rename = "def", deserialize_with = "json::present")]
    pub has_definition: bool,
    /// Options.
    pub attrs: BTreeMap<String, String>,
}

/// Hands inputs through as outputs (`pb.PassthroughOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PassthroughOp {
    /// What makes it differ from others.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The input that is each output.
    #[serde(skip_serializing_if = "is_zero")]
    pub outputs: Vec<i64>,
}

//! The ops of LLB, with the fields that affect their digests (BuildKit v0.32.2, `solver/pb/ops.proto`).
//!
//! A message whose JSON is the same in all releases implements `Serialize` here, with Go's field names and
//! order; `preimage` writes the others. Fields that BuildKit clears before hashing, the addresses of extra
//! hosts and the proxy settings, are not kept.
//!
//! # Making ops
//!
//! An op can be built by hand as well as read, to compute its digest. A command with every option:
//!
//! ```
//! use llb::op::{
//!     CacheOpt, CdiDevice, ExecOp, ExtraHost, Kind, Meta, Mount, Op, SecretEnv, SecretOpt, TmpfsOpt,
//!     Ulimit,
//! };
//! use llb::{Encoding, Vertex};
//!
//! let mount = |mount_type, dest: &str| {
//!     let (input, output) = (Mount::NO_INPUT, -1);
//!     Mount { mount_type, dest: dest.to_owned(), input, output, ..Mount::default() }
//! };
//! let secret = SecretOpt { id: "token".to_owned(), mode: 0o400, ..SecretOpt::default() };
//! let exec = ExecOp {
//!     meta: Meta {
//!         args: vec!["make".to_owned()],
//!         cwd: "/src".to_owned(),
//!         extra_hosts: vec![ExtraHost { host: "db".to_owned() }],
//!         ulimit: vec![Ulimit { name: "nofile".to_owned(), soft: 1024, hard: 4096 }],
//!         ..Meta::default()
//!     },
//!     mounts: vec![
//!         // The root file system, whose changes are the result.
//!         Mount { input: 0, output: 0, ..mount(Mount::BIND, "/") },
//!         Mount { input: 1, content_cache: Mount::CONTENT_CACHE_ON, ..mount(Mount::BIND, "/src") },
//!         Mount { secret_opt: Some(secret.clone()), ..mount(Mount::SECRET, "/run/secrets/token") },
//!         Mount { ssh_opt: Some(secret), ..mount(Mount::SSH, "/run/agent") },
//!         Mount { tmpfs_opt: Some(TmpfsOpt { size: 1 << 20 }), ..mount(Mount::TMPFS, "/tmp") },
//!         // 3 is the type of cache mounts.
//!         Mount { cache_opt: Some(CacheOpt::default()), ..mount(3, "/root/.cache") },
//!     ],
//!     secret_env: vec![SecretEnv { id: "key".to_owned(), name: "KEY".to_owned(), optional: true }],
//!     cdi_devices: vec![CdiDevice { name: "example.com/gpu".to_owned(), optional: true }],
//!     ..ExecOp::default()
//! };
//! let vertex = |exec: &ExecOp| Vertex {
//!     op: Op { inputs: 2, kind: Kind::Exec(Box::new(exec.clone())), platform: None },
//!     default_platform: "linux/amd64".parse().unwrap(),
//! };
//! let name = |exec: &ExecOp| vertex(exec).digest(Encoding::NEWEST).unwrap();
//! assert!(vertex(&exec).hashes_contents(1));
//!
//! // The same with another command, and with another cache, which does not affect the digest.
//! let mut other = exec.clone();
//! other.meta.args.push("install".to_owned());
//! assert_ne!(name(&exec), name(&other));
//! let mut same = exec.clone();
//! same.mounts[5].cache_opt = Some(CacheOpt { id: "of this project".to_owned(), sharing: 1 });
//! assert_eq!(name(&exec), name(&same));
//! ```
//!
//! A list of actions makes files. Each action can build on an earlier one:
//!
//! ```
//! use llb::op::{
//!     Action, ChownOpt, CopyAction, FileAction, FileOp, Kind, MkdirAction, MkfileAction, NamedUser, Op,
//!     RmAction, SymlinkAction, UserOpt,
//! };
//! use llb::step_name;
//!
//! let owner = ChownOpt {
//!     user: Some(UserOpt::ByName(NamedUser { name: "joe".to_owned(), input: 0 })),
//!     group: Some(UserOpt::ById(1000)),
//! };
//! let [src, dest] = ["/app.conf", "/etc/"].map(str::to_owned);
//! let [directory, file, gone] = ["/var/app", "/var/app/state", "/tmp/x"].map(str::to_owned);
//! let [old_path, new_path] = ["/etc/app.conf", "/app"].map(str::to_owned);
//! let actions = [
//!     Action::Copy(CopyAction { src, dest, owner: Some(owner), mode: -1, ..CopyAction::default() }),
//!     Action::Mkdir(MkdirAction { path: directory, mode: 0o755, ..MkdirAction::default() }),
//!     Action::Mkfile(MkfileAction { path: file, data: b"none".to_vec(), ..MkfileAction::default() }),
//!     Action::Rm(RmAction { path: gone, allow_not_found: true, ..RmAction::default() }),
//!     Action::Symlink(SymlinkAction { old_path, new_path, ..SymlinkAction::default() }),
//! ];
//! // The first action changes input 0 and copies from input 1 of two inputs. Each of the others
//! // changes the result of the previous one, and the last one is the output.
//! let action = |(index, action)| FileAction {
//!     input: if index == 0 { 0 } else { index + 1 },
//!     secondary_input: if index == 0 { 1 } else { -1 },
//!     output: if index == 4 { 0 } else { -1 },
//!     action,
//! };
//! let file = FileOp { actions: (0_i64..).zip(actions).map(action).collect() };
//! let op = Op { inputs: 2, kind: Kind::File(file), platform: None };
//! assert!(step_name(&op).starts_with("COPY /app.conf /etc/, MKDIR /var/app, MKFILE /var/app/state"));
//! assert_eq!(op.base(0).map(|base| base.input), Some(0));
//! ```
//!
//! The other ops work on whole file systems:
//!
//! ```
//! use llb::op::{BuildOp, DiffOp, InputIndex, Kind, MergeOp, Op, PassthroughOp};
//! use llb::{Encoding, Release, digest};
//!
//! let [lower, upper] = [0, 1].map(|input| InputIndex { input });
//! let op = |kind| Op { inputs: 2, kind, platform: None };
//! let name = |op: &Op, release| {
//!     let encoding = Encoding { release, ..Encoding::NEWEST };
//!     digest(op, encoding, &"linux/amd64".parse().unwrap()).unwrap().to_string()
//! };
//! let merge = op(Kind::Merge(MergeOp { inputs: vec![lower, upper] }));
//! assert!(name(&merge, Release::V0_18).starts_with("sha256:"));
//! // Two releases do not hash it.
//! let diff = op(Kind::Diff(DiffOp { lower, upper }));
//! assert!(name(&diff, Release::V0_11).starts_with('{'));
//!
//! let passthrough = PassthroughOp { id: "both".to_owned(), outputs: vec![0, 1] };
//! assert_eq!(op(Kind::Passthrough(passthrough)).outputs(), 2);
//! let build = BuildOp { builder: -1, ..BuildOp::default() };
//! assert_ne!(name(&op(Kind::Build(build)), Release::V0_18), name(&merge, Release::V0_18));
//! ```

mod exec;
mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::members;
use super::platform::Platform;

pub use exec::{
    CacheOpt, CdiDevice, ExecOp, ExtraHost, Meta, Mount, SecretEnv, SecretOpt, TmpfsOpt, Ulimit,
};
pub use file::{
    Action, ChownOpt, CopyAction, FileAction, FileOp, MkdirAction, MkfileAction, NamedUser,
    RmAction, SymlinkAction, UserOpt,
};

/// One vertex of a build (`pb.Op`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Op {
    /// Number of inputs. A file op's digest depends on it.
    pub inputs: usize,
    /// The operation.
    pub kind: Kind,
    /// The platform on which it runs; the daemon's own if not given.
    pub platform: Option<Platform>,
}

/// The operation of an op.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Runs a command.
    Exec(Box<ExecOp>),
    /// Copies, makes and removes files.
    File(FileOp),
    /// Merges its inputs on top of each other.
    Merge(MergeOp),
    /// Computes the difference between two inputs.
    Diff(DiffOp),
    /// Runs a nested build.
    Build(BuildOp),
    /// Passes inputs through as outputs (v0.31 and later).
    Passthrough(PassthroughOp),
    /// Fetches something. Its key depends on the fetched content, not on the op.
    Source,
    /// The last vertex of a definition, which only marks the result.
    Return,
    /// An op that no known release has.
    Unknown,
}

impl Op {
    /// Returns the maximum number of outputs: valid indexes are `0..outputs()`.
    ///
    /// No op has more outputs than mounts or actions, so an invented index in a hostile document does not
    /// cause long loops.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct InputIndex {
    /// Index of the op's input, -1 for an empty file system.
    pub input: i64,
}

/// Merges its inputs on top of each other (`pb.MergeOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct MergeOp {
    /// The inputs, lowest first.
    pub inputs: Vec<InputIndex>,
}

/// Computes the difference between two inputs (`pb.DiffOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct DiffOp {
    /// The base.
    pub lower: InputIndex,
    /// The changed file system.
    pub upper: InputIndex,
}

/// Runs a nested build (`pb.BuildOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct BuildOp {
    /// The builder: index of the op's input, -1 for plain LLB.
    pub builder: i64,
    /// Named inputs.
    pub inputs: BTreeMap<String, InputIndex>,
    /// Whether the op contains a whole definition. No frontend or client of BuildKit sends one.
    #[serde(rename = "def", deserialize_with = "members::present")]
    pub has_definition: bool,
    /// Options.
    pub attrs: BTreeMap<String, String>,
}

/// Passes inputs through as outputs (`pb.PassthroughOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PassthroughOp {
    /// Distinguishes it from others.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The input of each output.
    #[serde(skip_serializing_if = "is_zero")]
    pub outputs: Vec<i64>,
}

//! The ops of LLB, as far as their digests depend on them (BuildKit v0.32.2, `solver/pb/ops.proto`).
//!
//! A message whose JSON is the same in all releases implements `Serialize` here, with Go's field
//! names and order; the others are written by `preimage`. Fields that BuildKit clears before it
//! hashes (addresses of extra hosts, proxy settings, selectors of mounts) are not kept at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json;
use super::platform::Platform;

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
    Exec(ExecOp),
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

/// Runs a command (`pb.ExecOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecOp {
    /// The process.
    pub meta: Meta,
    /// The file systems it sees.
    pub mounts: Vec<Mount>,
    /// 0 sandbox, 1 host, 2 none.
    pub network: i32,
    /// 0 sandbox, 1 insecure.
    pub security: i32,
    /// Secrets in the environment.
    #[serde(rename = "secretenv")]
    pub secret_env: Vec<SecretEnv>,
    /// Devices (v0.20 and later).
    pub cdi_devices: Vec<CdiDevice>,
}

/// A process (`pb.Meta`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// The command.
    #[serde(skip_serializing_if = "is_zero")]
    pub args: Vec<String>,
    /// Its environment, as `NAME=value`.
    #[serde(skip_serializing_if = "is_zero")]
    pub env: Vec<String>,
    /// Its working directory.
    #[serde(skip_serializing_if = "is_zero")]
    pub cwd: String,
    /// Its user, as in a Dockerfile's `USER`.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    /// Extra lines of `/etc/hosts`.
    #[serde(skip_serializing_if = "is_zero")]
    pub extra_hosts: Vec<ExtraHost>,
    /// Its host name.
    #[serde(skip_serializing_if = "is_zero")]
    pub hostname: String,
    /// Its resource limits.
    #[serde(skip_serializing_if = "is_zero")]
    pub ulimit: Vec<Ulimit>,
    /// The cgroup to put it in.
    #[serde(skip_serializing_if = "is_zero")]
    pub cgroup_parent: String,
    /// Whether empty parents of mount points are removed afterwards.
    #[serde(skip_serializing_if = "is_zero")]
    pub remove_mount_stubs_recursive: bool,
    /// Exit codes other than 0 that count as success (v0.17 and later).
    #[serde(skip_serializing_if = "is_zero")]
    pub valid_exit_codes: Vec<i32>,
}

/// A name for `/etc/hosts` (`pb.HostIP`). Its address is not part of the digest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtraHost {
    /// The host name.
    #[serde(rename = "Host", skip_serializing_if = "is_zero")]
    pub host: String,
}

/// A resource limit (`pb.Ulimit`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// Such as `nofile`.
    #[serde(rename = "Name", skip_serializing_if = "is_zero")]
    pub name: String,
    /// The soft limit.
    #[serde(rename = "Soft", skip_serializing_if = "is_zero", deserialize_with = "json::int64")]
    pub soft: i64,
    /// The hard limit.
    #[serde(rename = "Hard", skip_serializing_if = "is_zero", deserialize_with = "json::int64")]
    pub hard: i64,
}

/// A secret in the environment (`pb.SecretEnv`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretEnv {
    /// The secret.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// The variable.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub optional: bool,
}

/// A device (`pb.CDIDevice`). The daemon may put the names of resolved devices in its place before
/// it hashes, which only that daemon can know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CdiDevice {
    /// Such as `vendor.com/gpu=gpu0`.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub optional: bool,
}

/// A file system in a command's view (`pb.Mount`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Index of the op's input, or -1 for an empty file system.
    pub input: i64,
    /// Where it appears.
    pub dest: String,
    /// The output it becomes, or -1.
    pub output: i64,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// 0 bind, 1 secret, 2 SSH, 3 cache, 4 tmpfs.
    pub mount_type: i32,
    /// For tmpfs.
    #[serde(rename = "TmpfsOpt")]
    pub tmpfs_opt: Option<TmpfsOpt>,
    /// For cache mounts.
    pub cache_opt: Option<CacheOpt>,
    /// For secrets.
    pub secret_opt: Option<SecretOpt>,
    /// For SSH agents; the same fields as for secrets.
    #[serde(rename = "SSHOpt")]
    pub ssh_opt: Option<SecretOpt>,
    /// The result it is, when it is one of a nested build.
    #[serde(rename = "resultID")]
    pub result_id: String,
    /// 0 default, 1 on, 2 off (v0.13 and later).
    pub content_cache: i32,
}

impl Mount {
    /// `mount_type` of a bind mount.
    pub const BIND: i32 = 0;
}

/// Options of a tmpfs (`pb.TmpfsOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOpt {
    /// Largest size in bytes.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "json::int64")]
    pub size: i64,
}

/// Options of a cache mount (`pb.CacheOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheOpt {
    /// Which cache.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// 0 shared, 1 private, 2 locked.
    #[serde(skip_serializing_if = "is_zero")]
    pub sharing: i32,
}

/// Options of a secret or SSH mount (`pb.SecretOpt`, `pb.SSHOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretOpt {
    /// Which secret or agent.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// Owner of the file or socket.
    #[serde(skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Its group.
    #[serde(skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Its permission bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub optional: bool,
}

/// Copies, makes and removes files (`pb.FileOp`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct FileOp {
    /// What is done, in order.
    pub actions: Vec<FileAction>,
}

/// One step of a file op (`pb.FileAction`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAction {
    /// What it works on: an input of the op, or, counting on from there, an earlier action; -1 for
    /// an empty file system.
    pub input: i64,
    /// Where a copy takes from, counted as `input`; -1 for none.
    pub secondary_input: i64,
    /// The output it becomes, or -1.
    pub output: i64,
    /// What it does.
    pub action: Action,
}

/// What one step of a file op does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copies.
    Copy(CopyAction),
    /// Makes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
    /// Removes.
    Rm(RmAction),
    /// Makes a symbolic link (v0.19 and later).
    Symlink(SymlinkAction),
    /// Not said: provenance of v0.19 to v0.32 leaves symbolic links out (`jsonFileAction` in
    /// `solver/pb/json.go` has no field for them).
    Lost,
}

/// Copies (`pb.FileActionCopy`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields of pb.FileActionCopy")]
pub struct CopyAction {
    /// From.
    pub src: String,
    /// To.
    pub dest: String,
    /// Owner of the copies.
    pub owner: Option<ChownOpt>,
    /// Permission bits, -1 to keep.
    pub mode: i32,
    /// Whether a symbolic link at `src` is followed.
    pub follow_symlink: bool,
    /// Whether of a directory only what is in it is copied.
    pub dir_copy_contents: bool,
    /// Whether an archive is unpacked.
    pub attempt_unpack_docker_compatibility: bool,
    /// Whether missing directories are made.
    pub create_dest_path: bool,
    /// Whether `src` may have wildcards.
    pub allow_wildcard: bool,
    /// Whether they may match nothing.
    pub allow_empty_wildcard: bool,
    /// Modification time in nanoseconds, -1 to keep.
    #[serde(deserialize_with = "json::int64")]
    pub timestamp: i64,
    /// Only what matches one of these.
    #[serde(rename = "include_patterns")]
    pub include_patterns: Vec<String>,
    /// Nothing that matches one of these.
    #[serde(rename = "exclude_patterns")]
    pub exclude_patterns: Vec<String>,
    /// Whether something of another type at `dest` is replaced (v0.14 and later).
    pub always_replace_existing_dest_paths: bool,
    /// Permission bits as text (v0.17 and later).
    pub mode_str: String,
    /// Paths that have to exist (v0.26 and later).
    #[serde(rename = "required_paths")]
    pub required_paths: Vec<String>,
}

/// Makes a file (`pb.FileActionMkFile`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct MkfileAction {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: i32,
    /// What is in it.
    #[serde(deserialize_with = "json::bytes")]
    pub data: Vec<u8>,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "json::int64")]
    pub timestamp: i64,
}

/// Makes a directory (`pb.FileActionMkDir`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MkdirAction {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: i32,
    /// Whether missing parents are made.
    pub make_parents: bool,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "json::int64")]
    pub timestamp: i64,
}

/// Removes (`pb.FileActionRm`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RmAction {
    /// What.
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_not_found: bool,
    /// Whether `path` may have wildcards.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_wildcard: bool,
}

/// Makes a symbolic link (`pb.FileActionSymlink`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct SymlinkAction {
    /// Where it points.
    #[serde(rename = "oldpath")]
    pub old_path: String,
    /// Where it is.
    #[serde(rename = "newpath")]
    pub new_path: String,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "json::int64")]
    pub timestamp: i64,
}

/// An owner (`pb.ChownOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ChownOpt {
    /// The user.
    pub user: Option<UserOpt>,
    /// The group.
    pub group: Option<UserOpt>,
}

/// A user or group (`pb.UserOpt`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserOpt {
    /// Looked up in `/etc/passwd` or `/etc/group` of an input.
    ByName(NamedUser),
    /// Given as a number.
    ById(u32),
}

/// A user or group by name (`pb.NamedUserOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct NamedUser {
    /// The name.
    pub name: String,
    /// The input whose `/etc/passwd` or `/etc/group` is read.
    pub input: i64,
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

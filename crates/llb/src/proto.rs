//! The protobuf messages of LLB, with the fields that affect op digests.
//!
//! Field numbers and types are those of BuildKit v0.32.2 `solver/pb/ops.proto`. Since v0.11 fields were
//! added, but none changed. Fields not listed here are skipped as unknown fields.
//!
//! Ops are also read from protobuf's JSON, which uses the names of the fields ([`json`]).

mod convert;
mod json;

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;

use super::members::bytes;

/// `pb.Definition`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Definition {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) def: Vec<Vec<u8>>,
    /// By the digest of the op.
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) metadata: BTreeMap<String, OpMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpMetadata {
    #[prost(bool, tag = "1")]
    pub(super) ignore_cache: bool,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) description: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(super) struct Op {
    #[prost(message, repeated, tag = "1")]
    pub(super) inputs: Vec<Input>,
    #[prost(message, optional, boxed, tag = "2")]
    exec: Option<Box<ExecOp>>,
    #[prost(message, optional, tag = "3")]
    pub(super) source: Option<SourceOp>,
    #[prost(message, optional, tag = "4")]
    file: Option<FileOp>,
    #[prost(message, optional, tag = "5")]
    build: Option<BuildOp>,
    #[prost(message, optional, tag = "6")]
    merge: Option<MergeOp>,
    #[prost(message, optional, tag = "7")]
    diff: Option<DiffOp>,
    #[prost(message, optional, tag = "8")]
    passthrough: Option<PassthroughOp>,
    #[prost(message, optional, tag = "10")]
    platform: Option<Platform>,
}

/// A `pb.Op` that only counts mounts and file actions, without memory for them: a message of two bytes can
/// become one of hundreds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Outline {
    #[prost(message, repeated, tag = "2")]
    exec: Vec<Parts>,
    #[prost(message, repeated, tag = "4")]
    file: Vec<Parts>,
}

/// `pb.ExecOp` or `pb.FileOp`, whose parts happen to have the same field number.
#[derive(Clone, PartialEq, Message)]
struct Parts {
    #[prost(message, repeated, tag = "2")]
    parts: Vec<Present>,
}

impl Outline {
    /// Returns the number of mounts and file actions.
    pub(super) fn parts(&self) -> usize {
        self.exec.iter().chain(&self.file).map(|parts| parts.parts.len()).sum()
    }
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(super) struct Input {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "json::int64")]
    pub(super) index: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(super) struct SourceOp {
    #[prost(string, tag = "1")]
    pub(super) identifier: String,
}

/// A message of which only the presence matters.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self")]
struct Present {}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "PascalCase")]
struct Platform {
    #[prost(string, tag = "1")]
    architecture: String,
    #[prost(string, tag = "2")]
    #[serde(rename = "OS")]
    os: String,
    #[prost(string, tag = "3")]
    variant: String,
    #[prost(string, tag = "4")]
    #[serde(rename = "OSVersion")]
    os_version: String,
    #[prost(string, repeated, tag = "5")]
    #[serde(rename = "OSFeatures")]
    os_features: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct ExecOp {
    #[prost(message, optional, tag = "1")]
    meta: Option<Meta>,
    #[prost(message, repeated, tag = "2")]
    mounts: Vec<Mount>,
    #[prost(int32, tag = "3")]
    #[serde(deserialize_with = "json::network")]
    network: i32,
    #[prost(int32, tag = "4")]
    #[serde(deserialize_with = "json::security")]
    security: i32,
    #[prost(message, repeated, tag = "5")]
    #[serde(rename = "secretenv")]
    secret_env: Vec<SecretEnv>,
    #[prost(message, repeated, tag = "6")]
    cdi_devices: Vec<CdiDevice>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct Meta {
    #[prost(string, repeated, tag = "1")]
    args: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    env: Vec<String>,
    #[prost(string, tag = "3")]
    cwd: String,
    #[prost(string, tag = "4")]
    user: String,
    #[prost(message, repeated, tag = "6")]
    extra_hosts: Vec<ExtraHost>,
    #[prost(string, tag = "7")]
    hostname: String,
    #[prost(message, repeated, tag = "9")]
    ulimit: Vec<Ulimit>,
    #[prost(string, tag = "10")]
    cgroup_parent: String,
    #[prost(bool, tag = "11")]
    remove_mount_stubs_recursive: bool,
    #[prost(int32, repeated, tag = "12")]
    valid_exit_codes: Vec<i32>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "PascalCase")]
struct ExtraHost {
    #[prost(string, tag = "1")]
    host: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "PascalCase")]
struct Ulimit {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "json::int64")]
    soft: i64,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "json::int64")]
    hard: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct SecretEnv {
    #[prost(string, tag = "1")]
    #[serde(rename = "ID")]
    id: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    optional: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct CdiDevice {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    optional: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct Mount {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "json::int64")]
    input: i64,
    #[prost(string, tag = "2")]
    selector: String,
    #[prost(string, tag = "3")]
    dest: String,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "json::int64")]
    output: i64,
    #[prost(bool, tag = "5")]
    readonly: bool,
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "json::mount_type")]
    mount_type: i32,
    #[prost(message, optional, tag = "19")]
    #[serde(rename = "TmpfsOpt")]
    tmpfs_opt: Option<TmpfsOpt>,
    #[prost(message, optional, tag = "20")]
    cache_opt: Option<CacheOpt>,
    #[prost(message, optional, tag = "21")]
    secret_opt: Option<SecretOpt>,
    #[prost(message, optional, tag = "22")]
    #[serde(rename = "SSHOpt")]
    ssh_opt: Option<SecretOpt>,
    #[prost(string, tag = "23")]
    #[serde(rename = "resultID")]
    result_id: String,
    #[prost(int32, tag = "24")]
    #[serde(deserialize_with = "json::content_cache")]
    content_cache: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct TmpfsOpt {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "json::int64")]
    size: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct CacheOpt {
    #[prost(string, tag = "1")]
    #[serde(rename = "ID")]
    id: String,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "json::sharing")]
    sharing: i32,
}

/// `pb.SecretOpt` and `pb.SSHOpt`, which have the same fields.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct SecretOpt {
    #[prost(string, tag = "1")]
    #[serde(rename = "ID")]
    id: String,
    #[prost(uint32, tag = "2")]
    uid: u32,
    #[prost(uint32, tag = "3")]
    gid: u32,
    #[prost(uint32, tag = "4")]
    mode: u32,
    #[prost(bool, tag = "5")]
    optional: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct FileOp {
    #[prost(message, repeated, tag = "2")]
    actions: Vec<FileAction>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct FileAction {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "json::int64")]
    input: i64,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "json::int64")]
    secondary_input: i64,
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "json::int64")]
    output: i64,
    #[prost(message, optional, boxed, tag = "4")]
    copy: Option<Box<CopyAction>>,
    #[prost(message, optional, tag = "5")]
    mkfile: Option<MkfileAction>,
    #[prost(message, optional, tag = "6")]
    mkdir: Option<MkdirAction>,
    #[prost(message, optional, tag = "7")]
    rm: Option<RmAction>,
    #[prost(message, optional, tag = "8")]
    symlink: Option<SymlinkAction>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields of pb.FileActionCopy")]
struct CopyAction {
    #[prost(string, tag = "1")]
    src: String,
    #[prost(string, tag = "2")]
    dest: String,
    #[prost(message, optional, tag = "3")]
    owner: Option<ChownOpt>,
    #[prost(int32, tag = "4")]
    mode: i32,
    #[prost(bool, tag = "5")]
    follow_symlink: bool,
    #[prost(bool, tag = "6")]
    dir_copy_contents: bool,
    #[prost(bool, tag = "7")]
    attempt_unpack_docker_compatibility: bool,
    #[prost(bool, tag = "8")]
    create_dest_path: bool,
    #[prost(bool, tag = "9")]
    allow_wildcard: bool,
    #[prost(bool, tag = "10")]
    allow_empty_wildcard: bool,
    #[prost(int64, tag = "11")]
    #[serde(deserialize_with = "json::int64")]
    timestamp: i64,
    #[prost(string, repeated, tag = "12")]
    include_patterns: Vec<String>,
    #[prost(string, repeated, tag = "13")]
    exclude_patterns: Vec<String>,
    #[prost(bool, tag = "14")]
    always_replace_existing_dest_paths: bool,
    #[prost(string, tag = "15")]
    mode_str: String,
    #[prost(string, repeated, tag = "16")]
    required_paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct MkfileAction {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(int32, tag = "2")]
    mode: i32,
    #[prost(bytes = "vec", tag = "3")]
    #[serde(deserialize_with = "bytes")]
    data: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    owner: Option<ChownOpt>,
    #[prost(int64, tag = "5")]
    #[serde(deserialize_with = "json::int64")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct MkdirAction {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(int32, tag = "2")]
    mode: i32,
    #[prost(bool, tag = "3")]
    make_parents: bool,
    #[prost(message, optional, tag = "4")]
    owner: Option<ChownOpt>,
    #[prost(int64, tag = "5")]
    #[serde(deserialize_with = "json::int64")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct RmAction {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(bool, tag = "2")]
    allow_not_found: bool,
    #[prost(bool, tag = "3")]
    allow_wildcard: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct SymlinkAction {
    #[prost(string, tag = "1")]
    #[serde(rename = "oldpath")]
    old_path: String,
    #[prost(string, tag = "2")]
    #[serde(rename = "newpath")]
    new_path: String,
    #[prost(message, optional, tag = "3")]
    owner: Option<ChownOpt>,
    #[prost(int64, tag = "4")]
    #[serde(deserialize_with = "json::int64")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct ChownOpt {
    #[prost(message, optional, tag = "1")]
    user: Option<UserOpt>,
    #[prost(message, optional, tag = "2")]
    group: Option<UserOpt>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct UserOpt {
    #[prost(message, optional, tag = "1")]
    by_name: Option<NamedUser>,
    /// An `Option`, because the member of a oneof can be absent.
    #[prost(uint32, optional, tag = "2")]
    #[serde(rename = "byID")]
    by_id: Option<u32>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct NamedUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    #[serde(deserialize_with = "json::int64")]
    input: i64,
}

/// `pb.MergeInput`, `pb.LowerDiffInput`, `pb.UpperDiffInput` and `pb.BuildInput`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct InputIndex {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "json::int64")]
    input: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct MergeOp {
    #[prost(message, repeated, tag = "1")]
    inputs: Vec<InputIndex>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct DiffOp {
    #[prost(message, optional, tag = "1")]
    lower: Option<InputIndex>,
    #[prost(message, optional, tag = "2")]
    upper: Option<InputIndex>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct BuildOp {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "json::int64")]
    builder: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    inputs: BTreeMap<String, InputIndex>,
    #[prost(message, optional, tag = "3")]
    def: Option<Present>,
    #[prost(btree_map = "string, string", tag = "4")]
    attrs: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
struct PassthroughOp {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, repeated, tag = "2")]
    #[serde(deserialize_with = "json::int64s")]
    outputs: Vec<i64>,
}

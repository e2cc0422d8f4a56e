//! Running a command.

use serde::{Deserialize, Serialize};

use super::is_zero;
use crate::members;

/// Runs a command (`pb.ExecOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecOp {
    /// The process.
    pub meta: Meta,
    /// The file systems mounted in it.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
    /// The parent cgroup.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtraHost {
    /// The host name.
    #[serde(rename = "Host", skip_serializing_if = "is_zero")]
    pub host: String,
}

/// A resource limit (`pb.Ulimit`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// Such as `nofile`.
    #[serde(rename = "Name", skip_serializing_if = "is_zero")]
    pub name: String,
    /// The soft limit.
    #[serde(rename = "Soft", skip_serializing_if = "is_zero", deserialize_with = "members::int64")]
    pub soft: i64,
    /// The hard limit.
    #[serde(rename = "Hard", skip_serializing_if = "is_zero", deserialize_with = "members::int64")]
    pub hard: i64,
}

/// A secret in the environment (`pb.SecretEnv`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretEnv {
    /// The secret.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// The environment variable.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub optional: bool,
}

/// A device (`pb.CDIDevice`). The daemon may replace it by the names of resolved devices before it hashes,
/// which only that daemon can know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CdiDevice {
    /// Its name, such as `vendor.com/gpu=gpu0`.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub optional: bool,
}

/// A file system mounted in a command (`pb.Mount`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Index of the op's input, or -1 for an empty file system.
    pub input: i64,
    /// The mounted directory of the input; empty for all of it. Not part of the digest.
    pub selector: String,
    /// The mount point.
    pub dest: String,
    /// The index of the op's output that it becomes, or -1.
    pub output: i64,
    /// Whether it is read-only.
    pub readonly: bool,
    /// 0 bind, 1 secret, 2 SSH, 3 cache, 4 tmpfs.
    pub mount_type: i32,
    /// Options of a tmpfs.
    #[serde(rename = "TmpfsOpt")]
    pub tmpfs_opt: Option<TmpfsOpt>,
    /// Options of a cache mount.
    pub cache_opt: Option<CacheOpt>,
    /// Options of a secret.
    pub secret_opt: Option<SecretOpt>,
    /// Options of an SSH agent; the same fields as for secrets.
    #[serde(rename = "SSHOpt")]
    pub ssh_opt: Option<SecretOpt>,
    /// The id of the result, if it is one of a nested build.
    #[serde(rename = "resultID")]
    pub result_id: String,
    /// 0 default, 1 on, 2 off (v0.13 and later).
    pub content_cache: i32,
}

impl Mount {
    /// `input` of a mount without an input.
    pub const NO_INPUT: i64 = -1;
    /// `mount_type` of a bind mount.
    pub const BIND: i32 = 0;
    /// `content_cache` of a mount that is always looked up by its content, too.
    pub const CONTENT_CACHE_ON: i32 = 1;
    /// `mount_type` of a secret.
    pub const SECRET: i32 = 1;
    /// `mount_type` of an SSH agent.
    pub const SSH: i32 = 2;
    /// `mount_type` of a tmpfs.
    pub const TMPFS: i32 = 4;

    /// Returns whether a daemon may look up the command by the content of the mount; for the root only on
    /// request (`getMountDeps` in `ops/exec.go`).
    pub(crate) fn may_be_hashed(&self) -> bool {
        self.dest != "/" || self.content_cache == Self::CONTENT_CACHE_ON
    }
}

/// Options of a tmpfs (`pb.TmpfsOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOpt {
    /// Maximum size in bytes.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "members::int64")]
    pub size: i64,
}

/// Options of a cache mount (`pb.CacheOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheOpt {
    /// The id of the cache.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: String,
    /// 0 shared, 1 private, 2 locked.
    #[serde(skip_serializing_if = "is_zero")]
    pub sharing: i32,
}

/// Options of a secret or SSH mount (`pb.SecretOpt`, `pb.SSHOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretOpt {
    /// The id of the secret or agent.
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

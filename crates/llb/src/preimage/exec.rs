//! The document of an exec op (`ops/exec.go`, `ExecOp.CacheMap`).

use serde::Serialize;

use super::{Json, go, index};
use crate::encoding::{Encoding, Release};
use crate::op::{CacheOpt, CdiDevice, ExecOp, Meta, Mount, SecretEnv, SecretOpt, TmpfsOpt};
use crate::platform::Platform;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Exec")]
    op: Exec<'a>,
    #[serde(rename = "OS")]
    os: &'a str,
    #[serde(rename = "Arch")]
    architecture: &'a str,
    #[serde(rename = "Variant", skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(rename = "OSVersion", skip_serializing_if = "str::is_empty")]
    os_version: &'a str,
    #[serde(rename = "OSFeatures", skip_serializing_if = "<[String]>::is_empty")]
    os_features: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exec<'a> {
    meta: &'a Meta,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<HashedMount<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    network: i32,
    #[serde(skip_serializing_if = "is_zero")]
    security: i32,
    #[serde(rename = "secretenv", skip_serializing_if = "<[SecretEnv]>::is_empty")]
    secret_env: &'a [SecretEnv],
    #[serde(skip_serializing_if = "<[CdiDevice]>::is_empty")]
    cdi_devices: &'a [CdiDevice],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashedMount<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    dest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
    #[serde(skip_serializing_if = "is_zero")]
    mount_type: i32,
    #[serde(rename = "TmpfsOpt", skip_serializing_if = "Option::is_none")]
    tmpfs_opt: Option<&'a TmpfsOpt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_opt: Option<CacheOpt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_opt: Option<&'a SecretOpt>,
    #[serde(rename = "SSHOpt", skip_serializing_if = "Option::is_none")]
    ssh_opt: Option<&'a SecretOpt>,
    #[serde(rename = "resultID", skip_serializing_if = "str::is_empty")]
    result_id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    content_cache: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// Writes the document. `platform` is the normal form of the op's own platform, or of the daemon's.
pub(crate) fn exec(op: &ExecOp, platform: &Platform, encoding: Encoding) -> Json {
    let mounts = match op.mounts.as_slice() {
        [only] if is_plain_root(only) => Vec::new(),
        mounts => mounts.iter().map(|mount| hashed_mount(mount, encoding.release)).collect(),
    };
    let with_os = encoding.release.hashes_os_version();
    let document = Document {
        kind: "buildkit.exec.v0",
        op: Exec {
            meta: &op.meta,
            mounts,
            network: op.network,
            security: op.security,
            secret_env: &op.secret_env,
            cdi_devices: &op.cdi_devices,
        },
        os: &platform.os,
        architecture: &platform.architecture,
        variant: &platform.variant,
        os_version: if with_os { &platform.os_version } else { "" },
        os_features: if with_os { &platform.os_features } else { &[] },
    };
    go(&document, encoding)
}

/// Returns whether the mount is omitted when it is the only one, as in releases from before all mounts were
/// hashed. Neither its input and output nor the options of a tmpfs matter.
fn is_plain_root(mount: &Mount) -> bool {
    mount.dest == "/"
        && !mount.readonly
        && mount.mount_type == Mount::BIND
        && mount.cache_opt.is_none()
        && mount.ssh_opt.is_none()
        && mount.secret_opt.is_none()
        && mount.result_id.is_empty()
}

fn hashed_mount(mount: &Mount, release: Release) -> HashedMount<'_> {
    let cache_opt = mount.cache_opt.as_ref().map(|cache| {
        if release.clears_cache_options() && !is_dockerfile_default(cache, &mount.dest) {
            CacheOpt::default()
        } else {
            cache.clone()
        }
    });
    HashedMount {
        input: index(mount.input, release),
        dest: &mount.dest,
        output: index(mount.output, release),
        readonly: mount.readonly,
        mount_type: mount.mount_type,
        tmpfs_opt: mount.tmpfs_opt.as_ref(),
        cache_opt,
        secret_opt: mount.secret_opt.as_ref(),
        ssh_opt: mount.ssh_opt.as_ref(),
        result_id: &mount.result_id,
        content_cache: mount.content_cache,
    }
}

/// Returns whether the options are the Dockerfile frontend's for a cache mount without options: the id is the
/// destination, or the destination after a namespace and a slash (`checkShouldClearCacheOpts`).
fn is_dockerfile_default(cache: &CacheOpt, dest: &str) -> bool {
    let behind_namespace = || cache.id.split_once('/').is_some_and(|(_, id)| id == dest);
    cache.sharing == 0 && (cache.id == dest || behind_namespace())
}

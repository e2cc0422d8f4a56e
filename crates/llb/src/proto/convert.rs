//! Conversion of messages to ops.

use super::{
    BuildOp, CopyAction, DiffOp, ExecOp, FileAction, FileOp, InputIndex, MergeOp, Meta,
    MkdirAction, MkfileAction, Mount, Op, PassthroughOp, Platform, RmAction, SecretOpt,
    SymlinkAction, UserOpt,
};
use crate::op::{self, Action, Kind};
use crate::platform;

impl Op {
    /// Converts to an op; the kind is `None` if it is unknown.
    pub(crate) fn into_op(self) -> (Option<Kind>, usize, Option<platform::Platform>) {
        let kind = None
            .or(self.exec.map(|exec| Kind::Exec(Box::new((*exec).into()))))
            .or(self.file.map(|file| Kind::File(file.into())))
            .or(self.merge.map(|merge| Kind::Merge(merge.into())))
            .or(self.diff.map(|diff| Kind::Diff(diff.into())))
            .or(self.build.map(|build| Kind::Build(build.into())))
            .or(self.passthrough.map(|op| Kind::Passthrough(op.into())))
            .or(self.source.map(|_| Kind::Source));
        (kind, self.inputs.len(), self.platform.map(Into::into))
    }
}

fn all<T, U: From<T>>(messages: Vec<T>) -> Vec<U> {
    messages.into_iter().map(Into::into).collect()
}

impl From<Platform> for platform::Platform {
    fn from(message: Platform) -> Self {
        let Platform { architecture, os, variant, os_version, os_features } = message;
        Self { os, architecture, variant, os_version, os_features }
    }
}

impl From<ExecOp> for op::ExecOp {
    fn from(message: ExecOp) -> Self {
        let ExecOp { meta, mounts, network, security, secret_env, cdi_devices } = message;
        let secret_env = secret_env.into_iter();
        let cdi_devices = cdi_devices.into_iter();
        Self {
            meta: meta.unwrap_or_default().into(),
            mounts: all(mounts),
            network,
            security,
            secret_env: secret_env
                .map(|env| op::SecretEnv { id: env.id, name: env.name, optional: env.optional })
                .collect(),
            cdi_devices: cdi_devices
                .map(|device| op::CdiDevice { name: device.name, optional: device.optional })
                .collect(),
        }
    }
}

impl From<Meta> for op::Meta {
    fn from(message: Meta) -> Self {
        let hosts = message.extra_hosts.into_iter();
        let limits = message.ulimit.into_iter();
        Self {
            args: message.args,
            env: message.env,
            cwd: message.cwd,
            user: message.user,
            extra_hosts: hosts.map(|host| op::ExtraHost { host: host.host }).collect(),
            hostname: message.hostname,
            ulimit: limits
                .map(|limit| op::Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
                .collect(),
            cgroup_parent: message.cgroup_parent,
            remove_mount_stubs_recursive: message.remove_mount_stubs_recursive,
            valid_exit_codes: message.valid_exit_codes,
        }
    }
}

impl From<Mount> for op::Mount {
    fn from(message: Mount) -> Self {
        Self {
            input: message.input,
            selector: message.selector,
            dest: message.dest,
            output: message.output,
            readonly: message.readonly,
            mount_type: message.mount_type,
            tmpfs_opt: message.tmpfs_opt.map(|opt| op::TmpfsOpt { size: opt.size }),
            cache_opt: message
                .cache_opt
                .map(|opt| op::CacheOpt { id: opt.id, sharing: opt.sharing }),
            secret_opt: message.secret_opt.map(Into::into),
            ssh_opt: message.ssh_opt.map(Into::into),
            result_id: message.result_id,
            content_cache: message.content_cache,
        }
    }
}

impl From<SecretOpt> for op::SecretOpt {
    fn from(message: SecretOpt) -> Self {
        let SecretOpt { id, uid, gid, mode, optional } = message;
        Self { id, uid, gid, mode, optional }
    }
}

impl From<FileOp> for op::FileOp {
    fn from(message: FileOp) -> Self {
        Self { actions: all(message.actions) }
    }
}

impl From<FileAction> for op::FileAction {
    fn from(message: FileAction) -> Self {
        let action = None
            .or(message.copy.map(|copy| Action::Copy((*copy).into())))
            .or(message.mkfile.map(|mkfile| Action::Mkfile(mkfile.into())))
            .or(message.mkdir.map(|mkdir| Action::Mkdir(mkdir.into())))
            .or(message.rm.map(|rm| Action::Rm(rm.into())))
            .or(message.symlink.map(|link| Action::Symlink(link.into())));
        Self {
            input: message.input,
            secondary_input: message.secondary_input,
            output: message.output,
            action: action.unwrap_or(Action::Lost),
        }
    }
}

impl From<CopyAction> for op::CopyAction {
    fn from(message: CopyAction) -> Self {
        Self {
            src: message.src,
            dest: message.dest,
            owner: message.owner.map(Into::into),
            mode: message.mode,
            follow_symlink: message.follow_symlink,
            dir_copy_contents: message.dir_copy_contents,
            attempt_unpack_docker_compatibility: message.attempt_unpack_docker_compatibility,
            create_dest_path: message.create_dest_path,
            allow_wildcard: message.allow_wildcard,
            allow_empty_wildcard: message.allow_empty_wildcard,
            timestamp: message.timestamp,
            include_patterns: message.include_patterns,
            exclude_patterns: message.exclude_patterns,
            always_replace_existing_dest_paths: message.always_replace_existing_dest_paths,
            mode_str: message.mode_str,
            required_paths: message.required_paths,
        }
    }
}

impl From<MkfileAction> for op::MkfileAction {
    fn from(message: MkfileAction) -> Self {
        let MkfileAction { path, mode, data, owner, timestamp } = message;
        Self { path, mode, data, owner: owner.map(Into::into), timestamp }
    }
}

impl From<MkdirAction> for op::MkdirAction {
    fn from(message: MkdirAction) -> Self {
        let MkdirAction { path, mode, make_parents, owner, timestamp } = message;
        Self { path, mode, make_parents, owner: owner.map(Into::into), timestamp }
    }
}

impl From<RmAction> for op::RmAction {
    fn from(message: RmAction) -> Self {
        let RmAction { path, allow_not_found, allow_wildcard } = message;
        Self { path, allow_not_found, allow_wildcard }
    }
}

impl From<SymlinkAction> for op::SymlinkAction {
    fn from(message: SymlinkAction) -> Self {
        let SymlinkAction { old_path, new_path, owner, timestamp } = message;
        Self { old_path, new_path, owner: owner.map(Into::into), timestamp }
    }
}

impl From<super::ChownOpt> for op::ChownOpt {
    fn from(message: super::ChownOpt) -> Self {
        Self { user: message.user.map(Into::into), group: message.group.map(Into::into) }
    }
}

impl From<UserOpt> for op::UserOpt {
    fn from(message: UserOpt) -> Self {
        match message.by_name {
            Some(user) => Self::ByName(op::NamedUser { name: user.name, input: user.input }),
            None => Self::ById(message.by_id.unwrap_or_default()),
        }
    }
}

impl From<InputIndex> for op::InputIndex {
    fn from(message: InputIndex) -> Self {
        Self { input: message.input }
    }
}

impl From<MergeOp> for op::MergeOp {
    fn from(message: MergeOp) -> Self {
        Self { inputs: all(message.inputs) }
    }
}

impl From<DiffOp> for op::DiffOp {
    fn from(message: DiffOp) -> Self {
        Self {
            lower: message.lower.unwrap_or_default().into(),
            upper: message.upper.unwrap_or_default().into(),
        }
    }
}

impl From<BuildOp> for op::BuildOp {
    fn from(message: BuildOp) -> Self {
        let inputs = message.inputs.into_iter();
        Self {
            builder: message.builder,
            inputs: inputs.map(|(name, input)| (name, input.into())).collect(),
            has_definition: message.def.is_some(),
            attrs: message.attrs,
        }
    }
}

impl From<PassthroughOp> for op::PassthroughOp {
    fn from(message: PassthroughOp) -> Self {
        let PassthroughOp { id, outputs } = message;
        Self { id, outputs }
    }
}

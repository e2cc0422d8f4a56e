//! `RUN` (`dispatchRun`, `dockerfile2llb/convert_runmount.go`).

use llb::op::{
    Action, CacheOpt, CdiDevice, ChownOpt, ExecOp, Kind, Meta, MkdirAction, Mount as Mounted,
    SecretEnv, SecretOpt, TmpfsOpt, UserOpt,
};

use super::graph::{Inputs, Vertex};
use super::sources::{SCRATCH, SlotIndex};
use super::stage::{Working, one_action};
use super::{Converter, Origin};
use crate::error::Reason;
use crate::expand::{Expander, Variables as _};
use crate::file::Located;
use crate::heredoc;
use crate::instruction::{Command, Network, Run};
use crate::mount::{self, Mount, Type};
use crate::path;
use crate::text::decode;

/// `mount_type` of a cache mount.
const CACHE: i32 = 3;
/// Where a script in a heredoc is mounted.
const PIPES: &str = "/dev/pipes/";
const SHARED_MEMORY: &str = "/dev/shm";
const AGENT: &str = "SSH_AUTH_SOCK";

/// The mounts of a command, before they are numbered.
#[derive(Default)]
struct Mounts {
    /// Those with a file system, in any order.
    files: Vec<(Option<Vertex>, Mounted)>,
    secrets: Vec<Mounted>,
    secret_env: Vec<SecretEnv>,
    agents: Vec<Mounted>,
}

impl Mounts {
    fn push(&mut self, files: Option<Vertex>, mount: Mounted) {
        self.files.push((files, Mounted { output: -1, ..mount }));
    }
}

impl Converter<'_> {
    pub(super) fn run(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        run: &Run,
        sources: &[SlotIndex],
    ) -> Result<(), Reason> {
        let frontend = self.options.frontend;
        let mut parsed = Vec::with_capacity(run.mounts.len());
        for flag in &run.mounts {
            let expander = Expander::new(frontend, self.escape);
            let (env, budget) = (&stage.state.env, &mut self.budget);
            parsed.push(mount::parse(&flag.text, frontend, |value| {
                expander.expand(value, env, budget)
            })?);
        }
        let mut mounts = Mounts::default();
        let mut args = self.arguments(stage, command, run, &mut mounts)?;
        for (mount, &source) in parsed.iter().zip(sources) {
            self.mount(stage, command, mount, source, &mut mounts)?;
        }
        if run.in_shell {
            let shell = match stage.state.shell.as_slice() {
                [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                shell => shell.to_vec(),
            };
            let text = args.join(" ");
            args = shell;
            args.push(text);
        }
        if args.is_empty() {
            return Err(Reason::arguments("RUN", "requires arguments"));
        }
        if self.options.shm_size > 0 {
            let opt = TmpfsOpt { size: self.options.shm_size };
            let mount_type = Mounted::TMPFS;
            let dest = SHARED_MEMORY.to_owned();
            mounts.push(
                None,
                Mounted { dest, mount_type, tmpfs_opt: Some(opt), ..Mounted::default() },
            );
        }
        let mut env = stage.state.env.list();
        if let Some(agent) = mounts.agents.first()
            && stage.state.env.get(AGENT).is_none()
        {
            env.push(format!("{AGENT}={}", agent.dest));
        }
        let root = Mounted { dest: "/".to_owned(), ..Mounted::default() };
        let mut list = vec![(stage.state.files, root)];
        list.append(&mut mounts.files);
        list.sort_by(|(_, a), (_, b)| a.dest.cmp(&b.dest));
        let mut inputs = Inputs::default();
        let numbered =
            list.into_iter().map(|(files, mount)| Mounted { input: inputs.index(files), ..mount });
        let mut all: Vec<Mounted> = numbered.collect();
        all.append(&mut mounts.secrets);
        all.append(&mut mounts.agents);
        let device = |device: &crate::device::Device| CdiDevice {
            name: device.name.clone(),
            optional: !device.required,
        };
        let exec = ExecOp {
            meta: Meta {
                args,
                env,
                cwd: stage.state.dir.clone(),
                user: stage.state.user.clone(),
                extra_hosts: self.options.extra_hosts.clone(),
                hostname: self.options.sandbox_hostname().to_owned(),
                ulimit: self.options.ulimits.clone(),
                cgroup_parent: self.options.cgroup_parent.clone(),
                remove_mount_stubs_recursive: true,
                ..Meta::default()
            },
            mounts: all,
            network: match run.network {
                None => self.options.network,
                Some(Network::Host) => 1,
                Some(Network::None) => 2,
            },
            security: i32::from(run.insecure),
            secret_env: mounts.secret_env,
            cdi_devices: run.devices.iter().map(device).collect(),
        };
        let platform = Some(stage.state.platform.normalized());
        let origin = Origin::of(command, stage.state.unknown_base.as_deref());
        stage.state.files =
            Some(self.add(Kind::Exec(Box::new(exec)), inputs, platform, &origin)?);
        Ok(())
    }

    /// Returns the command, with its heredocs in it. A script gets a mount.
    fn arguments(
        &mut self,
        stage: &Working,
        command: &Located<Command>,
        run: &Run,
        mounts: &mut Mounts,
    ) -> Result<Vec<String>, Reason> {
        let ([first, ..], [text]) = (run.heredocs.as_slice(), run.args.as_slice()) else {
            return Ok(run.args.clone());
        };
        if !heredoc::is_one(text, self.options.frontend) {
            let mut whole = text.clone();
            for heredoc in &run.heredocs {
                whole.push('\n');
                whole.push_str(&decode(&heredoc.content));
                whole.push_str(&heredoc.name);
            }
            return Ok(vec![whole]);
        }
        let data = first.chomped();
        // Earlier releases look before they remove the tabs.
        let start = if self.options.frontend.since(22) { &*data } else { &*first.content };
        if !start.starts_with(b"#!") {
            return Ok(vec![decode(&data)]);
        }
        let script = self.inline_file(stage, command, &first.name, data.into_owned(), 0o755)?;
        let dest = PIPES.to_owned();
        let selector = "/".to_owned();
        mounts.push(Some(script), Mounted { dest, selector, readonly: true, ..Mounted::default() });
        Ok(vec![path::join(&[PIPES, &first.name])])
    }

    fn mount(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        mount: &Mount,
        source: SlotIndex,
        mounts: &mut Mounts,
    ) -> Result<(), Reason> {
        let mut files = if mount.from.is_empty() && mount.kind != Type::Cache {
            Some(self.main_context())
        } else {
            stage.needs(source);
            let name = if mount.from.is_empty() { SCRATCH } else { &mount.from };
            self.files(source, name, std::iter::once(&*mount.source))?
        };
        match mount.kind {
            Type::Secret => return self.secret(mount, mounts),
            Type::Ssh => return self.agent(mount, mounts),
            Type::Tmpfs => files = None,
            Type::Bind | Type::Cache => {}
        }
        let dest = match path::clean(&mount.target).starts_with('/') {
            true => mount.target.clone(),
            false => path::join(&["/", &stage.state.dir, &mount.target]),
        };
        if dest == "/" {
            return Err(Reason::value(&mount.target, "invalid mount target"));
        }
        let mut selector = path::join(&["/", &mount.source]);
        if selector == "/" {
            selector.clear();
            if mount.has_owner() {
                files = Some(self.owned_cache(stage, command, mount, files)?);
                selector.push_str("/cache");
            }
        }
        let mut mounted =
            Mounted { dest, selector, readonly: mount.readonly, ..Mounted::default() };
        match mount.kind {
            Type::Tmpfs => {
                mounted.mount_type = Mounted::TMPFS;
                mounted.tmpfs_opt = Some(TmpfsOpt { size: mount.size });
            }
            Type::Cache => {
                let own = || path::clean(&mount.target);
                let id = if mount.id.is_empty() { own() } else { mount.id.clone() };
                let id = format!("{}/{id}", self.options.cache_namespace());
                mounted.mount_type = CACHE;
                mounted.cache_opt =
                    Some(CacheOpt { id, sharing: mount.sharing.unwrap_or_default() });
            }
            _ => {}
        }
        mounts.push(files, mounted);
        Ok(())
    }

    /// Makes the directory that a cache mount with an owner starts with.
    fn owned_cache(
        &mut self,
        stage: &Working,
        command: &Located<Command>,
        mount: &Mount,
        files: Option<Vertex>,
    ) -> Result<Vertex, Reason> {
        let mut inputs = Inputs::default();
        let base = inputs.index(files);
        let id = |id: Option<u32>| Some(UserOpt::ById(id.unwrap_or_default()));
        let mkdir = MkdirAction {
            path: "/cache".to_owned(),
            mode: (mount.mode.unwrap_or(0o755) & 0o777).cast_signed(),
            make_parents: false,
            owner: Some(ChownOpt { user: id(mount.uid), group: id(mount.gid) }),
            timestamp: -1,
        };
        let kind = one_action(base, Action::Mkdir(mkdir));
        let origin = Origin::of(command, stage.state.unknown_base.as_deref());
        self.add(kind, inputs, None, &origin)
    }

    /// Returns the index of the input that secrets and agents have.
    fn no_input(&self) -> i64 {
        if self.options.frontend.since(10) { Mounted::NO_INPUT } else { 0 }
    }

    fn secret(&self, mount: &Mount, mounts: &mut Mounts) -> Result<(), Reason> {
        let id = [&mount.source, &mount.id].into_iter().find(|id| !id.is_empty());
        let id = id.map_or_else(|| path::base(&mount.target).to_owned(), Clone::clone);
        let optional = !mount.required;
        let dest = match (&*mount.target, &mount.env) {
            ("", Some(_)) => None,
            ("", None) => Some(format!("/run/secrets/{}", path::base(&id))),
            (target, _) => Some(target.to_owned()),
        };
        if let Some(name) = &mount.env {
            mounts.secret_env.push(SecretEnv { id: id.clone(), name: name.clone(), optional });
        }
        if let Some(dest) = dest {
            let secret_opt = Some(secret(mount, id, 0o400));
            let (input, mount_type) = (self.no_input(), Mounted::SECRET);
            mounts.secrets.push(Mounted {
                input,
                dest,
                mount_type,
                secret_opt,
                ..Mounted::default()
            });
        }
        Ok(())
    }

    fn agent(&self, mount: &Mount, mounts: &mut Mounts) -> Result<(), Reason> {
        if !mount.source.is_empty() {
            return Err(Reason::value(&mount.source, "ssh does not support source"));
        }
        let dest = match &*mount.target {
            "" => format!("/run/buildkit/ssh_agent.{}", mounts.agents.len()),
            target => target.to_owned(),
        };
        let ssh_opt = Some(secret(mount, mount.id.clone(), 0o600));
        let (input, mount_type) = (self.no_input(), Mounted::SSH);
        mounts.agents.push(Mounted { input, dest, mount_type, ssh_opt, ..Mounted::default() });
        Ok(())
    }
}

fn secret(mount: &Mount, id: String, mode: u32) -> SecretOpt {
    SecretOpt {
        id,
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(mode),
        optional: !mount.required,
    }
}

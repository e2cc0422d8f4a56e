//! Stages: what they begin with, and what their instructions change.

use std::collections::BTreeSet;

use llb::Platform;
use llb::op::{Action, FileAction, FileOp, Kind, MkdirAction};

use super::graph::{Inputs, Vertex};
use super::owner::owner;
use super::sources::{Context, SCRATCH, SlotIndex};
use super::{Converter, Origin, Stage};
use crate::environment::{ConfigEnvironment, Environment};
use crate::error::{ParseError, Reason};
use crate::expand::Expander;
use crate::file::{File, Located, ParsedStage, Place, parse_trigger};
use crate::image::ImageConfig;
use crate::instruction::{Command, From};
use crate::path;
use crate::reference::Reference;

/// The search path of images that have none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment variables that no step sees, although `ARG` sets them (`nonEnvArgs`).
const HIDDEN: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The state of a stage between two instructions.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The file system; `None` if it is empty.
    pub(super) files: Option<Vertex>,
    pub(super) platform: Platform,
    pub(super) env: Environment,
    pub(super) dir: String,
    pub(super) user: String,
    /// The environment in the config of the image.
    config_env: ConfigEnvironment,
    /// The working directory in it.
    config_dir: String,
    pub(super) shell: Vec<String>,
    /// What runs first in stages on this one.
    triggers: Vec<String>,
    /// The image whose config this depends on, if it was not given.
    pub(super) unknown_base: Option<String>,
}

/// What `FROM` names.
#[derive(Debug, Clone)]
enum Base {
    /// A named context takes the place of the stage. Its instructions do not count.
    Replaced,
    Stage(SlotIndex),
    Scratch,
    Image(String),
    /// Nothing that is known: frontends refuse it.
    Unknown,
}

/// A stage before its conversion.
struct Planned<'f> {
    parsed: &'f ParsedStage,
    slot: SlotIndex,
    base: Base,
    platform: Option<Platform>,
    /// The sources of each command.
    sources: Vec<Vec<SlotIndex>>,
}

/// A stage at work.
pub(super) struct Working {
    pub(super) index: usize,
    pub(super) state: State,
    needs: BTreeSet<usize>,
    stages: usize,
}

impl Working {
    /// Notes that the stage takes files from `source`.
    pub(super) fn needs(&mut self, source: SlotIndex) {
        if source.0 < self.stages && source.0 != self.index {
            self.needs.insert(source.0);
        }
    }
}

impl Converter<'_> {
    /// Converts all stages in order.
    pub(super) fn stages(&mut self, file: &File) -> Result<(), ParseError> {
        let mut planned = Vec::with_capacity(file.stages.len());
        for (index, stage) in file.stages.iter().enumerate() {
            planned.push(self.plan(index, stage)?);
        }
        for (index, stage) in planned.iter_mut().enumerate() {
            for command in &stage.parsed.commands {
                let sources = self.sources_of(command);
                let sources = match sources {
                    Ok(sources) => sources,
                    Err(reason) => {
                        self.refuse(Some(index), command.place, reason)?;
                        Vec::new()
                    }
                };
                stage.sources.push(sources);
            }
        }
        let stages = planned.len();
        for (index, stage) in planned.iter().enumerate() {
            self.stage(index, stage, stages)?;
        }
        Ok(())
    }

    /// Reads `FROM` (`buildDispatchStates`).
    fn plan<'f>(
        &mut self,
        index: usize,
        parsed: &'f ParsedStage,
    ) -> Result<Planned<'f>, ParseError> {
        let place = parsed.from.place;
        let From { base, name, platform } = &parsed.from.value;
        let expander = Expander::new(self.options.frontend, self.escape);
        let mut wrong = None;
        let mut expand = |word: &str, budget: &mut _| {
            expander.expand(word, &self.globals, budget).unwrap_or_else(|reason| {
                wrong.get_or_insert(reason);
                String::new()
            })
        };
        let base = expand(base, &mut self.budget);
        let platform = match &**platform {
            "" => None,
            text => Some(expand(text, &mut self.budget)),
        };
        let platform =
            platform.map(|text| parse_platform(&text, &self.options.build_platform).ok_or(text));
        let platform = platform.transpose().unwrap_or_else(|text| {
            let text = text.chars().take(100).collect();
            wrong.get_or_insert(Reason::Platform { text });
            None
        });
        let stage = self.slots.stage_named(&base);
        let slot = self.slots.push_stage(name.as_deref());
        let of_context = platform.as_ref().unwrap_or(&self.options.platform);
        let replaced = name.as_deref().is_some_and(|name| self.context(name, of_context).is_some());
        let base = match (stage, &*base) {
            _ if replaced => Base::Replaced,
            (Some(stage), _) => Base::Stage(stage),
            (None, SCRATCH) => Base::Scratch,
            (None, name) => match Reference::parse(name) {
                Some(reference) => Base::Image(reference.tagged()),
                None => {
                    wrong.get_or_insert(Reason::Reference {
                        name: name.chars().take(100).collect(),
                    });
                    Base::Unknown
                }
            },
        };
        if let Some(reason) = wrong {
            self.refuse(Some(index), place, reason)?;
        }
        Ok(Planned { parsed, slot, base, platform, sources: Vec::new() })
    }

    /// Returns what the files of a command come from.
    fn sources_of(&mut self, command: &Located<Command>) -> Result<Vec<SlotIndex>, Reason> {
        match &command.value {
            Command::Copy(copy) if !copy.from.is_empty() => Ok(vec![self.copy_source(&copy.from)?]),
            Command::Run(run) => {
                Ok(run.mounts.iter().map(|mount| self.mount_source(&mount.from)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn stage(
        &mut self,
        index: usize,
        planned: &Planned<'_>,
        stages: usize,
    ) -> Result<(), ParseError> {
        let place = planned.parsed.from.place;
        let state = self.begin(planned);
        self.budget.grow(state.size()).map_err(|reason| place.error(reason))?;
        let mut stage = Working { index, state, needs: BTreeSet::new(), stages };
        let os = stage.state.platform.normalized().os;
        if os != "linux" {
            self.refuse(Some(index), place, Reason::OperatingSystem { os })?;
        } else if matches!(planned.base, Base::Replaced) {
            // Earlier releases pass on the triggers of the image, later ones those of the stage that it replaces.
            let triggers =
                planned.parsed.commands.iter().filter_map(|command| match &command.value {
                    Command::OnBuild(trigger) => Some(trigger.clone()),
                    _ => None,
                });
            if self.options.frontend.since(11) {
                stage.state.triggers = triggers.collect();
            }
        } else {
            self.triggers(&mut stage, place)?;
            let commands = planned.parsed.commands.iter().zip(&planned.sources);
            for (command, sources) in commands {
                if let Err(reason) = self.command(&mut stage, command, sources) {
                    self.refuse(Some(index), command.place, reason)?;
                }
            }
        }
        if let Base::Stage(base) = planned.base {
            stage.needs(base);
        }
        self.result.stages.push(Stage {
            name: planned.parsed.from.value.name.clone(),
            line: place.line,
            result: stage.state.files.and_then(|files| self.graph.step(files)),
            needs: stage.needs.into_iter().collect(),
        });
        self.slots.finish(planned.slot, stage.state);
        Ok(())
    }

    /// Returns the state before the first instruction (`resolveBaseImage`, `dispatchStages`).
    fn begin(&mut self, planned: &Planned<'_>) -> State {
        let target = self.options.platform.clone();
        let platform = planned.platform.clone().unwrap_or_else(|| target.clone());
        let mut state = match &planned.base {
            Base::Stage(slot) => match self.slots.state(*slot) {
                Some(base) => base.clone(),
                None => State::new(None, target, Some(&ImageConfig::default())),
            },
            Base::Scratch => State::empty(target),
            Base::Unknown => {
                let mut state = State::new(None, platform, None);
                state.unknown_base =
                    Some(planned.parsed.from.value.base.chars().take(100).collect());
                state
            }
            Base::Replaced => {
                let name = planned.parsed.from.value.name.as_deref().unwrap_or_default();
                self.on_context(name, &platform, true)
            }
            Base::Image(name) if self.context(name, &platform).is_some() => {
                self.on_context(name, &platform, false)
            }
            Base::Image(name) => {
                let config = self.images.get(name, &platform);
                let empty = config.is_some_and(|config| config.is_empty);
                let files = (!empty).then(|| self.image(name, &platform));
                let mut state = State::new(files, platform, config);
                state.unknown_base = config.is_none().then(|| name.clone());
                state
            }
        };
        state.enter();
        state
    }

    /// Returns the state of a stage on a named context, or of one that is replaced by it.
    fn on_context(&mut self, name: &str, platform: &Platform, replaced: bool) -> State {
        let Some(context) = self.context(name, platform) else {
            return State::new(None, platform.clone(), None);
        };
        let files = self.context_files(name, &context, platform);
        match context {
            Context::Image { reference, config } => {
                let own = config.and_then(|config| config.platform.clone()).filter(|_| replaced);
                let platform = own.unwrap_or_else(|| platform.clone());
                let mut state = State::new(files, platform, config);
                state.unknown_base = config.is_none().then_some(reference);
                state
            }
            Context::Scratch | Context::Files | Context::Directory if replaced => {
                State::new(files, self.options.platform.clone(), Some(&ImageConfig::default()))
            }
            Context::Scratch | Context::Files | Context::Directory => {
                State { files, ..State::empty(platform.clone()) }
            }
        }
    }

    /// Runs the triggers of the base.
    fn triggers(&mut self, stage: &mut Working, place: Place) -> Result<(), ParseError> {
        for trigger in std::mem::take(&mut stage.state.triggers) {
            let result = parse_trigger(&trigger, place, self.options.frontend, &mut self.budget)
                .and_then(|command| {
                    let sources = self.sources_of(&command)?;
                    self.check_trigger(&command.value, &sources)?;
                    self.command(stage, &command, &sources)
                });
            if let Err(reason) = result {
                self.refuse(Some(stage.index), place, reason)?;
            }
        }
        Ok(())
    }

    /// Before 1.11 a trigger could take files from converted stages only.
    fn check_trigger(&self, command: &Command, sources: &[SlotIndex]) -> Result<(), Reason> {
        if self.options.frontend.since(11) {
            return Ok(());
        }
        let takes = match command {
            Command::Copy(copy) => !copy.from.is_empty(),
            Command::Run(run) => run.mounts.iter().any(|mount| {
                !mount.from.is_empty() || mount.text.to_lowercase().contains("type=cache")
            }),
            _ => false,
        };
        match takes && sources.iter().any(|&source| self.slots.state(source).is_none()) {
            true => Err(Reason::LaterStage { name: "of a trigger".to_owned() }),
            false => Ok(()),
        }
    }

    /// Carries out an instruction (`dispatch`).
    fn command(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        sources: &[SlotIndex],
    ) -> Result<(), Reason> {
        match &command.value {
            Command::Arg(arguments) => self.arg(stage, arguments),
            Command::Copy(copy) => self.copy(stage, command, copy, sources),
            Command::Env(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| Ok((self.word(stage, name)?, self.word(stage, value)?)))
                    .collect::<Result<_, Reason>>()?;
                for (name, value) in pairs {
                    self.budget.grow(name.len() + value.len())?;
                    stage.state.env.set(&name, &value);
                    stage.state.config_env.set(&name, &value);
                }
                Ok(())
            }
            Command::OnBuild(trigger) => {
                stage.state.triggers.push(trigger.clone());
                Ok(())
            }
            Command::Run(run) => self.run(stage, command, run, sources),
            Command::Shell(shell) => {
                stage.state.shell.clone_from(shell);
                Ok(())
            }
            Command::User(user) => {
                stage.state.user = self.word(stage, user)?;
                Ok(())
            }
            Command::Workdir(dir) => self.workdir(stage, command, dir),
            Command::Config => Ok(()),
        }
    }

    /// Expands a word with the environment of the stage.
    pub(super) fn word(&mut self, stage: &Working, word: &str) -> Result<String, Reason> {
        let expander = Expander::new(self.options.frontend, self.escape);
        expander.expand(word, &stage.state.env, &mut self.budget)
    }

    /// `ARG` (`dispatchArg`). Each default sees the arguments before it.
    fn arg(
        &mut self,
        stage: &mut Working,
        arguments: &[(String, Option<String>)],
    ) -> Result<(), Reason> {
        for (name, default) in arguments {
            let value = match (self.globals.build_arg(name), default) {
                (Some(value), _) => Some(value.to_owned()),
                (None, Some(default)) => Some(self.word(stage, default)?),
                (None, None) => self.globals.inherited(name).map(str::to_owned),
            };
            if let Some(value) = value.filter(|_| !HIDDEN.contains(&&**name)) {
                self.budget.grow(name.len() + value.len())?;
                stage.state.env.set(name, &value);
            }
        }
        Ok(())
    }

    /// `WORKDIR` (`dispatchWorkdir`): makes the directory, even if it exists.
    fn workdir(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        dir: &str,
    ) -> Result<(), Reason> {
        let dir = self.word(stage, dir)?;
        let State { files, user, .. } = &stage.state;
        let dir = path::behind(&stage.state.config_dir, &dir);
        if dir != "/" {
            let mut inputs = Inputs::default();
            let base = inputs.index(*files);
            let epoch = self.globals.epoch.map(|seconds| seconds.wrapping_mul(1_000_000_000));
            let mkdir = MkdirAction {
                path: path::clean(&dir),
                mode: 0o755,
                make_parents: true,
                owner: (!user.is_empty()).then(|| owner(user, base, self.options.frontend)),
                timestamp: epoch.unwrap_or(-1),
            };
            let kind = one_action(base, Action::Mkdir(mkdir));
            let origin = Origin::of(command, stage.state.unknown_base.as_deref());
            stage.state.files = Some(self.add(kind, inputs, None, &origin)?);
        }
        stage.state.config_dir.clone_from(&dir);
        stage.state.dir = dir;
        Ok(())
    }
}

/// Returns a file operation with one action, which takes files from no other input.
pub(super) fn one_action(base: i64, action: Action) -> Kind {
    let action = FileAction { input: base, secondary_input: -1, output: 0, action };
    Kind::File(FileOp { actions: vec![action] })
}

impl State {
    /// Returns the state on an image with this config.
    fn new(files: Option<Vertex>, platform: Platform, config: Option<&ImageConfig>) -> Self {
        let nothing = ImageConfig::default();
        let config = config.unwrap_or(&nothing);
        Self {
            files,
            platform,
            env: Environment::default(),
            dir: "/".to_owned(),
            user: config.user.clone(),
            config_env: ConfigEnvironment::new(&config.env),
            config_dir: config.working_dir.clone(),
            shell: config.shell.clone(),
            triggers: config.on_build.clone(),
            unknown_base: None,
        }
    }

    /// Returns the state on `scratch`.
    fn empty(platform: Platform) -> Self {
        let working_dir = "/".to_owned();
        let env = vec![format!("PATH={DEFAULT_PATH}")];
        Self::new(None, platform, Some(&ImageConfig { working_dir, env, ..ImageConfig::default() }))
    }

    /// Returns about how much memory it takes.
    fn size(&self) -> usize {
        let texts = self.shell.iter().chain(&self.triggers).map(String::len).sum::<usize>();
        let others = [&self.dir, &self.config_dir, &self.user].map(String::len);
        self.env.size() + self.config_env.size() + texts + others.iter().sum::<usize>() + 256
    }

    /// Sets what the config of the image says, in front of the first instruction.
    fn enter(&mut self) {
        if !self.config_env.has("PATH") {
            self.config_env.set("PATH", DEFAULT_PATH);
        }
        for (name, value) in self.config_env.iter() {
            self.env.set(name, value);
        }
        if !self.config_dir.is_empty() {
            self.config_dir = path::behind(&self.config_dir, &self.config_dir);
            self.dir.clone_from(&self.config_dir);
        }
    }
}

/// Reads `--platform` of FROM (containerd `platforms.Parse`): the system alone means the processor of the builder,
/// the processor alone Linux.
fn parse_platform(text: &str, build: &Platform) -> Option<Platform> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    if !text.chars().all(valid) {
        return None;
    }
    if text.contains('/') {
        let platform: Platform = text.parse().ok()?;
        let mut normal = platform.normalized();
        // A variant that is the default is left out, or put in, depending on whether one is written.
        match (&*normal.architecture, &*platform.variant, &*normal.variant) {
            ("arm", "", "v7") => normal.variant.clear(),
            ("arm64", written, "") if !written.is_empty() => normal.variant.push_str("v8"),
            _ => {}
        }
        return Some(normal);
    }
    const SYSTEMS: [&str; 6] = ["linux", "windows", "darwin", "macos", "freebsd", "wasip1"];
    const PROCESSORS: [&str; 14] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64", "ppc64le", "riscv64",
        "s390x", "wasm", "x86_64", "aarch64", "armhf",
    ];
    let lower = text.to_lowercase();
    if SYSTEMS.contains(&&*lower) {
        return Some(Platform { os: lower, ..build.clone() });
    }
    let known = PROCESSORS.contains(&&*lower);
    known.then(|| Platform { os: "linux".to_owned(), architecture: lower, ..Platform::default() })
}

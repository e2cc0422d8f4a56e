//! Instructions, parsed but not expanded (`instructions/parse.go`).

use std::collections::HashMap;

use crate::device::{self, Device};
use crate::error::Reason;
use crate::flags::{self, Flags, Known};
use crate::frontend::Frontend;
use crate::heredoc::{self, Heredoc};
use crate::json::{Array, array};
use crate::mount;
use crate::statement::Statement;
use crate::text::{decode, split_blanks, split_first_blanks};

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    From(From),
    Command(Command),
}

/// `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) base: String,
    /// In lower case.
    pub(crate) name: Option<String>,
    /// Empty if not given.
    pub(crate) platform: String,
}

/// The names that an `ARG` declares, with their defaults.
pub(crate) type Arguments = Vec<(String, Option<String>)>;

/// An instruction in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Arg(Arguments),
    Copy(Box<Copy>),
    Env(Vec<(String, String)>),
    OnBuild(String),
    Run(Box<Run>),
    Shell(Vec<String>),
    User(String),
    Workdir(String),
    /// Changes nothing but the config of the image: `CMD`, `LABEL` and others.
    Config,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Copy {
    pub(crate) is_add: bool,
    pub(crate) paths: Vec<String>,
    pub(crate) texts: Vec<Text>,
    pub(crate) dest: String,
    pub(crate) chown: String,
    pub(crate) chmod: String,
    pub(crate) link: bool,
    /// Empty if not given.
    pub(crate) from: String,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    pub(crate) checksum: String,
    pub(crate) unpack: Option<bool>,
    pub(crate) keep_git_dir: Option<bool>,
}

/// A file that is in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) expand: bool,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Run {
    /// The arguments, or one command for the shell.
    pub(crate) args: Vec<String>,
    pub(crate) in_shell: bool,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) mounts: Vec<MountFlag>,
    pub(crate) network: Option<Network>,
    pub(crate) insecure: bool,
    pub(crate) devices: Vec<Device>,
}

/// A mount whose variables are not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountFlag {
    pub(crate) text: String,
    /// Empty if not given.
    pub(crate) from: String,
}

/// A network mode that is not the one of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    None,
    Host,
}

/// Parses a statement.
pub(crate) fn parse(
    statement: &Statement,
    escape: char,
    frontend: Frontend,
) -> Result<Instruction, Reason> {
    let rest = &*statement.rest;
    let flags = |known: &[Known]| Flags::parse(&statement.flags, known, frontend);
    let no_flags = || flags(&[]).map(drop);
    Ok(Instruction::Command(match &*statement.name {
        "from" => return Ok(Instruction::From(from(rest, &flags(flags::FROM)?)?)),
        "add" => copy(statement, &flags(flags::ADD)?, true, frontend)?,
        "copy" => copy(statement, &flags(flags::COPY)?, false, frontend)?,
        "run" => run(statement, &flags(flags::RUN)?)?,
        // Flags of these two are ignored.
        "arg" => arg(rest, escape)?,
        "stopsignal" => {
            exactly_one(rest, "STOPSIGNAL")?;
            Command::Config
        }
        "env" => {
            no_flags()?;
            Command::Env(pairs(rest, escape, "ENV")?)
        }
        "label" => {
            no_flags()?;
            pairs(rest, escape, "LABEL")?;
            Command::Config
        }
        "shell" => {
            no_flags()?;
            match array(rest) {
                Array::Strings(shell) if !shell.is_empty() => Command::Shell(shell),
                Array::Other => return Err(Reason::NotStrings),
                Array::No if !rest.is_empty() => {
                    return Err(Reason::arguments(
                        "SHELL",
                        "requires the arguments to be in JSON form",
                    ));
                }
                _ => return Err(Reason::arguments("SHELL", "requires at least one argument")),
            }
        }
        "user" => {
            no_flags()?;
            Command::User(exactly_one(rest, "USER")?)
        }
        "workdir" => {
            no_flags()?;
            Command::Workdir(exactly_one(rest, "WORKDIR")?)
        }
        "onbuild" => {
            no_flags()?;
            on_build(statement, escape, frontend)?
        }
        "maintainer" => {
            no_flags()?;
            exactly_one(rest, "MAINTAINER")?;
            Command::Config
        }
        "cmd" | "entrypoint" => {
            no_flags()?;
            strings_if_array(rest)?;
            Command::Config
        }
        "expose" | "volume" => {
            no_flags()?;
            let (name, is_volume) =
                if statement.name == "volume" { ("VOLUME", true) } else { ("EXPOSE", false) };
            let is_empty = match if is_volume { array(rest) } else { Array::No } {
                Array::Strings(list) => list.is_empty(),
                Array::Other => return Err(Reason::NotStrings),
                Array::No => rest.is_empty(),
            };
            if is_empty {
                return Err(Reason::arguments(name, "requires at least one argument"));
            }
            Command::Config
        }
        "healthcheck" => {
            healthcheck(rest, || flags(flags::HEALTHCHECK).map(drop))?;
            Command::Config
        }
        _ => {
            let name = statement.text.split_whitespace().next().unwrap_or_default();
            return Err(Reason::UnknownInstruction { name: name.chars().take(100).collect() });
        }
    }))
}

fn from(rest: &str, flags: &Flags) -> Result<From, Reason> {
    let words = if rest.is_empty() { Vec::new() } else { split_blanks(rest) };
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            let valid =
                lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(inner);
            if !valid {
                return Err(Reason::StageName { name: name.chars().take(100).collect() });
            }
            (*base, Some(lower))
        }
        _ => return Err(Reason::arguments("FROM", "requires either one or three arguments")),
    };
    Ok(From { base: base.to_owned(), name, platform: flags.string("platform") })
}

fn exactly_one(rest: &str, instruction: &'static str) -> Result<String, Reason> {
    match rest {
        "" => Err(Reason::arguments(instruction, "requires exactly one argument")),
        rest => Ok(rest.to_owned()),
    }
}

/// Refuses an array with other elements than strings.
fn strings_if_array(rest: &str) -> Result<Option<Vec<String>>, Reason> {
    match array(rest) {
        Array::Strings(strings) => Ok(Some(strings)),
        Array::Other => Err(Reason::NotStrings),
        Array::No => Ok(None),
    }
}

fn arg(rest: &str, escape: char) -> Result<Command, Reason> {
    let words = words(rest, escape);
    if words.is_empty() {
        return Err(Reason::arguments("ARG", "requires at least one argument"));
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(Reason::arguments("ARG", "names can not be blank")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    };
    Ok(Command::Arg(words.into_iter().map(pair).collect::<Result<_, _>>()?))
}

/// Reads `name=value …`, or `name` and all the rest as its value (`parseNameVal` in `parser/line_parsers.go`).
fn pairs(
    rest: &str,
    escape: char,
    instruction: &'static str,
) -> Result<Vec<(String, String)>, Reason> {
    let words = words(rest, escape);
    let wrong = |problem| Err(Reason::arguments(instruction, problem));
    let Some(first) = words.first() else { return wrong("requires at least one argument") };
    if !first.contains('=') {
        return match split_first_blanks(rest) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.to_owned())]),
            None => wrong("must have two arguments"),
        };
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in &words {
        match word.split_once('=') {
            Some(("", _)) => return wrong("names can not be blank"),
            Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
            None => return wrong("must have the form: name=value"),
        }
    }
    Ok(pairs)
}

/// Splits at blanks outside quotes. Quotes and escape characters stay (`parseWords`).
fn words(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = rest.chars().peekable();
    let mut word = String::new();
    let mut is_word = false;
    let mut quote = None;
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if is_word {
                words.push(std::mem::take(&mut word));
            }
            is_word = false;
            continue;
        }
        if Some(c) == quote {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == escape && quote != Some('\'') {
            let Some(escaped) = chars.next() else { break };
            word.push(c);
            word.push(escaped);
            is_word = true;
            continue;
        }
        word.push(c);
        is_word = true;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn copy(
    statement: &Statement,
    flags: &Flags,
    is_add: bool,
    frontend: Frontend,
) -> Result<Command, Reason> {
    let instruction = if is_add { "ADD" } else { "COPY" };
    let mut words = match strings_if_array(&statement.rest)? {
        Some(words) => words,
        None if statement.rest.is_empty() => Vec::new(),
        None => split_blanks(&statement.rest).into_iter().map(str::to_owned).collect(),
    };
    let dest = words.pop().filter(|_| !words.is_empty()).ok_or(Reason::arguments(
        instruction,
        "requires at least two arguments, but only one was provided. Destination could not be determined",
    ))?;
    if heredoc::is_one(&dest, frontend) {
        return Err(Reason::arguments(instruction, "cannot accept a heredoc as a destination"));
    }
    // Of several with one name the last one counts.
    let named: HashMap<&str, &Heredoc> =
        statement.heredocs.iter().map(|heredoc| (&*heredoc.name, heredoc)).collect();
    let (mut paths, mut texts) = (Vec::new(), Vec::new());
    for word in words {
        let Ok(Some(word)) = heredoc::parse(&word, frontend) else {
            paths.push(word);
            continue;
        };
        let found = named.get(&*word.name);
        let content = found.map(|found| found.content.clone()).unwrap_or_default();
        let heredoc = Heredoc { content, ..word };
        let data = heredoc.chomped().into_owned();
        texts.push(Text { name: heredoc.name, data, expand: heredoc.expand });
    }
    Ok(Command::Copy(Box::new(Copy {
        is_add,
        paths,
        texts,
        dest,
        chown: flags.string("chown"),
        chmod: flags.string("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        from: flags.string("from"),
        parents: flags.bool("parents").unwrap_or_default(),
        exclude: flags.strings("exclude"),
        checksum: flags.string("checksum"),
        unpack: flags.bool("unpack"),
        keep_git_dir: flags.bool("keep-git-dir"),
    })))
}

fn run(statement: &Statement, flags: &Flags) -> Result<Command, Reason> {
    let (args, in_shell) = match strings_if_array(&statement.rest)? {
        Some(args) => (args, false),
        None if statement.rest.is_empty() => (Vec::new(), true),
        None => (vec![statement.rest.clone()], true),
    };
    let mount = |text: String| Ok(MountFlag { from: mount::from(&text)?, text });
    let mounts = flags.strings("mount").into_iter().map(mount).collect::<Result<_, _>>()?;
    let network = match flags.get("network") {
        None | Some("default") => None,
        Some("none") => Some(Network::None),
        Some("host") => Some(Network::Host),
        Some(other) => return Err(Reason::value(other, "invalid network mode")),
    };
    let insecure = match flags.get("security") {
        None | Some("sandbox") => false,
        Some("insecure") => true,
        Some(other) => return Err(Reason::value(other, "security is not valid")),
    };
    let devices = flags.strings("device");
    let devices = devices.iter().map(|text| device::parse(text)).collect::<Result<_, _>>()?;
    let heredocs = statement.heredocs.clone();
    Ok(Command::Run(Box::new(Run { args, in_shell, heredocs, mounts, network, insecure, devices })))
}

fn on_build(statement: &Statement, escape: char, frontend: Frontend) -> Result<Command, Reason> {
    if statement.rest.is_empty() {
        return Err(Reason::arguments("ONBUILD", "requires at least one argument"));
    }
    match &*statement.trigger(escape, frontend).name {
        "onbuild" => {
            return Err(Reason::arguments(
                "ONBUILD",
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ));
        }
        "maintainer" | "from" => {
            return Err(Reason::arguments(
                "ONBUILD",
                "FROM and MAINTAINER aren't allowed as triggers",
            ));
        }
        _ => {}
    }
    // The text as it is, without the word ONBUILD.
    let space = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ');
    let text = statement.text.trim_start_matches(space);
    let text = text.get("ONBUILD".len()..).unwrap_or_default().trim_start_matches(space);
    let mut trigger = text.to_owned();
    for heredoc in &statement.heredocs {
        trigger.push('\n');
        trigger.push_str(&decode(&heredoc.content));
        trigger.push_str(&heredoc.name);
    }
    Ok(Command::OnBuild(trigger))
}

fn healthcheck(rest: &str, flags: impl FnOnce() -> Result<(), Reason>) -> Result<(), Reason> {
    let wrong = |problem| Err(Reason::arguments("HEALTHCHECK", problem));
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match &*kind.to_uppercase() {
        "" => wrong("requires at least one argument"),
        "NONE" if command.is_empty() => Ok(()),
        "NONE" => wrong("NONE takes no arguments"),
        "CMD" => {
            flags()?;
            let command = command.trim_start();
            match strings_if_array(command)? {
                Some(list) if list.is_empty() => wrong("CMD misses its command"),
                None if command.is_empty() => wrong("CMD misses its command"),
                _ => Ok(()),
            }
        }
        _ => wrong("has a type that does not exist (try CMD)"),
    }
}

#[cfg(test)]
mod tests;

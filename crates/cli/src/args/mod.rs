//! The command line.

mod common;
mod convert;
mod daemon;
mod dockerfile;
mod du;
mod explain;
mod generate;
mod inspect;
mod keys;
mod mounts;
mod owners;
mod pack;
mod sparse;
mod state;
mod stdin;
mod verify;

use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use oci2bk::image::ParseImageError;
use oci2bk::text::one_line;

use common::PROGRESS_VARIABLE;
pub(crate) use common::{Format, ProgressMode, limits};
pub(crate) use convert::{Convert, Places};
pub(crate) use daemon::{DaemonArguments, RootArguments, SnapshotterName, StorageArguments};
pub(crate) use du::Du;
pub(crate) use explain::Explain;
pub(crate) use generate::{Completions, Man};
pub(crate) use inspect::{Inspect, InspectFormat};
pub(crate) use keys::{Attach, Keys, KeysCommand};
pub(crate) use mounts::{Mounts, MountsCommand, MountsExport, MountsImport, MountsLs, To};
pub(crate) use owners::OwnerArguments;
pub(crate) use pack::Pack;
pub(crate) use sparse::Sparse;
pub(crate) use state::{State, StateCommand, StateExport, StateImport};
pub(crate) use verify::Verify;

use crate::code::{Code, EXIT_CODES};
use crate::hint::of_word;
use crate::output::{error_label, hint_label, labelled, labelled_page, note};
use crate::version;

/// Convert a BuildKit cache export into a buildkitd state directory
///
/// A daemon started on it finds those builds cached.
#[derive(Debug, Parser)]
#[command(
    name = "oci2bk",
    // In any case, also if the program's file has another name.
    bin_name = "oci2bk",
    version,
    long_version = version::LONG.as_str(),
    propagate_version = true,
    after_long_help = more_help()
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Parses and checks the command line.
pub(crate) fn parse() -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse()?;
    stdin::check(&arguments.command)?;
    Ok(arguments)
}

/// Prints the error of the command line, or the requested help. clap treats the value of a variable like that
/// of its option.
pub(crate) fn refuse(mut error: clap::Error) -> ExitCode {
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string);
    let is_given = |value: &String| {
        std::env::args_os().any(|word| word.to_string_lossy().ends_with(value.as_str()))
    };
    let of_variable = std::env::var(PROGRESS_VARIABLE).ok().filter(|variable| {
        error.kind() == ErrorKind::InvalidValue
            && value.as_ref() == Some(variable)
            && !is_given(variable)
    });
    if let Some(value) = of_variable {
        note(format_args!("the variable {PROGRESS_VARIABLE} is {value:?}:"));
    }
    if !error.use_stderr() {
        // Help and version contain nothing from outside. A closed pipe is not an error: its reader has what
        // it wanted.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // The usage is ours, and has several lines.
    let words = error.context().filter(|(kind, _)| *kind != ContextKind::Usage);
    let words: Vec<_> = words.map(|(kind, value)| (kind, in_one_line(value))).collect();
    for (kind, value) in words {
        error.insert(kind, value);
    }
    let page = error.render().to_string();
    // A message of our parsers may quote a word.
    let page = match std::error::Error::source(&error) {
        Some(cause) => {
            let shown = StyledStr::from(cause.to_string()).to_string();
            page.replace(&shown, &one_line(&shown))
        }
        None => page,
    };
    let hint = hint(&error);
    match page.strip_prefix("error: ") {
        Some(said) => labelled_page(error_label(), said.trim_end()),
        // No arguments were given, so help may be wanted.
        None => labelled_page("", page.trim_end()),
    }
    if let Some(hint) = hint {
        labelled(hint_label(), hint);
    }
    Code::Usage.into()
}

/// Returns a hint about a word that does not name a source. Parsers give the hint as a context of the error,
/// or fail with an error from which it follows.
fn hint(error: &clap::Error) -> Option<String> {
    if let Some(ContextValue::String(hint)) = error.get(ContextKind::Custom) {
        return Some(hint.clone());
    }
    let cause = std::error::Error::source(error)?;
    match cause.downcast_ref() {
        Some(ParseImageError::Source(error)) => of_word(error),
        _ => of_word(cause.downcast_ref()?),
    }
}

fn in_one_line(value: &ContextValue) -> ContextValue {
    match value {
        ContextValue::String(word) => ContextValue::String(one_line(word)),
        ContextValue::Strings(words) => {
            ContextValue::Strings(words.iter().map(|word| one_line(word)).collect())
        }
        ContextValue::StyledStrs(words) => {
            let words = words.iter().map(|word| one_line(&word.to_string()).into());
            ContextValue::StyledStrs(words.collect())
        }
        other => other.clone(),
    }
}

fn more_help() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES}")
}

const EXAMPLES: &str = "\
Examples:
  # Export the cache of a build, and attach its keys
  BUILDX_METADATA_PROVENANCE=max docker buildx build . --output type=cacheonly \\
      --provenance mode=max --metadata-file metadata.json --cache-to type=local,dest=cache,mode=max
  oci2bk keys attach cache --keys metadata.json

  # Elsewhere, before buildkitd is started for the first time
  oci2bk convert cache /var/lib/buildkit
  oci2bk verify /var/lib/buildkit

Each command has examples of its own: oci2bk convert --help";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the state of caches into the root of a stopped buildkitd
    Convert(Convert),
    /// Write the index of caches without their layers, for --cache-from
    Sparse(Sparse),
    /// Write keys into a file, or attach them to a cache
    Keys(Keys),
    /// Show what is in a cache or in the root of a stopped buildkitd, and what is warm
    Inspect(Inspect),
    /// Say which steps of a build a cache has, and how the first missing step differs
    Explain(Explain),
    /// List, export and import cache mounts
    Mounts(Mounts),
    /// Pack the trees of a stopped buildkitd into one read-only image
    Pack(Pack),
    /// Export the state of a builder as an OCI image, and import it
    State(State),
    /// Check the root of a stopped buildkitd, and say what is damaged
    Verify(Verify),
    /// Show what the records in the root of a stopped buildkitd take on disk
    Du(Du),
    /// List the limits on what the input may cost, with their defaults
    #[command(after_long_help = generate::limits_help())]
    Limits,
    /// Print completions for a shell
    Completions(Completions),
    /// Write the manual pages of this command into a directory
    Man(Man),
}

impl Command {
    /// Returns whether the result is to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        let format = match self {
            Self::Convert(arguments) => arguments.format,
            Self::Sparse(arguments) => arguments.format,
            Self::Explain(arguments) => arguments.format,
            Self::Pack(arguments) => arguments.format,
            Self::Verify(arguments) => arguments.format,
            Self::Du(arguments) => arguments.format,
            Self::Inspect(arguments) => return arguments.format == InspectFormat::Json,
            Self::Mounts(arguments) => match &arguments.command {
                MountsCommand::Ls(arguments) => arguments.format,
                MountsCommand::Export(arguments) => arguments.format,
                MountsCommand::Import(arguments) => arguments.format,
            },
            Self::State(arguments) => match &arguments.command {
                StateCommand::Export(arguments) => arguments.format,
                StateCommand::Import(arguments) => arguments.format,
            },
            Self::Keys(_) | Self::Limits | Self::Completions(_) | Self::Man(_) => return false,
        };
        format == Format::Json
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

//! The arguments of `state`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use oci2bk::source::{ParseSourceError, Reference, Source};

use super::common::{Format, LimitArguments, PROGRESS_VARIABLE, ProgressMode, more_help};
use super::daemon::{BUILDER, CONFIG, DaemonArguments, RootArguments};

const EXAMPLES: &str = "\
Examples:
  # The state of a root as an image, which skopeo copies to a registry
  oci2bk state export /var/lib/buildkit --to oci:state:main

  # On another machine, into an empty root
  oci2bk state import oci:state:main /var/lib/buildkit";

const EXPORT_EXAMPLES: &str = "\
Examples:
  # An image in a layout, which skopeo copies to a registry
  oci2bk state export /var/lib/buildkit --to oci:state:main

  # In one file
  oci2bk state export --builder ci --to oci-archive:state.tar";

const IMPORT_EXAMPLES: &str = "\
Examples:
  # An image in a layout
  oci2bk state import oci:state:main /var/lib/buildkit

  # In a file
  oci2bk state import oci-archive:state.tar /var/lib/buildkit

  # The files of the image, as a volume of a pod has them
  oci2bk state import /state /var/lib/buildkit";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct State {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Export the state in the root of a stopped buildkitd as an OCI image
    Export(StateExport),
    /// Import a state from an OCI image into the empty root of a buildkitd
    ///
    /// Builds run what is in a state, and nothing but its own list says what should be in it: import only what you
    /// trust.
    Import(StateImport),
}

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXPORT_EXAMPLES))]
pub(crate) struct StateExport {
    /// The root of the buildkitd, such as /var/lib/buildkit
    #[arg(
        value_name = "ROOT",
        required_unless_present_any = [CONFIG, BUILDER],
        conflicts_with = BUILDER
    )]
    pub(crate) root: Option<PathBuf>,

    /// Where to export to: oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    ///
    /// oci:DIR is a layout, new or existing, and oci-archive:FILE a tar archive of one. The image in it has TAG, by
    /// default state. What had TAG before is replaced.
    #[arg(long, value_name = "TO")]
    pub(crate) to: StatePlace,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

impl StateExport {
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }
}

#[derive(Debug, Args)]
#[command(after_long_help = more_help(IMPORT_EXAMPLES))]
pub(crate) struct StateImport {
    /// The image: a layout, oci:DIR[:TAG|@DIGEST], oci-archive:FILE, or a directory with its files
    ///
    /// A layout has the forms that convert takes. Of several images, the one for this machine is taken; one with DIGEST
    /// is taken for any machine. The directory is one in which a container runtime has put the files of the image.
    #[arg(value_name = "SRC")]
    pub(crate) source: Source,

    #[command(flatten)]
    pub(crate) root: RootArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

/// Where a state is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatePlace {
    pub(crate) path: PathBuf,
    pub(crate) tag: Option<String>,
    pub(crate) is_archive: bool,
}

/// Why a text is not a place to export to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseStatePlaceError {
    #[error("it is neither oci:DIR[:TAG] nor oci-archive:FILE[:TAG]")]
    Form,
    #[error("a digest is that of something that exists; give a tag")]
    Digest,
    #[error(transparent)]
    Source(#[from] ParseSourceError),
}

impl FromStr for StatePlace {
    type Err = ParseStatePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_archive = text.starts_with("oci-archive:");
        if !is_archive && !text.starts_with("oci:") {
            return Err(ParseStatePlaceError::Form);
        }
        let Source { path, reference } = text.parse()?;
        let tag = match reference {
            Reference::Default => None,
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => return Err(ParseStatePlaceError::Digest),
        };
        Ok(Self { path, tag, is_archive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_exported_to_a_layout_or_an_archive() {
        let place = |path: &str, tag: Option<&str>, is_archive| {
            Ok(StatePlace { path: path.into(), tag: tag.map(str::to_owned), is_archive })
        };
        for (text, expected) in [
            ("oci:a/b", place("a/b", None, false)),
            ("oci:a:main", place("a", Some("main"), false)),
            ("oci-archive:a.tar:main", place("a.tar", Some("main"), true)),
            ("a.tar", Err(ParseStatePlaceError::Form)),
            ("docker://a", Err(ParseStatePlaceError::Form)),
        ] {
            assert_eq!(text.parse::<StatePlace>(), expected, "{text}");
        }
        let digest = format!("oci:a@sha256:{}", "0".repeat(64));
        assert_eq!(digest.parse::<StatePlace>(), Err(ParseStatePlaceError::Digest));
    }
}

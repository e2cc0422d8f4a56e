//! How the command fails: its message and its exit code.
//!
//! Errors of operations have a class, which gives their exit code. The other errors here belong to the
//! command.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;

use bkstate::gc::DiskError;
use bkstate::root::OpenRootError;
use bkstate::state::ExistingError;
use bkstate::usage::UsageError;
use bkstate::{About, Class, Classified};
use oci2bk::ErrorReport;
use oci2bk::convert::ConvertError;
use oci2bk::export::ExportError;
use oci2bk::image::ImageError;
use oci2bk::inputs::InputError;
use oci2bk::inspect::{InspectError, PlaceError};
use oci2bk::keys::{AttachError, KeysFileError, SourceError};
use oci2bk::last_used::EpochError;
use oci2bk::mounts::MountsError;
use oci2bk::packed::PackedError;
use oci2bk::plan::{Lost, LostReason, PlanError, Requirement, Shortfall, ShortfallKind};
use oci2bk::prepare::PrepareError;
use oci2bk::sizes::SizesError;
use oci2bk::source::ParseSourceError;
use oci2bk::sparse::SparseError;
use oci2bk::state_image::StateImageError;
use oci2bk::text::{self, with_causes};
use oci2bk::verify::{MendError, VerifyError};
use serde::Serialize;

use crate::code::Code;
use crate::daemon::DaemonError;
use crate::explain::ExplainError;
use crate::output::{self, FileError, StdoutError, error_label, hint_label, labelled, note};
use crate::report::why;
use crate::signals::{CatchError, Signal, Signals};

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Input(InputError),
    #[error(transparent)]
    Prepare(PrepareError),
    #[error(transparent)]
    Keys(#[from] SourceError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Sparse(#[from] SparseError),
    #[error("cannot write the sparse layout; the conversion itself is done")]
    SparseOfDone(#[source] SparseError),
    #[error("{}", missing_keys(lost, foreign).join("\n"))]
    Unkeyed {
        lost: Vec<Lost>,
        /// The key sources that belong to other caches.
        foreign: Vec<String>,
        /// What is known of a Dockerfile.
        dockerfile: KnownDockerfile,
    },
    #[error("{}", incomplete(*requirement, shortfalls).join("\n"))]
    Incomplete { requirement: Requirement, shortfalls: Vec<Shortfall> },
    #[error("no key source has a key, so nothing was written")]
    NoKeys,
    #[error(transparent)]
    NothingMatches(AttachError),
    #[error(transparent)]
    KeysFile(#[from] KeysFileError),
    #[error("cannot write the keys to {}", path.display())]
    WriteKeys {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error(transparent)]
    Attach(AttachError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Root(#[from] OpenRootError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Sizes(#[from] SizesError),
    #[error("{place} is a root: its sizes are those that oci2bk du prints")]
    SizesOfRoot { place: String },
    #[error(transparent)]
    Mend(MendError),
    #[error("ended by {signal}; nothing in the root was changed")]
    Ended { signal: Signal },
    #[error(transparent)]
    Signals(#[from] CatchError),
    #[error(transparent)]
    Word(ParseSourceError),
    #[error(transparent)]
    Place(PlaceError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("nothing in {place} is named {word:?}, or begins with it")]
    NoSuchThing { place: String, word: String },
    #[error("{place} {why}")]
    NoRelease { place: String, why: &'static str },
    #[error("{} is damaged", root.display())]
    Damaged {
        root: PathBuf,
        /// The limits that prevented the comparison of parts of the root.
        limits: BTreeSet<&'static str>,
    },
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Mounts(#[from] MountsError),
    #[error("cannot import the cache mounts; the conversion itself is done")]
    MountsOfDone(#[source] MountsError),
    #[error("cannot write {}", path.display())]
    MountsFile {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error(transparent)]
    Packed(#[from] PackedError),
    #[error(transparent)]
    State(#[from] StateImageError),
    #[error("cannot write {}", path.display())]
    StateFile {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error("cannot write {}; the conversion itself is done", path.display())]
    MetadataFile {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error("cannot write the manual page {}", path.display())]
    WriteMan {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error(transparent)]
    Stdout(#[from] StdoutError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("the result has no JSON form")]
    Json(#[from] oci2bk::FormatError),
}

/// The Dockerfile of a build, as a source of missing keys.
#[derive(Debug)]
pub(crate) enum KnownDockerfile {
    /// It was given, so something else about the build is missing.
    Given,
    /// There is one in the directory of a cache, or beside it.
    Found(PathBuf),
    None,
}

/// A failure as data.
#[derive(Serialize)]
struct FailureReport {
    #[serde(flatten)]
    error: ErrorReport,
    /// What to do, for people.
    hints: Vec<String>,
    exit_code: u8,
}

/// Maximum number of unresolved records that are listed; the rest is counted.
const NAMED: usize = 20;

/// Returns the lines of the message.
fn missing_keys(lost: &[Lost], foreign: &[String]) -> Vec<String> {
    let mut lines = vec![match lost.len() {
        1 => "no key source has the key of 1 step:".to_owned(),
        steps => format!("no key source has the keys of {steps} steps:"),
    }];
    lines.extend(lost.iter().take(NAMED).map(|record| {
        let hint = record.hint.as_ref().map(|hint| format!("  {hint}"));
        let unproven = match record.reason {
            LostReason::Unproven => {
                "  (its mounts select other paths than the cache says: another build)"
            }
            _ => "",
        };
        format!("  {}{}{unproven}", record.digest, hint.unwrap_or_default())
    }));
    if lost.len() > NAMED {
        lines.push(format!("  and {} more", lost.len() - NAMED));
    }
    lines.extend_from_slice(foreign);
    lines.push("nothing was written".to_owned());
    lines
}

/// Returns the lines of the message.
fn incomplete(requirement: Requirement, shortfalls: &[Shortfall]) -> Vec<String> {
    let what = match requirement {
        Requirement::Steps { percent } => format!("builds will not find {percent}% of the steps:"),
        Requirement::Layers => "layers are missing:".to_owned(),
        _ => "the state would not be complete:".to_owned(),
    };
    let mut lines = vec![what];
    lines.extend(shortfalls.iter().take(NAMED).map(|shortfall| {
        let Shortfall { kind, digest, name, inputs, size, .. } = shortfall;
        let what = match (kind, name) {
            (ShortfallKind::UnusedLayer, _) => digest.to_string(),
            (_, Some(name)) => name.clone(),
            (_, None) if inputs.is_empty() => digest.to_string(),
            (_, None) => format!("{digest}, a step after {}", inputs.join(" and ")),
        };
        let size = if *size > 0 { format!(", {}", text::size(*size)) } else { String::new() };
        format!("  {what} ({}{size})", why(*kind))
    }));
    if shortfalls.len() > NAMED {
        lines.push(format!("  and {} more", shortfalls.len() - NAMED));
    }
    lines.push("nothing was written".to_owned());
    lines
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Export(error) => Self::Export(error),
            InputError::Image(error) => Self::Image(error),
            error => Self::Input(error),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Input(error) => error.into(),
            PrepareError::Keys(error) => Self::Keys(error),
            PrepareError::Image(error) => Self::Image(error),
            PrepareError::Plan(error) => Self::Plan(error),
            error => Self::Prepare(error),
        }
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        match error {
            error @ AttachError::NothingMatches { .. } => Self::NothingMatches(error),
            error => Self::Attach(error),
        }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Source(error) => Self::Word(error),
            error => Self::Place(error),
        }
    }
}

impl From<MendError> for Failure {
    fn from(error: MendError) -> Self {
        match error {
            MendError::Verify(error) => Self::Verify(error),
            error => Self::Mend(error),
        }
    }
}

impl Failure {
    /// Returns the failure for `error` while signals are caught: an interruption, if the error is only a
    /// consequence of the signal.
    pub(crate) fn under(signals: &Signals, error: impl Into<Self>) -> Self {
        let failure = error.into();
        match failure.about().class {
            Class::Cancelled => Self::Ended { signal: signals.last() },
            _ => failure,
        }
    }

    /// Returns what the failure is about: that of the error of an operation, or one of our own.
    pub(crate) fn about(&self) -> About {
        let own = About::new;
        match self {
            Self::Export(error) => error.about(),
            Self::Prepare(error) => error.about(),
            Self::Input(error) => error.about(),
            Self::Keys(error) => error.about(),
            Self::Image(error) => error.about(),
            Self::Plan(error) => error.about(),
            Self::Sparse(error) => error.about(),
            Self::KeysFile(error) => error.about(),
            Self::Attach(error) | Self::NothingMatches(error) => error.about(),
            Self::Convert(error) => error.about(),
            Self::Daemon(error) => error.about(),
            Self::Disk(error) => error.about(),
            Self::Root(error) => error.about(),
            Self::Verify(error) => error.about(),
            Self::Sizes(error) => error.about(),
            Self::SizesOfRoot { .. } => own("command.sizes-of-root", Class::Input),
            Self::Mend(error) => error.about(),
            Self::Place(error) => error.about(),
            Self::Inspect(error) => error.about(),
            Self::Usage(error) => error.about(),
            Self::Mounts(error) => error.about(),
            Self::Packed(error) => error.about(),
            Self::State(error) => error.about(),
            Self::Explain(error) => error.about(),
            Self::Unkeyed { .. } => own("command.unkeyed", Class::Input),
            Self::Incomplete { .. } => own("command.incomplete", Class::Input),
            Self::NoKeys => own("command.no-keys", Class::Input),
            Self::Word(_) => own("command.source", Class::Input),
            Self::Epoch(_) => own("command.epoch", Class::Input),
            Self::NoRelease { .. } => own("command.no-release", Class::Input),
            Self::NoSuchThing { .. } => own("command.no-such-thing", Class::Io),
            Self::Damaged { .. } => own("command.damaged", Class::Damaged),
            Self::Ended { .. } => own("command.ended", Class::Cancelled),
            Self::SparseOfDone(_) => own("command.sparse-after-conversion", Class::Io),
            Self::MountsOfDone(_) => own("command.mounts-after-conversion", Class::Io),
            Self::MetadataFile { .. } => own("command.metadata-file", Class::Io),
            Self::MountsFile { .. } => own("command.mounts-file", Class::Io),
            Self::StateFile { .. } => own("command.state-file", Class::Io),
            Self::WriteKeys { .. } => own("command.keys-file", Class::Io),
            Self::WriteMan { .. } => own("command.manual-page", Class::Io),
            Self::Signals(_) => own("command.signals", Class::Io),
            Self::Stdout(_) => own("command.stdout", Class::Io),
            Self::Json(_) => own("command.json", Class::Io),
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoRelease { .. } | Self::SizesOfRoot { .. } | Self::Epoch(_) | Self::Word(_) => {
                Code::Usage
            }
            Self::Unkeyed { .. }
            | Self::Incomplete { .. }
            | Self::NoKeys
            | Self::NothingMatches(_) => Code::Unkeyed,
            Self::Ended { signal: Signal::Interrupt } => Code::Interrupted,
            Self::Ended { signal: Signal::Terminate } => Code::Terminated,
            _ => self.about().class.into(),
        }
    }

    /// Prints the failure as a JSON document on stdout.
    pub(crate) fn print_json(&self) -> Result<(), Self> {
        let error = FailureReport {
            error: ErrorReport::with(self, self.about()),
            hints: self.hints(),
            exit_code: self.code() as u8,
        };
        output::result(&text::to_json(&BTreeMap::from([("error", error)]))?)
    }

    /// Prints the failure, its causes, and hints on stderr.
    pub(crate) fn print(&self) {
        let lines = match self {
            Self::Unkeyed { lost, foreign, .. } => missing_keys(lost, foreign),
            Self::Incomplete { requirement, shortfalls } => incomplete(*requirement, shortfalls),
            failure => vec![failure.to_string()],
        };
        let mut label = error_label();
        for line in lines {
            labelled(label, line);
            label = "";
        }
        let mut said = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let text = error.to_string();
            // A transparent error has the same message as its source.
            if text != said {
                note(format_args!("  because: {text}"));
            }
            said = text;
            source = error.source();
        }
        self.print_damage();
        for hint in self.hints() {
            labelled(hint_label(), hint);
        }
    }

    /// Prints what is damaged in a root, if the result does not list it.
    fn print_damage(&self) {
        if let Self::Convert(
            ConvertError::Damaged { damage }
            | ConvertError::Existing(ExistingError::Damaged { damage, .. }),
        )
        | Self::Mounts(
            MountsError::Damaged { damage }
            | MountsError::Existing(ExistingError::Damaged { damage, .. }),
        )
        | Self::Packed(PackedError::Damaged { damage, .. })
        | Self::State(StateImageError::Damaged { damage })
        | Self::Inspect(InspectError::Damaged { damage, .. }) = self
        {
            for item in damage {
                note(format_args!("  {}", with_causes(item)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oci2bk::layout::{LayoutError, WriteError};

    use super::*;

    #[test]
    fn a_damaged_root_has_its_own_code() {
        let failure = Failure::Convert(ConvertError::Damaged { damage: Vec::new() });
        assert_eq!(failure.code(), Code::Damaged);
    }

    #[test]
    fn an_index_that_is_gone_when_it_is_to_be_changed_is_bad_input() {
        let gone = LayoutError::NoIndex { path: "cache".into() };
        let failure = Failure::Attach(AttachError::Put(WriteError::Index(gone).into()));
        assert_eq!(failure.code(), Code::Input);
    }
}

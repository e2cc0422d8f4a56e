//! Why a Dockerfile, or an instruction of it, makes no ops.

/// Why a Dockerfile cannot be converted, or one of its instructions.
///
/// ```
/// use dockerfile::{Images, Limits, Options, ParseError, Reason, convert};
///
/// let content = b"FROM alpine\nRUN cat <<EOF\nno end";
/// let error = convert(content, &Options::default(), &Images::default(), &Limits::default()).unwrap_err();
/// let ParseError { line, column, reason, .. } = &error;
/// assert_eq!((*line, *column, reason), (2, 1, &Reason::UnterminatedHeredoc));
/// assert_eq!(error.to_string(), "dockerfile parse error on line 2: unterminated heredoc");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {line}: {reason}")]
#[non_exhaustive]
pub struct ParseError {
    /// The line where the instruction begins, from 1.
    pub line: usize,
    /// The column where it begins, in characters, from 1.
    pub column: usize,
    /// The cause.
    pub reason: Reason,
}

/// What is wrong, in the words of BuildKit where it refuses the same (v0.34.2 `frontend/dockerfile/parser`,
/// `instructions`, `shell`, `dockerfile2llb`).
///
/// ```
/// use dockerfile::Reason;
///
/// let reason = Reason::UnknownInstruction { name: "RNU".to_owned() };
/// assert_eq!(reason.to_string(), "unknown instruction: RNU");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file is larger than the limit.
    #[error("the file has more than {limit} bytes")]
    TooLarge {
        /// The limit ([`Limits::bytes`](crate::Limits::bytes)).
        limit: usize,
    },
    /// There are more instructions than the limit.
    #[error("there are more than {limit} instructions")]
    TooManyInstructions {
        /// The limit ([`Limits::instructions`](crate::Limits::instructions)).
        limit: usize,
    },
    /// The ops are larger than the limit.
    #[error("the operations and variables of the file have more than {limit} bytes")]
    TooMuch {
        /// The limit ([`Limits::growth`](crate::Limits::growth)).
        limit: u64,
    },
    /// A line is longer than frontends read.
    #[error("dockerfile line greater than max allowed size of 65535")]
    LongLine,
    /// There is nothing but comments.
    #[error("file with no instructions")]
    NoInstructions,
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// A parser directive is repeated.
    #[error("only one {name} parser directive can be used")]
    RepeatedDirective {
        /// `escape`, `syntax` or `check`.
        name: &'static str,
    },
    /// The escape character is neither `\` nor a backtick.
    #[error("invalid escape token '{token}' does not match ` or \\")]
    EscapeToken {
        /// The value of the directive.
        token: String,
    },
    /// A heredoc has no end.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// The instruction does not exist.
    #[error("unknown instruction: {name}")]
    UnknownInstruction {
        /// The first word of the line.
        name: String,
    },
    /// An instruction precedes the first `FROM`.
    #[error("no build stage in current context")]
    NoStage,
    /// An instruction has the wrong arguments.
    #[error("{instruction} {problem}")]
    Arguments {
        /// The instruction.
        instruction: &'static str,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// An array in JSON has elements that are not strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    /// The instruction does not have this flag in this release.
    #[error("unknown flag: --{flag}")]
    UnknownFlag {
        /// Its name.
        flag: String,
    },
    /// A flag has no value, one of another type, or is repeated.
    #[error("{problem}: --{flag}")]
    Flag {
        /// Its name.
        flag: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The name of a stage has other characters than names have.
    #[error(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )]
    StageName {
        /// The name.
        name: String,
    },
    /// A word cannot be expanded.
    #[error("failed to process {word:?}: {problem}")]
    Word {
        /// The word.
        word: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A mount, a device or a list is malformed.
    #[error("invalid value {value:?}: {problem}")]
    Value {
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A copied or mounted stage comes later, or is this one.
    #[error("stage {name:?} needs to be defined before it is used")]
    LaterStage {
        /// The stage, by the name or number that was given.
        name: String,
    },
    /// There is no stage of this number.
    #[error("invalid stage index {index}")]
    StageIndex {
        /// The number.
        index: i64,
    },
    /// A word that must name an image does not.
    #[error("failed to parse stage name {name:?}: invalid reference format")]
    Reference {
        /// The word.
        name: String,
    },
    /// A word that must name a platform does not.
    #[error("failed to parse platform {text}")]
    Platform {
        /// The word.
        text: String,
    },
    /// The stage is for another system than Linux, whose paths have other rules.
    #[error("operations for {os} are not known")]
    OperatingSystem {
        /// The system.
        os: String,
    },
}

impl Reason {
    /// Returns whether it is a limit of ours, which ends the conversion.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::TooManyInstructions { .. } | Self::TooMuch { .. }
        )
    }

    pub(crate) fn arguments(instruction: &'static str, problem: &'static str) -> Self {
        Self::Arguments { instruction, problem }
    }

    pub(crate) fn value(value: &str, problem: &'static str) -> Self {
        Self::Value { value: value.chars().take(LONGEST).collect(), problem }
    }

    pub(crate) fn word(word: &str, problem: impl Into<String>) -> Self {
        let problem: String = problem.into();
        Self::Word {
            word: word.chars().take(LONGEST).collect(),
            problem: problem.chars().take(LONGEST).collect(),
        }
    }
}

/// How much of a text from the file a message repeats, in characters.
const LONGEST: usize = 200;

//! The exit codes.

use std::process::ExitCode;

use bkstate::Class;

/// The exit codes in the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  the input is damaged, is not of the expected kind, or reaches a limit
  4  steps have no keys, or less is there than --require asks for; nothing was written
  5  the root is damaged, or the new state failed its check; the root was not changed
  6  the root is in use, or another program writes to the layout
  130, 143  ended by SIGINT or SIGTERM; nothing in the root was changed";

/// The exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Failed = 1,
    Usage = 2,
    Input = 3,
    Unkeyed = 4,
    Damaged = 5,
    InUse = 6,
    /// As in a shell for a program that the signal killed: 128 and its number.
    Interrupted = 130,
    Terminated = 143,
}

/// Returns the exit code for an error of this class.
impl From<Class> for Code {
    fn from(class: Class) -> Self {
        match class {
            Class::Input | Class::Limit => Self::Input,
            Class::InUse => Self::InUse,
            Class::Damaged => Self::Damaged,
            // A signal tells that the user cancelled.
            _ => Self::Failed,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

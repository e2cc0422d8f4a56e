//! stdout and stderr, which may be gone or full, and terminals, which obey what is written to them.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use crate::failure::Failure;

/// Writes a result and a line feed to stdout.
///
/// A reader that has gone has read what it wanted, so that is no failure.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::Stdout),
    }
}

/// Writes a line to stderr, at once. If that fails there is nobody to tell.
pub(crate) fn note(line: impl fmt::Display) {
    let line = format!("{line}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Text that comes from outside, such as the name of a step, without what a terminal would obey.
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|c| {
            if c.is_control() && c != '\n' {
                write!(f, "{}", c.escape_default())
            } else {
                f.write_char(c)
            }
        })
    }
}

/// What an error says, and what led to it, on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // A message may have its cause in it already.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let text = Plain("RUN \u{1b}]0;title\u{7} \u{9b}2J\u{7f} ü\n  next").to_string();
        assert_eq!(text, "RUN \\u{1b}]0;title\\u{7} \\u{9b}2J\\u{7f} ü\n  next");
    }
}

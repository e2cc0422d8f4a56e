//! stdout and stderr, which may be gone or full, and terminals, which obey what is written to them; and
//! files.
//!
//! Nothing is printed but through here, and nothing from here has a character that [`text`] escapes. What
//! comes from outside is put into [one line](text::one_line) where a page is made of it.

mod file;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use oci2bk::text;

pub(crate) use file::{FileError, is_stdout, write_file, write_into};

/// Why a result is not on stdout.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to stdout")]
pub(crate) struct StdoutError(#[source] io::Error);

/// Writes a page with the result, and a line feed, to stdout.
///
/// A reader that has gone has read what it wanted, so that is no failure.
pub(crate) fn result<E: From<StdoutError>>(page: &str) -> Result<(), E> {
    match write_stdout(format!("{}\n", text::page(page)).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.map_err(StdoutError)?),
    }
}

fn write_stdout(content: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(content)?;
    stdout.flush()
}

/// Writes a line to stderr, at once. If that fails there is nobody to tell.
pub(crate) fn note(line: impl fmt::Display) {
    labelled("", line);
}

/// What stands before an error.
pub(crate) fn error_label() -> &'static str {
    if has_colors() { "\x1b[1;31merror:\x1b[0m " } else { "error: " }
}

/// What stands before what to do about it.
pub(crate) fn hint_label() -> &'static str {
    if has_colors() { "\x1b[1;36mhint:\x1b[0m " } else { "hint: " }
}

fn has_colors() -> bool {
    // As for the other variables, empty counts as unset (https://no-color.org).
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !no_color
}

/// The same as [`note`] behind a label of ours, which may have colours.
pub(crate) fn labelled(label: &str, line: impl fmt::Display) {
    let line = format!("{label}{}\n", text::one_line(&line.to_string()));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The same for a page of ours.
pub(crate) fn labelled_page(label: &str, page: &str) {
    let page = format!("{label}{}\n", text::page(page));
    let _ = io::stderr().lock().write_all(page.as_bytes());
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

//! stdout and stderr, which can be closed or full, terminals, which interpret control characters, and files.
//!
//! All output goes through this module, and never has a character that [`text`] escapes. External text is put
//! on [one line](text::one_line) where a page is composed.

mod file;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use oci2bk::text;

pub(crate) use file::{FileError, NewFile, is_stdout, write_file, write_into};

/// Why a result could not be written to stdout.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to stdout")]
pub(crate) struct StdoutError(#[source] io::Error);

/// Whether a result was written.
static HAS_RESULT: AtomicBool = AtomicBool::new(false);

/// Returns whether a result was written to stdout, or at least a part of one.
pub(crate) fn has_result() -> bool {
    HAS_RESULT.load(Ordering::Relaxed)
}

/// Writes a page with the result, and a line feed, to stdout.
///
/// A closed pipe is not an error: its reader has what it wanted.
pub(crate) fn result<E: From<StdoutError>>(page: &str) -> Result<(), E> {
    HAS_RESULT.store(true, Ordering::Relaxed);
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

/// Writes a line to stderr immediately. Failures are ignored, since they cannot be reported.
pub(crate) fn note(line: impl fmt::Display) {
    labelled("", line);
}

/// Returns the prefix of an error.
pub(crate) fn error_label() -> &'static str {
    if has_colors() { "\x1b[1;31merror:\x1b[0m " } else { "error: " }
}

/// Returns the label before a hint.
pub(crate) fn hint_label() -> &'static str {
    if has_colors() { "\x1b[1;36mhint:\x1b[0m " } else { "hint: " }
}

fn has_colors() -> bool {
    // Like other variables, an empty one counts as unset (https://no-color.org).
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !no_color
}

/// Same as [`note`] after a label of ours, which may have colours.
pub(crate) fn labelled(label: &str, line: impl fmt::Display) {
    let line = format!("{label}{}\n", text::one_line(&line.to_string()));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Same as [`labelled`], for a page of ours.
pub(crate) fn labelled_page(label: &str, page: &str) {
    let page = format!("{label}{}\n", text::page(page));
    let _ = io::stderr().lock().write_all(page.as_bytes());
}

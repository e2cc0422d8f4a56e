//! A bake agent: it puts a cache into the root of a builder while a machine image is made.
//!
//! It shows its progress on stderr, and prints one JSON document on stdout. The image is only worth keeping
//! with exit code 0.

mod bake;
mod document;
mod line;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Parser;
use oci2bk::{Cancel, Class};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::document::Document;
use crate::line::Line;

/// Puts a cache into the root of a builder.
#[derive(Debug, Parser)]
struct Arguments {
    /// The layout with the cache: a directory or a tar archive.
    layout: PathBuf,
    /// The root of the builder, which must be stopped.
    root: PathBuf,
    /// A file with the keys of the cache, such as provenance. Those in the layout are read anyway.
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Leave the layers packed, which takes no root. The daemon unpacks them when a build needs them.
    #[arg(long)]
    no_extract: bool,
}

/// A build would miss something that the cache has.
const INCOMPLETE: u8 = 4;

/// Returns the exit code for an error of this class. `signal` has ended the work, if anything did.
fn exit_code(class: Class, signal: usize) -> u8 {
    match class {
        // Another cache may work.
        Class::Input | Class::Limit => 3,
        // The root is as it was; look at the machine first.
        Class::Damaged => 5,
        // The daemon runs, or another bake. Try again later.
        Class::InUse => 6,
        // As a shell says it.
        Class::Cancelled => 128 + u8::try_from(signal).unwrap_or(0),
        // No space, no permission, no such file.
        _ => 1,
    }
}

/// The signal that has ended the work, and the request that it makes.
struct Signals {
    cancel: Cancel,
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// The first signal cancels, the second one kills.
    fn catch() -> io::Result<Self> {
        let (any, last) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&any))?;
            flag::register_usize(signal, Arc::clone(&last), signal.unsigned_abs() as usize)?;
            flag::register(signal, Arc::clone(&any))?;
        }
        Ok(Self { cancel: Cancel::from(any), last })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot catch signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let line = Arc::new(Line::new());
    let baked = bake::run(&arguments, Arc::<Line>::clone(&line), &signals.cancel);
    line.end();
    let (code, document) = match &baked {
        Ok((prepared, report)) => (0, Document::baked(prepared, report)),
        Err(bake::Failure::Incomplete(shortfalls)) => {
            (INCOMPLETE, Document::Incomplete { shortfalls })
        }
        Err(bake::Failure::Failed(error)) => {
            let signal = signals.last.load(Ordering::Relaxed);
            (exit_code(error.class, signal), Document::Failed { error })
        }
    };
    match document.print() {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot print the document: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Signals that end the command.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oci2bk::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A signal that was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Why signals cannot be caught.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
pub(crate) struct CatchError(#[source] io::Error);

/// The signals received since [`catch`](Self::catch).
#[derive(Debug)]
pub(crate) struct Signals {
    any: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
}

const INTERRUPT: usize = 1;
const TERMINATE: usize = 2;

impl Signals {
    /// Catches signals: the first one cancels, so that temporary files are removed. The second one ends the
    /// command as if it were not caught.
    pub(crate) fn catch() -> Result<Self, CatchError> {
        let signals = Self { any: Arc::default(), last: Arc::default() };
        let Self { any, last } = &signals;
        for (signal, number) in [(SIGINT, INTERRUPT), (SIGTERM, TERMINATE)] {
            // In this order: the second signal finds the flag that the first one sets.
            flag::register_usize(signal, Arc::clone(last), number)
                .and_then(|_| flag::register_conditional_default(signal, Arc::clone(any)))
                .and_then(|_| flag::register(signal, Arc::clone(any)))
                .map_err(CatchError)?;
        }
        // A signal that came in between, which only the first of the three handlers has seen.
        if last.load(Ordering::SeqCst) != 0 {
            any.store(true, Ordering::SeqCst);
        }
        Ok(signals)
    }

    /// Returns the token that a signal cancels.
    pub(crate) fn cancel(&self) -> Cancel {
        Arc::clone(&self.any).into()
    }

    /// Returns the last signal. Without any, which callers do not ask for, it is the first variant.
    pub(crate) fn last(&self) -> Signal {
        match self.last.load(Ordering::Relaxed) {
            TERMINATE => Signal::Terminate,
            _ => Signal::Interrupt,
        }
    }
}

//! Signals that ask the command to end.

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

/// Why no signals are caught.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
pub(crate) struct CatchError(#[source] io::Error);

/// The signals that came in since [`catch`](Self::catch).
#[derive(Debug)]
pub(crate) struct Signals {
    any: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
}

const INTERRUPT: usize = 1;
const TERMINATE: usize = 2;

impl Signals {
    /// From here on the first signal cancels, so that what was begun is removed. The second one ends
    /// the command as if nobody had caught it.
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
        // One that came in between, which only the first of the three had seen.
        if last.load(Ordering::SeqCst) != 0 {
            any.store(true, Ordering::SeqCst);
        }
        Ok(signals)
    }

    /// What is cancelled by a signal.
    pub(crate) fn cancel(&self) -> Cancel {
        Arc::clone(&self.any).into()
    }

    /// The one that came in last. Of none, which nobody asks for, it is the first that can.
    pub(crate) fn last(&self) -> Signal {
        match self.last.load(Ordering::Relaxed) {
            TERMINATE => Signal::Terminate,
            _ => Signal::Interrupt,
        }
    }
}

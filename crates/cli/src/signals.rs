//! Signals that ask the command to end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oci2bk::Cancel;
use oci2bk::convert::ConvertError;
use oci2bk::verify::VerifyError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

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
    pub(crate) fn catch() -> Result<Self, Failure> {
        let signals = Self { any: Arc::default(), last: Arc::default() };
        let Self { any, last } = &signals;
        for (signal, number) in [(SIGINT, INTERRUPT), (SIGTERM, TERMINATE)] {
            // In this order: the second signal finds the flag that the first one sets.
            flag::register_usize(signal, Arc::clone(last), number)
                .and_then(|_| flag::register_conditional_default(signal, Arc::clone(any)))
                .and_then(|_| flag::register(signal, Arc::clone(any)))
                .map_err(Failure::Signals)?;
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

    /// The failure that `error` is: that of the signal, if it is no more than its consequence.
    pub(crate) fn explain(&self, error: impl Into<Failure>) -> Failure {
        let failure = error.into();
        match failure {
            Failure::Convert(ConvertError::Cancelled) | Failure::Verify(VerifyError::Cancelled) => {
                let signal = match self.last.load(Ordering::Relaxed) {
                    TERMINATE => Signal::Terminate,
                    _ => Signal::Interrupt,
                };
                Failure::Ended { signal }
            }
            failure => failure,
        }
    }
}

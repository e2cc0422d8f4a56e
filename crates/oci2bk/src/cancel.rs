//! Stopping work that runs on other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks for work to stop. Clones ask for the same, so one is given to the work and another one is
/// kept, for a signal handler, a timer or a button.
///
/// The work looks now and then, many times a second, and ends with an error of its own, such as
/// [`ConvertError::Cancelled`](crate::convert::ConvertError::Cancelled). What was asked for cannot be
/// taken back.
///
/// ```
/// use oci2bk::Cancel;
///
/// let cancel = Cancel::new();
/// let kept = cancel.clone();
/// assert!(!cancel.is_cancelled());
/// std::thread::spawn(move || kept.cancel()).join().unwrap();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends with `cancelled` if somebody asked to stop.
    pub(crate) fn check<E>(&self, cancelled: E) -> Result<(), E> {
        if self.is_cancelled() { Err(cancelled) } else { Ok(()) }
    }
}

/// Asks to stop once the flag is set, which is all that a signal handler can do.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let flag = Arc::new(AtomicBool::new(false));
/// let cancel = oci2bk::Cancel::from(Arc::clone(&flag));
/// flag.store(true, Ordering::Relaxed);
/// assert!(cancel.is_cancelled());
/// ```
impl From<Arc<AtomicBool>> for Cancel {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

//! Cancellation of work on other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop work. Clones share the request: one is passed to the work, another one is kept for a
/// signal handler, a timer or a button.
///
/// The work checks it many times a second, and ends with its own error, such as
/// [`ConvertError::Cancelled`](crate::convert::ConvertError::Cancelled). A request cannot be withdrawn.
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
    /// Creates a request that is not made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether a stop was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails with `cancelled` if a stop was requested.
    pub(crate) fn check<E>(&self, cancelled: E) -> Result<(), E> {
        if self.is_cancelled() { Err(cancelled) } else { Ok(()) }
    }
}

/// Requests a stop when the flag is set, which is all that a signal handler can do.
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

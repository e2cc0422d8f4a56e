//! Runs one function on many items in a few threads.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

/// Returns the result of `work` for each item, in order. Items are started in order too, on `jobs` threads.
pub(crate) fn run<T: Sync, U: Send>(
    items: &[T],
    jobs: NonZeroUsize,
    work: impl Fn(&T) -> Result<U> + Sync,
) -> Result<Vec<U>> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Result<U>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.get().min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if let Ok(mut slot) = done[index].lock() {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    let result = |slot: Mutex<Option<Result<U>>>| {
        slot.into_inner().ok().flatten().context("a thread did not end")?
    };
    done.into_iter().map(result).collect()
}

//! Runs one function on many items in a few threads.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Returns one job per processor.
pub(crate) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Runs `work` on every item, on `jobs` threads, and returns the results in the order of the items. The first
/// error stops the others.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    jobs: NonZeroUsize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let worker = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let outcome = work(item).inspect_err(|_| failed.store(true, Ordering::Relaxed));
            done.push((at, outcome?));
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<(usize, R)>, E>> = std::thread::scope(|scope| {
        let jobs = jobs.get().min(items.len());
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut done = Vec::with_capacity(items.len());
    for outcome in outcomes {
        done.extend(outcome?);
    }
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    #[test]
    fn every_item_is_worked_on_once() {
        let items: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        in_parallel(&items, THREE, |item| {
            item.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert!(items.iter().all(|item| item.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn what_came_of_the_items_is_in_their_order() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = in_parallel(&items, THREE, |item| {
            if item % 7 == 0 {
                std::thread::yield_now();
            }
            Ok::<_, ()>(item * 2)
        });
        assert_eq!(doubled.unwrap(), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(in_parallel(&[], THREE, |item: &u8| Ok::<_, ()>(*item)), Ok(Vec::new()));
    }

    #[test]
    fn an_error_stops_the_work() {
        let items: Vec<usize> = (0..1000).collect();
        let done = AtomicUsize::new(0);
        let result = in_parallel(&items, NonZeroUsize::MIN, |item| {
            done.fetch_add(1, Ordering::Relaxed);
            if *item == 10 { Err(*item) } else { Ok(()) }
        });
        assert_eq!(result, Err(10));
        assert_eq!(done.load(Ordering::Relaxed), 11);
    }
}

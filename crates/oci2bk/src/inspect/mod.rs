//! Looking into an export or a root, with no daemon.
//!
//! [`Export`] and [`Root`] are all that there is to see as plain data; [`find`] tells which of the two
//! a word of the command line names. Both give a [`Graph`](crate::graph::Graph), and both can be
//! narrowed down to one thing and what is tied to it.
//!
//! Nothing is written. While a daemon runs on a root it is not looked into.

mod export;
mod history;
mod place;
mod root;
#[cfg(test)]
mod tests;

pub use export::{Export, ExportLayer, ExportStep, StepInput, StepKey, StepMiss, StepResult};
pub use history::{Build, BuildsError};
pub use place::{Place, PlaceError, find};
pub use root::{
    Blob, InspectError, Key, KeyLink, KeyResult, Lease, Record, Root, SnapshotOf, Unread, Worker,
};

use crate::graph::Warmth;

/// How many steps have each warmth.
pub fn count(warmths: impl IntoIterator<Item = Warmth>) -> Vec<(Warmth, usize)> {
    let mut counts = Warmth::ALL.map(|warmth| (warmth, 0));
    for warmth in warmths {
        counts.iter_mut().filter(|(known, _)| *known == warmth).for_each(|(_, count)| *count += 1);
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Whether `word` names `id`: it is it, or its beginning, with or without `sha256:`.
fn names(word: &str, id: &str) -> bool {
    /// Less than this would name too much by accident.
    const SHORTEST: usize = 4;
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).len();
    id == word
        || bare(word) >= SHORTEST
            && (id.starts_with(word)
                || id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(word)))
}

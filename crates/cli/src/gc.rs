//! Warnings about garbage collection of the new state, with advice.

use bkstate::Time;
use bkstate::gc::Loss;
use oci2bk::gc::Collection;
use oci2bk::text::size;

use crate::output::note;

/// Warns on stderr about what will be removed, and says how to keep it.
pub(crate) fn warn(collection: &Collection, last_used: Option<Time>) {
    let Collection { bytes, disk, losses, config, .. } = collection;
    let (later, at_once): (Vec<&Loss>, Vec<&Loss>) =
        losses.iter().partition(|loss| !loss.unused_for.is_zero());
    let kept = at_once.iter().map(|loss| loss.keeps).min();
    if let Some(kept) = kept {
        note(format_args!(
            "warning: the state takes {}; the daemon's garbage collection keeps {} of it when \
             it starts; this disk has {}, {} of them free (blocks reserved for root included)",
            size(*bytes),
            size(kept),
            size(disk.total),
            size(disk.free)
        ));
    }
    let later = later.into_iter().filter(|loss| kept.is_none_or(|kept| loss.keeps < kept));
    if let Some(loss) = later.min_by_key(|loss| (loss.keeps, loss.unused_for)) {
        note(format_args!(
            "warning: the state takes {}; the daemon's garbage collection keeps {} of it if it \
             was last used {} hours ago; it counts as last used {}, and --last-used changes that",
            size(*bytes),
            size(loss.keeps),
            loss.unused_for.as_secs() / 3600,
            last_used.map_or_else(|| "never".to_owned(), |time| format!("at {time}"))
        ));
    }
    if let Some(config) = config {
        note(format_args!(
            "warning: these lines in {} keep all of it, in place of others about garbage collection:",
            collection.file
        ));
        for line in config.lines() {
            note(format_args!("  {line}"));
        }
    }
}

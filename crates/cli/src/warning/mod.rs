//! Warnings on stderr.

mod losses;

use oci2bk::convert::LeftPacked;
use oci2bk::text::one_line;
use oci2bk::warning::Warning;
use oci2bk::{Event, Progress};

pub(crate) use self::losses::{of_dropped, of_losses, of_releases, of_unused_layers};
use crate::hint::{ELSEWHERE, behind, of_key_source, of_limit, raise};
use crate::output::note;

/// Maximum number of layers that stay packed to list. A chain of them can have any number.
const NAMED_LAYERS: usize = 10;

/// Says warnings on stderr as soon as they come.
pub(crate) struct Speaker;

impl Progress for Speaker {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(warning) = event {
            say(&warning);
        }
    }
}

/// Says a warning on stderr.
pub(crate) fn say(warning: &Warning<'_>) {
    line(warning).into_iter().for_each(note);
}

/// Returns the line of a warning; `None` if the command tells it in words of its own.
pub(crate) fn line(warning: &Warning<'_>) -> Option<String> {
    let label = match warning {
        Warning::Incomplete { .. } | Warning::LeftPacked { .. } => return None,
        Warning::Signature { .. } => "",
        Warning::LeftOut { .. } => "note: ",
        _ => "warning: ",
    };
    let hint = match warning {
        Warning::KeySource { error } => of_key_source(error).or_else(|| of_limit(*error)),
        Warning::UnreadHistory { .. } => Some(ELSEWHERE.to_owned()),
        Warning::NamelessImage { reference } => Some(format!(
            "with --image NAME={} a FROM with its digest needs no registry either",
            one_line(reference)
        )),
        _ => None,
    };
    Some(format!("{label}{warning}{}", behind(hint)))
}

/// Warns on stderr about layers that stay packed.
pub(crate) fn of_packed(left: &[LeftPacked]) {
    for line in all_left_packed(left) {
        note(format_args!("warning: {line}"));
    }
}

pub(crate) fn all_left_packed(left: &[LeftPacked]) -> Vec<String> {
    let (named, more) = left.split_at(left.len().min(NAMED_LAYERS));
    let mut lines: Vec<_> = named.iter().map(left_packed).collect();
    if !more.is_empty() {
        let more = more.len();
        lines.push(format!(
            "{more} more layers stay packed; --format json and --metadata-file name all"
        ));
    }
    lines
}

fn left_packed(layer: &LeftPacked) -> String {
    format!("{}{}", Warning::LeftPacked { layer }, behind(layer.limit.map(raise)))
}

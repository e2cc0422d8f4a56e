//! The table of hostile layers, in the order of `docs/hostile-input.md`.

mod breakouts;
mod entries;
mod headers;
mod links;
mod rootless;
mod sparse;
mod streams;
mod whiteouts;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    let parts = [
        breakouts::all(),
        whiteouts::all(),
        rootless::all(),
        headers::all(),
        links::all(),
        sparse::all(),
        entries::all(),
        streams::all(),
    ];
    parts.into_iter().flatten().collect()
}

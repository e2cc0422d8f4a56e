//! The table of builds.

use crate::case::Case;

mod copy;
mod debian;
mod exports;
mod files;
mod llb;
pub(crate) mod releases;
mod run;
mod stages;

/// Every build of the table.
pub(crate) fn all() -> Vec<Case> {
    // The slowest come early, so that none is left alone at the end, and not all at the same time: those of
    // thousands of files, and those of many layers.
    [
        debian::CASES,
        copy::CASES,
        stages::CASES,
        run::CASES,
        files::CASES,
        exports::CASES,
        llb::CASES,
    ]
    .concat()
}

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
    // The slowest first: the suite runs two at a time.
    [
        debian::CASES,
        stages::CASES,
        copy::CASES,
        run::CASES,
        files::CASES,
        exports::CASES,
        llb::CASES,
    ]
    .concat()
}

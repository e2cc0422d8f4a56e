//! Page owners: which element refers to which page.

use std::collections::BTreeMap;
use std::fmt;

/// The reference to a page. In a sound file each page has exactly one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// The meta page refers to the root page of the root bucket.
    Root,
    /// The meta page refers to the freelist.
    Freelist,
    /// An element of a branch page refers to a child, or an element of a leaf page to the root page of a
    /// bucket.
    Element {
        /// The page of the element.
        page: u64,
        /// Its position on the page, from 0.
        index: usize,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the meta page as the root"),
            Self::Freelist => f.write_str("the meta page as the freelist"),
            Self::Element { page, index } => write!(f, "element {index} of page {page}"),
        }
    }
}

/// The pages reached so far, as runs of a page and its overflow pages.
#[derive(Debug, Default)]
pub(super) struct Owners {
    runs: BTreeMap<u64, Run>,
}

#[derive(Debug)]
struct Run {
    /// Last page of the run.
    last: u64,
    owner: Owner,
}

impl Owners {
    /// Records `owner` as the owner of the pages `first..=last`. Recording it twice is fine.
    ///
    /// # Errors
    /// Returns the owner of a run that overlaps these pages.
    pub(super) fn claim(&mut self, first: u64, last: u64, owner: Owner) -> Result<(), Owner> {
        match self.runs.range(..=last).next_back() {
            Some((&start, run)) if run.last >= first => {
                let same = start == first && run.last == last && run.owner == owner;
                if same { Ok(()) } else { Err(run.owner) }
            }
            _ => {
                self.runs.insert(first, Run { last, owner });
                Ok(())
            }
        }
    }

    /// Returns all runs, as first and last page, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&first, run)| (first, run.last))
    }
}

//! Checks a whole database for damage, as `bbolt check` does (bbolt 1.5.0, tx_check.go).

use std::sync::Arc;

use super::MAX_TREE_HEIGHT;
use super::bucket::{Bucket, child};
use super::format::{FREELIST, LONG_FREELIST, META_PAGE, MetaFault, NO_FREELIST, PAGE_HEADER};
use super::format::{PageHeader, shown, u64_at};
use super::node::{Content, Node, Place};
use super::owners::Owner;
use super::reader::{Db, ReadError};

/// [`check()`] stops after about this many problems; a damaged freelist alone could give millions.
const ENOUGH: usize = 1000;

/// Damage found by [`check()`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// One meta page is invalid, the other is valid. After a crash this can last until the next transaction.
    #[error("meta page {page} is damaged: {fault}")]
    Meta {
        /// 0 or 1.
        page: u64,
        /// The fault.
        fault: MetaFault,
    },
    /// A meta page is valid but its page header is not that of a meta page.
    #[error("meta page {page} does not have the header of a meta page")]
    MetaHeader {
        /// 0 or 1.
        page: u64,
    },
    /// Part of the database cannot be read; pages below it were not checked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A key is outside the range that the branch pages above it allow.
    #[error("the key \"{}\" on page {page} belongs on another page", shown(key))]
    KeyOutOfRange {
        /// The page.
        page: u64,
        /// The key.
        key: Vec<u8>,
    },
    /// The freelist names a page that does not exist, or a meta page.
    #[error("page {page} is listed as free, but pages run from 2 to below {pages}")]
    FreeOutside {
        /// The page.
        page: u64,
        /// Number of pages of the database.
        pages: u64,
    },
    /// The freelist names a page more than once.
    #[error("page {page} is listed as free more than once")]
    FreedTwice {
        /// The page.
        page: u64,
    },
    /// A page is in use but listed as free: the next transaction would overwrite it.
    #[error("page {page} is in use but listed as free")]
    FreeInUse {
        /// The page.
        page: u64,
    },
    /// Pages are neither in use nor listed as free.
    #[error("pages {first} to {last} are neither in use nor listed as free")]
    Unreachable {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

/// Checks the whole database for damage; returns an empty list if it is sound.
///
/// It checks both meta pages; type, number and bounds of every page; the order of keys within and across
/// pages; inline buckets; and that every page is in use exactly once or listed as free exactly once. The list
/// ends early, at about a thousand entries.
pub fn check(db: &Db) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_metas(db, &mut problems);
    check_buckets(db, &mut problems);
    check_pages(db, &mut problems);
    problems
}

fn check_metas(db: &Db, problems: &mut Vec<Problem>) {
    for (page, meta) in (0..).zip(&db.metas) {
        if let Err(fault) = meta {
            problems.push(Problem::Meta { page, fault: fault.clone() });
            continue;
        }
        match db.meta_header(page) {
            Ok(Some(PageHeader { id, flags: META_PAGE, .. })) if id == page => {}
            Ok(_) => problems.push(Problem::MetaHeader { page }),
            Err(error) => problems.push(error.into()),
        }
    }
}

/// A page on the path from the root page of the root bucket to the page being checked.
struct Frame {
    node: Arc<Node>,
    /// The element to check next.
    next: usize,
    /// Number of buckets that contain the page's bucket.
    depth: usize,
    /// Number of pages above it in its bucket's tree.
    height: usize,
    /// Lower bound, inclusive, of the keys below.
    from: Option<Vec<u8>>,
    /// Upper bound, exclusive, of the keys below.
    to: Option<Vec<u8>>,
}

/// Walks all buckets. The path is kept on the heap, because a bucket's tree can be as high as buckets can be
/// deep.
fn check_buckets(db: &Db, problems: &mut Vec<Problem>) {
    let mut path = Vec::new();
    enter_bucket(&db.root(), &mut path, problems);
    while let Some(frame) = path.last_mut().filter(|_| problems.len() < ENOUGH) {
        let (node, index) = (Arc::clone(&frame.node), frame.next);
        if index == node.len() {
            path.pop();
            continue;
        }
        frame.next += 1;
        match node.content(index) {
            Content::Value(_) => {}
            Content::Bucket(value) => match Bucket::open(db, &node, index, value, frame.depth) {
                Ok(bucket) => enter_bucket(&bucket, &mut path, problems),
                Err(error) => problems.push(error.into()),
            },
            Content::Child(page) => {
                let height = frame.height + 1;
                let from = Some(node.key(index).to_vec());
                let to = if index + 1 < node.len() {
                    Some(node.key(index + 1).to_vec())
                } else {
                    frame.to.clone()
                };
                let depth = frame.depth;
                match child(db, &node, index, page) {
                    Ok(node) if height >= MAX_TREE_HEIGHT => {
                        problems.push(ReadError::TreeTooHigh { place: node.place() }.into());
                    }
                    Ok(node) => {
                        let node = Arc::new(node);
                        enter(
                            Frame { node, next: 0, depth, height, from, to },
                            &mut path,
                            problems,
                        );
                    }
                    Err(error) => problems.push(error.into()),
                }
            }
        }
    }
}

fn enter_bucket(bucket: &Bucket<'_>, path: &mut Vec<Frame>, problems: &mut Vec<Problem>) {
    match bucket.top() {
        Ok(node) => {
            let depth = bucket.depth();
            path.push(Frame { node, next: 0, depth, height: 0, from: None, to: None });
        }
        Err(error) => problems.push(error.into()),
    }
}

fn enter(frame: Frame, path: &mut Vec<Frame>, problems: &mut Vec<Problem>) {
    // Keys ascend within the page, so it is enough to compare the first and the last.
    let Place::Page(page) = frame.node.place() else { return };
    let below = frame.node.first_key().filter(|key| frame.from.as_deref() > Some(key));
    let above =
        frame.node.last_key().filter(|key| frame.to.as_deref().is_some_and(|to| *key >= to));
    for key in below.into_iter().chain(above) {
        problems.push(Problem::KeyOutOfRange { page, key: key.to_vec() });
    }
    path.push(frame);
}

/// Compares the reached pages with the freelist.
fn check_pages(db: &Db, problems: &mut Vec<Problem>) {
    let free = match read_freelist(db) {
        Ok(free) => free,
        Err(error) => return problems.push(error.into()),
    };
    if problems.len() >= ENOUGH {
        return; // Not all pages in use are known.
    }
    let pages = db.page_count();
    // Runs of used pages in ascending order; the gaps between them are unaccounted pages. A database without
    // a freelist has its free pages in the gaps.
    let mut expected = 2;
    let mut account = |first: u64, last: u64, problems: &mut Vec<Problem>| {
        if first > expected && free.is_some() {
            problems.push(Problem::Unreachable { first: expected, last: first - 1 });
        }
        expected = expected.max(last.saturating_add(1));
    };
    let owners = db.owners();
    let mut used = owners.runs().peekable();
    let mut previous = None;
    for &page in free.as_deref().unwrap_or_default() {
        if problems.len() >= ENOUGH {
            return;
        }
        if page < 2 || page >= pages {
            problems.push(Problem::FreeOutside { page, pages });
            continue;
        }
        if previous.replace(page) == Some(page) {
            problems.push(Problem::FreedTwice { page });
            continue;
        }
        while let Some((first, last)) = used.next_if(|(_, last)| *last < page) {
            account(first, last, problems);
        }
        if used.peek().is_some_and(|(first, _)| *first <= page) {
            problems.push(Problem::FreeInUse { page });
        } else {
            account(page, page, problems);
        }
    }
    for (first, last) in used {
        if problems.len() >= ENOUGH {
            return;
        }
        account(first, last, problems);
    }
    account(pages, pages, problems);
}

/// Reads the free pages, sorted; `None` if the database was written without a freelist.
fn read_freelist(db: &Db) -> Result<Option<Vec<u64>>, ReadError> {
    let page = db.meta.freelist;
    if page == NO_FREELIST {
        return Ok(None);
    }
    let bytes = db.page(page, Owner::Freelist)?;
    let header = PageHeader::decode(&bytes).map(|header| (header.flags, header.count));
    let (list, count) = match (header, u64_at(&bytes, PAGE_HEADER)) {
        (Some((FREELIST, LONG_FREELIST)), Some(count)) => (&bytes[PAGE_HEADER + 8..], count),
        (Some((FREELIST, count)), _) => (&bytes[PAGE_HEADER..], u64::from(count)),
        (other, _) => {
            let flags = other.map_or(0, |(flags, _)| flags);
            return Err(ReadError::PageType { place: Place::Page(page), flags });
        }
    };
    let ids = list.chunks_exact(8).filter_map(|id| u64_at(id, 0));
    if count > (list.len() / 8) as u64 {
        return Err(ReadError::FreelistTooLong { page, count });
    }
    let mut free: Vec<u64> = ids.take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
    free.sort_unstable();
    Ok(Some(free))
}

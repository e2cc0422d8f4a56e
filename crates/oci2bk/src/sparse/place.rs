//! The place of a sparse layout: a new directory, or a sparse layout that is replaced.

use std::path::Path;

use bkstate::dir::Dir;

use super::ANNOTATION;
use crate::layout::fresh::Replaced;
use crate::layout::{INDEX, Layout, OCI_LAYOUT};
use crate::limits::Limits;

/// The entries of a layout.
const OURS: [&str; 3] = [OCI_LAYOUT, INDEX, "blobs"];

/// Sparse layouts are replaced.
pub(super) const REPLACED: Replaced =
    Replaced { is: is_sparse, words: ", and not a sparse layout, which could be replaced" };

/// Returns whether the directory is a layout with the annotation, and nothing else.
fn is_sparse(path: &Path) -> bool {
    let Ok(entries) = Dir::open(path).and_then(|dir| dir.entries()) else { return false };
    let are_ours = entries.iter().all(|entry| entry.to_str().is_some_and(|n| OURS.contains(&n)));
    let layout = Layout::open(path, &Limits::default());
    are_ours && layout.is_ok_and(|layout| layout.annotations().contains_key(ANNOTATION))
}

//! Copies of a blob in several layouts.
//!
//! A blob is defined by its digest, so it can come from any layout that has it: if one copy is bad, another
//! one is used.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use bkstate::Digest;
use serde::Serialize;

use super::{BlobError, Descriptor, Layout};
use crate::text::with_causes;

/// A copy of a blob that cannot be used.
///
/// ```
/// use oci2bk::layout::BadCopy;
/// use oci2bk::{CacheExport, Converter, Keyring, Limits, Plan};
///
/// # let cache = "fixtures/min/cache";
/// // The same cache from two places. It is enough if one of them has a good copy of a layer.
/// let sources = [cache.parse()?, cache.parse()?];
/// let exports = CacheExport::read_sources(&sources, &Limits::default())?;
/// let plan = Plan::new(&exports, &Keyring::for_exports(&exports))?;
/// # let root = tempfile::tempdir()?;
/// let report = Converter::new().extract(false).convert(&plan, &root)?;
/// for BadCopy { blob, layout, why, .. } in &report.bad_copies {
///     println!("the copy of {blob} in {} was passed over: {why}", layout.display());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct BadCopy {
    /// The blob.
    pub blob: Digest,
    /// The directory or archive of the layout.
    pub layout: PathBuf,
    /// Why the copy cannot be used, with the causes.
    #[serde(rename = "message")]
    pub why: String,
}

impl BadCopy {
    pub(crate) fn new(blob: Digest, layout: &Layout, error: &dyn Error) -> Self {
        Self { blob, layout: layout.path().to_owned(), why: with_causes(error) }
    }
}

impl fmt::Display for BadCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layout.display(), self.why)
    }
}

/// Formats the copies of one blob for a message, each with its layout.
pub(crate) fn all(copies: &[BadCopy]) -> String {
    let copies: Vec<_> = copies.iter().map(ToString::to_string).collect();
    copies.join("; ")
}

/// The unusable copies of a blob, each with its layout.
pub(crate) type Unusable<'l> = Vec<(&'l Layout, BlobError)>;

/// Returns whether one of `layouts` has a copy of the blob of `descriptor` that can be opened and has the
/// right size.
///
/// # Errors
/// Returns an error if some have copies, but none of them is usable.
pub(crate) fn is_there<'l>(
    layouts: &[&'l Layout],
    descriptor: &Descriptor,
) -> Result<bool, Unusable<'l>> {
    let mut bad = Vec::new();
    for &layout in layouts {
        match layout.open_blob(descriptor) {
            Ok(_) => return Ok(true),
            Err(BlobError::Missing { .. }) => {}
            Err(error) => bad.push((layout, error)),
        }
    }
    if bad.is_empty() { Ok(false) } else { Err(bad) }
}

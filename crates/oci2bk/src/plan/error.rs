//! Errors of planning.

use bkstate::Digest;

use super::layers::Flaw;
use super::{BrokenPlan, Source, SourceIndex};
use crate::export::CacheExport;
use crate::manifest::{Disagreement, DocumentError, Style};

/// Why exports cannot be converted together.
///
/// ```
/// use oci2bk::manifest::Disagreement;
/// use oci2bk::plan::PlanError;
/// use oci2bk::{CacheExport, Digest, Keyring, Limits, Plan};
///
/// let sources = ["fixtures/min/cache".parse()?, "fixtures/min/cache".parse()?];
/// let mut exports = CacheExport::read_sources(&sources, &Limits::default())?;
/// // The second one claims another diffID for a blob.
/// for layer in exports[1].manifest.layers.values_mut() {
///     layer.diff_id = Digest::of("something else");
/// }
/// let error = Plan::new(&exports, &Keyring::for_exports(&exports)).unwrap_err();
/// let PlanError::Conflict { layer, what, first, second } = error else { panic!("{error}") };
/// println!("{first} and {second} do not agree on {layer}: {what}");
/// assert!(matches!(*what, Disagreement::DiffId(..)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Two exports make contradictory statements about one blob, of which only one can be true.
    #[error(
        "{first} and {second} contradict each other about the layer {layer}: {what}; leave out the \
         wrong one"
    )]
    Conflict {
        /// The blob.
        layer: Digest,
        /// The statements.
        what: Box<Disagreement>,
        /// The first export: its cache manifest, and the user's argument.
        first: String,
        /// The second one.
        second: String,
    },
    /// Two images are to have the same name.
    #[error(
        "{first} and {second} cannot both be the image {name}; name one image of the layout, as in NAME:TAG=LAYOUT:TAG"
    )]
    TwoImages {
        /// The name.
        name: String,
        /// The top object of the first image.
        first: Digest,
        /// That of the second one.
        second: Digest,
    },
    /// An index or manifest of an image is malformed.
    #[error("the manifest {digest} is malformed")]
    Document {
        /// The index or manifest.
        digest: Digest,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// The plan to add to was changed after it was made, and does not fit together.
    #[error(transparent)]
    Plan(#[from] BrokenPlan),
    /// An export was changed after it was read: it has a result whose layer its manifest does not describe.
    #[error(
        "{source_name} has a result with the layer {layer}, which it does not describe; read the cache anew"
    )]
    Undescribed {
        /// The export: its cache manifest, and how the user named it.
        source_name: String,
        /// The layer's blob.
        layer: Digest,
    },
    /// An export has only the parts that an importer reads to find steps.
    #[error(
        "{source_name} is a sparse layout: it has none of the layers of the cache {cache}; give the layout \
         that it was made from"
    )]
    Sparse {
        /// The user's argument.
        source_name: String,
        /// The top object of the cache.
        cache: Digest,
    },
}

impl PlanError {
    /// Rejects an export without layers.
    pub(super) fn of_sparse(export: &CacheExport) -> Result<(), Self> {
        if !export.is_sparse() {
            return Ok(());
        }
        let source_name = export.source.to_string();
        Err(Self::Sparse { source_name, cache: export.manifest.digest })
    }

    pub(super) fn of(sources: &[Source], flaw: &Flaw) -> Self {
        let name = |source: SourceIndex| {
            // An image has several caches under one name.
            let Source { manifest, style, reference, .. } = &sources[source];
            let what = if *style == Style::Image { "image" } else { "cache" };
            format!("the {what} {manifest} in {reference}")
        };
        match *flaw {
            Flaw::Conflict { layer, what, first, second } => Self::Conflict {
                layer,
                what: what.into(),
                first: name(first),
                second: name(second),
            },
            Flaw::Undescribed { layer, source } => {
                Self::Undescribed { source_name: name(source), layer }
            }
        }
    }
}

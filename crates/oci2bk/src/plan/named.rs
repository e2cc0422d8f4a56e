//! Images with a name in the image store that the builders on a containerd have.

use std::collections::BTreeSet;

use bkstate::{Digest, Time};
use serde::Serialize;

use super::{LayerIndex, Plan, PlanError};
use crate::image::{WholeImage, references};
use crate::manifest::Document;

/// An image with a name in the image store.
///
/// A `FROM` with this name asks the registry first, and takes this image if the registry cannot be reached
/// (BuildKit v0.34.2 `util/resolver/pool.go` `Resolve`). The OCI worker has no image store.
///
/// ```
/// use oci2bk::plan::NamedImage;
/// use oci2bk::{BaseImage, Keyring, Limits, Plan};
///
/// let image = "debian:12=fixtures/manifest/keys/image".parse()?;
/// let images = BaseImage::read(&image, &Limits::default())?;
/// let mut plan = Plan::new(&[], &Keyring::for_exports(&[]))?;
/// plan.add_layers(&images[0].whole(&"linux/amd64".parse()?)?)?;
///
/// let NamedImage { digest, size, .. } = &plan.images["docker.io/library/debian:12"];
/// assert_eq!(plan.documents[digest].size, *size);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NamedImage {
    /// The digest of its top object: an index or a manifest.
    pub digest: Digest,
    /// The media type of the top object.
    pub media_type: String,
    /// The size of the top object in bytes.
    pub size: u64,
    /// When the image was made, if its config has it.
    pub created_at: Option<Time>,
}

impl Plan {
    /// Adds the name of `image`, if it has one, and its documents, which keep the parts of the image. `top` is
    /// its topmost layer.
    pub(super) fn add_name(
        &mut self,
        image: &WholeImage,
        top: Option<LayerIndex>,
    ) -> Result<(), PlanError> {
        let (Some(name), Some(document)) = (&image.image.name, image.on.documents.first()) else {
            return Ok(());
        };
        let of = |source| PlanError::Document { digest: document.digest, source };
        let parsed = Document::parse(&document.content).map_err(of)?;
        let named = NamedImage {
            digest: document.digest,
            media_type: parsed.media_type(&document.content),
            size: document.content.len() as u64,
            created_at: image.on.created,
        };
        let known = self.images.entry(name.clone()).or_insert_with(|| named.clone());
        if known.digest != named.digest {
            return Err(PlanError::TwoImages {
                name: name.clone(),
                first: known.digest,
                second: named.digest,
            });
        }
        self.add_documents(&image.image, &image.on, &top.into_iter().collect::<BTreeSet<_>>());
        // The last one is the config, which has no parts.
        let (_, parents) = image.on.documents.split_last().unwrap_or((document, &[]));
        for parent in parents {
            let digest = parent.digest;
            let references = references(&parent.content)
                .map_err(|source| PlanError::Document { digest, source })?;
            if let Some(planned) = self.documents.get_mut(&digest) {
                planned.references = references;
            }
        }
        Ok(())
    }
}

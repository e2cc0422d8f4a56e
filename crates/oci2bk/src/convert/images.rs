//! Checks the names of images before anything is written.

use bkstate::state::Existing;

use super::{ConvertError, StoreBlobs};
use crate::plan::Plan;

/// Rejects names that would be taken from another image, or be of an image without its layers.
pub(super) fn check(
    plan: &Plan,
    existing: &Existing,
    store: StoreBlobs,
) -> Result<(), ConvertError> {
    let worker = &existing.state.worker;
    if !worker.has_images() {
        return Ok(());
    }
    let namespace = worker.namespace_of(&existing.state.metadata);
    for (name, image) in &plan.images {
        if store == StoreBlobs::None {
            return Err(ConvertError::ImageWithoutBlobs { name: name.clone() });
        }
        let known = namespace.and_then(|namespace| namespace.image(name));
        if let Some(known) = known.filter(|known| *known != image.digest.to_string()) {
            return Err(ConvertError::OtherImage {
                name: name.clone(),
                found: known.to_owned(),
                given: image.digest,
            });
        }
    }
    Ok(())
}

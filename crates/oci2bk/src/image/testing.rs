//! Hand-made images, for tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bkstate::Digest;
use llb::Platform;

use super::{BaseImage, ImageDocument, PlatformImage};
use crate::layout::testing::TestLayout;

/// Returns an image for one platform that consists only of `content`, in no repository.
pub(crate) fn image(
    name: &str,
    content: impl AsRef<[u8]>,
    records: BTreeSet<Digest>,
    chain_id: Option<Digest>,
) -> BaseImage {
    let content = content.as_ref();
    let document = ImageDocument { digest: Digest::of(content), content: content.into() };
    let documents = vec![document];
    let platform = Platform::default();
    BaseImage {
        reference: name.to_owned(),
        repositories: BTreeSet::new(),
        tag: None,
        name: None,
        platforms: vec![PlatformImage { documents, records, chain_id, platform, created: None }],
        absent: Vec::new(),
        layout: Arc::new(TestLayout::new().open()),
    }
}

//! The parts of an image, as the documents of the image refer to them.

use std::collections::BTreeMap;

use bkstate::Digest;
use bkstate::metadata::LABEL_REFERENCE;

use super::is_image_config;
use crate::layout::Descriptor;
use crate::manifest::{Compression, DOCKER_MANIFEST, Document, DocumentError, OCI_MANIFEST};

/// Prefix of OCI's media types of layers.
const OCI_LAYER: &str = "application/vnd.oci.image.layer.";

/// Returns the labels with which containerd keeps the parts of an image, for its index or manifest `document`
/// (containerd v2.4.2 `core/images/handlers.go` `Children`, `SetChildrenMappedLabels`). As after a pull, an
/// index names the images for all platforms.
pub(crate) fn references(document: &[u8]) -> Result<BTreeMap<String, Digest>, DocumentError> {
    let parts = match Document::parse(document)? {
        Document::Index(index) => index.manifests,
        Document::Manifest(manifest) => {
            manifest.config.into_iter().chain(manifest.layers).collect()
        }
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let labels = parts.iter().map(|part| {
        let group = group(part);
        let count = counts.entry(group).or_default();
        // The config is the only part without a number, unless there are several.
        let number = if *count > 0 || group != CONFIG { count.to_string() } else { String::new() };
        *count += 1;
        (format!("{LABEL_REFERENCE}{group}{number}"), part.digest)
    });
    Ok(labels.collect())
}

const CONFIG: &str = "config";

/// Returns the group of a part in the names of labels (containerd v2.4.2 `core/images/mediatypes.go`
/// `ChildGCLabels`).
fn group(part: &Descriptor) -> &'static str {
    let media_type = part.media_type.as_str();
    if is_image_config(part) {
        CONFIG
    } else if [OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type) {
        "m."
    } else if media_type.starts_with(OCI_LAYER) || Compression::of_media_type(media_type).is_some()
    {
        "l."
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_counted_per_group() {
        let part = |media_type: &str, name: &str| json!({"mediaType": media_type, "digest": Digest::of(name), "size": 1});
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let manifest = json!({
            "config": part("application/vnd.oci.image.config.v1+json", "config"),
            "layers": [part("application/vnd.oci.image.layer.v1.tar+zstd", "a"), part(gzip, "b"),
                part("application/vnd.in-toto+json", "c")],
        });
        let index = json!({"manifests": [part(OCI_MANIFEST, "x"), part(DOCKER_MANIFEST, "y"),
            part("application/vnd.oci.image.index.v1+json", "z")]});
        let table = [
            (manifest, vec![("0", "c"), ("config", "config"), ("l.0", "a"), ("l.1", "b")]),
            (index, vec![("0", "z"), ("m.0", "x"), ("m.1", "y")]),
        ];
        for (document, expected) in table {
            let expected = expected.into_iter().map(|(key, name)| {
                (format!("containerd.io/gc.ref.content.{key}"), Digest::of(name))
            });
            let found = references(document.to_string().as_bytes()).unwrap();
            assert_eq!(found, expected.collect());
        }
        assert!(matches!(references(b"{}"), Err(DocumentError::Neither)));
    }
}

//! The `--metadata-file` of `docker buildx build` and `docker buildx bake`.
//!
//! buildx v0.35.0 (`build/provenance.go`) writes the bare predicate of SLSA v0.2 under
//! `buildx.build.provenance`, or, for a build of several platforms, each under
//! `buildx.build.provenance/<platform>`. `bake` has one such object per target, under the target's name.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

const PROVENANCE: &str = "buildx.build.provenance";

/// Why a metadata file has no op digests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataFileError {
    /// buildx did not put provenance into it.
    #[error(
        "the metadata file has no provenance; set BUILDX_METADATA_PROVENANCE=max for the build \
         that writes it"
    )]
    NoProvenance,
}

/// One provenance in a metadata file.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Target and platform, if the file distinguishes them.
    pub(super) name: Option<String>,
    /// The predicate.
    pub(super) provenance: &'a RawValue,
}

/// Returns the provenance in a metadata file with these fields; `None` if it is not a metadata file.
pub(super) fn parts<'a>(fields: &BTreeMap<String, &'a RawValue>) -> Option<Vec<Part<'a>>> {
    if is_metadata(fields) {
        return Some(parts_of_target(None, fields));
    }
    let mut parts = None;
    for (target, value) in fields {
        let Ok(fields) = serde_json::from_str(value.get()) else { continue };
        if is_metadata(&fields) {
            parts.get_or_insert_with(Vec::new).extend(parts_of_target(Some(target), &fields));
        }
    }
    parts
}

/// Returns whether an object is buildx' data about one build.
fn is_metadata(fields: &BTreeMap<String, &RawValue>) -> bool {
    fields.keys().any(|key| key.starts_with("buildx.build.") || key.starts_with("containerimage."))
}

fn parts_of_target<'a>(
    target: Option<&String>,
    fields: &BTreeMap<String, &'a RawValue>,
) -> Vec<Part<'a>> {
    fields
        .iter()
        .filter_map(|(key, value)| {
            let platform = match key.strip_prefix(PROVENANCE)? {
                "" => None,
                rest => Some(rest.strip_prefix('/')?),
            };
            let name = match (target, platform) {
                (None, None) => None,
                (Some(target), None) => Some(target.clone()),
                (None, Some(platform)) => Some(platform.to_owned()),
                (Some(target), Some(platform)) => Some(format!("{target} {platform}")),
            };
            Some(Part { name, provenance: value })
        })
        .collect()
}

//! Hints about unusable input.

use std::path::Path;

use oci2bk::export::ExportError;
use oci2bk::image::ImageError;
use oci2bk::inspect::PlaceError;
use oci2bk::keys::{AttachError, BundleError, SourceError};
use oci2bk::layout::{ArchiveError, LayoutError, PutArtifactError, WriteError};
use oci2bk::llb::ProvenanceError;
use oci2bk::manifest::{ManifestError, SelectError};
use oci2bk::plan::PlanError;
use oci2bk::source::meaning;
use oci2bk::sparse::SparseError;

use super::of_word;

/// How to export a cache.
const EXPORT: &str = "export the cache of a build with --cache-to type=local,dest=DIR,mode=max";

/// How to name the containerd of a builder as a key source.
pub(crate) const ELSEWHERE: &str = "name it behind the root of the builder, as in --keys \
                                    /var/lib/docker,containerd=/var/lib/containerd";

pub(super) fn of_export(error: &ExportError) -> Option<String> {
    match error {
        ExportError::Layout(error) => of_layout(error),
        ExportError::Select(error) => of_select(error),
        ExportError::NoRecords { .. } => Some(EXPORT.to_owned()),
        _ => None,
    }
}

pub(super) fn of_image(error: &ImageError) -> Option<String> {
    match error {
        ImageError::Layout(error) => of_layout(error),
        _ => None,
    }
}

fn of_layout(error: &LayoutError) -> Option<String> {
    match error {
        LayoutError::NotFound { path } => of_path(path),
        LayoutError::NoIndex { .. } => Some(
            "give the directory that --cache-to type=local,dest=DIR wrote, a tar archive of it, or the mirror \
             of a cache in S3 or Azure"
                .to_owned(),
        ),
        LayoutError::Archive { source: ArchiveError::OldSparse, .. } => {
            Some("make the archive with tar, without --sparse".to_owned())
        }
        _ => None,
    }
}

/// Returns a hint about a path that does not exist.
fn of_path(path: &Path) -> Option<String> {
    of_word(&meaning(path)?)
}

fn of_select(error: &SelectError) -> Option<String> {
    match error {
        SelectError::NoCache { .. } => Some(EXPORT.to_owned()),
        SelectError::Manifest { source, .. }
            if matches!(**source, ManifestError::NotACache { .. }) =>
        {
            Some("give the digest of a cache that --cache-to type=local exported".to_owned())
        }
        _ => None,
    }
}

pub(super) fn of_plan(error: &PlanError) -> Option<String> {
    match error {
        PlanError::Sparse { .. } => Some("keep the sparse layout for --cache-from".to_owned()),
        _ => None,
    }
}

pub(super) fn of_sparse(error: &SparseError) -> Option<String> {
    match error {
        SparseError::Select(error) => of_select(error),
        SparseError::Keys(error) => of_key_source(error),
        _ => None,
    }
}

pub(super) fn of_place(error: &PlaceError) -> Option<String> {
    match error {
        PlaceError::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            of_path(path)
        }
        PlaceError::Neither { .. } => {
            Some("give the directory that --cache-to type=local,dest=DIR wrote, or the root of a buildkitd".to_owned())
        }
        _ => None,
    }
}

pub(super) fn of_attach(error: &AttachError) -> Option<String> {
    match error {
        AttachError::Put(PutArtifactError::Write(WriteError::Mirror { .. })) => Some(
            "write the keys into a file with oci2bk keys, and give it to convert with --keys"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Returns a hint about a key source.
pub(crate) fn of_key_source(error: &SourceError) -> Option<String> {
    let hint = match error {
        SourceError::Unrecognised { .. } => {
            "--provenance=mode=max makes a build record provenance, also in what --output type=local and \
             type=tar write; oci2bk keys writes keys files"
        }
        SourceError::UnreadHistory(_) => ELSEWHERE,
        SourceError::NoKnownDirectory { .. } => {
            "--output type=local writes provenance.json with --provenance=mode=max"
        }
        SourceError::Archive { source, .. } if matches!(**source, BundleError::NoIndex) => {
            "--output type=tar writes provenance.json with --provenance=mode=max"
        }
        SourceError::NoAttestations { .. } => {
            "export the image of the build with --provenance=mode=max, or give another key source"
        }
        SourceError::Provenance { source: ProvenanceError::NoOps, .. } => {
            "build with --provenance=mode=max, or BUILDX_METADATA_PROVENANCE=max for a metadata file"
        }
        SourceError::Layout { source, .. } => return of_layout(source),
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use oci2bk::Digest;
    use oci2bk::keys::{SourceDescription, SourceKind};

    use super::*;

    #[test]
    fn what_is_no_cache_is_told_how_one_is_made() {
        let path = || "cache".into();
        let layout = |error| of_export(&ExportError::Layout(error)).unwrap();
        assert!(
            layout(LayoutError::NoIndex { path: path() })
                .contains("--cache-to type=local,dest=DIR")
        );
        let sparse = LayoutError::Archive { path: path(), source: ArchiveError::OldSparse };
        assert!(layout(sparse).ends_with("without --sparse"));
        let name = LayoutError::NotFound { path: "ghcr.io/team/cache:main".into() };
        assert!(layout(name).contains("regctl image copy ghcr.io/team/cache:main"));
        assert_eq!(of_layout(&LayoutError::NotFound { path: path() }), None);

        let digest = Digest::of("a manifest");
        let none = SelectError::NoCache { path: path(), manifests: 1 };
        let image = SelectError::Manifest {
            path: path(),
            source: Box::new(ManifestError::NotACache { digest }),
        };
        let select = |error| of_export(&ExportError::Select(Box::new(error))).unwrap();
        assert_eq!(select(none), EXPORT);
        assert!(select(image).ends_with("that --cache-to type=local exported"));
        let empty = ExportError::NoRecords { path: path(), cache: digest };
        assert_eq!(of_export(&empty).unwrap(), EXPORT);
        let image = ImageError::Layout(LayoutError::NoIndex { path: path() });
        assert!(of_image(&image).unwrap().contains("--cache-to"));
        let sparse = PlanError::Sparse { source_name: "sparse".to_owned(), cache: digest };
        assert!(of_plan(&sparse).unwrap().ends_with("--cache-from"));
        let mirror = AttachError::Put(WriteError::Mirror { path: path() }.into());
        assert!(of_attach(&mirror).unwrap().ends_with("with --keys"));
    }

    #[test]
    fn places_that_may_be_something_else_are_told_so() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let read = |path: &str| PlaceError::Read { path: path.into(), source: missing() };
        assert!(of_place(&read("ghcr.io/team/cache")).unwrap().contains("regctl image copy"));
        assert_eq!(of_place(&read("cache")), None);
        let neither = PlaceError::Neither { path: "x".into() };
        assert!(of_place(&neither).unwrap().contains("--cache-to type=local,dest=DIR"));
    }

    #[test]
    fn key_sources_without_keys_are_told_how_a_build_makes_them() {
        let path = || "source".into();
        let description =
            SourceDescription { path: path(), kind: SourceKind::Provenance, part: None };
        for error in [
            SourceError::Unrecognised { path: path(), source: None },
            SourceError::NoKnownDirectory { path: path() },
            SourceError::Archive { path: path(), source: Box::new(BundleError::NoIndex) },
            SourceError::NoAttestations { path: path() },
            SourceError::Provenance { document: description, source: ProvenanceError::NoOps },
        ] {
            let hint = of_key_source(&error).unwrap();
            assert!(hint.contains("--provenance=mode=max"), "{error}: {hint}");
        }
        assert_eq!(of_key_source(&SourceError::NoProvenance { path: path() }), None);
        let keys = Box::new(SourceError::NoAttestations { path: path() });
        assert!(of_sparse(&SparseError::Keys(keys)).is_some());
    }
}

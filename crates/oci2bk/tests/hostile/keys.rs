//! Damaged, foreign or nonsensical key sources. Those with a special format have separate modules.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use bkstate::Digest;
use oci2bk::keys::{KeysFileError, SourceError};
use serde_json::json;
use tempfile::NamedTempFile;

use super::top::kinds;
use super::*;

/// Creates a file with this content.
pub(super) fn file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

/// Creates a keys file of ops with these digests.
pub(super) fn file_of(ops: &[&str]) -> NamedTempFile {
    let ops: Vec<_> =
        ops.iter().map(|op| json!({"digests": [{"digest": op}], "outputs": 1})).collect();
    file(json!({"mediaType": "application/vnd.oci2bk.keys.v1+json", "ops": ops}).to_string())
}

/// Returns why the key source at `path` is rejected, for a sound cache, which stays unconverted.
pub(super) fn refused(path: &Path) -> SourceError {
    let (layout, _) = one_layer();
    match converted_with(layout.path(), &[path]) {
        Err(Fault::Keys(error)) => error,
        result => panic!("{result:?}"),
    }
}

#[test]
fn that_are_no_files() {
    for (_, make) in kinds() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("keys");
        make(&path);
        // Links are followed, since the path comes from the user.
        let error = refused(&path);
        let named = matches!(
            error,
            SourceError::NotAFile { .. }
                // The pipe has no writer.
                | SourceError::Empty { .. }
                | SourceError::Read { .. }
                | SourceError::NoKnownDirectory { .. }
                | SourceError::Unrecognised { .. }
        );
        assert!(named, "{error:?}");
    }
}

#[test]
fn that_are_empty_or_larger_than_they_may_be() {
    let error = refused(file("").path());
    assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with(" is empty; look at what the command said that should have written it"),
        "{error}"
    );
    let huge = file("{");
    huge.as_file().set_len(1 << 40).unwrap();
    let error = refused(huge.path());
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains(" has more than 67108864 bytes"), "{error}");
}

#[test]
fn keys_files_with_what_is_no_op_digest() {
    let digest = Digest::of("x").to_string();
    let long = format!(
        r#"{{"Type":"buildkit.merge.v0","Merge":{{"inputs":[{}{{}}]}}}}"#,
        "{},".repeat(10_000)
    );
    for wrong in [
        "",
        "x",
        "sha256:..",
        "../..",
        &digest.to_uppercase(),
        &digest.replace(':', "@"),
        &long,
        "{}",
    ] {
        let error = refused(file_of(&[wrong]).path());
        let SourceError::KeysFile { source, .. } = error else { panic!("{wrong}: {error:?}") };
        assert!(matches!(source, KeysFileError::OpDigest { op: 0, .. }), "{source:?}");
        assert!(source.to_string().len() < 1000);
    }
}

#[test]
fn keys_files_cut_off_at_every_byte() {
    let whole = fs::read(file_of(&[&Digest::of("x").to_string()]).path()).unwrap();
    for length in 1..whole.len() {
        let error = refused(file(&whole[..length]).path());
        assert!(
            matches!(error, SourceError::Unrecognised { .. } | SourceError::KeysFile { .. }),
            "{length}: {error:?}"
        );
        assert!(error.to_string().contains(" is not a known key source; "), "{error}");
    }
}

#[test]
fn keys_attached_to_a_layout_that_are_damaged() {
    let (layout, _) = one_layer();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let cache = &index["manifests"][0];
    let media_type = "application/vnd.oci2bk.keys.v1+json";
    let keys = layout.blob(media_type, "{}");
    let empty = layout.blob("application/vnd.oci.empty.v1+json", "{}");
    let artifact = json!({"mediaType": super::layout::MANIFEST, "artifactType": media_type,
        "config": empty, "layers": [keys], "subject": cache});
    layout.index(&[cache.clone(), layout.blob(super::layout::MANIFEST, artifact.to_string())]);
    match converted(layout.path()) {
        Err(Fault::Keys(SourceError::KeysFile { source: KeysFileError::Json(_), .. })) => {}
        result => panic!("{result:?}"),
    }
    fs::remove_file(layout.blob_path(&keys)).unwrap();
    symlink("/etc/passwd", layout.blob_path(&keys)).unwrap();
    match converted(layout.path()) {
        Err(Fault::Keys(SourceError::AttachedKeys { .. })) => {}
        result => panic!("{result:?}"),
    }
}

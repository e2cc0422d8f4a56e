//! Every limit on layouts and key sources, reached and raised. The tests of limits on layers are beside the
//! code that unpacks them.

use std::path::PathBuf;

use bkstate::{Class, Classified as _, Digest};
use oci2bk::export::ExportError;
use oci2bk::keys::SourceError;
use oci2bk::layout::BlobError;
use oci2bk::limits::{LIMITS, Limits, Setting};
use serde_json::json;

use super::keys::file;
use super::*;

/// Limits that do not affect a conversion ([`super::builds`]), or that apply to layers, compressed archives
/// ([`super::archives`]) or only to many inputs together.
const ELSEWHERE: [&str; 15] = [
    "archive-size",
    "comparisons",
    "layer-entries",
    "layer-size",
    "layer-ratio",
    "ratio-from",
    "layer-directories",
    "layer-lookups",
    "total-size",
    "total-entries",
    "total-lookups",
    "snapshots",
    "key-outputs",
    "path",
    "xattrs",
];

/// Returns every kind of input: a cache with attached provenance, in a directory or an archive, and key
/// sources.
fn inputs(limit: &str) -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"));
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let temp = tempfile::tempdir().unwrap();
    let cache = fixtures.join("index/cache");
    let source = if limit == "archive-members" {
        let path = temp.path().join("cache.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        tar.append_dir_all(".", cache).unwrap();
        tar.finish().unwrap();
        path
    } else if limit == "mirror-files" {
        mirrors::write(temp.path());
        temp.path().to_owned()
    } else {
        cache
    };
    let keys = match limit {
        "keys-document" => vec![fixtures.join("index/keys/provenance.json")],
        "keys-documents" => vec![fixtures.join("manifest/keys/image")],
        "bundle-size" | "bundle-members" => vec![data.join("history/one.dockerbuild")],
        _ => vec![],
    };
    (temp, source, keys)
}

fn outcome(limit: &str, setting: &str) -> Result<(), Fault> {
    let (_temp, source, keys) = inputs(limit);
    let setting: Setting = format!("{limit}={setting}").parse().unwrap();
    let keys: Vec<_> = keys.iter().map(PathBuf::as_path).collect();
    let source = source.to_str().unwrap().parse().unwrap();
    converted_within(&source, &keys, &Limits::with(&[setting])).map(|_| ())
}

#[test]
fn each_is_an_error_that_names_it_and_can_be_raised() {
    for limit in LIMITS.iter().filter(|limit| !ELSEWHERE.contains(&limit.name())) {
        let name = limit.name();
        for low in ["0", "1"] {
            // Of one layout, one manifest is enough.
            if (name, low) == ("manifests", "1") {
                continue;
            }
            let fault = outcome(name, low).unwrap_err();
            let found = (fault.class(), fault.limit_name());
            assert_eq!(found, (Class::Limit, Some(name)), "{fault:?}");
        }
        outcome(name, &limit.default.to_string()).unwrap();
        outcome(name, &u64::MAX.to_string()).unwrap();
    }
}

#[test]
fn of_documents_are_reached_exactly() {
    let layout = Layout::new();
    let layer = layout.layer("file");
    let nodes = json!([{"blob": layer["digest"], "parent": -1}]);
    let record = json!({"digest": Digest::of("r"), "chains": [{"layers": [0, 0]}]});
    let config = json!({"layers": nodes, "records": [record]}).to_string();
    layout.cache(&[layer], &config);
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let within = |limits: &Limits| converted_within(&source, &[], limits).map(|_| ());
    let default = Limits::default();
    let length = config.len() as u64;
    within(&Limits { config: length, cache_layers: 3, ..default }).unwrap();
    let error = within(&Limits { config: length - 1, ..default }).unwrap_err();
    let Fault::Export(ExportError::ConfigBlob { source: error, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(matches!(error, BlobError::TooLarge { .. }), "{error}");
    let message = format!(" has {length} bytes, but {} is all that ", length - 1);
    assert!(error.to_string().contains(&message), "{error}");
    let error = within(&Limits { cache_layers: 2, ..default }).unwrap_err();
    assert!(matches!(error, Fault::Export(ExportError::TooManyLayers { .. })), "{error:?}");
    assert!(error.to_string().contains(" lists more than 2 layers"), "{error}");
    let keys =
        file(json!({"mediaType": "application/vnd.oci2bk.keys.v1+json", "ops": []}).to_string());
    let size = keys.as_file().metadata().unwrap().len();
    let with_keys = |limits: &Limits| converted_within(&source, &[keys.path()], limits).map(|_| ());
    with_keys(&Limits { keys_document: size, ..default }).unwrap();
    let error = with_keys(&Limits { keys_document: size - 1, ..default }).unwrap_err();
    assert!(matches!(error, Fault::Keys(SourceError::TooLarge { .. })), "{error:?}");
    let message = format!(" has more than {} bytes", size - 1);
    assert!(error.to_string().contains(&message), "{error}");
}

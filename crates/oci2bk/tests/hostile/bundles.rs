//! Bundles of `docker buildx history export` that are bombs, cycles or fragments.

use std::fs;
use std::io::{Read as _, Write as _};

use bkstate::Digest;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use oci2bk::keys::{BundleError, SourceError};
use oci2bk::limits::{Limits, MAX_INDEX_DEPTH};
use serde_json::{Value, json};

use super::keys::{file, refused};
use super::*;

/// Returns the bundle of a real build.
fn real() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/history/one.dockerbuild");
    fs::read(path).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    content
}

/// Returns why an archive of these documents, which are blobs except for the first, is rejected.
fn of(documents: &[String]) -> BundleError {
    let mut tar = tar::Builder::new(Vec::new());
    for (position, document) in documents.iter().enumerate() {
        let name = match position {
            0 => "index.json".to_owned(),
            _ => format!("blobs/sha256/{}", Digest::of(document).hex()),
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(document.len() as u64);
        tar.append_data(&mut header, name, document.as_bytes()).unwrap();
    }
    archive_error(refused(file(gzip(&tar.into_inner().unwrap())).path()))
}

fn archive_error(error: SourceError) -> BundleError {
    match error {
        SourceError::Archive { source, .. } => *source,
        error => panic!("{error:?}"),
    }
}

fn entry(document: &str) -> Value {
    json!({"digest": Digest::of(document), "size": document.len()})
}

#[test]
fn cut_off_anywhere() {
    let (layout, _) = one_layer();
    let source = |bytes: &[u8]| planned(layout.path(), &[file(bytes).path()]);
    source(&real()).unwrap();
    let (compressed, plain) = (real(), gunzip(&real()));
    let cuts = (0..compressed.len()).step_by(97).map(|length| compressed[..length].to_vec());
    let cuts =
        cuts.chain((0..plain.len() - 1024).step_by(487).map(|length| plain[..length].to_vec()));
    for bytes in cuts {
        match source(&bytes) {
            // Everything necessary was already read.
            Ok(_) => assert!(bytes.len() > 512),
            Err(Fault::Keys(_)) => {}
            Err(fault) => panic!("{}: {fault:?}", bytes.len()),
        }
    }
}

#[test]
fn with_bytes_flipped() {
    let (layout, _) = one_layer();
    let plain = gunzip(&real());
    for at in (0..plain.len()).step_by(61) {
        let mut damaged = plain.clone();
        damaged[at] ^= 1 << (at % 8);
        match planned(layout.path(), &[file(&damaged).path()]) {
            Ok(_) | Err(Fault::Keys(_)) => {}
            Err(fault) => panic!("{at}: {fault:?}"),
        }
    }
}

#[test]
fn that_unpack_to_gigabytes() {
    // A member of eight gigabytes of zeros: eight megabytes, gzipped.
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(8 << 30);
    header.set_cksum();
    let mut bomb = gzip(header.as_bytes());
    let piece = gzip(&vec![0; 64 << 20]);
    for _ in 0..4 {
        bomb.extend(&piece);
    }
    let (layout, _) = one_layer();
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let limits = Limits { bundle_size: 200 << 20, ..Limits::default() };
    let error = match converted_within(&source, &[file(&bomb).path()], &limits) {
        Err(Fault::Keys(error)) => archive_error(error),
        result => panic!("{result:?}"),
    };
    assert!(matches!(error, BundleError::TooLong { .. }), "{error:?}");
    assert!(error.to_string().starts_with("the archive has more than 209715200 bytes"), "{error}");
    // A bomb in a bomb is a file that is not an archive.
    let error = refused(file(gzip(&gzip(&vec![0; 64 << 20]))).path());
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error:?}");
    assert!(error.to_string().contains(" is not a known key source; "), "{error}");
}

#[test]
fn that_are_empty_or_no_archive_inside() {
    for content in ["", "x", "{}"] {
        let error = refused(file(gzip(content.as_bytes())).path());
        assert!(matches!(error, SourceError::Unrecognised { .. }), "{content}: {error:?}");
        assert!(error.to_string().contains(" is not a known key source; "), "{error}");
    }
    let error = refused(file([0x1f, 0x8b, 8, 0]).path());
    assert!(matches!(error, SourceError::Decompress { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot decompress the key source "), "{error}");
}

#[test]
fn whose_indexes_lead_in_circles() {
    let own = json!({"manifests": [{"digest": Digest::of("x"), "size": 1}]}).to_string();
    // The index claims to be its own entry: the existing file has another digest.
    let name = format!("blobs/sha256/{}", Digest::of("x").hex());
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["index.json", &name] {
        let mut header = tar::Header::new_gnu();
        header.set_size(own.len() as u64);
        tar.append_data(&mut header, name, own.as_bytes()).unwrap();
    }
    let error = archive_error(refused(file(tar.into_inner().unwrap()).path()));
    assert!(matches!(error, BundleError::Corrupt { .. }), "{error:?}");
    assert!(
        error.to_string().contains(" in the archive is damaged: its content has the digest "),
        "{error}"
    );

    let mut documents = vec![json!({"manifests": []}).to_string()];
    for _ in 0..MAX_INDEX_DEPTH + 2 {
        let inner = documents.first().unwrap().clone();
        documents.insert(0, json!({"manifests": vec![entry(&inner); 100]}).to_string());
    }
    let error = of(&documents);
    assert!(matches!(error, BundleError::TooDeep), "{error}");
    assert_eq!(error.to_string(), "the archive has indexes more than 8 deep");
}

#[test]
fn whose_documents_are_malformed() {
    for document in
        ["", "{", "[]", "{}", r#"{"manifests":[],"layers":[]}"#, r#"{"manifests":[{}]}"#]
    {
        let error = of(&[document.to_owned()]);
        assert!(matches!(error, BundleError::Document { .. }), "{document}: {error:?}");
        assert_eq!(error.to_string(), "index.json in the archive is malformed");
        let index = json!({"manifests": [entry(document)]}).to_string();
        let error = of(&[index, document.to_owned()]);
        assert!(matches!(error, BundleError::Document { .. }), "{document}: {error:?}");
        assert!(error.to_string().ends_with(" in the archive is malformed"), "{error}");
    }
    let error = of(&[format!(r#"{{"manifests":[],"x":[{}0]}}"#, "{},".repeat(4_000_001))]);
    assert!(matches!(error, BundleError::TooComplex { .. }), "{error:?}");
    assert_eq!(error.to_string(), "index.json in the archive is not a document of a build");
}

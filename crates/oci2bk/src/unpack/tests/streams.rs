//! Compression, and verification of a blob.

use std::io::Write as _;
use std::sync::Mutex;

use crate::archives::*;

use super::*;
use crate::unpack::{Stream, Watch};

const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn tar() -> Vec<u8> {
    let uid = i64::from(rustix::process::geteuid().as_raw());
    let gid = i64::from(rustix::process::getegid().as_raw());
    let noise: Vec<u8> =
        (0..600_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    archive(&[file("noise", noise).owner(uid, gid), file("f", "content").owner(uid, gid)])
}

fn attempt(blob: &[u8], media_type: &str) -> (Snapshot, Result<Unpacked, UnpackError>) {
    let snapshot = Snapshot::new();
    let diff_id = Digest::of(tar());
    let outcome = unpack_blob(&snapshot, blob, media_type, diff_id, Placement::Base);
    (snapshot, outcome)
}

/// Returns the error of a layer that is exactly these bytes.
fn attempt_as_plain(blob: &[u8]) -> UnpackError {
    let snapshot = Snapshot::new();
    unpack_blob(&snapshot, blob, PLAIN, Digest::of(blob), Placement::Base).unwrap_err()
}

#[test]
fn all_encodings_give_the_same_tree() {
    let tar = tar();
    let (front, back) = tar.split_at(300_000);
    let members = [gzip(front), gzip(&[]), gzip(back)].concat();
    let skippable = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0], &b"abc"[..]].concat();
    let frames = [skippable.clone(), zstd(front), skippable, zstd(back)].concat();
    for (what, blob, media_type) in [
        ("plain", tar.clone(), PLAIN),
        ("gzip", gzip(&tar), OCI_GZIP),
        ("gzip of several members", members, OCI_GZIP),
        ("zstd", zstd(&tar), OCI_ZSTD),
        ("zstd of several frames", frames, OCI_ZSTD),
        ("Docker's plain", tar.clone(), DOCKER_PLAIN),
        ("Docker's gzip", gzip(&tar), DOCKER_GZIP),
        ("gzip not told", gzip(&tar), DOCKER_PLAIN),
        ("zstd called gzip", zstd(&tar), OCI_GZIP),
        ("plain called zstd", tar.clone(), OCI_ZSTD),
    ] {
        let (snapshot, outcome) = attempt(&blob, media_type);
        let unpacked = outcome.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_eq!((unpacked.entries, unpacked.stream.bytes), (2, tar.len() as u64), "{what}");
        assert_eq!(snapshot.read("f"), "content", "{what}");
        assert_eq!(snapshot.stat("noise").len(), 600_000, "{what}");
    }
}

#[test]
fn a_compressed_blob_called_plain_is_no_archive() {
    let error = attempt_as_plain(&gzip(&tar()));
    assert!(matches!(error, UnpackError::Archive { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" is malformed after entry \"\""), "{error}");
}

#[test]
fn media_types_that_are_no_layers_are_refused() {
    for media_type in [
        "",
        "application/vnd.oci.image.layer.v1.tar+xz",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.in-toto+json",
        "application/vnd.oci.image.config.v1+json",
    ] {
        let error = attempt(&tar(), media_type).1.unwrap_err();
        assert!(matches!(error, UnpackError::UnknownMediaType { .. }), "{media_type}: {error:?}");
        assert!(
            error.to_string().ends_with(
                "\", which is not a known layer type; known are OCI and Docker layers as \
                 plain tar, gzip or zstd"
            ),
            "{error}"
        );
    }
}

#[test]
fn a_blob_of_another_size_digest_or_diff_id_is_refused() {
    let tar = tar();
    let blob = gzip(&tar);
    let right = (Digest::of(&blob), blob.len() as u64, Digest::of(&tar));
    let attempt = |(digest, size, diff_id)| {
        let snapshot = Snapshot::new();
        let file = blob_file(&blob);
        let layer = Layer { blob: &file, digest, size, media_type: OCI_GZIP, diff_id };
        unpack(
            &layer,
            snapshot.open().as_fd(),
            Placement::Base,
            &Worker::default(),
            &Limits::default(),
            &|_| (),
        )
    };
    attempt(right).unwrap();
    let wrong = Digest::of("something else");
    let outcome = attempt((wrong, right.1, right.2));
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, UnpackError::WrongBlobDigest { found, .. } if found == right.0),
        "{error}"
    );
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
    for size in [right.1 - 1, right.1 + 1, 0, u64::MAX] {
        let outcome = attempt((right.0, size, right.2));
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, UnpackError::WrongBlobSize { found, .. } if found == right.1),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!(" has {} bytes, but its descriptor says ", right.1)),
            "{error}"
        );
    }
    let outcome = attempt((right.0, right.1, wrong));
    let error = outcome.unwrap_err();
    assert!(matches!(error, UnpackError::WrongDiffId { found, .. } if found == right.2), "{error}");
    assert!(error.to_string().contains(", but its descriptor says "), "{error}");
}

#[test]
fn damage_is_blamed_on_the_blob_where_its_digest_tells() {
    let tar = tar();
    for blob in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let mut damaged = blob.clone();
        damaged[100] ^= 0xFF;
        let snapshot = Snapshot::new();
        let file = blob_file(&damaged);
        let layer = Layer {
            blob: &file,
            digest: Digest::of(&blob),
            size: blob.len() as u64,
            media_type: DOCKER_PLAIN,
            diff_id: Digest::of(&tar),
        };
        let outcome = unpack(
            &layer,
            snapshot.open().as_fd(),
            Placement::Base,
            &Worker::default(),
            &Limits::default(),
            &|_| (),
        );
        let error = outcome.unwrap_err();
        assert!(matches!(error, UnpackError::WrongBlobDigest { .. }), "{error}");
        assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
    }
}

#[test]
fn streams_that_are_cut_off_are_refused() {
    let tar = tar();
    for (blob, media_type) in [(gzip(&tar), OCI_GZIP), (zstd(&tar), OCI_ZSTD)] {
        for cut in [blob.len() - 1, blob.len() / 2, 20, 5] {
            let error = attempt(&blob[..cut], media_type).1.unwrap_err();
            let named = matches!(error, UnpackError::Decompress { .. });
            assert!(named, "{media_type} cut at {cut}: {error:?}");
        }
    }
    let error = attempt_as_plain(&tar[..300_000]);
    let named = matches!(&error, UnpackError::Entry { reason: Refusal::Archive(_), .. });
    assert!(named, "{error:?}");
    let error = attempt_as_plain(&tar[..700]);
    assert!(chain(&error).contains("noise"), "{}", chain(&error));
}

#[test]
fn bytes_after_a_gzip_stream_are_ignored_and_counted() {
    for ending in [&b"\0"[..], &[0; 70_000], b"more than enough trailing bytes", b"\x1f"] {
        let blob = [&gzip(&tar()), ending].concat();
        let (snapshot, outcome) = attempt(&blob, OCI_GZIP);
        let stream = outcome.unwrap().stream;
        assert_eq!(stream, Stream { bytes: tar().len() as u64, ignored: ending.len() as u64 });
        assert_eq!(snapshot.read("f"), "content");
        let file = blob_file(&blob);
        let layer = Layer {
            blob: &file,
            digest: Digest::of(&blob),
            size: blob.len() as u64,
            media_type: OCI_GZIP,
            diff_id: Digest::of(tar()),
        };
        assert_eq!(check(&layer, &Limits::default(), &|_| ()).unwrap(), stream);
    }
}

#[test]
fn bytes_after_a_zstd_stream_are_refused() {
    let blob = [&zstd(&tar()), &b"more than enough trailing bytes"[..]].concat();
    let error = attempt(&blob, OCI_ZSTD).1.unwrap_err();
    assert!(matches!(error, UnpackError::Decompress { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot decompress layer "), "{error}");
}

#[test]
fn bytes_after_the_end_of_the_archive_count_for_the_diff_id() {
    let tar = [tar(), vec![7; 700_000]].concat();
    let diff_id = Digest::of(&tar);
    for blob in [tar.clone(), gzip(&tar)] {
        let snapshot = Snapshot::new();
        let outcome = unpack_blob(&snapshot, &blob, DOCKER_PLAIN, diff_id, Placement::Base);
        assert_eq!(outcome.unwrap().stream.bytes, tar.len() as u64);
    }
    let error = attempt(&gzip(&tar), OCI_GZIP).1.unwrap_err();
    assert!(matches!(error, UnpackError::WrongDiffId { .. }), "{error:?}");
    assert!(error.to_string().contains(", but its descriptor says "), "{error}");
}

#[test]
fn empty_layers_are_empty_directories() {
    for (blob, media_type) in
        [(vec![], PLAIN), (vec![], OCI_GZIP), (gzip(&[]), OCI_GZIP), (vec![], OCI_ZSTD)]
    {
        let snapshot = Snapshot::new();
        let outcome = unpack_blob(&snapshot, &blob, media_type, Digest::of(""), Placement::Overlay);
        assert_eq!(outcome.unwrap().entries, 0);
        assert_eq!(snapshot.tree(), [""; 0]);
    }
}

#[test]
fn an_error_of_an_entry_is_said_of_the_right_layer_only() {
    let mut tar = archive(&[member(b'7', "x")]);
    tar.resize(8 << 20, 1);
    let diff_id = Digest::of(&tar);
    let snapshot = Snapshot::new();
    let error =
        unpack_blob(&snapshot, &gzip(&tar), OCI_GZIP, diff_id, Placement::Base).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { .. }) && error.can_stay_packed(), "{error:?}");
    // It is not even the right layer.
    let error = attempt(&gzip(&tar), OCI_GZIP).1.unwrap_err();
    assert!(matches!(error, UnpackError::WrongDiffId { .. }), "{error:?}");
    assert!(error.to_string().contains(", but its descriptor says "), "{error}");
    assert!(!error.can_stay_packed());
}

#[test]
fn progress_rises_to_the_size_of_the_blob() {
    let blob = tar();
    let file = blob_file(&blob);
    let digest = Digest::of(&blob);
    let size = blob.len() as u64;
    let layer = Layer { blob: &file, digest, size, media_type: PLAIN, diff_id: digest };
    let seen = Mutex::new(Vec::new());
    let progress = |bytes| seen.lock().unwrap().push(bytes);
    unpack(
        &layer,
        Snapshot::new().open().as_fd(),
        Placement::Base,
        &Worker::default(),
        &Limits::default(),
        &progress,
    )
    .unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted() && seen.len() > 2);
    assert_eq!(seen.last(), Some(&size));
}

/// Cancels as soon as anything was read.
#[derive(Default)]
struct Impatient(std::sync::atomic::AtomicU64);

impl Watch for Impatient {
    fn read(&self, bytes: u64) {
        self.0.store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) > 0
    }
}

#[test]
fn a_layer_is_left_where_it_was_cancelled_whatever_is_wrong_with_it() {
    let blob = [tar(), tar(), tar()].concat();
    let file = blob_file(&blob);
    let size = blob.len() as u64;
    let wrong = Digest::of("another");
    let layer = Layer { blob: &file, digest: wrong, size, media_type: PLAIN, diff_id: wrong };
    let watch = Impatient::default();
    let snapshot = Snapshot::new();
    let fs = snapshot.open();
    let result =
        unpack(&layer, fs.as_fd(), Placement::Base, &Worker::default(), &Limits::default(), &watch);
    let error = result.unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled { .. }), "{error:?}");
    assert!(error.to_string().starts_with("unpacking layer "), "{error}");
    assert!(!error.is_input());
    assert!(watch.0.into_inner() < size);
}

#[test]
fn a_few_bytes_that_become_very_many_can_be_cancelled() {
    let blob = zstd(&vec![0; 64 << 20]);
    let file = blob_file(&blob);
    let digest = Digest::of(&blob);
    let size = blob.len() as u64;
    let layer = Layer { blob: &file, digest, size, media_type: OCI_ZSTD, diff_id: digest };
    let error = check(&layer, &Limits::default(), &Impatient::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled { .. }), "{error:?}");
    assert!(error.to_string().starts_with("unpacking layer "), "{error}");
}

#[test]
fn a_layer_is_checked_without_being_unpacked() {
    let tar = tar();
    let blob = gzip(&tar);
    let file = blob_file(&blob);
    let right = Layer {
        blob: &file,
        digest: Digest::of(&blob),
        size: blob.len() as u64,
        media_type: OCI_GZIP,
        diff_id: Digest::of(&tar),
    };
    assert_eq!(check(&right, &Limits::default(), &|_| ()).unwrap().bytes, tar.len() as u64);
    let other = Digest::of("");
    let error = check(&Layer { diff_id: other, ..right }, &Limits::default(), &|_| ()).unwrap_err();
    assert!(matches!(error, UnpackError::WrongDiffId { .. }), "{error:?}");
    assert!(error.to_string().contains(", but its descriptor says "), "{error}");
    let error = check(&Layer { digest: other, ..right }, &Limits::default(), &|_| ()).unwrap_err();
    assert!(matches!(error, UnpackError::WrongBlobDigest { .. }), "{error:?}");
    assert!(error.to_string().contains(" is damaged: its content has the digest "), "{error}");
}

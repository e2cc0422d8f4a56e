//! The parts of unpacking that write nothing: decompressing, hashing, parsing an archive; and all of them
//! together, as `unpack::check` does on two threads.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark may")]

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::AsFd as _;

use bkstate::Digest;
use bkstate::worker::Worker;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::bufread::MultiGzDecoder;
use oci2bk::limits::Limits;
use oci2bk::unpack::{Layer, Placement, check, unpack};

/// Size of the decompressed and hashed data, in bytes.
const BYTES: usize = 16 << 20;
/// Size of a read, in bytes.
const CHUNK: usize = 256 << 10;
const ENTRIES: u32 = 50_000;

/// Returns words of a small vocabulary: they compress about as well as the files of a distribution.
fn content() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut bytes = Vec::with_capacity(BYTES + 16);
    while bytes.len() < BYTES {
        let word = next(64) * next(64);
        bytes.extend_from_slice(&word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[..6]);
        bytes.push(next(24) as u8);
    }
    bytes.truncate(BYTES);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn drain(mut stream: impl Read) -> usize {
    let (mut chunk, mut total) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => return total,
            length => total += length,
        }
    }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn streams(criterion: &mut Criterion) {
    let bytes = content();
    let (gzip, zstd) = (gzip(&bytes), zstd::encode_all(bytes.as_slice(), 3).unwrap());
    let mut group = criterion.benchmark_group("streams");
    group.sample_size(20).throughput(Throughput::Bytes(BYTES as u64));
    group.bench_function("gzip", |bench| {
        bench.iter(|| assert_eq!(drain(MultiGzDecoder::new(gzip.as_slice())), BYTES));
    });
    group.bench_function("zstd", |bench| {
        bench.iter(|| assert_eq!(drain(zstd::Decoder::new(zstd.as_slice()).unwrap()), BYTES));
    });
    group.bench_function("digest", |bench| bench.iter(|| Digest::of(&bytes)));
    let blob = file(&gzip);
    let layer = Layer {
        blob: &blob,
        digest: Digest::of(&gzip),
        size: gzip.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        diff_id: Digest::of(&bytes),
    };
    group.bench_function("gzip, checked", |bench| {
        bench.iter(|| check(&layer, &Limits::default(), &|_| {}).unwrap());
    });
    group.finish();
}

/// Entries for the root directory are read and then ignored, whatever their attributes.
fn archive(criterion: &mut Criterion) {
    let mut header = tar::Header::new_ustar();
    header.set_path("./").unwrap();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_mtime(1_763_757_000);
    header.set_size(0);
    header.set_cksum();
    let mut tar = header.as_bytes().repeat(ENTRIES as usize);
    tar.extend_from_slice(&[0; 1024]);
    let (blob, digest) = (file(&tar), Digest::of(&tar));
    let layer = Layer {
        blob: &blob,
        digest,
        size: tar.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar",
        diff_id: digest,
    };
    let fs = tempfile::tempdir().unwrap();
    let (fs, worker) = (File::open(&fs).unwrap(), Worker::default());
    let mut group = criterion.benchmark_group("archive");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES.into()));
    group.bench_function("50k entries, hashed and parsed", |bench| {
        bench.iter(|| {
            unpack(&layer, fs.as_fd(), Placement::Overlay, &worker, &Limits::default(), &|_| {})
                .unwrap()
        });
    });
    group.bench_function("50k entries, hashed", |bench| {
        bench.iter(|| check(&layer, &Limits::default(), &|_| {}).unwrap());
    });
    group.finish();
}

criterion_group!(benches, streams, archive);
criterion_main!(benches);

//! Unpacks one gzip layer of 32 MiB: in small files and in large ones.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark may")]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use bkstate::Digest;
use bkstate::worker::Worker;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use oci2bk::limits::Limits;
use oci2bk::unpack::{Layer, Placement, unpack};

const BYTES: usize = 32 << 20;

struct Archive {
    blob: File,
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

/// Returns text-like bytes: they compress about as well as the files of a distribution.
fn content(length: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 58) as u8
    };
    (0..length).map(|_| b'A' + next() % 24).collect()
}

fn archive(files: usize) -> Archive {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..files {
        let bytes = content(BYTES / files, number);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_763_757_000);
        let name = format!("usr/share/{}/{number}", number / 100);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    let compressed = gzip.finish().unwrap();
    let mut blob = tempfile::tempfile().unwrap();
    blob.write_all(&compressed).unwrap();
    Archive {
        blob,
        digest: Digest::of(&compressed),
        size: compressed.len() as u64,
        diff_id: Digest::of(&tar),
    }
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unpack");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, files) in [("8192 files of 4 KiB", 8192), ("8 files of 4 MiB", 8)] {
        let (archive, worker) = (archive(files), Worker::default());
        let layer = Layer {
            blob: &archive.blob,
            digest: archive.digest,
            size: archive.size,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
            diff_id: archive.diff_id,
        };
        // Nothing is removed before the end: for some seconds after removals, ext4 creates files many times
        // slower (Linux `fs/ext4/ialloc.c` `recently_deleted`).
        let all = tempfile::tempdir().unwrap();
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || tempfile::tempdir_in(&all).unwrap().keep(),
                |dir| {
                    let fs = File::open(dir).unwrap();
                    unpack(
                        &layer,
                        fs.as_fd(),
                        Placement::Overlay,
                        &worker,
                        &Limits::default(),
                        &|_| {},
                    )
                    .unwrap();
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);

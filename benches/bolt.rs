//! Writes and reads databases: 200,000 values in 50,000 nested buckets, about the size for a cache of 10,000
//! records.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark may")]

use std::fs::File;

use bkstate::bolt::{self, Db, Entry, WriteError};
use criterion::{Criterion, criterion_group, criterion_main};

const BUCKETS: u32 = 50_000;
const VALUES: u32 = 4;

fn write(file: &File) {
    let written: Result<(), WriteError> = bolt::write(file, |root| {
        root.bucket(b"records", |records| {
            (0..BUCKETS).try_for_each(|bucket| {
                records.bucket(format!("{bucket:025}").as_bytes(), |record| {
                    (0..VALUES).try_for_each(|value| {
                        record.put(format!("key-{value}").as_bytes(), b"{\"value\":1763757000}")
                    })
                })
            })
        })
    });
    written.unwrap();
}

fn count(db: &Db) -> usize {
    let mut values = 0;
    let mut pending = vec![db.root()];
    while let Some(bucket) = pending.pop() {
        for entry in bucket.entries() {
            match entry.unwrap().1 {
                Entry::Value(_) => values += 1,
                Entry::Bucket(bucket) => pending.push(bucket),
            }
        }
    }
    values
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bolt");
    group.sample_size(10);
    group.bench_function("write 200k values", |bench| {
        bench.iter_with_large_drop(|| {
            let file = tempfile::tempfile().unwrap();
            write(&file);
            file
        });
    });
    let file = tempfile::tempfile().unwrap();
    write(&file);
    let db = Db::open(file).unwrap();
    group.bench_function("read 200k values", |bench| {
        bench.iter(|| assert_eq!(count(&db), (BUCKETS * VALUES) as usize));
    });
    group.bench_function("check 200k values", |bench| {
        bench.iter(|| assert!(bolt::check(&db).is_empty()));
    });
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);

//! Computes op digests: reads the provenance of a build of twenty steps, and computes the digest of each op
//! in every encoding.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark may")]

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use oci2bk::keys::read_source;
use oci2bk::limits::Limits;

const PROVENANCE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/index/keys/provenance.json");

fn benchmark(criterion: &mut Criterion) {
    let path = Path::new(PROVENANCE);
    criterion.bench_function("keys of a build", |bench| {
        bench.iter(|| assert!(!read_source(path, &Limits::default()).unwrap().is_empty()));
    });
}

criterion_group!(benches, benchmark);
criterion_main!(benches);

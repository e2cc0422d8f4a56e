//! Computes the keys of a Dockerfile: reads one of 300 lines and 20 stages, and computes the digest of each step for every
//! release of the frontend that makes other operations of it.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark may")]

use std::fmt::Write as _;

use criterion::{Criterion, criterion_group, criterion_main};
use dockerfile::{Frontend, Images, Limits, Options, convert};
use oci2bk::llb::{Encoding, Platform, digest};

const STAGES: usize = 20;
const LINES: usize = 15;

/// Makes the Dockerfile: each stage is on one before, and has instructions of all kinds.
fn dockerfile() -> String {
    let mut text = String::new();
    for stage in 0..STAGES {
        let base =
            if stage % 4 == 0 { "debian:12".to_owned() } else { format!("stage{}", stage - 1) };
        writeln!(text, "FROM {base} AS stage{stage}\nARG VERSION={stage}\nENV A{stage}=$PATH:/opt/${{VERSION:-1}}").unwrap();
        writeln!(
            text,
            "WORKDIR /src/{stage}\nCOPY --chown=1000:1000 go.mod go.sum ./\nCOPY --link . /all/"
        )
        .unwrap();
        writeln!(text, "RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=token \\\n    make VERSION=$VERSION").unwrap();
        writeln!(text, "RUN <<EOF\nset -e\nmake test\nmake install\nEOF\nUSER app\nCMD [\"run\"]")
            .unwrap();
    }
    text
}

fn benchmark(criterion: &mut Criterion) {
    let text = dockerfile();
    assert_eq!(text.lines().count(), STAGES * LINES);
    let platform: Platform = "linux/amd64".parse().unwrap();
    criterion.bench_function("keys of a Dockerfile of 300 lines and 20 stages", |bench| {
        bench.iter(|| {
            let mut keys = 0;
            for frontend in Frontend::classes() {
                let options = Options::new(frontend, platform.clone());
                let conversion =
                    convert(text.as_bytes(), &options, &Images::default(), &Limits::default())
                        .unwrap();
                for step in &conversion.steps {
                    digest(&step.op, Encoding::NEWEST, &platform).unwrap();
                    keys += 1;
                }
            }
            keys
        });
    });
}

criterion_group!(benches, benchmark);
criterion_main!(benches);

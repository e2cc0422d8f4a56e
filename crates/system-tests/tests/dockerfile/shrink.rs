//! Makes a build smaller that differs.

use anyhow::Result;

use crate::compare::{Build, Outcome, compare};
use crate::frontend::Frontend;

/// Removes lines, options and images as long as the rest differs, too.
pub(crate) fn shrink(frontend: &mut Frontend, build: &Build) -> Result<Build> {
    let mut least = build.clone();
    loop {
        let before = (least.dockerfile.len(), least.opts.len(), least.images.len());
        for smaller in smaller(&least) {
            if matches!(compare(frontend, &smaller)?, Outcome::Differs(_)) {
                least = smaller;
                break;
            }
        }
        if before == (least.dockerfile.len(), least.opts.len(), least.images.len()) {
            return Ok(least);
        }
    }
}

/// Returns the build without one part, each in turn.
fn smaller(build: &Build) -> Vec<Build> {
    let lines: Vec<&[u8]> = build.dockerfile.split_inclusive(|&byte| byte == b'\n').collect();
    let mut builds = Vec::new();
    for length in [8, 3, 1] {
        for start in (0..lines.len()).rev() {
            let end = (start + length).min(lines.len());
            let dockerfile = [&lines[..start], &lines[end..]].concat().concat();
            builds.push(Build { dockerfile, ..build.clone() });
        }
    }
    for key in build.opts.keys() {
        let mut smaller = build.clone();
        smaller.opts.remove(key);
        builds.push(smaller);
    }
    for key in build.images.keys() {
        let mut smaller = build.clone();
        smaller.images.remove(key);
        builds.push(smaller);
    }
    builds
}

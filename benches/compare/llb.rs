//! The build of the generated cache: a chain of steps that each make a directory; the cache has one layer for
//! each.
//!
//! The content of a cached step does not matter to a daemon: it takes the layer from the cache. The timed
//! build has one step more than the cache. That step has to run, so the daemon must unpack every layer below
//! it.

use anyhow::{Context as _, Result};
use bkstate::Digest;
use oci2bk::llb::{Definition, Encoding, Platform, digest};
use testkit::protobuf::Message;

/// Encodes a chain of `steps` steps and one more, in protobuf as `buildctl build` reads it from stdin. Field
/// numbers are those of BuildKit v0.32.2 `solver/pb/ops.proto`.
pub(crate) fn build(steps: usize) -> Vec<u8> {
    let mut definition = Message::new();
    let mut inputs = Message::new();
    for step in 0..=steps {
        let path = if step < steps { format!("/step-{step}") } else { "/one-more".to_owned() };
        let below = if step == 0 { -1 } else { 0 };
        let mkdir = Message::new().text(1, path).int(2, 0o755).int(5, -1);
        let action = Message::new().int(1, below).int(2, -1).message(6, mkdir);
        let op = inputs.message(4, Message::new().message(2, action)).into_bytes();
        inputs = Message::new().message(1, Message::new().text(1, Digest::of(&op).to_string()));
        definition = definition.bytes(1, op);
    }
    // The last vertex only marks the result.
    definition.bytes(1, inputs.into_bytes()).into_bytes()
}

/// Returns the names of the first `steps` steps of `build` in a cache.
pub(crate) fn records(build: &[u8], steps: usize) -> Result<Vec<Digest>> {
    let ops = Definition::from_protobuf(build)?.ops;
    let platform = Platform::default();
    let record = |op| Ok(digest(op, Encoding::NEWEST, &platform)?.record(0));
    ops.iter().take(steps).map(record).collect::<Result<_>>().context("the generated build")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_a_record_for_each_step_but_the_last() -> Result<()> {
        let build = build(3);
        let definition = Definition::from_protobuf(&build)?;
        assert_eq!(definition.ops.len(), 5);
        let records = records(&build, 3)?;
        let distinct: std::collections::BTreeSet<_> = records.iter().collect();
        assert_eq!(distinct.len(), 3);
        Ok(())
    }
}

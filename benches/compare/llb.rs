//! The build that the generated cache is of: a chain of steps that each make a directory, the
//! cache having one layer for each.
//!
//! What a step does does not matter to a daemon that finds it in the cache: it takes the layer from
//! there, whatever is in it. The build to be timed has one step more than the cache. That one has to
//! run, and for that the daemon must unpack every layer below it.

use anyhow::{Context as _, Result};
use bkstate::Digest;
use oci2bk::llb::{Definition, Encoding, Platform, digest};
use testkit::protobuf::Message;

/// A chain of `steps` steps and one more, in protobuf as `buildctl build` takes it on stdin. The numbers
/// of fields are those of BuildKit v0.32.2 `solver/pb/ops.proto`.
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
    // The last vertex only names the result.
    definition.bytes(1, inputs.into_bytes()).into_bytes()
}

/// What a cache of the first `steps` steps of `build` calls them.
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

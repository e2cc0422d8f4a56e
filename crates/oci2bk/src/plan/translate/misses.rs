//! The steps that a daemon of another release does not find, or may not.
//!
//! Op digests and selectors can be translated, but not hashes of contents, which is all that a build
//! context is known by. How they are made changed with three releases ([`Contents`]). Whether that
//! changes a hash depends on the contents, and whether it is another release on an exporter that
//! often does not show, so most of this is a maybe.

use bkstate::Digest;

use super::{Translation, may_be_contents};
use crate::config::{Input, Record};
use crate::llb::{Patterns, Vertex};
use crate::plan::{Miss, MissReason};
use crate::release::{Class, Contents, Releases};

impl Translation<'_> {
    /// The records that the target will not find, or may not, although they become steps.
    pub(in crate::plan) fn misses(&self, source: usize) -> impl Iterator<Item = Miss> {
        self.records.iter().filter_map(move |record| {
            let (exporter, key) = (self.exporter?, self.key(record)?);
            let (reason, certain) = match &key.vertex {
                None if self.is_identity() => return None,
                // Most ops have the same digest in neighbouring releases.
                None => (MissReason::NoOp, false),
                Some(vertex) => self.hashed_otherwise(exporter, record, vertex)?,
            };
            Some(Miss { source, record: record.digest, name: key.name.clone(), reason, certain })
        })
    }

    /// Why the target may look for `record` by another hash than the one it is known by, and whether
    /// it does for certain.
    fn hashed_otherwise(
        &self,
        exporter: Releases,
        record: &Record,
        vertex: &Vertex,
    ) -> Option<(MissReason, bool)> {
        let hashed: Vec<_> = record
            .inputs
            .iter()
            .enumerate()
            .filter_map(|(number, alternatives)| self.known_by(vertex, number, alternatives))
            .collect();
        let target = self.target.class().contents;
        let change = |class: &Class| {
            hashed.iter().filter_map(|patterns| change(class.contents, target, *patterns)).max()
        };
        let changes: Vec<_> = exporter.classes().map(change).collect();
        let certain = changes.iter().all(|change| change.is_some_and(|(certain, _)| certain));
        let (_, reason) = changes.into_iter().flatten().max()?;
        Some((reason, certain))
    }

    /// What patterns select of input `number`, if a daemon can find the op of `vertex` only by the
    /// contents of that input.
    fn known_by(&self, vertex: &Vertex, number: usize, alternatives: &[Input]) -> Option<Patterns> {
        let patterns = vertex.hashed_patterns(number)?;
        let by_contents = |alternative: &Input| {
            alternative.selector.is_empty()
                && may_be_contents(self.records, vertex, number, alternative)
        };
        if !alternatives.iter().all(by_contents) {
            return None;
        }
        let nothing = key_of_nothing();
        let is_nothing = |alternative: &Input| {
            self.records.get(alternative.record).is_some_and(|root| root.digest == nothing)
        };
        let matched = !alternatives.iter().any(is_nothing);
        Some(if matched { patterns } else { patterns.min(Patterns::Some) })
    }
}

/// Why one release may hash contents otherwise than another if `patterns` select of them, and whether
/// it does for certain.
fn change(a: Contents, b: Contents, patterns: Patterns) -> Option<(bool, MissReason)> {
    let (older, newer) = (a.min(b), a.max(b));
    let lies_between = |first: Contents| older < first && first <= newer;
    if patterns != Patterns::None && lies_between(Contents::V0_26) {
        Some((patterns == Patterns::All, MissReason::Patterns))
    } else if patterns != Patterns::None && lies_between(Contents::V0_25) {
        Some((false, MissReason::Patterns))
    } else {
        lies_between(Contents::V0_14).then_some((false, MissReason::Links))
    }
}

/// The key of the contents that a wildcard selects which matches nothing. It is the same in all
/// releases: made of a list of one digest, which is that of no bytes (`Checksum` in
/// `cache/contenthash/checksum.go`, `NewContentHashFunc` in `ops/opsutils/contenthash.go`).
fn key_of_nothing() -> Digest {
    let contents = Digest::of(Digest::of("").to_string());
    Digest::of(format!("{contents}@-1"))
}

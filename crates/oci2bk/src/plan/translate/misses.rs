//! The steps that a daemon of another release does not find, or may not.
//!
//! Op digests and selectors can be translated, but not hashes of content, by which alone a build context is
//! found. Three releases changed their computation ([`Contents`]). Whether that changes a hash depends on the
//! content, and the release of the exporter is not always known, so some of these are uncertain.

use bkstate::Digest;
use llb::release::{Class, Contents, Releases};
use llb::{Patterns, Vertex};

use super::{Translation, may_be_contents};
use crate::config::{Input, Record, RecordIndex};
use crate::index::by_index;
use crate::keys::Resolved;
use crate::plan::{Miss, MissReason, SourceIndex};

/// The explanation of a miss.
struct Why {
    reason: MissReason,
    certain: bool,
    exporter: Option<Releases>,
}

impl Translation<'_> {
    /// Returns the records that the target will not find, or may not, although they become steps. What they
    /// cost is not known here.
    pub(in crate::plan) fn misses(
        &self,
        source: SourceIndex,
    ) -> impl Iterator<Item = (RecordIndex, Miss)> {
        let records = by_index(self.records).iter_enumerated();
        records.filter_map(move |(index, record): (RecordIndex, &Record)| {
            let key = self.key(record)?;
            let exporter = self.exporter_of(key)?;
            let Why { reason, certain, exporter } = match &key.vertex {
                None if exporter.contains(&self.target) => return None,
                // Most ops have the same digest in neighbouring releases.
                None => Why { reason: MissReason::NoOp, certain: false, exporter: None },
                Some(vertex) => self.hashed_otherwise(exporter, record, vertex)?,
            };
            let (record, name) = (record.digest, key.name.clone());
            let (inputs, size) = (Vec::new(), 0);
            let miss = Miss { source, record, name, reason, certain, exporter, inputs, size };
            Some((index, miss))
        })
    }

    /// Returns the possible releases of the daemon that made the record of `key`; `None` if unknown.
    fn exporter_of(&self, key: &Resolved) -> Option<Releases> {
        // If the names are of several releases, as after an upgrade, it may be any.
        let any = || key.vertex.is_some().then_some(Releases::ALL);
        let told: Vec<_> = [key.builder, self.stated()].into_iter().flatten().collect();
        let known = || (!told.is_empty()).then_some(Releases::ALL);
        let named = self.named.or_else(any).or_else(known)?;
        Some(told.iter().fold(named, |releases, span| releases.within(*span)))
    }

    /// Returns why the target may look up `record` by another hash than its own.
    fn hashed_otherwise(
        &self,
        exporter: Releases,
        record: &Record,
        vertex: &Vertex,
    ) -> Option<Why> {
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
        let only_if = || Releases::of(|c| exporter.has(c) && change(c).is_some());
        let exporter = changes.iter().any(Option::is_none).then(only_if).flatten();
        let (_, reason) = changes.into_iter().flatten().max()?;
        Some(Why { reason, certain, exporter })
    }

    /// Returns what patterns select of input `number`, if a daemon can find the op of `vertex` only by the
    /// content of that input.
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
        let is_nothing = |alternative: &Input| self.records[alternative.record].digest == nothing;
        let matched = !alternatives.iter().any(is_nothing);
        Some(if matched { patterns } else { patterns.min(Patterns::Some) })
    }
}

/// Returns why one release may hash content differently from another if `patterns` select from it, and
/// whether it certainly does.
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

/// The key of the content selected by a wildcard without matches. It is the same in all releases: made from a
/// list of one digest, which is that of no bytes (`Checksum` in `cache/contenthash/checksum.go`,
/// `NewContentHashFunc` in `ops/opsutils/contenthash.go`).
fn key_of_nothing() -> Digest {
    let contents = Digest::of(Digest::of("").to_string());
    Digest::of(format!("{contents}@-1"))
}

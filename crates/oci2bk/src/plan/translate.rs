//! Translates the keys of the release that exported a cache to those of the release that will use it.
//!
//! Op and result do not depend on a release's name for the step, so if a key source has the op, the links get
//! the target's op digest and selectors. The exporter's own are not kept: no lookup would use them, but the
//! target would list them as separate records when it exports the cache again (`addBacklinks` in BuildKit
//! `solver/exporter.go`).

mod misses;
mod scans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use codec::gojson::ControlEscapes;
use llb::release::{Class, Releases, Span, Target};
use llb::{Encoding, OpDigest, Selectors, Vertex};

use crate::config::{Input, Record, RecordIndex};
use crate::export::CacheExport;
use crate::keys::{Keyring, Resolved};

/// The keys of one export for a target.
pub(super) struct Translation<'a> {
    records: &'a [Record],
    keyring: &'a Keyring,
    target: Target,
    /// The releases that name the records as in the export, as far as their ops are known.
    named: Option<Releases>,
    /// Those of them that are consistent with the key sources.
    exporter: Option<Releases>,
    /// The records that others build on, if that is needed.
    built_on: BTreeSet<RecordIndex>,
    /// The target's names for the op of each record. Many records may have one op.
    names: BTreeMap<Digest, Vec<OpDigest>>,
}

impl<'a> Translation<'a> {
    pub(super) fn new(export: &'a CacheExport, keyring: &'a Keyring, target: Target) -> Self {
        let records = &export.config.records;
        let named = named(records, keyring);
        let told = [told(records, keyring), stated(keyring)];
        let exporter = named.map(|named| told.into_iter().flatten().fold(named, Releases::within));
        let names = BTreeMap::new();
        let built_on = scans::built_on(records, keyring);
        let mut translation = Self { records, keyring, target, named, exporter, built_on, names };
        let digests: BTreeSet<_> = records.iter().map(|record| record.digest).collect();
        let names = |digest| Some((digest, translation.translated(keyring.get(&digest)?)));
        translation.names = digests.into_iter().filter_map(names).collect();
        translation
    }

    /// Returns the possible releases of the exporter.
    pub(super) fn exporter(&self) -> Option<Releases> {
        self.exporter
    }

    /// Returns the release that the caller states for the exporter.
    fn stated(&self) -> Option<Span> {
        stated(self.keyring)
    }

    /// Returns whether any key differs from the exporter's.
    pub(super) fn is_translated(&self) -> bool {
        let mut keys = self.records.iter().filter_map(|record| self.key(record));
        !self.is_identity() && keys.any(|key| key.vertex.is_some())
    }

    /// Returns the exporter's key of `record`.
    pub(super) fn key(&self, record: &Record) -> Option<&'a Resolved> {
        self.keyring.get(&record.digest)
    }

    /// Returns whether the exporter names everything as the target does.
    fn is_identity(&self) -> bool {
        let target = self.target.class();
        let as_target =
            |class: &Class| class.digests == target.digests && class.selectors == target.selectors;
        self.named.is_some_and(|named| named.classes().any(as_target))
    }

    /// Returns the target's op digests of `record`: several, if they depend on how the daemon was built, or
    /// on the release of the frontend. Empty if it has no key.
    pub(super) fn op_digests(&self, record: &Record) -> &[OpDigest] {
        self.names.get(&record.digest).map(Vec::as_slice).unwrap_or_default()
    }

    fn translated(&self, key: &Resolved) -> Vec<OpDigest> {
        let Some(vertex) = key.vertex.as_deref().filter(|_| !self.is_identity()) else {
            return vec![key.op_digest.clone()];
        };
        let newer = match self.target.class().selectors {
            Selectors::V0_15_2 => vertex.as_sent_since_v0_15_2(),
            _ => None,
        };
        let mut digests = Vec::new();
        for vertex in [Some(vertex), newer.as_ref()].into_iter().flatten() {
            for encoding in self.target.encodings() {
                // An op with a digest in one encoding has one in all.
                digests.extend(vertex.digest(encoding).ok());
            }
            digests.dedup();
        }
        if digests.is_empty() { vec![key.op_digest.clone()] } else { digests }
    }

    /// Returns the target's selectors for input `number` of the op of `key`, replacing that of `alternative`.
    /// `None` if they are not known: the op digest does not include what the mounts of a command select, so
    /// the selection in the key source must be the one in the export.
    pub(super) fn selectors(
        &self,
        key: &Resolved,
        number: usize,
        alternative: &Input,
    ) -> Vec<String> {
        let exported = alternative.selector.clone();
        let Some(vertex) = key.vertex.as_ref().filter(|_| !self.is_identity()) else {
            return vec![exported];
        };
        let Some(selector) = vertex.selector(number, self.target.class().selectors) else {
            return vec![exported];
        };
        let proves = |class: Selectors| {
            vertex.selector(number, class).as_ref() == Some(&exported)
                && vertex.tells_selections(number, class)
        };
        let is_proven = Selectors::ALL.into_iter().any(proves);
        if !exported.is_empty() {
            // Another directory than that of the known op: one digest may cover both.
            return vec![if is_proven { selector } else { exported }];
        }
        if !may_be_contents(self.records, vertex, number, alternative) {
            return is_proven.then_some(selector).into_iter().collect();
        }
        // A content key has no selector in any release. Up to v0.12 others had none either.
        let mut classes = self.named.iter().flat_map(Releases::classes);
        let ambiguous = classes.any(|class| proves(class.selectors));
        if ambiguous && !selector.is_empty() { vec![exported, selector] } else { vec![exported] }
    }
}

fn stated(keyring: &Keyring) -> Option<Span> {
    keyring.exporter().map(|release| Span::of(release.version()))
}

/// Returns what the key sources say about the release that made `records`; `None` if that excludes any whose
/// op they have.
fn told(records: &[Record], keyring: &Keyring) -> Option<Span> {
    let keys = records.iter().filter_map(|record| keyring.get(&record.digest));
    let mut told = keys.filter(|key| key.vertex.is_some()).map(|key| key.builder);
    let first = told.next()??;
    told.try_fold(first, |all, builder| Some(all.or(builder?)))
}

/// Returns the releases that name all `records` like this, as far as their ops are known; `None` if there is
/// none.
fn named(records: &[Record], keyring: &Keyring) -> Option<Releases> {
    let known: Vec<_> = records
        .iter()
        .filter_map(|record| {
            let key = keyring.get(&record.digest)?;
            Some((record, &key.op_digest, key.vertex.as_deref()?))
        })
        .collect();
    // Many records may have one op.
    let ops: BTreeMap<_, _> = known
        .iter()
        .map(|(record, op_digest, vertex)| (record.digest, (op_digest, vertex)))
        .collect();
    // Some classes differ in only one of the two, or in neither.
    let (mut named, mut selected) = (BTreeMap::new(), BTreeMap::new());
    let evidence = |class: &Class| {
        let names_so = || ops.values().all(|(digest, vertex)| names_so(class, digest, vertex));
        let selects_so = || {
            let mut known = known.iter();
            known.all(|(record, _, vertex)| selects_so(class.selectors, records, record, vertex))
        };
        *named.entry(class.digests).or_insert_with(names_so)
            && *selected.entry(class.selectors).or_insert_with(selects_so)
    };
    if known.is_empty() { None } else { Releases::of(evidence) }
}

fn names_so(class: &Class, op_digest: &OpDigest, vertex: &Vertex) -> bool {
    [ControlEscapes::Short, ControlEscapes::Long].into_iter().any(|escapes| {
        let encoding = Encoding { release: class.digests, escapes };
        vertex.digest(encoding).is_ok_and(|digest| digest == *op_digest)
    })
}

/// Returns whether the selectors of `record` are those of `class`. If they match no class, the op is not
/// exactly the one of the record, and tells nothing.
fn selects_so(class: Selectors, records: &[Record], record: &Record, vertex: &Vertex) -> bool {
    let fits = |class: Selectors| {
        record.inputs.iter().enumerate().all(|(number, alternatives)| {
            let Some(expected) = vertex.selector(number, class) else { return true };
            alternatives.iter().all(|alternative| {
                alternative.selector == expected
                    || (alternative.selector.is_empty()
                        && may_be_contents(records, vertex, number, alternative))
            })
        })
    };
    fits(class) || !Selectors::ALL.into_iter().any(fits)
}

/// Returns whether `alternative`, which has no selector, may be for the content of the input. Content keys
/// have no inputs.
fn may_be_contents(
    records: &[Record],
    vertex: &Vertex,
    number: usize,
    alternative: &Input,
) -> bool {
    records[alternative.record].inputs.is_empty() && vertex.hashes_contents(number)
}

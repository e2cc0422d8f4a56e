//! Converts the records of cache configs to the solver's keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bkstate::Digest;
use bkstate::ids::KeyId;
use bkstate::solver::Link;
use llb::Base;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use typed_index_collections::{TiSlice, TiVec, ti_vec};

use super::layers::{Layers, Tops};
use super::translate::Translation;
use super::{LayerIndex, Lost, LostReason, SourceIndex, Step, StepIndex, StepLink, StepResult};
use crate::config::{Input, Record, RecordIndex};
use crate::export::CacheExport;
use crate::keys::Resolved;

/// The steps of all exports so far.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) steps: TiVec<StepIndex, Step>,
    pub(super) lost: Vec<Lost>,
    /// For each step, the input to which its result adds one layer, if known.
    pub(super) bases: TiVec<StepIndex, Option<usize>>,
    /// Only used for lookups.
    step_of: HashMap<KeyId, StepIndex>,
    /// The base of each record's op. Many records may have one op.
    bases_of: BTreeMap<Digest, Option<Base>>,
    /// The steps' results, each as step and layer. One step may have very many.
    results: BTreeSet<(StepIndex, LayerIndex)>,
}

/// What became of the records of an export.
pub(super) struct Fates {
    /// The step of each record, if it has one.
    steps: TiVec<RecordIndex, Option<StepIndex>>,
    /// The names of the others, if they are known.
    lost: BTreeMap<RecordIndex, String>,
}

impl Steps {
    /// Adds the records of `export`, whose results have the layers `tops`.
    pub(super) fn add(
        &mut self,
        source: SourceIndex,
        export: &CacheExport,
        translation: &Translation<'_>,
        tops: &Tops,
        layers: &mut Layers,
    ) -> Fates {
        let records = &export.config.records;
        let steps = ti_vec![None; records.len()];
        let mut fates = Fates { steps, lost: BTreeMap::new() };
        for &index in export.config.records_inputs_first() {
            let (record, tops) = (&records[index], &tops[index]);
            let key = translation.key(record);
            match self.links(record, translation, &fates.steps) {
                Ok(links) => {
                    let step = self.step(record, key, links);
                    self.add_results(step, record, tops, layers);
                    fates.steps[index] = Some(step);
                }
                Err(reason) => {
                    let scanner =
                        translation.scanner(index).filter(|_| reason == LostReason::NoKey);
                    let reason = scanner.map_or(reason, |_| LostReason::SbomScan);
                    let named = key.and_then(|key| key.name.as_deref());
                    let described = || tops.iter().find_map(|&top| layers.description(top));
                    let name = named.or_else(described).map(str::to_owned);
                    let inputs = self.inputs(record, &fates);
                    let hint = match scanner {
                        Some(image) => image.map(str::to_owned),
                        None => name.clone().or_else(|| self.hint(record, &fates.steps)),
                    };
                    let size = layers.size(tops);
                    fates.lost.extend(name.clone().map(|name| (index, name)));
                    let digest = record.digest;
                    self.lost.push(Lost { source, digest, reason, hint, name, inputs, size });
                }
            }
        }
        fates
    }

    /// Returns the names of the steps that `record` builds on, one for each input, as far as they are known.
    pub(super) fn inputs(&self, record: &Record, fates: &Fates) -> Vec<String> {
        let name_of = |input: &Input| match fates.steps[input.record] {
            Some(step) => self.steps[step].name.clone(),
            None => fates.lost.get(&input.record).cloned(),
        };
        record.inputs.iter().filter_map(|input| input.iter().find_map(name_of)).collect()
    }

    /// Returns the edges to `record`, or why there can be none.
    fn links(
        &self,
        record: &Record,
        translation: &Translation<'_>,
        step_of_record: &TiSlice<RecordIndex, Option<StepIndex>>,
    ) -> Result<Vec<StepLink>, LostReason> {
        if record.inputs.is_empty() {
            return Ok(Vec::new());
        }
        let key = translation.key(record).ok_or(LostReason::NoKey)?;
        let digests = translation.op_digests(record);
        let mut links = Vec::new();
        for (input, (number, alternatives)) in (0..).zip(record.inputs.iter().enumerate()) {
            let before = links.len();
            let mut reason = LostReason::LostInput;
            for alternative in alternatives {
                let Some(from) = step_of_record[alternative.record] else { continue };
                let selectors = translation.selectors(key, number, alternative);
                if selectors.is_empty() {
                    reason = LostReason::Unproven;
                }
                for (digest, selector) in
                    digests.iter().flat_map(|digest| selectors.iter().map(move |s| (digest, s)))
                {
                    let link = Link {
                        input,
                        output: i64::from(key.output),
                        digest: digest.as_str().into(),
                        selector: selector.clone(),
                    };
                    links.push(StepLink { from, link });
                }
            }
            if links.len() == before {
                return Err(reason);
            }
        }
        Ok(links)
    }

    /// Returns the step with these edges, created if it is new.
    fn step(&mut self, record: &Record, key: Option<&Resolved>, links: Vec<StepLink>) -> StepIndex {
        let id = self.key_id(record, &links);
        *self.step_of.entry(id.clone()).or_insert_with(|| {
            let name = key.and_then(|key| key.name.clone());
            let base_of = |key: &Resolved| key.vertex.as_ref()?.op.base(key.output);
            let base = self.bases_of.entry(record.digest).or_insert_with(|| key.and_then(base_of));
            let base = base.filter(|base| base.inputs == record.inputs.len());
            self.bases.push(base.map(|base| base.input));
            self.steps.push_and_get_key(Step { key: id, name, results: Vec::new(), links })
        })
    }

    /// Returns the id of a key: for a root key its digest; any other is derived from the op and the keys of
    /// its inputs, so the same step on the same inputs is the same key in every export.
    fn key_id(&self, record: &Record, links: &[StepLink]) -> KeyId {
        let Some(first) = links.first() else { return KeyId::from(record.digest) };
        let op = Digest::of(format!("{}@{}", first.link.digest, first.link.output));
        let mut edges: Vec<_> = links
            .iter()
            .map(|StepLink { from, link }| {
                format!("{} {} {}", link.input, link.selector, self.steps[*from].key)
            })
            .collect();
        edges.sort_unstable();
        edges.dedup();
        KeyId::derive(&format!("{op}\n{}", edges.join("\n")))
    }

    fn add_results(
        &mut self,
        index: StepIndex,
        record: &Record,
        tops: &[LayerIndex],
        layers: &mut Layers,
    ) {
        let step = &mut self.steps[index];
        for (&layer, result) in tops.iter().zip(&record.results) {
            layers.learn(layer, step.name.as_deref(), result.created_at);
            if self.results.insert((index, layer)) {
                step.results.push(StepResult { layer, created_at: result.created_at });
            }
        }
    }

    /// Returns a description of a record without a name.
    fn hint(
        &self,
        record: &Record,
        step_of_record: &TiSlice<RecordIndex, Option<StepIndex>>,
    ) -> Option<String> {
        let below = record.inputs.iter().flatten().find_map(|input| {
            let step = step_of_record[input.record]?;
            self.steps[step].name.as_deref()
        })?;
        Some(format!("a step after {below}"))
    }
}

/// Not with the names of `cache.db`, which are Go's.
impl Serialize for StepLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { from, link: Link { input, output, digest, selector } } = self;
        let mut link = serializer.serialize_struct("StepLink", 5)?;
        link.serialize_field("from", from)?;
        link.serialize_field("input", input)?;
        link.serialize_field("output", output)?;
        link.serialize_field("op_digest", digest)?;
        link.serialize_field("selector", selector)?;
        link.end()
    }
}

//! Finds the cached steps most similar to a missing one.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use bkstate::Digest;
use llb::Vertex;

use super::asked::Asked;
use super::difference::{Fields, between};
use super::known::{Edge, Known, NodeIndex};
use super::walk::Walk;
use super::{Cache, ExplainError, Nearest};

type Named<'a> = (&'a Digest, &'a Edge);

/// The steps of a cache by their inputs, so that only those near a miss are compared.
#[derive(Debug)]
pub(super) struct Neighbours<'a> {
    /// The steps with a possible node of an input, by the number of the input and the node.
    on: BTreeMap<(usize, NodeIndex), Vec<Named<'a>>>,
    /// The steps with an input that may be a root, by the number of the input.
    on_roots: BTreeMap<usize, Vec<Named<'a>>>,
    /// The steps without inputs whose ops are known.
    roots: Vec<&'a Digest>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(cache: &'a Cache) -> Self {
        let known: &Known = &cache.known;
        let mut on: BTreeMap<_, Vec<Named<'a>>> = BTreeMap::new();
        let mut on_roots: BTreeMap<_, Vec<Named<'a>>> = BTreeMap::new();
        for (name, edge) in known.all_edges() {
            for (&input, ways) in &edge.inputs {
                let from: BTreeSet<NodeIndex> = ways.iter().map(|way| way.from).collect();
                if from.iter().any(|from| known.is_root(*from)) {
                    on_roots.entry(input).or_default().push((name, edge));
                }
                from.into_iter().for_each(|from| {
                    on.entry((input, from)).or_default().push((name, edge));
                });
            }
        }
        let roots = cache.keyring.iter().map(|(name, _)| name);
        let roots = roots.filter(|name| known.find_root(name).is_some()).collect();
        Self { on, on_roots, roots }
    }
}

impl Walk<'_, '_> {
    /// Returns the number of other ops on the inputs, and the least different one.
    pub(super) fn nearest(
        &self,
        asked: &Asked<'_>,
    ) -> Result<(usize, Option<Nearest>), ExplainError> {
        let names = self.others(asked)?;
        let mut nearest: Option<Nearest> = None;
        let mut own = None;
        for name in &names {
            self.explainer.spend(1)?;
            let Some((key, cached)) = self.explainer.cache.keyring.get(name).and_then(|key| {
                let cached = key.vertex.as_deref()?;
                let alike = discriminant(&cached.op.kind) == discriminant(&asked.vertex.op.kind);
                alike.then_some((key, cached))
            }) else {
                continue;
            };
            let own = match &mut own {
                Some(own) => own,
                own => own.insert(self.fields(&asked.vertex, asked)?),
            };
            let (Some(own), Some(cached)) = (own, self.fields(cached, asked)?) else { continue };
            self.explainer.spend(own.len())?;
            let differences = between(cached, own);
            if nearest.as_ref().is_none_or(|found| differences.len() < found.differences.len()) {
                let name = key.name.clone().unwrap_or_else(|| name.to_string());
                nearest = Some(Nearest { name, differences });
            }
        }
        Ok((names.len(), nearest))
    }

    /// Returns the names of the steps on the inputs.
    fn others(&self, asked: &Asked<'_>) -> Result<BTreeSet<Digest>, ExplainError> {
        let neighbours = self.explainer.neighbours();
        let inputs = &asked.step.inputs;
        if inputs.is_empty() {
            self.explainer.spend(neighbours.roots.len())?;
            return Ok(neighbours.roots.iter().map(|name| **name).collect());
        }
        // All inputs must match, so it is enough to take the input with the fewest steps.
        let mut fewest: Option<Vec<&[Named<'_>]>> = None;
        let count = |lists: &Vec<&[Named<'_>]>| lists.iter().map(|list| list.len()).sum::<usize>();
        for (input, from) in inputs.iter().enumerate() {
            let nodes = self.nodes.get(from).into_iter().flat_map(|nodes| nodes.keys());
            let mut lists = Vec::new();
            for node in nodes {
                self.explainer.spend(1)?;
                lists.extend(neighbours.on.get(&(input, *node)).map(Vec::as_slice));
            }
            if asked.hashed_paths(input).is_some() || self.is_fetched(*from) {
                lists.extend(neighbours.on_roots.get(&input).map(Vec::as_slice));
            }
            if fewest.as_ref().is_none_or(|fewest| count(&lists) < count(fewest)) {
                fewest = Some(lists);
            }
        }
        let mut names = BTreeSet::new();
        for (name, edge) in fewest.into_iter().flatten().flatten() {
            if self.inputs(asked, edge, false)?.iter().all(Option::is_some) {
                names.insert(**name);
            }
        }
        Ok(names)
    }

    fn fields(&self, vertex: &Vertex, asked: &Asked<'_>) -> Result<Option<Fields>, ExplainError> {
        let Ok(document) = vertex.document(asked.encoding) else { return Ok(None) };
        self.explainer.spend_on_text(document.len())?;
        let fields = Fields::of(&document);
        self.explainer.spend(fields.as_ref().map_or(0, Fields::len))?;
        Ok(fields)
    }
}

//! Walks from step to step, as the solver of a daemon does (BuildKit v0.32.2 `solver/edge.go`,
//! `solver/cachemanager.go`).

use std::collections::BTreeMap;

use bkstate::Digest;
use llb::op::Kind;
use llb::{Graph, Output, Step};

use super::asked::Asked;
use super::known::{Alternative, Edge, NodeIndex};
use super::{
    Contents, ExplainError, Explained, Explainer, Explanation, Outcome, Reason, StepIndex,
    repository,
};
use crate::image;

pub(super) const IMAGE: &str = "docker-image://";
const LOCAL: &str = "local://";

/// How certain it is that something is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    /// If content or sources are unchanged.
    IfSame,
    /// In any case.
    Certain,
}

type Found = (Outcome, Option<Reason>);

pub(super) struct Walk<'a, 'c> {
    build: &'a Graph,
    /// For each step of the build, its index in the explanation.
    places: Vec<StepIndex>,
    pub(super) explainer: &'a Explainer<'c>,
    /// The possible cache nodes of each output of the steps so far.
    pub(super) nodes: BTreeMap<Output, BTreeMap<NodeIndex, Sure>>,
    found: Vec<Found>,
}

impl<'a, 'c> Walk<'a, 'c> {
    pub(super) fn new(build: &'a Graph, explainer: &'a Explainer<'c>) -> Self {
        let mut next = 0;
        let place = |step: &Step| {
            let place = StepIndex(next);
            next += usize::from(!step.is_return());
            place
        };
        let places = build.steps.iter().map(place).collect();
        Self { build, places, explainer, nodes: BTreeMap::new(), found: Vec::new() }
    }

    /// Returns the results for the steps of the build.
    pub(super) fn explanation(mut self) -> Result<Explanation, ExplainError> {
        let outputs = self.build.outputs();
        for (step, outputs) in self.build.steps.iter().zip(&outputs) {
            let found = self.step(step, outputs)?;
            self.found.push(found);
        }
        self.look_for_results(&outputs);
        Ok(self.without_return())
    }

    fn step(&mut self, step: &Step, outputs: &[u32]) -> Result<Found, ExplainError> {
        Ok(match &step.op.kind {
            Kind::Return => (Outcome::Hit, None),
            _ if step.ignores_cache => (Outcome::Miss, Some(Reason::NoCache)),
            Kind::Source => self.source(step)?,
            _ => match Asked::new(step, outputs, self.build, self.explainer.cache) {
                Ok(asked) => self.op(&asked, outputs)?,
                Err(error) => {
                    let reason = Reason::NotComputable { message: error.to_string() };
                    (Outcome::Unknown, Some(reason))
                }
            },
        })
    }

    /// Returns the output of the current step.
    fn here(&self, output: u32) -> Output {
        Output { step: self.found.len(), output }
    }

    fn source(&mut self, step: &Step) -> Result<Found, ExplainError> {
        let identifier = step.identifier.as_deref().unwrap_or_default();
        let image = identifier.strip_prefix(IMAGE).and_then(|name| name.rsplit_once('@'));
        let Some((name, digest)) =
            image.and_then(|(name, digest)| Some((name, digest.parse::<Digest>().ok()?)))
        else {
            return Ok((Outcome::Unknown, Some(Reason::Source)));
        };
        let cache = self.explainer.cache;
        let platforms = match &step.op.platform {
            Some(platform) => std::slice::from_ref(platform),
            None => self.build.platforms.as_slice(),
        };
        let records = platforms.iter().map(|platform| platform.normalized());
        let nodes = records
            .map(|platform| image::record_of(digest, &platform))
            .filter_map(|record| cache.known.find_root(&record));
        let nodes: BTreeMap<_, _> = nodes.map(|node| (node, Sure::Certain)).collect();
        if !nodes.is_empty() {
            self.nodes.insert(self.here(0), nodes);
            return Ok((Outcome::Hit, None));
        }
        let mut cached = Vec::new();
        for (image, other) in cache.images.get(repository(name)).into_iter().flatten() {
            self.explainer.spend_on_text(image.len())?;
            if *other != Some(digest) {
                cached.push(image.clone());
            }
        }
        Ok((Outcome::Miss, Some(Reason::Image { cached })))
    }

    fn op(&mut self, asked: &Asked<'_>, outputs: &[u32]) -> Result<Found, ExplainError> {
        let mut surest = Sure::Certain;
        for &output in outputs {
            let nodes = self.matches(asked, output)?;
            let Some(sure) = nodes.values().max() else {
                return Ok((Outcome::Miss, Some(self.miss(asked, output)?)));
            };
            surest = surest.min(*sure);
            self.nodes.insert(self.here(output), nodes);
        }
        Ok(match surest {
            Sure::Certain => (Outcome::Hit, None),
            Sure::IfSame => (Outcome::IfSame, Some(self.contents(asked, outputs)?)),
        })
    }

    fn matches(
        &self,
        asked: &Asked<'_>,
        output: u32,
    ) -> Result<BTreeMap<NodeIndex, Sure>, ExplainError> {
        let known = &self.explainer.cache.known;
        let mut nodes = BTreeMap::new();
        for name in asked.names(output) {
            if asked.step.inputs.is_empty() {
                nodes.extend(known.find_root(name).map(|node| (node, Sure::Certain)));
            }
            for edge in known.edges(name) {
                let inputs = self.inputs(asked, edge, true)?;
                if let Some(sure) = inputs.into_iter().min().flatten() {
                    let best = nodes.entry(edge.target).or_insert(sure);
                    *best = sure.max(*best);
                }
            }
        }
        Ok(nodes)
    }

    /// Returns how certain each input of `edge` is, and, if requested, that the op uses the same part of it.
    pub(super) fn inputs(
        &self,
        asked: &Asked<'_>,
        edge: &Edge,
        same_part: bool,
    ) -> Result<Vec<Option<Sure>>, ExplainError> {
        self.explainer.spend(1)?;
        let count = asked.step.inputs.len();
        if edge.inputs.len() != count {
            return Ok(vec![None]);
        }
        let sure = |input: usize| {
            let ways = edge.inputs.get(&input).map(Vec::as_slice).unwrap_or_default();
            self.explainer.spend(ways.len().max(1))?;
            Ok(ways.iter().filter_map(|way| self.alternative(asked, input, way, same_part)).max())
        };
        (0..count).map(sure).collect()
    }

    /// Returns how certain it is that the input `input` is the source of `way`.
    fn alternative(
        &self,
        asked: &Asked<'_>,
        input: usize,
        way: &Alternative,
        same_part: bool,
    ) -> Option<Sure> {
        let from = asked.step.inputs.get(input)?;
        let selected = !same_part || asked.has_selector(input, &way.selector);
        if selected && let Some(sure) = self.nodes.get(from).and_then(|nodes| nodes.get(&way.from))
        {
            return Some(*sure);
        }
        if !self.explainer.cache.known.is_root(way.from) {
            return None;
        }
        let hashed = way.selector.is_empty() && asked.hashed_paths(input).is_some();
        let fetched = selected && self.is_fetched(*from);
        (hashed || fetched).then_some(Sure::IfSame)
    }

    /// Returns whether the content of an output is known only after fetching it, and then by name.
    pub(super) fn is_fetched(&self, output: Output) -> bool {
        let unknown =
            self.found.get(output.step).is_some_and(|(found, _)| *found == Outcome::Unknown);
        let step = self.build.steps.get(output.step).filter(|step| step.op.kind == Kind::Source);
        let identifier = step.and_then(|step| step.identifier.as_deref());
        unknown && identifier.is_some_and(|identifier| !identifier.starts_with(LOCAL))
    }

    /// Returns the dependencies of the result of a step that may be found.
    fn contents(&self, asked: &Asked<'_>, outputs: &[u32]) -> Result<Reason, ExplainError> {
        let mut is_certain = vec![false; asked.step.inputs.len()];
        for name in outputs.iter().flat_map(|output| asked.names(*output)) {
            for edge in self.explainer.cache.known.edges(name) {
                let inputs = self.inputs(asked, edge, true)?;
                for (is_certain, sure) in is_certain.iter_mut().zip(inputs) {
                    *is_certain |= sure == Some(Sure::Certain);
                }
            }
        }
        let inputs = (0..).zip(&asked.step.inputs).zip(is_certain);
        let inputs = inputs.filter(|(_, is_certain)| !is_certain);
        let inputs = inputs.map(|((input, from), _)| Contents {
            input,
            step: self.places[from.step],
            paths: asked
                .hashed_paths(input)
                .unwrap_or_default()
                .iter()
                .map(|path| (*path).to_owned())
                .collect(),
        });
        Ok(Reason::Contents { inputs: inputs.collect() })
    }

    fn miss(&self, asked: &Asked<'_>, output: u32) -> Result<Reason, ExplainError> {
        let mut nearest: Option<Vec<bool>> = None;
        let count = |inputs: &Vec<bool>| inputs.iter().filter(|matched| **matched).count();
        for name in asked.names(output) {
            for edge in self.explainer.cache.known.edges(name) {
                let inputs = self.inputs(asked, edge, true)?;
                let matched = inputs.into_iter().map(|sure| sure.is_some()).collect();
                if nearest.as_ref().is_none_or(|nearest| count(&matched) >= count(nearest)) {
                    nearest = Some(matched);
                }
            }
        }
        let missing = asked.step.inputs.iter().position(|from| {
            self.found.get(from.step).is_some_and(|(found, _)| *found == Outcome::Miss)
        });
        let is_known = nearest.is_some();
        let unmatched = nearest.and_then(|inputs| inputs.iter().position(|matched| !matched));
        // A missing input is the place to continue.
        if let Some(input) = missing.or(unmatched)
            && let Some(from) = asked.step.inputs.get(input)
        {
            let found = self.found.get(from.step).map(|(found, _)| *found);
            let part = is_known && matches!(found, Some(Outcome::Hit | Outcome::IfSame));
            return Ok(Reason::Input { input, step: self.places[from.step], part });
        }
        let (others, nearest) = self.nearest(asked)?;
        Ok(Reason::Op { others, nearest })
    }

    /// Steps without a result that a running step needs run too.
    fn look_for_results(&mut self, outputs: &[Vec<u32>]) {
        let mut needed: Vec<bool> = vec![true; self.found.len()];
        for input in self.build.steps.iter().flat_map(|step| &step.inputs) {
            needed[input.step] = false;
        }
        for (index, step) in self.build.steps.iter().enumerate().rev() {
            if !needed[index] {
                continue;
            }
            let is_op = !matches!(step.op.kind, Kind::Source | Kind::Return);
            let has_results = outputs[index].iter().all(|&output| {
                let nodes = self.nodes.get(&Output { step: index, output });
                nodes.is_some_and(|nodes| {
                    let known = &self.explainer.cache.known;
                    nodes.keys().any(|node| known.has_result(*node))
                })
            });
            let found = &mut self.found[index];
            if is_op && matches!(found.0, Outcome::Hit | Outcome::IfSame) && !has_results {
                *found = (Outcome::Miss, Some(Reason::NoResult));
            }
            if step.is_return() || matches!(found.0, Outcome::Miss | Outcome::Unknown) {
                for input in &step.inputs {
                    needed[input.step] = true;
                }
            }
        }
    }

    /// Removes the step that only marks the result.
    fn without_return(self) -> Explanation {
        let steps = self.build.steps.iter().zip(self.found);
        let steps = steps.filter(|(step, _)| !step.is_return());
        let steps = steps.map(|(step, (outcome, reason))| Explained {
            name: step.name(),
            digest: step.digest.clone(),
            inputs: step.inputs.iter().map(|input| self.places[input.step]).collect(),
            outcome,
            reason,
        });
        Explanation { steps: steps.collect() }
    }
}

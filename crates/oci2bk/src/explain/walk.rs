//! From step to step, as the solver of a daemon goes (BuildKit v0.32.2 `solver/edge.go`,
//! `solver/cachemanager.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use bkstate::Digest;

use super::known::{Alternative, Edge};
use super::{Cache, Contents, Explained, Explanation, Nearest, Outcome, Reason, difference};
use crate::image;
use crate::llb::op::Kind;
use crate::llb::{Encoding, Graph, NotComputable, Output, Selectors, Step, Vertex};

const IMAGE: &str = "docker-image://";
const LOCAL: &str = "local://";

/// How sure it is that something is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// If contents or sources are what they were.
    IfSame,
    /// In any case.
    Certain,
}

/// What becomes of the steps of `build`.
pub fn explain(build: &Graph, cache: &Cache) -> Explanation {
    let mut walk = Walk { build, cache, nodes: BTreeMap::new(), found: Vec::new() };
    let outputs = build.outputs();
    for (step, outputs) in build.steps.iter().zip(&outputs) {
        let found = walk.step(step, outputs);
        walk.found.push(found);
    }
    walk.look_for_results(&outputs);
    walk.explanation()
}

type Found = (Outcome, Option<Reason>);

struct Walk<'a> {
    build: &'a Graph,
    cache: &'a Cache,
    /// What of the cache each output of the steps so far is.
    nodes: BTreeMap<Output, BTreeMap<usize, Sure>>,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn step(&mut self, step: &Step, outputs: &[u32]) -> Found {
        match &step.op.kind {
            Kind::Return => (Outcome::Hit, None),
            _ if step.ignores_cache => (Outcome::Miss, Some(Reason::NoCache)),
            Kind::Source => self.source(step),
            _ => match Asked::new(step, self.build, self.cache) {
                Ok(asked) => self.op(&asked, outputs),
                Err(error) => {
                    let reason = Reason::NotComputable { message: error.to_string() };
                    (Outcome::Unknown, Some(reason))
                }
            },
        }
    }

    /// The output of the step whose turn it is.
    fn here(&self, output: u32) -> Output {
        Output { step: self.found.len(), output }
    }

    fn source(&mut self, step: &Step) -> Found {
        let identifier = step.identifier.as_deref().unwrap_or_default();
        let image = identifier.strip_prefix(IMAGE).and_then(|name| name.rsplit_once('@'));
        let Some((name, digest)) =
            image.and_then(|(name, digest)| Some((name, digest.parse::<Digest>().ok()?)))
        else {
            return (Outcome::Unknown, Some(Reason::Source));
        };
        let platforms = match &step.op.platform {
            Some(platform) => std::slice::from_ref(platform),
            None => self.build.platforms.as_slice(),
        };
        let records = platforms.iter().map(|platform| platform.normalized());
        let nodes = records
            .filter_map(|platform| image::record_of(digest, &platform))
            .filter_map(|record| self.cache.known.find_root(&record));
        let nodes: BTreeMap<_, _> = nodes.map(|node| (node, Sure::Certain)).collect();
        if nodes.is_empty() {
            let wanted = repository(name);
            let alike = self.cache.images.iter().filter(|cached| {
                let cached = cached.strip_prefix(IMAGE).and_then(|name| name.rsplit_once('@'));
                cached.is_some_and(|(name, other)| {
                    repository(name) == wanted && other.parse() != Ok(digest)
                })
            });
            let cached: BTreeSet<_> = alike.cloned().collect();
            let cached = cached.into_iter().collect();
            return (Outcome::Miss, Some(Reason::Image { cached }));
        }
        self.nodes.insert(self.here(0), nodes);
        (Outcome::Hit, None)
    }

    fn op(&mut self, asked: &Asked<'_>, outputs: &[u32]) -> Found {
        let mut surest = Sure::Certain;
        for &output in outputs {
            let nodes = self.matches(asked, output);
            let Some(sure) = nodes.values().max() else {
                return (Outcome::Miss, Some(self.miss(asked, output)));
            };
            surest = surest.min(*sure);
            self.nodes.insert(self.here(output), nodes);
        }
        match surest {
            Sure::Certain => (Outcome::Hit, None),
            Sure::IfSame => (Outcome::IfSame, Some(self.contents(asked, outputs))),
        }
    }

    fn matches(&self, asked: &Asked<'_>, output: u32) -> BTreeMap<usize, Sure> {
        let mut nodes = BTreeMap::new();
        for name in asked.names(output) {
            if asked.step.inputs.is_empty() {
                nodes.extend(self.cache.known.find_root(name).map(|node| (node, Sure::Certain)));
            }
            for edge in self.cache.known.edges(name) {
                let inputs = self.inputs(asked, edge);
                if let Some(sure) = inputs.into_iter().min().flatten() {
                    let best = nodes.entry(edge.target).or_insert(sure);
                    *best = sure.max(*best);
                }
            }
        }
        nodes
    }

    /// How sure each input of `edge` is.
    fn inputs(&self, asked: &Asked<'_>, edge: &Edge) -> Vec<Option<Sure>> {
        let count = asked.step.inputs.len();
        if edge.inputs.len() != count {
            return vec![None];
        }
        let each = (0..count).map(|input| {
            let alternatives = edge.inputs.get(&input)?.iter();
            alternatives.filter_map(|way| self.alternative(asked, input, way, true)).max()
        });
        each.collect()
    }

    /// How sure it is that the input `input` is the one that `way` starts from, and, if asked for,
    /// that the op takes the same part of it.
    fn alternative(
        &self,
        asked: &Asked<'_>,
        input: usize,
        way: &Alternative,
        same_part: bool,
    ) -> Option<Sure> {
        let from = asked.step.inputs.get(input)?;
        let selected = !same_part || asked.selectors(input).any(|own| own == way.selector);
        if selected && let Some(sure) = self.nodes.get(from).and_then(|nodes| nodes.get(&way.from))
        {
            return Some(*sure);
        }
        if !self.cache.known.is_root(way.from) {
            return None;
        }
        let hashed = way.selector.is_empty() && asked.vertex.hashed_paths(input).is_some();
        let fetched = selected && self.is_fetched(*from);
        (hashed || fetched).then_some(Sure::IfSame)
    }

    /// Whether what an output is shows only when it is fetched, and then by its name.
    fn is_fetched(&self, output: Output) -> bool {
        let unknown =
            self.found.get(output.step).is_some_and(|(found, _)| *found == Outcome::Unknown);
        let step = self.build.steps.get(output.step).filter(|step| step.op.kind == Kind::Source);
        let identifier = step.and_then(|step| step.identifier.as_deref());
        unknown && identifier.is_some_and(|identifier| !identifier.starts_with(LOCAL))
    }

    /// What decides, of a step that may be found.
    fn contents(&self, asked: &Asked<'_>, outputs: &[u32]) -> Reason {
        let edges = outputs.iter().flat_map(|output| asked.names(*output));
        let edges: Vec<_> = edges.flat_map(|name| self.cache.known.edges(name)).collect();
        let certain = |input: usize| {
            let mut inputs = edges.iter().map(|edge| self.inputs(asked, edge));
            inputs.any(|inputs| inputs.get(input) == Some(&Some(Sure::Certain)))
        };
        let inputs = (0..).zip(&asked.step.inputs).filter(|(input, _)| !certain(*input));
        let inputs = inputs.map(|(input, from)| Contents {
            input,
            step: from.step,
            paths: asked
                .vertex
                .hashed_paths(input)
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
        });
        Reason::Contents { inputs: inputs.collect() }
    }

    fn miss(&self, asked: &Asked<'_>, output: u32) -> Reason {
        let edges = asked.names(output).flat_map(|name| self.cache.known.edges(name));
        let matched =
            |edge: &Edge| self.inputs(asked, edge).into_iter().map(|sure| sure.is_some()).collect();
        let nearest: Option<Vec<bool>> = edges
            .map(matched)
            .max_by_key(|inputs: &Vec<bool>| inputs.iter().filter(|m| **m).count());
        let missing = asked.step.inputs.iter().position(|from| {
            self.found.get(from.step).is_some_and(|(found, _)| *found == Outcome::Miss)
        });
        let is_known = nearest.is_some();
        let unmatched = nearest.and_then(|inputs| inputs.iter().position(|matched| !matched));
        // What misses itself is where to go on from.
        if let Some(input) = missing.or(unmatched)
            && let Some(from) = asked.step.inputs.get(input)
        {
            let found = self.found.get(from.step).map(|(found, _)| *found);
            let part = is_known && matches!(found, Some(Outcome::Hit | Outcome::IfSame));
            return Reason::Input { input, step: from.step, part };
        }
        let (others, nearest) = self.nearest(asked);
        Reason::Op { others, nearest }
    }

    /// How many other ops there are on the inputs, and the one that differs least.
    fn nearest(&self, asked: &Asked<'_>) -> (usize, Option<Nearest>) {
        let known = &self.cache.known;
        let count = asked.step.inputs.len();
        let on_inputs = |edge: &Edge| {
            edge.inputs.len() == count
                && edge.inputs.iter().all(|(input, ways)| {
                    ways.iter().any(|way| self.alternative(asked, *input, way, false).is_some())
                })
        };
        let mut names: BTreeSet<&Digest> =
            known.all_edges().filter(|(_, edge)| on_inputs(edge)).map(|(name, _)| name).collect();
        if count == 0 {
            let roots = self.cache.keyring.iter().map(|(name, _)| name);
            names = roots.filter(|name| known.find_root(name).is_some()).collect();
        }
        let different = names.iter().filter_map(|name| {
            let key = self.cache.keyring.get(name)?;
            let cached = key.vertex.as_deref()?;
            if discriminant(&cached.op.kind) != discriminant(&asked.vertex.op.kind) {
                return None;
            }
            let differences = difference::between(cached, &asked.vertex, asked.encoding)?;
            let name = key.name.clone().unwrap_or_else(|| name.to_string());
            Some(Nearest { name, differences })
        });
        let nearest = different.min_by_key(|nearest| nearest.differences.len());
        (names.len(), nearest)
    }

    /// Steps whose result is needed by one that runs, and that have none, run too.
    fn look_for_results(&mut self, outputs: &[Vec<u32>]) {
        let mut needed: Vec<bool> = vec![true; self.found.len()];
        for input in self.build.steps.iter().flat_map(|step| &step.inputs) {
            if let Some(needed) = needed.get_mut(input.step) {
                *needed = false;
            }
        }
        for (index, step) in self.build.steps.iter().enumerate().rev() {
            if !needed[index] {
                continue;
            }
            let is_op = !matches!(step.op.kind, Kind::Source | Kind::Return);
            let has_results = outputs[index].iter().all(|&output| {
                let nodes = self.nodes.get(&Output { step: index, output });
                nodes.is_some_and(|nodes| {
                    nodes.keys().any(|node| self.cache.known.has_result(*node))
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

    /// Without the step that only names the result.
    fn explanation(self) -> Explanation {
        let mut place = Vec::with_capacity(self.found.len());
        let mut count = 0;
        for step in &self.build.steps {
            place.push(count);
            count += usize::from(!step.is_return());
        }
        let at = |step: usize| place.get(step).copied().unwrap_or_default();
        let moved = |reason: Reason| match reason {
            Reason::Input { input, step, part } => Reason::Input { input, step: at(step), part },
            Reason::Contents { inputs } => {
                let moved = |contents: Contents| Contents { step: at(contents.step), ..contents };
                Reason::Contents { inputs: inputs.into_iter().map(moved).collect() }
            }
            other => other,
        };
        let steps = self.build.steps.iter().zip(self.found);
        let steps = steps.filter(|(step, _)| !step.is_return());
        let steps = steps.map(|(step, (outcome, reason))| Explained {
            name: step.name(),
            digest: step.digest.clone(),
            inputs: step.inputs.iter().map(|input| at(input.step)).collect(),
            outcome,
            reason: reason.map(moved),
        });
        Explanation { steps: steps.collect() }
    }
}

/// The name of an image without its tag.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// A step with an op, and what it may be called.
struct Asked<'a> {
    step: &'a Step,
    vertex: Vertex,
    /// By output, up to the number that the op has.
    names: Vec<BTreeSet<Digest>>,
    selectors: &'a [Selectors],
    encoding: Encoding,
}

impl<'a> Asked<'a> {
    fn new(step: &'a Step, build: &Graph, cache: &'a Cache) -> Result<Self, NotComputable> {
        let platforms = build.platforms.iter().take(match step.op.platform {
            Some(_) => 1,
            None => usize::MAX,
        });
        let vertex =
            |platform: &_| Vertex { op: step.op.clone(), default_platform: Clone::clone(platform) };
        let mut names = vec![BTreeSet::new(); step.op.outputs() as usize];
        let mut first = None;
        for vertex in platforms.map(vertex) {
            for &encoding in &cache.encodings {
                let digest = match vertex.digest(encoding) {
                    Err(NotComputable::TooLong { .. }) => continue,
                    digest => digest?,
                };
                for (names, output) in names.iter_mut().zip(0..) {
                    names.insert(digest.record(output));
                }
            }
            first.get_or_insert(vertex);
        }
        let encoding = cache.encodings.first().copied();
        let (Some(vertex), Some(encoding)) = (first, encoding) else {
            return Err(NotComputable::Unknown);
        };
        Ok(Self { step, vertex, names, selectors: &cache.selectors, encoding })
    }

    fn names(&self, output: u32) -> impl Iterator<Item = &Digest> {
        let names = usize::try_from(output).ok().and_then(|output| self.names.get(output));
        names.into_iter().flatten()
    }

    /// With which selectors it may be looked for from its input `input`.
    fn selectors(&self, input: usize) -> impl Iterator<Item = String> {
        self.selectors.iter().map(move |class| self.vertex.own_selector(input, *class))
    }
}

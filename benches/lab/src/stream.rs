//! Parses the progress of a build, as `buildctl build --progress=rawjson` prints it: a `client.SolveStatus`
//! per line (buildkit v0.32.2, `client/graph.go`).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::interval::{Interval, covered};
use crate::record::{Import, Layer, Measures, Step};

/// Prefix of the name of a vertex that imports a cache (`solver/llbsolver/bridge.go`).
const IMPORTING: &str = "importing cache manifest from ";

/// Prefix of the id of a status for unpacking a layer (`cache/refs.go`, `unlazyLayer`).
const EXTRACTING: &str = "extracting ";

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    vertexes: Vec<VertexUpdate>,
    #[serde(default)]
    statuses: Vec<StatusUpdate>,
}

#[derive(Deserialize)]
struct VertexUpdate {
    digest: String,
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "micros")]
    started: Option<u64>,
    #[serde(default, deserialize_with = "micros")]
    completed: Option<u64>,
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct StatusUpdate {
    id: String,
    #[serde(default)]
    vertex: String,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    current: u64,
    #[serde(default, deserialize_with = "micros")]
    started: Option<u64>,
    #[serde(default, deserialize_with = "micros")]
    completed: Option<u64>,
}

#[derive(Default)]
struct Vertex {
    name: String,
    interval: Option<Interval>,
    cached: bool,
    error: Option<String>,
}

#[derive(Default)]
struct Status {
    bytes: u64,
    interval: Option<Interval>,
}

/// Parses the output of a build. Lines that are not JSON objects are the client's own log.
///
/// # Errors
/// Returns an error if an object is not output of buildctl.
pub fn measure(progress: &str) -> Result<Measures> {
    let mut vertices: BTreeMap<String, Vertex> = BTreeMap::new();
    let mut statuses: BTreeMap<(String, String), Status> = BTreeMap::new();
    for line in progress.lines().filter(|line| line.starts_with('{')) {
        let update: Update =
            serde_json::from_str(line).with_context(|| format!("not a SolveStatus: {line}"))?;
        for update in update.vertexes {
            vertices.entry(update.digest.clone()).or_default().add(update);
        }
        for update in update.statuses {
            let key = (update.vertex.clone(), update.id.clone());
            statuses.entry(key).or_default().add(&update);
        }
    }
    Ok(Measures {
        solve: solve(&vertices),
        steps: steps(&vertices),
        bases: bases(&vertices),
        ..Measures::default()
    }
    .with_imports(&vertices)
    .with_layers(&vertices, &statuses))
}

impl Vertex {
    /// A step whose cached result has to be extracted is reported again for each layer, then as not cached.
    fn add(&mut self, update: VertexUpdate) {
        if !update.name.is_empty() {
            self.name = update.name;
        }
        self.cached |= update.cached;
        self.error = update.error.filter(|error| !error.is_empty()).or(self.error.take());
        extend(&mut self.interval, update.started, update.completed);
    }
}

impl Status {
    fn add(&mut self, update: &StatusUpdate) {
        self.bytes = self.bytes.max(update.total).max(update.current);
        extend(&mut self.interval, update.started, update.completed);
    }
}

fn extend(interval: &mut Option<Interval>, start: Option<u64>, end: Option<u64>) {
    if let (Some(start), Some(end)) = (start, end) {
        let new = Interval { start, end };
        *interval = Some(interval.map_or(new, |old| old.hull(new)));
    }
}

fn solve(vertices: &BTreeMap<String, Vertex>) -> u64 {
    let all = vertices.values().filter_map(|vertex| vertex.interval);
    all.reduce(Interval::hull).map_or(0, Interval::micros)
}

fn steps(vertices: &BTreeMap<String, Vertex>) -> Vec<Step> {
    let mut steps: Vec<_> = vertices.values().filter_map(Vertex::step).collect();
    steps.sort_unstable();
    steps
}

fn bases(vertices: &BTreeMap<String, Vertex>) -> BTreeMap<String, String> {
    let names = vertices.values().filter_map(|vertex| instruction(&vertex.name));
    let images = names.filter_map(|(_, _, text)| text.strip_prefix("FROM ")?.split_once('@'));
    images.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
}

impl Vertex {
    /// Returns an instruction that was cached or ran. `FROM` only resolves a name, even if nothing is cached.
    fn step(&self) -> Option<Step> {
        let (stage, place, text) = instruction(&self.name)?;
        if text.starts_with("FROM ") || (!self.cached && self.interval.is_none()) {
            return None;
        }
        Some(Step {
            stage: stage.to_owned(),
            place,
            instruction: text.to_owned(),
            cached: self.cached,
            micros: self.interval.filter(|_| !self.cached).map_or(0, Interval::micros),
        })
    }
}

/// Returns stage, position and text of an instruction, from its vertex name `[STAGE 2/5] TEXT`; the only
/// stage has no name.
fn instruction(name: &str) -> Option<(&str, u32, &str)> {
    let (bracket, text) = name.strip_prefix('[')?.split_once("] ")?;
    let (stage, place) = bracket.rsplit_once(' ').unwrap_or(("", bracket));
    let (place, of) = place.split_once('/')?;
    of.parse::<u32>().ok()?;
    Some((stage, place.parse().ok()?, text))
}

impl Measures {
    fn with_imports(mut self, vertices: &BTreeMap<String, Vertex>) -> Self {
        let mut intervals = Vec::new();
        for vertex in vertices.values() {
            if let Some(from) = vertex.name.strip_prefix(IMPORTING) {
                intervals.extend(vertex.interval);
                self.imports.push(Import {
                    from: from.to_owned(),
                    micros: vertex.interval.map_or(0, Interval::micros),
                    error: vertex.error.clone(),
                });
            }
        }
        self.imports.sort_by(|left, right| left.from.cmp(&right.from));
        self.importing = covered(intervals);
        self
    }

    fn with_layers(
        mut self,
        vertices: &BTreeMap<String, Vertex>,
        statuses: &BTreeMap<(String, String), Status>,
    ) -> Self {
        let is_export = |vertex: &str| {
            vertices.get(vertex).is_some_and(|vertex| vertex.name.starts_with("exporting "))
        };
        let fetched: BTreeMap<&str, &Status> = statuses
            .iter()
            .filter(|((vertex, id), _)| id.starts_with("sha256:") && !is_export(vertex))
            .map(|((_, id), status)| (id.as_str(), status))
            .collect();
        self.fetched_bytes = fetched.values().map(|status| status.bytes).sum();
        self.fetching = covered(fetched.values().filter_map(|status| status.interval));

        let mut intervals = Vec::new();
        let mut layers: Vec<(u64, Layer)> = Vec::new();
        for ((vertex, id), status) in statuses {
            let (Some(digest), Some(interval)) = (id.strip_prefix(EXTRACTING), status.interval)
            else {
                continue;
            };
            intervals.push(interval);
            let layer = Layer {
                digest: digest.to_owned(),
                bytes: fetched.get(digest).map(|status| status.bytes),
                micros: interval.micros(),
                step: vertices.get(vertex).map_or_else(String::new, |vertex| vertex.name.clone()),
            };
            layers.push((interval.start, layer));
        }
        layers.sort_by(|left, right| (left.0, &left.1.digest).cmp(&(right.0, &right.1.digest)));
        self.extracted = layers.into_iter().map(|(_, layer)| layer).collect();
        self.extracting = covered(intervals);
        self
    }
}

/// Parses a point in time in RFC 3339, as microseconds since 1970.
fn micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let time: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    u64::try_from(time.as_microsecond()).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;

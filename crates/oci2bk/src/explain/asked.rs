//! A step of a build, and its possible names.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use llb::{Encoding, Graph, NotComputable, Step, Vertex};

use super::Cache;

/// A step with an op.
pub(super) struct Asked<'a> {
    pub(super) step: &'a Step,
    pub(super) vertex: Vertex,
    pub(super) encoding: Encoding,
    /// The possible names, by requested output.
    names: BTreeMap<u32, BTreeSet<Digest>>,
    /// The possible selectors, by input.
    selectors: Vec<BTreeSet<String>>,
    /// By input: the paths by whose content it may be found.
    hashed_paths: Vec<Option<Vec<String>>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        step: &'a Step,
        outputs: &[u32],
        build: &Graph,
        cache: &Cache,
    ) -> Result<Self, NotComputable> {
        let platforms = build.platforms.iter().take(match step.op.platform {
            Some(_) => 1,
            None => usize::MAX,
        });
        let vertex =
            |platform: &_| Vertex { op: step.op.clone(), default_platform: Clone::clone(platform) };
        let count = step.op.outputs();
        let outputs = outputs.iter().filter(|output| **output < count);
        let mut names: BTreeMap<_, _> = outputs.map(|output| (*output, BTreeSet::new())).collect();
        let mut first = None;
        for vertex in platforms.map(vertex) {
            for &encoding in &cache.encodings {
                let digest = match vertex.digest(encoding) {
                    Err(NotComputable::TooLong { .. }) => continue,
                    digest => digest?,
                };
                for (output, names) in &mut names {
                    names.insert(digest.record(*output));
                }
            }
            first.get_or_insert(vertex);
        }
        let encoding = cache.encodings.first().copied();
        let (Some(vertex), Some(encoding)) = (first, encoding) else {
            return Err(NotComputable::Unknown);
        };
        let inputs = step.inputs.len();
        let mut selectors = vec![BTreeSet::new(); inputs];
        for class in &cache.selectors {
            for (selectors, own) in selectors.iter_mut().zip(vertex.own_selectors(inputs, *class)) {
                selectors.insert(own);
            }
        }
        let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect();
        let hashed_paths = vertex.hashed_paths(inputs).into_iter();
        let hashed_paths = hashed_paths.map(|paths| paths.map(owned)).collect();
        Ok(Self { step, vertex, encoding, names, selectors, hashed_paths })
    }

    pub(super) fn names(&self, output: u32) -> impl Iterator<Item = &Digest> {
        self.names.get(&output).into_iter().flatten()
    }

    /// Returns whether it may be looked up from its input `input` with this selector.
    pub(super) fn has_selector(&self, input: usize, selector: &str) -> bool {
        self.selectors.get(input).is_some_and(|own| own.contains(selector))
    }

    /// Returns the paths of its input `input` by whose content it may be found, if any.
    pub(super) fn hashed_paths(&self, input: usize) -> Option<&[String]> {
        self.hashed_paths.get(input)?.as_deref()
    }
}

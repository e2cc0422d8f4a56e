//! The graph of operations: what is equal is one vertex.

use std::collections::HashMap;
use std::rc::Rc;

use llb::Op;

use super::Input;

/// A vertex, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Vertex(usize);

/// What a vertex is. BuildKit compares the digests of messages, which have all of it.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Content {
    /// An image, the build context, a URL, by what makes two of them equal.
    Source(String),
    Op {
        op: Op,
        inputs: Vec<Vertex>,
    },
}

/// An operation that was made for the first time.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) op: Op,
    pub(super) inputs: Vec<Input>,
}

/// All vertices.
#[derive(Debug, Default)]
pub(super) struct Graph {
    vertices: HashMap<Rc<Content>, Vertex>,
    /// What each vertex is to others.
    inputs: Vec<Input>,
    made: usize,
    sources: Vec<String>,
}

impl Graph {
    /// Returns the vertex of the source `name`; `identifier` is what a build calls it.
    pub(super) fn source(&mut self, name: String, identifier: &str) -> Vertex {
        let next = Vertex(self.inputs.len());
        let vertex = *self.vertices.entry(Rc::new(Content::Source(name))).or_insert(next);
        if vertex == next {
            self.inputs.push(Input::Source(self.sources.len()));
            self.sources.push(identifier.to_owned());
        }
        vertex
    }

    /// Returns the identifiers of all sources.
    pub(super) fn into_sources(self) -> Vec<String> {
        self.sources
    }

    /// Returns the vertex of an operation, and the operation if it is new.
    pub(super) fn op(&mut self, op: Op, inputs: Vec<Vertex>) -> (Vertex, Option<Made>) {
        let content = Rc::new(Content::Op { op, inputs });
        if let Some(&vertex) = self.vertices.get(&content) {
            return (vertex, None);
        }
        let vertex = Vertex(self.inputs.len());
        self.vertices.insert(content.clone(), vertex);
        self.inputs.push(Input::Step(self.made));
        self.made += 1;
        let Content::Op { op, inputs } = &*content else { return (vertex, None) };
        let inputs = inputs.iter().filter_map(|&input| self.inputs.get(input.0)).copied().collect();
        (vertex, Some(Made { op: op.clone(), inputs }))
    }

    /// Returns the step that makes a vertex; `None` for a source.
    pub(super) fn step(&self, vertex: Vertex) -> Option<usize> {
        self.inputs.get(vertex.0).and_then(|input| input.step())
    }
}

/// The inputs of one operation, each once.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    list: Vec<Vertex>,
    places: HashMap<Vertex, i64>,
}

impl Inputs {
    /// Returns the index of an input; -1 for none.
    pub(super) fn index(&mut self, vertex: Option<Vertex>) -> i64 {
        let Some(vertex) = vertex else { return -1 };
        let next = i64::try_from(self.list.len()).unwrap_or(i64::MAX);
        let index = *self.places.entry(vertex).or_insert(next);
        if index == next {
            self.list.push(vertex);
        }
        index
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn into_list(self) -> Vec<Vertex> {
        self.list
    }
}

impl Inputs {
    /// Returns these inputs, numbered one by one.
    pub(super) fn of(list: [Vertex; 2]) -> Self {
        Self { list: list.into(), places: HashMap::new() }
    }
}

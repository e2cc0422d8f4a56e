//! The graph of operations: what is equal is one vertex.

use std::collections::HashMap;
use std::rc::Rc;

use llb::Op;

/// A vertex, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Vertex(usize);

/// What a vertex is. BuildKit compares the digests of messages, which have all of it.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Content {
    /// An image, the build context, a URL.
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
    /// The steps whose results are the inputs; `None` for sources.
    pub(super) inputs: Vec<Option<usize>>,
}

/// All vertices.
#[derive(Debug, Default)]
pub(super) struct Graph {
    vertices: HashMap<Rc<Content>, Vertex>,
    /// The step of each vertex that has one.
    steps: Vec<Option<usize>>,
    made: usize,
}

impl Graph {
    /// Returns the vertex of a source.
    pub(super) fn source(&mut self, name: String) -> Vertex {
        let next = Vertex(self.steps.len());
        let vertex = *self.vertices.entry(Rc::new(Content::Source(name))).or_insert(next);
        if vertex == next {
            self.steps.push(None);
        }
        vertex
    }

    /// Returns the vertex of an operation, and the operation if it is new.
    pub(super) fn op(&mut self, op: Op, inputs: Vec<Vertex>) -> (Vertex, Option<Made>) {
        let content = Rc::new(Content::Op { op, inputs });
        if let Some(&vertex) = self.vertices.get(&content) {
            return (vertex, None);
        }
        let vertex = Vertex(self.steps.len());
        self.vertices.insert(content.clone(), vertex);
        self.steps.push(Some(self.made));
        self.made += 1;
        let Content::Op { op, inputs } = &*content else { return (vertex, None) };
        let inputs = inputs.iter().map(|&input| self.step(input)).collect();
        (vertex, Some(Made { op: op.clone(), inputs }))
    }

    /// Returns the step that makes a vertex; `None` for a source.
    pub(super) fn step(&self, vertex: Vertex) -> Option<usize> {
        self.steps.get(vertex.0).copied().flatten()
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

//! Topological orders of the config's two graphs. Computing the order finds loops. Both walks take linear
//! time and keep their stack on the heap.

use typed_index_collections::{TiVec, ti_vec};

use super::{ConfigError, Node, NodeIndex, Record, RecordIndex};
use crate::index::by_index;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// On the current path.
    Open,
    Done,
}

/// Returns all nodes, each after its parent.
pub(super) fn parents_first(nodes: &[Node]) -> Result<Vec<NodeIndex>, ConfigError> {
    let mut states: TiVec<NodeIndex, _> = ti_vec![State::New; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    let mut path = Vec::new();
    for start in by_index(nodes).keys() {
        let mut next = Some(start);
        while let Some(node) = next {
            match states[node] {
                State::Done => break,
                State::Open => return Err(ConfigError::ParentLoop { layer: node }),
                State::New => {}
            }
            states[node] = State::Open;
            path.push(node);
            next = nodes[node].parent;
        }
        while let Some(node) = path.pop() {
            states[node] = State::Done;
            order.push(node);
        }
    }
    Ok(order)
}

/// Returns all records, each after the records that its inputs link to.
pub(super) fn inputs_first(records: &[Record]) -> Result<Vec<RecordIndex>, ConfigError> {
    /// A record on the path, and its next link.
    struct Step {
        record: RecordIndex,
        input: usize,
        alternative: usize,
    }
    let mut states: TiVec<RecordIndex, _> = ti_vec![State::New; records.len()];
    let mut order = Vec::with_capacity(records.len());
    let mut path = Vec::new();
    for start in by_index(records).keys() {
        if states[start] == State::New {
            states[start] = State::Open;
            path.push(Step { record: start, input: 0, alternative: 0 });
        }
        while let Some(step) = path.last_mut() {
            let record = step.record;
            let Some(alternatives) = records[record].inputs.get(step.input) else {
                states[record] = State::Done;
                order.push(record);
                path.pop();
                continue;
            };
            let Some(link) = alternatives.get(step.alternative) else {
                step.input += 1;
                step.alternative = 0;
                continue;
            };
            step.alternative += 1;
            match states[link.record] {
                State::Done => {}
                State::Open => {
                    let digest = records[link.record].digest;
                    return Err(ConfigError::RecordLoop { record: link.record, digest });
                }
                State::New => {
                    states[link.record] = State::Open;
                    path.push(Step { record: link.record, input: 0, alternative: 0 });
                }
            }
        }
    }
    Ok(order)
}

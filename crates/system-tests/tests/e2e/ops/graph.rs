//! A definition while it is made.

use bkstate::Digest;
use testkit::protobuf::Message;

/// The kinds of ops, by their field in `pb.Op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Exec = 2,
    Source = 3,
    File = 4,
    Build = 5,
    Merge = 6,
    Diff = 7,
    Passthrough = 8,
}

/// An output of an op.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(super) op: String,
    pub(super) index: i64,
}

/// Ops, inputs first.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    ops: Vec<Vec<u8>>,
}

impl Graph {
    /// Adds an op with `outputs` outputs.
    pub(crate) fn add(
        &mut self,
        inputs: &[Output],
        kind: Kind,
        op: Message,
        platform: Option<Message>,
        outputs: i64,
    ) -> Vec<Output> {
        let op = references(inputs).message(kind as u8, op).optional(10, platform).into_bytes();
        let digest = Digest::of(&op).to_string();
        self.ops.push(op);
        (0..outputs).map(|index| Output { op: digest.clone(), index }).collect()
    }

    /// Adds an op with one output, for any platform.
    pub(crate) fn add_one(&mut self, inputs: &[Output], kind: Kind, op: Message) -> Output {
        self.add(inputs, kind, op, None, 1).remove(0)
    }

    /// Encodes the `pb.Definition` of `result`.
    pub(crate) fn definition(&self, result: &Output) -> Vec<u8> {
        let result = references(std::slice::from_ref(result)).into_bytes();
        let ops = self.ops.iter().chain([&result]);
        ops.fold(Message::new(), |message, op| message.bytes(1, op)).into_bytes()
    }
}

fn references(outputs: &[Output]) -> Message {
    Message::new().messages(
        1,
        outputs.iter().map(|output| Message::new().text(1, &output.op).int(2, output.index)),
    )
}

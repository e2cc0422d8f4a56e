//! The input on which an op's result builds.

use std::collections::BTreeMap;

use super::op::{Action, ExecOp, FileOp, Kind, Mount, Op};

/// The input of an op to which an output adds exactly one layer.
///
/// The number of inputs is part of it: a file op's digest does not always determine it, and with another
/// number the same digest would belong to an op on another input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Index of the input.
    pub input: usize,
    /// Number of inputs of the op.
    pub inputs: usize,
}

impl Op {
    /// Returns the input to which the output `output` adds one layer. `None` if there is no such input, or if
    /// it is not certain that the output is one layer.
    ///
    /// An exec op makes a layer of every writable mount with an output, even if nothing is written (BuildKit
    /// v0.32.2 `frontend/gateway/container/container.go` `PrepareMounts`). A file op makes one of each action
    /// that has an output or on which several actions build (`solver/llbsolver/ops/file.go` `FileOpSolver`).
    pub fn base(&self, output: u32) -> Option<Base> {
        let output = i64::from(output);
        let input = match &self.kind {
            Kind::Exec(exec) => base_of_mount(exec, output),
            Kind::File(file) => base_of_action(file, output, self.inputs),
            _ => None,
        }?;
        (input < self.inputs).then_some(Base { input, inputs: self.inputs })
    }
}

fn base_of_mount(exec: &ExecOp, output: i64) -> Option<usize> {
    let mut mounts = exec.mounts.iter().filter(|mount| mount.output == output);
    let mount = mounts.next().filter(|_| mounts.next().is_none())?;
    // A read-only mount is passed on unchanged. Any other mount of the same input can make the daemon look at
    // the input's content too, whose key has no result.
    let readers = exec.mounts.iter().filter(|other| other.input == mount.input).count();
    let writable = mount.mount_type == Mount::BIND && !mount.readonly;
    (writable && readers == 1 && !mount.may_be_hashed() && mount.result_id.is_empty())
        .then(|| usize::try_from(mount.input).ok())?
}

fn base_of_action(file: &FileOp, output: i64, inputs: usize) -> Option<usize> {
    let mut uses: BTreeMap<i64, usize> = BTreeMap::new();
    for action in &file.actions {
        for input in [action.input, action.secondary_input] {
            *uses.entry(input).or_default() += 1;
        }
    }
    let mut with_output = file.actions.iter().enumerate().filter(|(_, a)| a.output == output);
    let (mut index, mut action) = with_output.next().filter(|_| with_output.next().is_none())?;
    // Each action refers to an earlier one, so this ends.
    loop {
        if action.action == Action::Lost {
            return None;
        }
        let input = usize::try_from(action.input).ok()?;
        let Some(earlier) = input.checked_sub(inputs) else {
            return Some(input);
        };
        if earlier >= index || uses.get(&action.input) != Some(&1) {
            return None;
        }
        index = earlier;
        action = file.actions.get(earlier).filter(|action| action.output == -1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{FileAction, MkdirAction, RmAction};

    fn exec(mounts: &[Mount], inputs: usize) -> Op {
        let exec = ExecOp { mounts: mounts.to_vec(), ..ExecOp::default() };
        Op { inputs, kind: Kind::Exec(exec.into()), platform: None }
    }

    fn mount(input: i64, dest: &str, output: i64) -> Mount {
        Mount { input, dest: dest.to_owned(), output, ..Mount::default() }
    }

    /// Actions as input, secondary input and output.
    fn file(actions: &[(i64, i64, i64)], inputs: usize) -> Op {
        let actions = actions.iter().map(|&(input, secondary_input, output)| FileAction {
            input,
            secondary_input,
            output,
            action: Action::Mkdir(MkdirAction::default()),
        });
        let kind = Kind::File(FileOp { actions: actions.collect() });
        Op { inputs, kind, platform: None }
    }

    fn bases(op: &Op) -> Vec<Option<usize>> {
        (0..op.outputs()).map(|output| Some(op.base(output)?.input)).collect()
    }

    #[test]
    fn a_command_adds_a_layer_to_its_root() {
        assert_eq!(bases(&exec(&[mount(0, "/", 0)], 1)), [Some(0)]);
        let readonly = Mount { readonly: true, ..mount(0, "/src", -1) };
        assert_eq!(bases(&exec(&[readonly.clone(), mount(1, "/", 0)], 2)), [Some(1)]);
        // On an empty file system, or with a missing input.
        assert_eq!(bases(&exec(&[mount(-1, "/", 0)], 0)), [None]);
        assert_eq!(bases(&exec(&[mount(7, "/", 0)], 1)), [None]);
        // Read-only mounts are passed on.
        let mounts = [mount(0, "/", 0), Mount { readonly: true, ..mount(1, "/other", 1) }];
        assert_eq!(bases(&exec(&mounts, 2)), [Some(0), None]);
        // The daemon looks at the content of an input that is mounted elsewhere, or twice.
        assert_eq!(bases(&exec(&[mount(0, "/", 0), mount(1, "/rw", 1)], 2)), [Some(0), None]);
        let twice = [mount(0, "/", 0), Mount { input: 0, ..readonly }];
        assert_eq!(bases(&exec(&twice, 1)), [None]);
        let cache = Mount { mount_type: 3, ..mount(0, "/", 0) };
        assert_eq!(bases(&exec(&[cache], 1)), [None]);
        assert_eq!(bases(&exec(&[mount(0, "/", 0), mount(1, "/", 0)], 2)), [None]);
    }

    #[test]
    fn actions_in_a_row_add_one_layer() {
        assert_eq!(bases(&file(&[(0, -1, 0)], 1)), [Some(0)]);
        assert_eq!(bases(&file(&[(1, 0, 0)], 2)), [Some(1)]);
        assert_eq!(bases(&file(&[(1, 0, -1), (2, 0, -1), (3, -1, 0)], 2)), [Some(1)]);
        assert_eq!(bases(&file(&[(-1, 0, 0)], 1)), [None]);
        assert_eq!(bases(&file(&[(-1, -1, 0)], 0)), [None]);
    }

    #[test]
    fn actions_that_are_kept_on_the_way_are_layers_of_their_own() {
        assert_eq!(bases(&file(&[(0, -1, 0), (1, -1, 1)], 1)), [Some(0), None]);
        // Both outputs build on the first action.
        assert_eq!(bases(&file(&[(0, -1, -1), (1, -1, 0), (1, -1, 1)], 1)), [None, None]);
        // The second action copies from the first.
        assert_eq!(bases(&file(&[(0, -1, -1), (1, 1, 0)], 1)), [None]);
        assert_eq!(bases(&file(&[(0, -1, 0), (0, -1, 0)], 1)), [None]);
    }

    #[test]
    fn actions_that_go_in_circles_or_nowhere_end() {
        assert_eq!(bases(&file(&[(1, -1, 0)], 1)), [None]);
        assert_eq!(bases(&file(&[(2, -1, -1), (1, -1, 0)], 1)), [None]);
        assert_eq!(bases(&file(&[(99, -1, 0)], 1)), [None]);
        assert_eq!(bases(&file(&[(i64::MIN, -1, 0)], 1)), [None]);
    }

    #[test]
    fn other_ops_have_no_base() {
        for kind in [Kind::Merge(Default::default()), Kind::Diff(Default::default()), Kind::Source]
        {
            assert_eq!(bases(&Op { inputs: 2, kind, platform: None }), [None]);
        }
        let mut lost = file(&[(0, -1, 0)], 1);
        if let Kind::File(file) = &mut lost.kind {
            file.actions[0].action = Action::Lost;
        }
        assert_eq!(bases(&lost), [None]);
        let mut removed = file(&[(0, -1, 0)], 1);
        if let Kind::File(file) = &mut removed.kind {
            file.actions[0].action = Action::Rm(RmAction::default());
        }
        assert_eq!(bases(&removed), [Some(0)]);
    }
}

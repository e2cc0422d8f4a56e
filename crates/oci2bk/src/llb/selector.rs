//! Selectors of exec ops: which part of an input a command looks at.
//!
//! The op digest of an exec op says nothing of the directories that its mounts select of their
//! inputs. The link to the step does, as a digest over their paths. How it is made differs between
//! releases (`ExecOp.getMountDeps` in `solver/llbsolver/ops/exec.go`). Selectors of file ops have
//! been the same since v0.11 (`ops/file.go`), and other ops have none.

use bkstate::Digest;

use super::op::{Action, ExecOp, FileOp, Mount, UserOpt};

/// A range of BuildKit releases that make the same selectors of the same exec op; newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selectors {
    /// v0.15.2 and later: every mount counts but secrets, SSH agents and tmpfs.
    V0_15_2,
    /// v0.13.0 to v0.15.1: every mount counts, and one without a directory counts as `/`. Clients
    /// give secrets and the like the input 0, so they add to that.
    V0_13,
    /// v0.11.0 to v0.12.5: only mounts of a directory other than the whole input count.
    V0_11,
}

impl Selectors {
    /// Every class, newest first.
    pub const ALL: [Self; 3] = [Self::V0_15_2, Self::V0_13, Self::V0_11];

    fn counts(self, mount: &Mount) -> bool {
        match self {
            Self::V0_15_2 => !matches!(mount.mount_type, Mount::SECRET | Mount::SSH | Mount::TMPFS),
            Self::V0_13 => true,
            Self::V0_11 => !mount.selector.is_empty(),
        }
    }
}

/// The selector on links from definition keys to input `input` of `exec`; empty if there is none.
/// Links from keys of contents never have one.
pub(super) fn exec(exec: &ExecOp, input: usize, class: Selectors) -> String {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    let counted = exec.mounts.iter().filter(of_input).filter(|mount| class.counts(mount));
    let paths: Vec<_> = counted.map(|mount| below_root(&mount.selector)).collect();
    if paths.is_empty() { String::new() } else { Digest::of(paths.join("\0")).to_string() }
}

/// Whether a daemon may look for `exec` by what is in its input `input`, too: not if the input is
/// only mounted as the root, which is hashed on demand only (`getMountDeps`).
pub(super) fn hashes_contents(exec: &ExecOp, input: usize) -> bool {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    exec.mounts.iter().filter(of_input).any(Mount::may_be_hashed)
}

/// The selector on links to input `input` of `file`, which has `inputs` of them; empty if there is
/// none: nothing of it is looked at, or a file op works on it (`fileOp.CacheMap` in `ops/file.go`).
pub(super) fn file(file: &FileOp, inputs: usize, input: usize) -> String {
    let mut paths = file_paths(file, inputs, input);
    if paths.is_empty() {
        return String::new();
    }
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Digest::of(paths.join("\0")).to_string()
}

/// The paths of input `input` that `file` looks at, in the order of its actions.
pub(super) fn file_paths(file: &FileOp, inputs: usize, input: usize) -> Vec<&str> {
    let is_input = |index: i64| usize::try_from(index) == Ok(input);
    if input >= inputs || file.actions.iter().any(|action| is_input(action.input)) {
        return Vec::new();
    }
    let mut paths = Vec::new();
    for action in &file.actions {
        let (owner, copied) = match &action.action {
            Action::Copy(copy) => (&copy.owner, Some(copy.src.as_str())),
            Action::Mkfile(mkfile) => (&mkfile.owner, None),
            Action::Mkdir(mkdir) => (&mkdir.owner, None),
            Action::Rm(_) | Action::Symlink(_) | Action::Lost => (&None, None),
        };
        let owner = owner.as_ref();
        let names = [
            (owner.and_then(|owner| owner.user.as_ref()), "/etc/passwd"),
            (owner.and_then(|owner| owner.group.as_ref()), "/etc/group"),
        ];
        for (user, path) in names {
            if matches!(user, Some(UserOpt::ByName(named)) if is_input(named.input)) {
                paths.push(path);
            }
        }
        paths.extend(copied.filter(|_| is_input(action.secondary_input)));
    }
    paths
}

/// The directories of input `input` that `exec` mounts.
pub(super) fn exec_paths(exec: &ExecOp, input: usize) -> Vec<&str> {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    let mounts = exec.mounts.iter().filter(of_input);
    mounts.map(|mount| if mount.selector.is_empty() { "/" } else { &*mount.selector }).collect()
}

/// Go's `path.Join("/", path)`.
fn below_root(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llb::op::{Kind, Op};

    fn selectors(mounts: &str, input: usize) -> [String; 3] {
        let json = format!(r#"{{"Op":{{"exec":{{"meta":{{}},"mounts":[{mounts}]}}}}}}"#);
        let op: Op = serde_json::from_str(&json).unwrap();
        let Kind::Exec(op) = op.kind else { panic!("{json}") };
        Selectors::ALL.map(|class| exec(&op, input, class))
    }

    fn of(paths: &str) -> String {
        Digest::of(paths).to_string()
    }

    #[test]
    fn a_plain_command_selects_its_root_since_v0_13() {
        let whole = "sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1";
        assert_eq!(selectors(r#"{"dest":"/"}"#, 0), [whole, whole, ""]);
        assert_eq!(selectors(r#"{"dest":"/"}"#, 1), ["", "", ""]);
        assert_eq!(selectors(r#"{"dest":"/","input":-1}"#, 0), ["", "", ""]);
    }

    #[test]
    fn mounts_of_one_input_count_in_order() {
        let mounts = r#"{"dest":"/"},{"input":1,"dest":"/b","selector":"x/../b/"},
            {"input":1,"dest":"/a","selector":"/a"},{"input":1,"dest":"/c","mountType":3}"#;
        assert_eq!(selectors(mounts, 1), [of("/b\0/a\0/"), of("/b\0/a\0/"), of("/b\0/a")]);
    }

    #[test]
    fn secrets_ssh_and_tmpfs_counted_until_v0_15_2() {
        for kind in 1..=4 {
            let mounts = format!(r#"{{"dest":"/"}},{{"dest":"/x","mountType":{kind}}}"#);
            let newest = if kind == 3 { of("/\0/") } else { of("/") };
            assert_eq!(selectors(&mounts, 0), [newest, of("/\0/"), String::new()]);
        }
    }

    #[test]
    fn the_root_is_hashed_on_demand_only() {
        let hashed = |mounts: &str| {
            let json = format!(r#"{{"Op":{{"exec":{{"meta":{{}},"mounts":[{mounts}]}}}}}}"#);
            let op: Op = serde_json::from_str(&json).unwrap();
            let Kind::Exec(exec) = op.kind else { panic!("{json}") };
            hashes_contents(&exec, 0)
        };
        assert!(!hashed(r#"{"dest":"/"}"#));
        assert!(hashed(r#"{"dest":"/","contentCache":1}"#));
        assert!(hashed(r#"{"dest":"/"},{"dest":"/b"}"#));
    }

    #[test]
    fn paths_are_joined_as_go_does() {
        for (path, joined) in [("", "/"), (".", "/"), ("../..", "/"), ("a//b/./c/..", "/a/b")] {
            assert_eq!(below_root(path), joined);
        }
    }
}

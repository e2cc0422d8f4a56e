//! Selectors: the parts of its inputs that an op uses.
//!
//! The op digest of an exec op does not include the directories that its mounts select. The link to the step
//! does, as a digest over their paths. Its computation differs between releases (`ExecOp.getMountDeps` in
//! `solver/llbsolver/ops/exec.go`). Selectors of file ops have been the same since v0.11 (`ops/file.go`), and
//! other ops have none.

use codec::Digest;

use super::op::{Action, ExecOp, FileOp, Mount, UserOpt};

/// A range of BuildKit releases that compute the same selectors for the same exec op; newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Selectors {
    /// v0.15.2 and later: every mount counts except secrets, SSH agents and tmpfs.
    V0_15_2,
    /// v0.13.0 to v0.15.1: every mount counts, and one without a directory counts as `/`. Clients give
    /// secrets and similar mounts the input 0, so these count for it.
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

/// Returns the selector on links from definition keys to input `input` of `exec`; empty if there is none.
/// Links from content keys never have one.
pub(super) fn exec(exec: &ExecOp, input: usize, class: Selectors) -> String {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    let counted = exec.mounts.iter().filter(of_input).filter(|mount| class.counts(mount));
    let paths: Vec<_> = counted.map(|mount| below_root(&mount.selector)).collect();
    joined(&paths)
}

/// Returns whether the selector on links to input `input` of `exec` determines what each of its mounts
/// selects.
pub(super) fn tells_selections(exec: &ExecOp, input: usize, class: Selectors) -> bool {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    let mut mounts = exec.mounts.iter().filter(of_input).map(|mount| mount.selector.is_empty());
    let first = mounts.next();
    class != Selectors::V0_11 || mounts.all(|is_empty| Some(is_empty) == first)
}

/// Returns whether a daemon may also look up `exec` by the content of its input `input`: not if the input is
/// only mounted as the root, which is hashed only on request (`getMountDeps`).
pub(super) fn hashes_contents(exec: &ExecOp, input: usize) -> bool {
    let of_input = |mount: &&Mount| usize::try_from(mount.input) == Ok(input);
    exec.mounts.iter().filter(of_input).any(Mount::may_be_hashed)
}

/// Returns the selectors on links from definition keys to each of the `inputs` inputs of `exec`, in one pass,
/// because there can be as many inputs as mounts.
pub(super) fn of_exec(exec: &ExecOp, inputs: usize, class: Selectors) -> Vec<String> {
    let mut paths = vec![Vec::new(); inputs];
    for mount in exec.mounts.iter().filter(|mount| class.counts(mount)) {
        if let Some(paths) = at(&mut paths, mount.input) {
            paths.push(below_root(&mount.selector));
        }
    }
    paths.iter().map(|paths| joined(paths)).collect()
}

/// Returns the selectors on links to each of the `inputs` inputs of `file`; empty if there is none: the op
/// does not read the input, or changes it (`fileOp.CacheMap` in `ops/file.go`).
pub(super) fn of_file(file: &FileOp, inputs: usize) -> Vec<String> {
    let sorted = |mut paths: Vec<&str>| {
        paths.sort_unstable_by(|a, b| b.cmp(a));
        joined(&paths.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    file_paths(file, inputs).into_iter().map(sorted).collect()
}

fn joined(paths: &[String]) -> String {
    if paths.is_empty() { String::new() } else { Digest::of(paths.join("\0")).to_string() }
}

/// Returns the paths that `file` reads of each of the `inputs` inputs, in the order of its actions.
pub(super) fn file_paths(file: &FileOp, inputs: usize) -> Vec<Vec<&str>> {
    let mut paths = vec![Vec::new(); inputs];
    let mut add = |input: i64, path| {
        if let Some(paths) = at(&mut paths, input) {
            paths.push(path);
        }
    };
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
            if let Some(UserOpt::ByName(named)) = user {
                add(named.input, path);
            }
        }
        if let Some(path) = copied {
            add(action.secondary_input, path);
        }
    }
    for action in &file.actions {
        if let Some(paths) = at(&mut paths, action.input) {
            paths.clear();
        }
    }
    paths
}

/// Returns the directories that `exec` mounts of each of the `inputs` inputs, if a daemon may look it up by
/// their content alone.
pub(super) fn exec_paths(exec: &ExecOp, inputs: usize) -> Vec<Option<Vec<&str>>> {
    let mut paths = vec![Vec::new(); inputs];
    let mut is_hashed = vec![false; inputs];
    let mut is_root = vec![false; inputs];
    for mount in &exec.mounts {
        let Some(paths) = at(&mut paths, mount.input) else { continue };
        paths.push(if mount.selector.is_empty() { "/" } else { &*mount.selector });
        let input = mount.input;
        at(&mut is_hashed, input).into_iter().for_each(|is| *is |= mount.may_be_hashed());
        at(&mut is_root, input).into_iter().for_each(|is| *is |= mount.dest == "/");
    }
    let decides =
        is_hashed.into_iter().zip(is_root).map(|(is_hashed, is_root)| is_hashed && !is_root);
    paths.into_iter().zip(decides).map(|(paths, decides)| decides.then_some(paths)).collect()
}

fn at<T>(of_inputs: &mut [T], input: i64) -> Option<&mut T> {
    usize::try_from(input).ok().and_then(|input| of_inputs.get_mut(input))
}

/// Resolves `path` from `/`, as Go's `path.Join("/", path)`.
///
/// ```
/// assert_eq!(llb::below_root("a//./b/../c"), "/a/c");
/// assert_eq!(llb::below_root("../.."), "/");
/// ```
pub fn below_root(path: &str) -> String {
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
    use crate::op::{Kind, Op};

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
    fn before_v0_13_a_selector_does_not_tell_which_of_several_mounts_it_is_of() {
        let tells = |mounts: &str| {
            let json = format!(r#"{{"Op":{{"exec":{{"meta":{{}},"mounts":[{mounts}]}}}}}}"#);
            let op: Op = serde_json::from_str(&json).unwrap();
            let Kind::Exec(exec) = op.kind else { panic!("{json}") };
            Selectors::ALL.map(|class| tells_selections(&exec, 1, class))
        };
        let [a, b] =
            ["a", "b"].map(|dir| format!(r#"{{"input":1,"dest":"/{dir}","selector":"{dir}"}}"#));
        let whole = r#"{"input":1,"dest":"/c"}"#;
        for all_or_none in
            [String::new(), a.clone(), whole.into(), format!("{a},{b}"), format!("{whole},{whole}")]
        {
            assert_eq!(
                tells(format!(r#"{{"dest":"/"}},{all_or_none}"#).trim_end_matches(',')),
                [true; 3]
            );
        }
        assert_eq!(tells(&format!("{a},{whole}")), [true, true, false]);
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

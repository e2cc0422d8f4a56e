//! An op with its platform.

use super::digest::{self, OpDigest};
use super::encoding::Encoding;
use super::op::{Action, CopyAction, Kind, Mount, Op};
use super::platform::Platform;
use super::preimage::{self, NotComputable};
use super::selector::{self, Selectors};

/// An op, and the platform of its daemon: everything that, with the inputs, determines by which key a daemon
/// of any release looks up its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// The op.
    pub op: Op,
    /// Platform of the daemon, which applies to ops without a platform.
    pub default_platform: Platform,
}

impl Vertex {
    /// Returns the op digest for a daemon of `encoding`.
    ///
    /// # Errors
    /// Returns an error if the op does not determine its digest.
    pub fn digest(&self, encoding: Encoding) -> Result<OpDigest, NotComputable> {
        digest::digest(&self.op, encoding, &self.default_platform)
    }

    /// Returns the selector on links to input `input` that do not come from content keys, empty if there is
    /// none; `None` if the selectors of such ops are the same in all releases.
    pub fn selector(&self, input: usize, class: Selectors) -> Option<String> {
        match &self.op.kind {
            Kind::Exec(exec) => Some(selector::exec(exec, input, class)),
            _ => None,
        }
    }

    /// Returns the JSON whose hash is the op digest, for a daemon of `encoding`.
    ///
    /// # Errors
    /// Returns an error if the op does not determine its digest.
    pub fn document(&self, encoding: Encoding) -> Result<String, NotComputable> {
        preimage::document(&self.op, encoding, &self.default_platform)
    }

    /// Returns the selectors with which a daemon of `class` looks up the op from each of its `inputs` inputs,
    /// other than by content; empty if there is none.
    pub fn own_selectors(&self, inputs: usize, class: Selectors) -> Vec<String> {
        match &self.op.kind {
            Kind::Exec(exec) => selector::of_exec(exec, inputs, class),
            Kind::File(file) => selector::of_file(file, inputs),
            _ => vec![String::new(); inputs],
        }
    }

    /// Returns the paths of each of its `inputs` inputs by whose content a daemon may also find the op;
    /// `None` if it does not look at them.
    pub fn hashed_paths(&self, inputs: usize) -> Vec<Option<Vec<&str>>> {
        match &self.op.kind {
            Kind::Exec(exec) => selector::exec_paths(exec, inputs),
            Kind::File(file) => {
                let paths = selector::file_paths(file, inputs).into_iter();
                paths.map(|paths| Some(paths).filter(|paths| !paths.is_empty())).collect()
            }
            _ => vec![None; inputs],
        }
    }

    /// Returns the same op as clients since v0.15.2 send it, if it differs: older clients gave secrets and
    /// SSH agents the meaningless input 0 and not none (`client/llb/exec.go`). The command is the same, but
    /// not the digest.
    pub fn as_sent_since_v0_15_2(&self) -> Option<Self> {
        let is_stray = |mount: &Mount| {
            matches!(mount.mount_type, Mount::SECRET | Mount::SSH) && mount.input != Mount::NO_INPUT
        };
        let Kind::Exec(exec) = &self.op.kind else { return None };
        if !exec.mounts.iter().any(is_stray) {
            return None;
        }
        let mut exec = exec.clone();
        let stray = exec.mounts.iter_mut().filter(|mount| is_stray(mount));
        stray.for_each(|mount| mount.input = Mount::NO_INPUT);
        let mut vertex = self.clone();
        vertex.op.kind = Kind::Exec(exec);
        Some(vertex)
    }

    /// Returns whether the selector of a release of `class` on input `input` determines what each mount
    /// selects. Releases before v0.13 omit the mounts that select nothing, so if other mounts of the same
    /// input select something, it could be any of them.
    pub fn tells_selections(&self, input: usize, class: Selectors) -> bool {
        match &self.op.kind {
            Kind::Exec(exec) => selector::tells_selections(exec, input, class),
            _ => true,
        }
    }

    /// Returns whether a daemon may also look up the op by the content of its input `input`.
    pub fn hashes_contents(&self, input: usize) -> bool {
        match &self.op.kind {
            Kind::Exec(exec) => selector::hashes_contents(exec, input),
            _ => true,
        }
    }

    /// Returns what wildcards and patterns select of the content of input `input`, if a daemon may look up
    /// the op by their matches alone: not if nothing of the input is copied or mounted, if it is mounted as
    /// the root, or if a file op changes it (`invalidSelectors` in `ops/file.go`).
    pub fn hashed_patterns(&self, input: usize) -> Option<Patterns> {
        let is_input = |index: i64| usize::try_from(index) == Ok(input);
        match &self.op.kind {
            Kind::Exec(exec) => {
                let root = |mount: &Mount| is_input(mount.input) && mount.dest == "/";
                (self.hashes_contents(input) && !exec.mounts.iter().any(root))
                    .then_some(Patterns::None)
            }
            Kind::File(file) if file.actions.iter().any(|action| is_input(action.input)) => None,
            Kind::File(file) => {
                let copies = file.actions.iter().filter_map(|action| match &action.action {
                    Action::Copy(copy) if is_input(action.secondary_input) => Some(copy),
                    _ => None,
                });
                let copies: Vec<_> = copies.collect();
                (!copies.is_empty()).then(|| Patterns::of(&copies))
            }
            _ => None,
        }
    }
}

/// What wildcards and patterns select of the content by which an op is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Patterns {
    /// Nothing: there are no patterns.
    None,
    /// Perhaps something: they may match nothing, or everything.
    Some,
    /// Everything: the only selection is a wildcard.
    All,
}

impl Patterns {
    fn of(copies: &[&CopyAction]) -> Self {
        match copies {
            [copy] if has_wildcard(copy) => Self::All,
            copies if copies.iter().any(|copy| has_wildcard(copy) || has_filters(copy)) => {
                Self::Some
            }
            _ => Self::None,
        }
    }
}

/// Required paths select nothing (`HasWildcardOrFilters` in `ops/opsutils/contenthash.go`).
fn has_filters(copy: &CopyAction) -> bool {
    !copy.include_patterns.is_empty() || !copy.exclude_patterns.is_empty()
}

/// `addSelector` in `ops/file.go`.
fn has_wildcard(copy: &CopyAction) -> bool {
    copy.allow_wildcard && is_wildcard(&copy.src)
}

/// As `containsWildcards` in `ops/file.go`.
fn is_wildcard(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(copies: &[&str]) -> Patterns {
        let actions: Vec<_> = copies
            .iter()
            .map(|copy| {
                format!(r#"{{"input":0,"secondaryInput":1,"output":0,"Action":{{"copy":{copy}}}}}"#)
            })
            .collect();
        let json = format!(
            r#"{{"inputs":[{{}},{{}}],"Op":{{"file":{{"actions":[{}]}}}}}}"#,
            actions.join(",")
        );
        let vertex = Vertex {
            op: serde_json::from_str(&json).unwrap(),
            default_platform: "linux/amd64".parse().unwrap(),
        };
        // The input that a file op changes is never hashed.
        assert_eq!(vertex.hashed_patterns(0), None);
        vertex.hashed_patterns(1).unwrap()
    }

    #[test]
    fn copies_with_patterns_are_told_from_others() {
        assert_eq!(patterns(&[r#"{"src":"/a","allowWildcard":true}"#]), Patterns::None);
        assert_eq!(patterns(&[r#"{"src":"/*.txt"}"#]), Patterns::None);
        assert_eq!(patterns(&[r#"{"src":"/\\*.txt","allowWildcard":true}"#]), Patterns::None);
        assert_eq!(patterns(&[r#"{"src":"/","required_paths":["a"]}"#]), Patterns::None);
        assert_eq!(patterns(&[r#"{"src":"/","exclude_patterns":["a"]}"#]), Patterns::Some);
        let wildcard = r#"{"src":"/*.txt","allowWildcard":true}"#;
        assert_eq!(patterns(&[wildcard]), Patterns::All);
        assert_eq!(patterns(&[r#"{"src":"/a"}"#, wildcard]), Patterns::Some);
    }

    #[test]
    fn only_what_may_be_looked_for_by_contents_counts() {
        let patterns = |json: &str, input| {
            let op = serde_json::from_str(json).unwrap();
            Vertex { op, default_platform: "linux/amd64".parse().unwrap() }.hashed_patterns(input)
        };
        let exec = r#"{"Op":{"exec":{"meta":{},"mounts":[{"dest":"/"},{"input":1,"dest":"/b"}]}}}"#;
        assert_eq!(patterns(exec, 0), None);
        assert_eq!(patterns(exec, 1), Some(Patterns::None));
        let merge = r#"{"Op":{"merge":{"inputs":[{},{"input":1}]}}}"#;
        assert_eq!(patterns(merge, 1), None);
    }
}

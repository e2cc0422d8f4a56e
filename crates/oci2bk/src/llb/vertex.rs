//! An op in its surroundings.

use super::digest::{self, NotComputable, OpDigest};
use super::encoding::Encoding;
use super::op::{Action, CopyAction, Kind, Mount, Op};
use super::platform::Platform;
use super::selector::{self, Selectors};

/// An op, and the machine it ran on: all that decides under what key a daemon of any release looks
/// for its result, apart from its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// The op.
    pub op: Op,
    /// Platform of the daemon, on which ops run that name none.
    pub default_platform: Platform,
}

impl Vertex {
    /// What a daemon of `encoding` calls the op.
    ///
    /// # Errors
    /// When the op does not determine its digest.
    pub fn digest(&self, encoding: Encoding) -> Result<OpDigest, NotComputable> {
        digest::digest(&self.op, encoding, &self.default_platform)
    }

    /// The selector on links to input `input` that do not come from keys of contents, empty if
    /// there is none; or nothing if the op is of a kind whose selectors are the same in all
    /// releases.
    pub fn selector(&self, input: usize, class: Selectors) -> Option<String> {
        match &self.op.kind {
            Kind::Exec(exec) => Some(selector::exec(exec, input, class)),
            _ => None,
        }
    }

    /// The same op as clients since v0.15.2 send it, if that is another: until then they gave
    /// secrets and SSH agents input 0, which means nothing, instead of none (`client/llb/exec.go`).
    /// What runs is the same, but not the digest.
    pub fn as_sent_since_v0_15_2(&self) -> Option<Self> {
        let stray = |mount: &Mount| {
            matches!(mount.mount_type, Mount::SECRET | Mount::SSH) && mount.input != Mount::NO_INPUT
        };
        let mut vertex = self.clone();
        let Kind::Exec(exec) = &mut vertex.op.kind else { return None };
        let stray: Vec<_> = exec.mounts.iter_mut().filter(|mount| stray(mount)).collect();
        if stray.is_empty() {
            return None;
        }
        stray.into_iter().for_each(|mount| mount.input = Mount::NO_INPUT);
        Some(vertex)
    }

    /// Whether a daemon may look for the op by what is in its input `input`, too.
    pub fn hashes_contents(&self, input: usize) -> bool {
        match &self.op.kind {
            Kind::Exec(exec) => selector::hashes_contents(exec, input),
            _ => true,
        }
    }

    /// Whether the op copies from input `input` what wildcards or patterns match. How such contents
    /// are hashed depends on the release.
    pub fn matches_patterns(&self, input: usize) -> bool {
        let Kind::File(file) = &self.op.kind else { return false };
        file.actions.iter().any(|action| {
            let from_input = usize::try_from(action.secondary_input) == Ok(input);
            matches!(&action.action, Action::Copy(copy) if from_input && has_patterns(copy))
        })
    }
}

fn has_patterns(copy: &CopyAction) -> bool {
    let patterns = [&copy.include_patterns, &copy.exclude_patterns, &copy.required_paths];
    (copy.allow_wildcard && has_wildcard(&copy.src))
        || patterns.iter().any(|patterns| !patterns.is_empty())
}

/// As `containsWildcards` in `ops/file.go`.
fn has_wildcard(path: &str) -> bool {
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

    fn copying(copy: &str) -> bool {
        let json = format!(
            r#"{{"inputs":[{{}},{{}}],"Op":{{"file":{{"actions":[{{"input":0,"secondaryInput":1,
            "output":0,"Action":{{"copy":{copy}}}}}]}}}}}}"#
        );
        let vertex = Vertex {
            op: serde_json::from_str(&json).unwrap(),
            default_platform: "linux/amd64".parse().unwrap(),
        };
        assert!(!vertex.matches_patterns(0));
        vertex.matches_patterns(1)
    }

    #[test]
    fn copies_with_patterns_are_told_from_others() {
        assert!(!copying(r#"{"src":"/a","allowWildcard":true}"#));
        assert!(copying(r#"{"src":"/*.txt","allowWildcard":true}"#));
        assert!(!copying(r#"{"src":"/*.txt"}"#));
        assert!(!copying(r#"{"src":"/\\*.txt","allowWildcard":true}"#));
        assert!(copying(r#"{"src":"/","exclude_patterns":["a"]}"#));
        assert!(copying(r#"{"src":"/","required_paths":["a"]}"#));
    }
}

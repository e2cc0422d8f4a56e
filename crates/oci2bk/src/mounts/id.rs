//! Ids of cache mounts: which can travel, and how people name them.

use std::fmt;
use std::str::FromStr;

/// Maximum length of an id, in bytes. Those of Dockerfiles are paths and names.
const LONGEST: usize = 1024;

/// Why a mount with this id is neither exported nor imported.
///
/// ```
/// use oci2bk::mounts::{OddId, check_id};
///
/// assert_eq!(check_id("//root/.m2"), Ok(()));
/// assert_eq!(check_id("/a::b"), Err(OddId::Separator));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OddId {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is longer than any real one.
    #[error("it has {length} bytes, more than {LONGEST}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It has control characters.
    #[error("it has control characters")]
    Control,
    /// A daemon also finds it by the part before `::` (BuildKit v0.34.2 `cache/metadata/metadata.go`
    /// `Search`).
    #[error("it has \"::\", where a daemon would end it")]
    Separator,
}

/// Checks the id of a mount that is to be exported or imported. An id is any text that a build made up.
///
/// # Errors
/// Returns an error if it could be taken for another one, or is not text for people.
pub fn check_id(id: &str) -> Result<(), OddId> {
    match id.len() {
        0 => Err(OddId::Empty),
        length if length > LONGEST => Err(OddId::TooLong { length }),
        _ if id.chars().any(char::is_control) => Err(OddId::Control),
        // At its end, one colon is enough.
        _ if id.contains("::") || id.ends_with(':') => Err(OddId::Separator),
        _ => Ok(()),
    }
}

/// A mount as people name it: its id, or the words of a Dockerfile.
///
/// ```
/// use oci2bk::mounts::Wanted;
///
/// let wanted: Wanted = "target=/root/.m2/".parse()?;
/// assert_eq!(wanted.id(""), "//root/.m2");
/// assert_eq!("id=npm".parse::<Wanted>()?.id("team"), "team/npm");
/// // As it is listed.
/// assert_eq!("//root/.m2".parse::<Wanted>()?.id("team"), "//root/.m2");
/// # Ok::<(), std::convert::Infallible>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// The id, or the record.
    Id(String),
    /// `target=` of the mount.
    Target(String),
    /// `id=` of the mount.
    Name(String),
}

impl FromStr for Wanted {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if let Some(target) = text.strip_prefix("target=") {
            Self::Target(target.to_owned())
        } else if let Some(name) = text.strip_prefix("id=") {
            Self::Name(name.to_owned())
        } else {
            Self::Id(text.to_owned())
        })
    }
}

impl Wanted {
    /// Returns the id. `namespace` is the build argument `BUILDKIT_CACHE_MOUNT_NS` of the build, or empty.
    pub fn id(&self, namespace: &str) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::Target(target) => format!("{namespace}/{}", clean(target)),
            Self::Name(name) => format!("{namespace}/{name}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Target(target) => write!(f, "target={target}"),
            Self::Name(name) => write!(f, "id={name}"),
        }
    }
}

/// Returns a path as Go's `path.Clean` does.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match (part, kept.last()) {
            ("..", Some(&last)) if last != ".." => drop(kept.pop()),
            ("..", _) if rooted => {}
            (part, _) => kept.push(part),
        }
    }
    match (rooted, kept.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_daemon_could_mistake_are_refused() {
        let long = "x".repeat(LONGEST + 1);
        for (id, expected) in [
            ("", OddId::Empty),
            (long.as_str(), OddId::TooLong { length: 1025 }),
            ("/a\nb", OddId::Control),
            ("/a\u{85}", OddId::Control),
            ("/a::b", OddId::Separator),
            ("/a:", OddId::Separator),
        ] {
            assert_eq!(check_id(id), Err(expected), "{id}");
        }
        for id in ["x", "/a:b", "proj/x//c1", "/\u{e9}", &long[1..]] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        // The output of Go 1.26's path.Clean.
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b", "a/b"),
            ("a/../..", ".."),
            ("/../a", "/a"),
            ("../../a/..", "../.."),
            ("/root/.m2/", "/root/.m2"),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }

    #[test]
    fn words_of_a_dockerfile_are_ids() {
        for (text, namespace, id) in [
            ("target=/c1", "", "//c1"),
            ("target=rel", "", "/rel"),
            ("id=named", "", "/named"),
            ("target=/c1", "proj/x", "proj/x//c1"),
            ("any text", "proj", "any text"),
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!(wanted.id(namespace), id);
            assert_eq!(wanted.to_string(), text);
        }
    }
}

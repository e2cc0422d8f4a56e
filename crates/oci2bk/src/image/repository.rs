//! Repositories of images.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A repository of a registry, as in an image's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Repository {
    /// The registry's host, with its port if it has one.
    pub host: String,
    /// The path of the repository on the host.
    pub path: String,
}

/// The text is not the name of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an image, such as debian or registry.example/team/base")]
#[non_exhaustive]
pub struct ParseRepositoryError {
    /// The text.
    pub text: String,
}

/// A tag in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

/// The text is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the tag of an image, such as 12-slim")]
#[non_exhaustive]
pub struct ParseTagError {
    /// The text.
    pub text: String,
}

/// The default registry of names, and its namespace for images without one (github.com/distribution/reference
/// v0.6.0 `normalize.go`).
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Maximum length of a tag (`regexp.go` `tag`).
const MAX_TAG: usize = 128;
/// Maximum length of a repository's name (`reference.go` `NameTotalLengthMax`).
const MAX_LENGTH: usize = 255;

/// Also parses the name of an image: its tag and digest are ignored.
impl FromStr for Repository {
    type Err = ParseRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        let name = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => name,
        };
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (host, path) = match name.split_once('/').filter(|(first, _)| is_host(first)) {
            Some((host, path)) => (host, path.to_owned()),
            None if name.contains('/') => (DEFAULT_HOST, name.to_owned()),
            None => (DEFAULT_HOST, format!("{DEFAULT_NAMESPACE}{name}")),
        };
        let host_char = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        let word_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let path_char = |c: char| word_char(c) || "._-".contains(c);
        let inside = |part: &str| part.starts_with(word_char) && part.ends_with(word_char);
        let component = |part: &str| inside(part) && part.chars().all(path_char);
        let fits = host.len() + path.len() < MAX_LENGTH;
        if fits && host.chars().all(host_char) && path.split('/').all(component) {
            return Ok(Self { host: host.to_owned(), path });
        }
        let text = text.chars().take(MAX_LENGTH).collect();
        Err(ParseRepositoryError { text })
    }
}

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = text.starts_with(word_char)
            && text.len() <= MAX_TAG
            && text.chars().all(|c| word_char(c) || ".-".contains(c));
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseTagError { text: text.chars().take(MAX_TAG).collect() })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the tag in the name of an image, if it has one.
pub(super) fn tag(name: &str) -> Option<&str> {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    Some(tag)
}

/// Returns the repository and the tag of the image `name`, completed as Docker does; `None` if it is not an
/// image name with a tag.
pub(crate) fn full_name(name: &str) -> Option<(Repository, &str)> {
    let repository = name.parse().ok().filter(|_| !name.contains('@'))?;
    match tag(name) {
        Some("") => None,
        Some(tag) => Some((repository, tag)),
        None => Some((repository, DEFAULT_TAG)),
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl Repository {
    /// Returns the host without its port.
    pub fn host_name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => &self.host,
        }
        .trim_matches(['[', ']'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        let table = [
            ("debian", "docker.io", "library/debian"),
            ("debian:bookworm", "docker.io", "library/debian"),
            ("moby/buildkit:v0.32.2", "docker.io", "moby/buildkit"),
            ("docker.io/library/debian", "docker.io", "library/debian"),
            ("localhost/base", "localhost", "base"),
            ("127.0.0.1:5000/a/b@sha256:00", "127.0.0.1", "a/b"),
            ("[::1]:5000/a:tag", "::1", "a"),
        ];
        for (text, host, path) in table {
            let repository: Repository = text.parse().unwrap();
            assert_eq!((repository.host_name(), &*repository.path), (host, path), "{text}");
        }
        for text in ["", "Debian", "a//b", "a/../b", "reg.example/", "a,b", "a b", "h.x/a\n"] {
            let error = text.parse::<Repository>().unwrap_err();
            assert_eq!(error, ParseRepositoryError { text: text.to_owned() });
            let form = "is not the name of an image, such as debian or registry.example/team/base";
            assert_eq!(error.to_string(), format!("{text:?} {form}"));
        }
        // The error contains as much of it as the longest valid name.
        let error = "a".repeat(300).parse::<Repository>().unwrap_err();
        assert_eq!(error, ParseRepositoryError { text: "a".repeat(MAX_LENGTH) });
    }
}

//! The command line's form of an image.

use std::fmt;
use std::str::FromStr;

use super::repository::{self, ParseRepositoryError, ParseTagError, Repository, Tag};
use crate::source::{ParseSourceError, Source};

/// An image in a layout, and its name: `[REPOSITORY[:TAG]=]LAYOUT`.
///
/// `LAYOUT` has the forms of [`Source`]; without a name it means all images of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// The repository, if it is given.
    pub repository: Option<Repository>,
    /// The tag in the repository, if it is given.
    pub tag: Option<Tag>,
    /// The place of the image.
    pub source: Source,
}

/// Why an argument does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseImageError {
    /// The part before the `=` is not the name of a repository.
    #[error(transparent)]
    Repository(#[from] ParseRepositoryError),
    /// The part between them is not a tag.
    #[error(transparent)]
    Tag(#[from] ParseTagError),
    /// The part after it does not name a layout.
    #[error(transparent)]
    Source(#[from] ParseSourceError),
}

impl FromStr for ImageRef {
    type Err = ParseImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_source = text.starts_with(['/', '.']) || text.starts_with("type=");
        match text.split_once('=').filter(|_| !is_source) {
            Some((name, layout)) => {
                let repository = Some(name.parse()?);
                let tag = repository::tag(name).map(str::parse).transpose()?;
                Ok(Self { repository, tag, source: layout.parse()? })
            }
            None => Ok(Self { repository: None, tag: None, source: text.parse()? }),
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(repository) = &self.repository {
            write!(f, "{repository}")?;
            self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
            f.write_str("=")?;
        }
        self.source.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_behind_the_repository() {
        let image: ImageRef = "debian:12-slim=./base".parse().unwrap();
        assert_eq!(image.tag, Some("12-slim".parse().unwrap()));
        assert_eq!(image.to_string(), "docker.io/library/debian:12-slim=./base");
        let pinned = "reg.example:5000/a/b:1@sha256:00=./base".parse::<ImageRef>().unwrap();
        assert_eq!(pinned.to_string(), "reg.example:5000/a/b:1=./base");
        for text in ["debian=./base", "reg.example:5000/debian=./base", "./base:12"] {
            assert_eq!(text.parse::<ImageRef>().unwrap().tag, None, "{text}");
        }
        for tag in ["", ".1", "-", "a b", "a+b", &"a".repeat(129)] {
            let error = format!("debian:{tag}=./base").parse::<ImageRef>().unwrap_err();
            let text: String = tag.chars().take(128).collect();
            let message = format!("{text:?} is not the tag of an image, such as 12-slim");
            assert_eq!(error, ParseImageError::Tag(ParseTagError { text }));
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_repository_stands_before_the_layout() {
        let image: ImageRef = "debian=oci:dir:bookworm".parse().unwrap();
        assert_eq!(image.repository.as_ref().unwrap().to_string(), "docker.io/library/debian");
        assert_eq!(image.source, "oci:dir:bookworm".parse().unwrap());
        assert_eq!(image.to_string(), "docker.io/library/debian=oci:dir:bookworm");
        for text in ["type=local,src=dir", "oci:dir:tag", "./a=b", "/a=b"] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!((image.repository, image.source), (None, text.parse().unwrap()));
        }
        let inner: ImageRef = "reg.example/x=type=local,src=dir,tag=t".parse().unwrap();
        assert_eq!(inner.source, "oci:dir:t".parse().unwrap());
        let error = "=dir".parse::<ImageRef>().unwrap_err();
        assert!(matches!(error, ParseImageError::Repository(_)), "{error:?}");
        assert!(error.to_string().starts_with("\"\" is not the name of an image"), "{error}");
        let error = "debian=".parse::<ImageRef>().unwrap_err();
        assert!(
            matches!(error, ParseImageError::Source(ParseSourceError::NoPath { .. })),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "\"\" names no directory or archive");
    }
}

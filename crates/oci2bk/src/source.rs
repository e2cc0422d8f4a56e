//! The source of a conversion, as it is written on the command line.
//!
//! | form | meaning |
//! |---|---|
//! | `DIR` | the only cache in the layout, or the one tagged `latest` if there are several |
//! | `oci:DIR` | the same |
//! | `oci:DIR:TAG` | the cache with this tag |
//! | `oci:DIR@DIGEST` | the cache with this digest, tagged or not |
//! | `oci-archive:FILE[:TAG\|@DIGEST]` | the same in a tar archive |
//! | `type=local,src=DIR[,tag=TAG][,digest=DIGEST]` | what BuildKit's `--import-cache` and buildx's `--cache-from` take |
//!
//! As in skopeo, the first `:` after `oci:` or `oci-archive:` (here also the first `@`) ends the path.
//! A path with these characters in it, or one that looks like another form, can be given as
//! `type=local,src=DIR`. A word that starts with `/` or `.` is always a path.
//!
//! Every form takes a directory as well as a tar archive of one: which it is shows when it is opened.
//!
//! ```
//! use oci2bk::Source;
//! use oci2bk::source::{ParseSourceError, Reference};
//!
//! let source: Source = "type=local,src=cache,tag=main".parse()?;
//! assert_eq!(source.reference, Reference::Tag("main".to_owned()));
//! assert_eq!(source.to_string(), "oci:cache:main");
//!
//! // What needs a network is fetched with other tools first.
//! let error = "type=registry".parse::<Source>().unwrap_err();
//! assert!(matches!(error, ParseSourceError::Type { kind } if kind == "registry"));
//! # Ok::<(), ParseSourceError>(())
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bkstate::Digest;
use bkstate::digest::ParseDigestError;

/// A layout, and which cache in it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The directory of the layout, or a tar archive of it.
    pub path: PathBuf,
    /// Which cache in it.
    pub reference: Reference,
}

/// Which cache of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reference {
    /// The only cache, or the one tagged `latest` if there are several.
    #[default]
    Default,
    /// The cache with this tag.
    Tag(String),
    /// The cache with this digest.
    Digest(Digest),
}

/// Why a word does not name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSourceError {
    /// No path is given.
    #[error("{text:?} names no directory or archive")]
    NoPath {
        /// The whole word.
        text: String,
    },
    /// The tag is empty.
    #[error("{text:?} has an empty tag; leave it out to take the only cache, or the latest")]
    EmptyTag {
        /// The whole word.
        text: String,
    },
    /// The digest is malformed.
    #[error("{text:?} has a malformed digest")]
    Digest {
        /// The whole word.
        text: String,
        /// What is wrong with the digest.
        #[source]
        source: ParseDigestError,
    },
    /// The type is one that needs a network or is not known.
    #[error("cache type {kind:?} is not supported; only type=local, a directory or archive, is")]
    Type {
        /// The type.
        kind: String,
    },
    /// An attribute is not known.
    #[error("unknown attribute {key:?}; known are type, src, tag and digest")]
    UnknownAttribute {
        /// The attribute.
        key: String,
    },
    /// An attribute is given twice.
    #[error("attribute {key:?} is given twice")]
    RepeatedAttribute {
        /// The attribute.
        key: String,
    },
    /// A field is not of the form `key=value`.
    #[error("{field:?} is not of the form key=value")]
    NotAnAttribute {
        /// The field.
        field: String,
    },
    /// Quotes are unbalanced or inside a field.
    #[error("{text:?} has a misplaced quote; quote a whole field and double quotes inside it")]
    Quote {
        /// The whole word.
        text: String,
    },
}

const OCI_PREFIX: &str = "oci:";
const ARCHIVE_PREFIX: &str = "oci-archive:";

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = text.starts_with(['/', '.']);
        let oci = text.strip_prefix(OCI_PREFIX).or_else(|| text.strip_prefix(ARCHIVE_PREFIX));
        let source = if let Some(rest) = oci {
            parse_oci(text, rest)?
        } else if !is_path && (text.starts_with("type=") || text.contains(",type=")) {
            parse_attributes(text)?
        } else {
            Self { path: text.into(), reference: Reference::Default }
        };
        if source.path.as_os_str().is_empty() {
            return Err(ParseSourceError::NoPath { text: text.to_owned() });
        }
        Ok(source)
    }
}

/// The shortest form that parses to the same source.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        let short = match &self.reference {
            Reference::Default => path.to_string(),
            Reference::Tag(tag) => format!("{OCI_PREFIX}{path}:{tag}"),
            Reference::Digest(digest) => format!("{OCI_PREFIX}{path}@{digest}"),
        };
        if short.parse().as_ref() == Ok(self) {
            return f.write_str(&short);
        }
        write!(f, "type=local,{}", quoted(&format!("src={path}")))?;
        match &self.reference {
            Reference::Default => Ok(()),
            Reference::Tag(tag) => write!(f, ",{}", quoted(&format!("tag={tag}"))),
            Reference::Digest(digest) => write!(f, ",digest={digest}"),
        }
    }
}

fn parse_oci(text: &str, rest: &str) -> Result<Source, ParseSourceError> {
    let end = rest.find([':', '@']).unwrap_or(rest.len());
    let (path, reference) = rest.split_at(end);
    let reference = match reference.split_at_checked(1) {
        None => Reference::Default,
        Some(("@", digest)) => parse_digest(text, digest)?,
        Some((_, tag)) => parse_tag(text, tag)?,
    };
    Ok(Source { path: path.into(), reference })
}

/// BuildKit's attributes (v0.32 `cmd/buildctl/build/importcache.go`, `client/solve.go`): keys in
/// any case, a digest outweighs a tag, an empty digest counts as none.
fn parse_attributes(text: &str) -> Result<Source, ParseSourceError> {
    let (mut kind, mut path, mut tag, mut digest) = (None, None, None, None);
    for field in csv_fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| ParseSourceError::NotAnAttribute { field: field.clone() })?;
        let key = key.to_lowercase();
        let attribute = match &*key {
            "type" => &mut kind,
            "src" => &mut path,
            "tag" => &mut tag,
            "digest" => &mut digest,
            _ => return Err(ParseSourceError::UnknownAttribute { key }),
        };
        if attribute.replace(value.to_owned()).is_some() {
            return Err(ParseSourceError::RepeatedAttribute { key });
        }
    }
    let kind = kind.unwrap_or_default();
    if kind != "local" {
        return Err(ParseSourceError::Type { kind });
    }
    let reference = match (tag, digest.filter(|digest| !digest.is_empty())) {
        (_, Some(digest)) => parse_digest(text, &digest)?,
        (Some(tag), None) => parse_tag(text, &tag)?,
        (None, None) => Reference::Default,
    };
    Ok(Source { path: path.unwrap_or_default().into(), reference })
}

fn parse_tag(text: &str, tag: &str) -> Result<Reference, ParseSourceError> {
    if tag.is_empty() {
        return Err(ParseSourceError::EmptyTag { text: text.to_owned() });
    }
    Ok(Reference::Tag(tag.to_owned()))
}

fn parse_digest(text: &str, digest: &str) -> Result<Reference, ParseSourceError> {
    let wrong = |source| ParseSourceError::Digest { text: text.to_owned(), source };
    digest.parse().map(Reference::Digest).map_err(wrong)
}

/// Splits at commas; a field that starts with a quote ends at the next single quote, and two
/// quotes in it stand for one.
fn csv_fields(text: &str) -> Result<Vec<String>, ParseSourceError> {
    let misplaced = || ParseSourceError::Quote { text: text.to_owned() };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field;
        (field, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(misplaced)?,
            None => {
                let (field, rest) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err(misplaced());
                }
                (field.to_owned(), rest)
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(misplaced()),
        }
    }
}

/// The field whose opening quote has been taken off, and what follows its closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn source(path: &str, reference: Reference) -> Source {
        Source { path: path.into(), reference }
    }

    fn parse(text: &str) -> Result<Source, ParseSourceError> {
        text.parse()
    }

    #[test]
    fn every_documented_form_parses_and_prints_in_its_shortest_form() {
        let tag = || Reference::Tag("main".to_owned());
        let digest = || Reference::Digest(DIGEST.parse().unwrap());
        for (text, expected, printed) in [
            ("/cache", source("/cache", Reference::Default), "/cache"),
            ("./a,type=b", source("./a,type=b", Reference::Default), "./a,type=b"),
            ("cache:main", source("cache:main", Reference::Default), "cache:main"),
            ("oci:/cache", source("/cache", Reference::Default), "/cache"),
            ("oci:/cache:main", source("/cache", tag()), "oci:/cache:main"),
            (
                "oci:c:docker.io/library/a:b",
                source("c", Reference::Tag("docker.io/library/a:b".to_owned())),
                "oci:c:docker.io/library/a:b",
            ),
            (&format!("oci:c@{DIGEST}"), source("c", digest()), &format!("oci:c@{DIGEST}")),
            ("type=local,src=/cache", source("/cache", Reference::Default), "/cache"),
            ("oci-archive:/c.tar", source("/c.tar", Reference::Default), "/c.tar"),
            ("oci-archive:/c.tar:main", source("/c.tar", tag()), "oci:/c.tar:main"),
            (
                &format!("oci-archive:c.tar@{DIGEST}"),
                source("c.tar", digest()),
                &format!("oci:c.tar@{DIGEST}"),
            ),
            ("tag=main,src=/cache,type=local", source("/cache", tag()), "oci:/cache:main"),
            (
                &format!("type=local,src=a:b,tag=x,digest={DIGEST}"),
                source("a:b", digest()),
                &format!("type=local,src=a:b,digest={DIGEST}"),
            ),
            (
                "type=local,\"src=a,\"\"b\"\":c\",tag=main,digest=",
                source("a,\"b\":c", tag()),
                "type=local,\"src=a,\"\"b\"\":c\",tag=main",
            ),
            ("type=local,src=oci:x", source("oci:x", Reference::Default), "type=local,src=oci:x"),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
            assert_eq!(expected.to_string(), printed);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let named = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(named(""), r#""" names no directory or archive"#);
        assert_eq!(named("oci::main"), r#""oci::main" names no directory or archive"#);
        assert!(named("type=local,tag=a").ends_with("names no directory or archive"));
        assert!(named("oci:/cache:").contains("empty tag"));
        assert!(named("type=local,src=/c,tag=").contains("empty tag"));
        assert!(named("oci:/cache@sha256:../../etc").contains("malformed digest"));
        assert!(named("type=local,src=/c,digest=latest").contains("malformed digest"));
        assert!(named("type=registry,ref=a/b").contains("\"ref\""));
        assert!(named("type=gha").contains("\"gha\""));
        assert!(named("type=local,dest=/c").contains("unknown attribute \"dest\""));
        assert!(named("type=local,src=/c,src=/d").contains("\"src\" is given twice"));
        assert!(named("TYPE=local,src=/c,type=local").contains("\"type\" is given twice"));
        assert!(named("type=local,/c").contains("\"/c\" is not of the form key=value"));
        for text in ["type=local,\"src=/c", "type=local,src=\"/c\"", "type=local,\"src=/c\"x"] {
            assert!(matches!(parse(text), Err(ParseSourceError::Quote { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_source(
            path in "[a-z:@,=\"./ ]{1,12}|oci:.|oci-archive:.|type=.",
            tag in proptest::option::of("[a-z:@,=\"./ ]{1,12}"),
            hash in proptest::option::of(any::<[u8; 32]>()),
        ) {
            let reference = match (tag, hash) {
                (_, Some(hash)) => Reference::Digest(Digest::from_bytes(hash)),
                (Some(tag), None) => Reference::Tag(tag),
                (None, None) => Reference::Default,
            };
            let expected = source(&path, reference);
            prop_assert_eq!(parse(&expected.to_string()), Ok(expected));
        }

        #[test]
        fn any_word_is_parsed_or_refused(text in ".*") {
            let _ = parse(&text);
        }
    }
}

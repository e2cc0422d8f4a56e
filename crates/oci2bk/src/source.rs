//! The source of a conversion, as it is written on the command line.
//!
//! | form | meaning |
//! |---|---|
//! | `DIR` | the only cache in the layout, or the one tagged `latest` if there are several |
//! | `oci:DIR` | the same |
//! | `oci:DIR:TAG` | the cache with this tag |
//! | `oci:DIR@DIGEST` | the cache with this digest, tagged or not |
//! | `oci-archive:FILE[:TAG\|@DIGEST]` | the same in a tar archive |
//! | `ocidir://DIR[:TAG\|@DIGEST]`, `oci-layout://DIR[:TAG\|@DIGEST]` | the same as regctl and docker buildx write it |
//! | `type=local,src=DIR[,tag=TAG][,digest=DIGEST]` | what BuildKit's `--import-cache` and buildx's `--cache-from` take |
//!
//! As in skopeo, the first `:` after `oci:` or `oci-archive:` (here also the first `@`) ends the path.
//! A path with these characters in it, or one that looks like another form, can be given as
//! `type=local,src=DIR`. A word that starts with `/` or `.` is always a path. Of `TAG@DIGEST` the digest counts,
//! as it does for BuildKit.
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
//! let error = "type=registry,ref=example.com/cache".parse::<Source>().unwrap_err();
//! assert!(matches!(error, ParseSourceError::Registry { reference } if reference == "example.com/cache"));
//! # Ok::<(), ParseSourceError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
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
    /// It is in a registry.
    #[error(
        "it is in a registry; copy it into a layout first, such as with: regctl image copy {reference} \
         ocidir://cache:latest"
    )]
    Registry {
        /// What the registry calls it.
        reference: String,
    },
    /// It is in a place that other tools read.
    #[error(
        "{text:?} is not in an OCI layout; copy it into one first, such as with: skopeo copy --all \
         {text} oci:cache:latest"
    )]
    Transport {
        /// The whole word.
        text: String,
    },
    /// It is to be downloaded.
    #[error("{text:?} is not on this machine; download it first, and give the file or directory")]
    Url {
        /// The whole word.
        text: String,
    },
    /// It is what comes from stdin.
    #[error(
        "a source is not read from stdin, since its layers are read in any order; write it to a file \
         first, such as with: cat > cache.tar"
    )]
    Stdin,
    /// The type is not `local`.
    #[error(
        "cache type {kind:?} is not read; only type=local is: export the cache with --cache-to \
         type=local,dest=DIR, or copy the image with an inline cache into an OCI layout"
    )]
    Type {
        /// The type.
        kind: String,
    },
    /// An attribute is not known.
    #[error("unknown attribute {key:?}; the directory is src, and others are type, tag and digest")]
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
/// What stands before the path of a layout: for skopeo, for regctl, and for docker buildx.
const LAYOUT_PREFIXES: [&str; 4] = [OCI_PREFIX, "oci-archive:", "ocidir://", "oci-layout://"];
/// Other places that skopeo reads from (v1.22 `docs/skopeo.1.md`).
const TRANSPORTS: [&str; 6] =
    ["containers-storage:", "dir:", "docker-archive:", "docker-daemon:", "ostree:", "sif:"];
const DOCKER_PREFIX: &str = "docker://";
const URL_PREFIXES: [&str; 4] = ["http://", "https://", "s3://", "gs://"];
/// What attributes start with.
const ATTRIBUTES: [&str; 4] = ["type=", "src=", "ref=", "dest="];

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = text.starts_with(['/', '.']);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        let layout = LAYOUT_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        let source = if let Some(rest) = layout {
            parse_oci(text, rest)?
        } else if let Some(reference) = text.strip_prefix(DOCKER_PREFIX) {
            return Err(ParseSourceError::Registry { reference: reference.to_owned() });
        } else if starts(&TRANSPORTS) {
            return Err(ParseSourceError::Transport { text: text.to_owned() });
        } else if starts(&URL_PREFIXES) {
            return Err(ParseSourceError::Url { text: text.to_owned() });
        } else if text == "-" {
            return Err(ParseSourceError::Stdin);
        } else if !is_path && (starts(&ATTRIBUTES) || text.contains(",type=")) {
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

/// What to say of a path that is not there and may have another meaning; nothing if it has none.
pub(crate) fn hint(path: &Path) -> String {
    let Some(text) = path.to_str() else { return String::new() };
    let end = text.find([':', '@']);
    if end.and_then(|end| text.get(..end)).is_some_and(|path| Path::new(path).exists()) {
        return format!("; to choose a cache by its tag or digest, write {OCI_PREFIX}{text}");
    }
    let is_host = |host: &str| host == "localhost" || host.contains(['.', ':']);
    let host = text.split_once('/').map(|(host, _)| host);
    if host.is_some_and(|host| !host.starts_with('.') && is_host(host)) {
        let error = ParseSourceError::Registry { reference: text.to_owned() };
        return format!("; if that is a name and no path, {error}");
    }
    String::new()
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
        f.write_str(&self.attributes())
    }
}

impl Source {
    /// The source as the attributes that `--cache-from` and `--import-cache` take, if it is a directory.
    ///
    /// ```
    /// let source: oci2bk::Source = "oci:cache:main".parse()?;
    /// assert_eq!(source.attributes(), "type=local,src=cache,tag=main");
    /// # Ok::<(), oci2bk::source::ParseSourceError>(())
    /// ```
    pub fn attributes(&self) -> String {
        let path = quoted(&format!("src={}", self.path.to_string_lossy()));
        let reference = match &self.reference {
            Reference::Default => String::new(),
            Reference::Tag(tag) => format!(",{}", quoted(&format!("tag={tag}"))),
            Reference::Digest(digest) => format!(",digest={digest}"),
        };
        format!("type=local,{path}{reference}")
    }
}

/// What is between a tag and a digest.
const WITH_DIGEST: &str = "@sha256:";

fn parse_oci(text: &str, rest: &str) -> Result<Source, ParseSourceError> {
    let end = rest.find([':', '@']).unwrap_or(rest.len());
    let (path, reference) = rest.split_at(end);
    let reference = match reference.split_at_checked(1) {
        None => Reference::Default,
        Some(("@", digest)) => parse_digest(text, digest)?,
        Some((_, tag)) => match tag.find(WITH_DIGEST) {
            Some(at) => parse_digest(text, &tag[at + 1..])?,
            None => parse_tag(text, tag)?,
        },
    };
    Ok(Source { path: path.into(), reference })
}

/// BuildKit's attributes (v0.32 `cmd/buildctl/build/importcache.go`, `client/solve.go`): keys in
/// any case, a digest outweighs a tag, an empty digest counts as none.
fn parse_attributes(text: &str) -> Result<Source, ParseSourceError> {
    let mut attributes = BTreeMap::new();
    for field in csv_fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| ParseSourceError::NotAnAttribute { field: field.clone() })?;
        let key = key.to_lowercase();
        if attributes.insert(key.clone(), value.to_owned()).is_some() {
            return Err(ParseSourceError::RepeatedAttribute { key });
        }
    }
    // The attributes of other types are not known here.
    let kind = attributes.remove("type").unwrap_or_default();
    match (&*kind, attributes.remove("ref")) {
        ("local", None) => {}
        ("registry", Some(reference)) => return Err(ParseSourceError::Registry { reference }),
        ("local", Some(_)) => {
            return Err(ParseSourceError::UnknownAttribute { key: "ref".to_owned() });
        }
        _ => return Err(ParseSourceError::Type { kind }),
    }
    let [path, tag, digest] = ["src", "tag", "digest"].map(|key| attributes.remove(key));
    if let Some((key, _)) = attributes.pop_first() {
        return Err(ParseSourceError::UnknownAttribute { key });
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
            ("ocidir://c:main", source("c", tag()), "oci:c:main"),
            ("oci-layout:///c", source("/c", Reference::Default), "/c"),
            (&format!("ocidir:///c@{DIGEST}"), source("/c", digest()), &format!("oci:/c@{DIGEST}")),
            (&format!("oci:c:main@{DIGEST}"), source("c", digest()), &format!("oci:c@{DIGEST}")),
            ("oci:c:a@b", source("c", Reference::Tag("a@b".to_owned())), "oci:c:a@b"),
            ("./dir:x", source("./dir:x", Reference::Default), "./dir:x"),
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
        for text in
            ["type=registry,ref=a.io/b:c", "ref=a.io/b:c,type=registry", "docker://a.io/b:c"]
        {
            assert!(named(text).ends_with("regctl image copy a.io/b:c ocidir://cache:latest"));
        }
        assert!(named("type=local,ref=a").contains("unknown attribute \"ref\""));
        assert!(named("type=gha,scope=x").contains("\"gha\" is not read"));
        assert!(named("src=cache").contains("type \"\" is not read; only type=local"));
        assert!(
            named("docker-archive:a.tar")
                .contains("skopeo copy --all docker-archive:a.tar oci:cache")
        );
        assert!(named("https://example.com/cache.tar").contains("download it"));
        assert!(named("-").contains("cat > cache.tar"));
        assert!(named("oci:/cache:main@sha256:abc").contains("malformed digest"));
        assert!(named("type=local,dest=/c").contains("unknown attribute \"dest\""));
        assert!(named("type=local,src=/c,src=/d").contains("\"src\" is given twice"));
        assert!(named("TYPE=local,src=/c,type=local").contains("\"type\" is given twice"));
        assert!(named("type=local,/c").contains("\"/c\" is not of the form key=value"));
        for text in ["type=local,\"src=/c", "type=local,src=\"/c\"", "type=local,\"src=/c\"x"] {
            assert!(matches!(parse(text), Err(ParseSourceError::Quote { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_may_have_another_meaning() {
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let cache = cache.to_str().unwrap();
        for word in [format!("{cache}:latest"), format!("{cache}@{DIGEST}")] {
            assert!(hint(Path::new(&word)).ends_with(&format!("write oci:{word}")), "{word}");
            assert!(word.parse::<Source>().is_ok_and(|source| source.path == Path::new(&word)));
        }
        let said = hint(Path::new("ghcr.io/team/cache:main"));
        assert!(said.contains("regctl image copy ghcr.io/team/cache:main ocidir:"), "{said}");
        for word in ["cache", "team/cache", "./a.b/c", "../cache", "/a:b", "a:b"] {
            assert_eq!(hint(Path::new(word)), "", "{word}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_source(
            path in "[a-z:@,=\"./ -]{1,12}|oci:.|oci-archive:.|ocidir://.|docker://.|dir:.|src=.|type=.",
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

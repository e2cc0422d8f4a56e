//! The source of a conversion, in the form of the command line.
//!
//! | form | meaning |
//! |---|---|
//! | `DIR` | the only cache in the layout, or the one tagged `latest` if there are several |
//! | `oci:DIR` | the same |
//! | `oci:DIR:TAG`, `DIR:TAG` | the cache with this tag |
//! | `oci:DIR@DIGEST`, `DIR@DIGEST` | the cache with this digest, tagged or not |
//! | `oci-archive:FILE[:TAG\|@DIGEST]` | the same in a tar archive |
//! | `ocidir://DIR[:TAG\|@DIGEST]`, `oci-layout://DIR[:TAG\|@DIGEST]` | the same in the form of regctl and docker buildx |
//! | `s3dir:DIR[:NAME]` | the cache with this name in a mirror from S3 or Azure; without a name the only one, or `buildkit` |
//! | `docker-archive:FILE[:IMAGE]` | the image with this name in an archive of `docker save` |
//! | `type=local,src=DIR[,tag=TAG][,digest=DIGEST]` | the form of BuildKit's `--import-cache` and buildx's `--cache-from` |
//!
//! As in skopeo, the first `:` after `oci:` or `oci-archive:` (here also the first `@`) ends the path. A path
//! with these characters, or one that looks like another form, can be given as `type=local,src=DIR`. An
//! argument that starts with `/` or `.` is always a path. In `TAG@DIGEST` the digest counts, as in BuildKit.
//!
//! Whether `DIR:TAG` is a path is decided when it is opened: an existing file is a path
//! ([`Source::on_disk`]). Every form accepts a directory as well as a tar archive of one, and a mirror of a
//! cache, which is detected then, too.
//!
//! ```
//! use oci2bk::Source;
//! use oci2bk::source::{ParseSourceError, Reference, Remote, meaning};
//!
//! let source: Source = "type=local,src=cache,tag=main".parse()?;
//! assert_eq!(source.reference, Reference::Tag("main".to_owned()));
//! assert_eq!(source.to_string(), "oci:cache:main");
//!
//! // A cache in a network must be fetched with other tools first.
//! let error = "type=registry,ref=example.com/cache".parse::<Source>().unwrap_err();
//! assert!(matches!(error, ParseSourceError::Registry { reference } if reference == "example.com/cache"));
//! let error = "type=s3,bucket=builds,prefix=ci/,name=main".parse::<Source>().unwrap_err();
//! let ParseSourceError::Elsewhere(remote) = error else { panic!("{error}") };
//! assert!(matches!(*remote, Remote::S3 { bucket: Some(bucket), .. } if bucket == "builds"));
//!
//! // A path that does not exist may be meant as the name of an image.
//! let meant = meaning("ghcr.io/team/cache:main".as_ref());
//! assert!(matches!(meant, Some(ParseSourceError::Registry { .. })));
//! # Ok::<(), ParseSourceError>(())
//! ```

mod remote;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bkstate::Digest;
use bkstate::digest::ParseDigestError;

use crate::image::full_name;
use remote::Attributes;

pub use remote::Remote;

/// A layout, and the reference to a cache in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The directory of the layout, or a tar archive of it.
    pub path: PathBuf,
    /// The cache in it.
    pub reference: Reference,
}

/// The reference to a cache of a layout.
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

/// Why an argument does not name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSourceError {
    /// The path is missing.
    #[error("{text:?} names no directory or archive")]
    NoPath {
        /// The whole argument.
        text: String,
    },
    /// The tag is empty.
    #[error("{text:?} has an empty tag; leave it out to take the only cache, or the latest")]
    EmptyTag {
        /// The whole argument.
        text: String,
    },
    /// The digest is malformed.
    #[error("{text:?} has a malformed digest")]
    Digest {
        /// The whole argument.
        text: String,
        /// The cause.
        #[source]
        source: ParseDigestError,
    },
    /// The source is in a registry.
    #[error("it is in a registry, and registries are not read")]
    Registry {
        /// Its name in the registry.
        reference: String,
    },
    /// The source is in a place that other tools read.
    #[error("{text:?} is not in an OCI layout")]
    Transport {
        /// The whole argument.
        text: String,
    },
    /// The source is in a place that only its own client can read.
    #[error("it is {0}, which is not read")]
    Elsewhere(Box<Remote>),
    /// The source is in the cache of GitHub Actions, which no client reads.
    #[error("the cache of GitHub Actions is read by builds in a workflow only")]
    Actions,
    /// The selected part of an archive of `docker save` is not the name of an image.
    #[error("{text:?} does not name an image of the archive; write docker-archive:FILE:NAME:TAG")]
    ImageName {
        /// The whole argument.
        text: String,
    },
    /// The source is stdin.
    #[error(
        "a source is not read from stdin, since its layers are read in any order; write it to a file \
         first, such as with: cat > cache.tar"
    )]
    Stdin,
    /// The type is not `local`.
    #[error("cache type {kind:?} is not read; only type=local is")]
    Type {
        /// The type.
        kind: String,
    },
    /// An attribute is unknown.
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
        /// The whole argument.
        text: String,
    },
}

const OCI_PREFIX: &str = "oci:";
/// Prefixes of the path of a layout: skopeo's, regctl's, and docker buildx's.
const LAYOUT_PREFIXES: [&str; 5] =
    [OCI_PREFIX, "oci-archive:", "ocidir://", "oci-layout://", "s3dir:"];
const DOCKER_ARCHIVE: &str = "docker-archive:";
/// Other places that skopeo can read (v1.22 `docs/skopeo.1.md`).
const TRANSPORTS: [&str; 5] = ["containers-storage:", "dir:", "docker-daemon:", "ostree:", "sif:"];
const DOCKER_PREFIX: &str = "docker://";
/// Prefixes of attributes.
const ATTRIBUTES: [&str; 4] = ["type=", "src=", "ref=", "dest="];

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = text.starts_with(['/', '.']);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        let layout = LAYOUT_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        let source = if let Some(rest) = layout {
            parse_oci(text, rest)?
        } else if let Some(rest) = text.strip_prefix(DOCKER_ARCHIVE) {
            parse_docker(text, rest)?
        } else if let Some(reference) = text.strip_prefix(DOCKER_PREFIX) {
            return Err(ParseSourceError::Registry { reference: reference.to_owned() });
        } else if starts(&TRANSPORTS) {
            return Err(ParseSourceError::Transport { text: text.to_owned() });
        } else if let Some(elsewhere) = Remote::url(text) {
            return Err(elsewhere);
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

impl Source {
    /// Resolves the source against the files on disk: `DIR:TAG` and `DIR@DIGEST` mean a cache in a layout if
    /// `DIR` exists and no file has the whole argument as its name. The longest such `DIR` counts.
    ///
    /// Every function that opens a source calls this first.
    ///
    /// ```
    /// use oci2bk::Source;
    /// use oci2bk::source::Reference;
    ///
    /// let source: Source = "fixtures/min/cache:latest".parse()?;
    /// assert_eq!(source.reference, Reference::Default);
    /// let on_disk = source.on_disk();
    /// assert_eq!(on_disk.reference, Reference::Tag("latest".to_owned()));
    /// assert_eq!(on_disk.to_string(), "oci:fixtures/min/cache:latest");
    /// # Ok::<(), oci2bk::source::ParseSourceError>(())
    /// ```
    pub fn on_disk(&self) -> Cow<'_, Self> {
        match split(&self.path).filter(|_| self.reference == Reference::Default) {
            Some(Ok(source)) => Cow::Owned(source),
            _ => Cow::Borrowed(self),
        }
    }
}

/// Splits a path that does not exist into a layout and the selection in it; `None` if no part of it exists.
fn split(path: &Path) -> Option<Result<Source, ParseSourceError>> {
    let text = path.to_str()?;
    let absent = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename];
    // A path that cannot be examined may exist.
    if !path.symlink_metadata().is_err_and(|error| absent.contains(&error.kind())) {
        return None;
    }
    let ends = text.match_indices([':', '@']).map(|(end, _)| end);
    let end = ends.rev().find(|end| Path::new(&text[..*end]).exists())?;
    let reference = parse_reference(text, &text[end..]);
    Some(reference.map(|reference| Source { path: text[..end].into(), reference }))
}

/// Returns the possible meaning of a path that does not exist: the source that it may name, and why that is
/// not one.
pub fn meaning(path: &Path) -> Option<ParseSourceError> {
    if let Some(Err(error)) = split(path) {
        return Some(error);
    }
    let text = path.to_str()?;
    let is_host = |host: &str| host == "localhost" || host.contains(['.', ':']);
    let host = text.split_once('/').map(|(host, _)| host);
    let is_name = host.is_some_and(|host| !host.starts_with('.') && is_host(host));
    is_name.then(|| ParseSourceError::Registry { reference: text.to_owned() })
}

/// Returns the same for a message, to follow the text about the path.
pub(crate) fn hint(path: &Path) -> String {
    match meaning(path) {
        Some(error @ ParseSourceError::Registry { .. }) => {
            format!("; if that is a name and no path, {error}")
        }
        Some(error) => format!("; {error}"),
        None => String::new(),
    }
}

/// Formats the shortest form that parses to the same source.
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
    /// Returns the source as attributes for `--cache-from` and `--import-cache`, if it is a directory.
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

/// The separator between a tag and a digest.
const WITH_DIGEST: &str = "@sha256:";

fn parse_oci(text: &str, rest: &str) -> Result<Source, ParseSourceError> {
    let (path, reference) = rest.split_at(rest.find([':', '@']).unwrap_or(rest.len()));
    Ok(Source { path: path.into(), reference: parse_reference(text, reference)? })
}

/// Parses the part after a path, including its separator.
fn parse_reference(text: &str, reference: &str) -> Result<Reference, ParseSourceError> {
    match reference.split_at_checked(1) {
        None => Ok(Reference::Default),
        Some(("@", digest)) => parse_digest(text, digest),
        Some((_, tag)) => match tag.find(WITH_DIGEST) {
            Some(at) => parse_digest(text, &tag[at + 1..]),
            None => parse_tag(text, tag),
        },
    }
}

/// Parses an archive of `docker save`, in which images have names that Docker completes.
fn parse_docker(text: &str, rest: &str) -> Result<Source, ParseSourceError> {
    let (path, image) = match rest.split_once(':') {
        Some((path, image)) => (path, Some(image)),
        None => (rest, None),
    };
    let wrong = || ParseSourceError::ImageName { text: text.to_owned() };
    let reference = match image {
        None => Reference::Default,
        Some(image) => {
            let (repository, tag) = full_name(image).ok_or_else(wrong)?;
            Reference::Tag(format!("{repository}:{tag}"))
        }
    };
    Ok(Source { path: path.into(), reference })
}

/// Parses BuildKit's attributes (v0.32 `cmd/buildctl/build/importcache.go`, `client/solve.go`): keys in any
/// case, a digest takes precedence over a tag, an empty digest counts as none.
fn parse_attributes(text: &str) -> Result<Source, ParseSourceError> {
    let mut attributes = Attributes::new();
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
        ("s3", _) => return Err(Remote::s3(attributes)),
        ("azblob", _) => return Err(Remote::azure(attributes)),
        ("gha", _) => return Err(ParseSourceError::Actions),
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

/// Splits at commas; a field that starts with a quote ends at the next single quote, and two quotes in it
/// mean one.
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

/// Parses a field after its opening quote; returns it and the text after its closing quote.
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

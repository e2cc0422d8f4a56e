//! The sources of an import.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::source::{ParseSourceError, Source};

const TAR: &str = "tar:";
const DIR: &str = "dir:";

/// Where mounts are imported from.
///
/// ```
/// use oci2bk::mounts::MountsSource;
///
/// let source: MountsSource = "tar:m2.tar".parse()?;
/// assert!(matches!(&source, MountsSource::Tar(path) if path.ends_with("m2.tar")));
/// assert_eq!(source.to_string(), "tar:m2.tar");
/// assert!(matches!("dir:m2".parse()?, MountsSource::Directory(_)));
/// assert!(matches!("oci:cache:mounts".parse()?, MountsSource::Layout(_)));
/// # Ok::<(), oci2bk::source::ParseSourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountsSource {
    /// An artifact in a layout.
    Layout(Source),
    /// The tar archive of one mount, also one compressed with gzip or zstd.
    Tar(PathBuf),
    /// A directory with the files of one mount.
    Directory(PathBuf),
}

impl FromStr for MountsSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = || ParseSourceError::NoPath { text: text.to_owned() };
        let path =
            |path: &str| Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
        if let Some(rest) = text.strip_prefix(TAR) {
            return path(rest).map(Self::Tar).ok_or_else(none);
        }
        if let Some(rest) = text.strip_prefix(DIR) {
            return path(rest).map(Self::Directory).ok_or_else(none);
        }
        text.parse().map(Self::Layout)
    }
}

impl fmt::Display for MountsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(source) => source.fmt(f),
            Self::Tar(path) => write!(f, "{TAR}{}", path.display()),
            Self::Directory(path) => write!(f, "{DIR}{}", path.display()),
        }
    }
}

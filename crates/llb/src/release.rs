//! Releases of BuildKit, and how cache keys depend on them.
//!
//! The state on disk is the same since v0.11. But a daemon finds a step only by the keys that it computes
//! itself, and their computation changed. [`CLASSES`] lists the changes; a [`Target`] is the daemon that will
//! use a state.
//!
//! ```
//! use llb::release::{
//!     CLASSES, Class, Contents, ParseTargetError, ParseVersionError, Target, UnsupportedVersion,
//!     Version,
//! };
//! use llb::{Encoding, Release, Selectors};
//!
//! // As people write it: the last release of the series that computes keys in the same way.
//! let target: Target = "0.15".parse()?;
//! assert_eq!(target.version(), Version { major: 0, minor: 15, patch: 2 });
//! let Class { digests, selectors, contents, .. } = *target.class();
//! assert_eq!(digests, Release::V0_13);
//! assert_eq!(selectors, Selectors::V0_15_2);
//! assert_eq!(contents, Contents::V0_14);
//! assert!(!target.has_space_limits());
//! assert_eq!(target.encodings().collect::<Vec<Encoding>>().len(), 1);
//!
//! // Every known release is in one class.
//! assert_eq!(CLASSES[0].last, Version::NEWEST);
//! assert_eq!(CLASSES[CLASSES.len() - 1].first, Version::OLDEST);
//! assert_eq!(Target::new(Version::NEWEST), Ok(Target::NEWEST));
//!
//! // A newer one is assumed to be the same, as long as its major number is.
//! assert!("v0.99.0".parse::<Target>()?.is_presumed());
//! let error = "v1.0.0".parse::<Target>().unwrap_err();
//! assert!(matches!(error, ParseTargetError::Unsupported(UnsupportedVersion::TooNew(_))));
//! assert_eq!("latest".parse::<Version>(), Err(ParseVersionError::Form));
//! # Ok::<(), ParseTargetError>(())
//! ```
//!
//! The steps of a cache narrow down the release of the daemon that exported it, as does the provenance of its
//! build:
//!
//! ```
//! use llb::release::{Releases, Span, Target};
//!
//! let of = |from: &str| {
//!     let from = from.parse().expect("a version");
//!     Releases::of(|class| class.first >= from).expect("there are such")
//! };
//! let exporter: Releases = of("0.18.0");
//! assert!(exporter.contains(&Target::NEWEST));
//! assert!(!exporter.contains(&"v0.13.2".parse()?));
//! assert_eq!(exporter.to_string(), "v0.18.0 or later");
//!
//! // Another document narrows it down further.
//! let exporter = exporter.within(Span::since("0.26.0".parse()?));
//! assert!(exporter.classes().all(|class| class.first >= "0.26.0".parse().unwrap()));
//! assert!(exporter.has(Target::NEWEST.class()));
//!
//! let other = Releases::of(|class| class.first < "0.13.0".parse().unwrap()).expect("there is one");
//! assert_eq!(exporter.or(other).to_string(), "v0.11.0 to v0.12.5, v0.26.0 or later");
//! assert_eq!(exporter.or(Releases::ALL), Releases::ALL);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod span;

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use codec::gojson::ControlEscapes;
use serde::{Serialize, Serializer};

use crate::{Encoding, Release, Selectors};

pub use span::Span;

/// A release of BuildKit, such as v0.34.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The patch number.
    pub patch: u32,
}

impl Version {
    /// The newest release whose keys and state are known.
    pub const NEWEST: Self = Self::new(0, 34, 2);

    /// The oldest release with the state format that is written here.
    pub const OLDEST: Self = Self::new(0, 11, 0);

    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseVersionError {
    /// The text does not have the form of a version.
    #[error("a version has two or three numbers, as in v0.34.2 or 0.34")]
    Form,
    /// A part is not a number.
    #[error("a version consists of numbers, as in v0.34.2 or 0.34")]
    Number(#[from] ParseIntError),
}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Parses `v0.34.2` or `0.34.2`. Without a patch number it is the last known release of the series, or
    /// its first.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Ok(part.parse()?),
            false => Err(ParseVersionError::Form),
        };
        match text.split('.').collect::<Vec<_>>()[..] {
            [major, minor, patch] => Ok(Self::new(number(major)?, number(minor)?, number(patch)?)),
            [major, minor] => {
                let first = Self::new(number(major)?, number(minor)?, 0);
                let last = LAST_OF_SERIES.iter().find(|last| same_series(**last, first));
                Ok(last.copied().unwrap_or(first))
            }
            _ => Err(ParseVersionError::Form),
        }
    }
}

fn same_series(a: Version, b: Version) -> bool {
    (a.major, a.minor) == (b.major, b.minor)
}

/// The last releases of series in which something changed between two releases, or that are the newest.
const LAST_OF_SERIES: [Version; 2] = [Version::NEWEST, Version::new(0, 15, 2)];

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How the content of an input is hashed, for steps that are found by content
/// (`cache/contenthash/checksum.go`); oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Contents {
    /// Up to v0.13: a link in a directory counts as its target.
    V0_11,
    /// v0.14.0 to v0.24.0: a link in a directory counts as a link, unless wildcards or patterns match
    /// it.
    V0_14,
    /// v0.25: among matches of these, too, a link is followed only if it is not in a matched directory.
    V0_25,
    /// v0.26.0 and later: matches are hashed by their paths below the fixed part, not by base names.
    V0_26,
}

/// A range of releases that compute the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Class {
    /// The first release.
    pub first: Version,
    /// The last release; for the newest class, the last known one.
    pub last: Version,
    /// The encoding of op digests.
    pub digests: Release,
    /// The form of selectors.
    pub selectors: Selectors,
    /// How the content of inputs is hashed.
    pub contents: Contents,
}

/// Every class, newest first.
pub const CLASSES: [Class; 8] = {
    use Contents as C;
    use Release as R;
    use Selectors as S;
    const fn class(first: (u32, u32), last: (u32, u32), digests: R, selectors: S, c: C) -> Class {
        let first = Version::new(0, first.0, first.1);
        Class { first, last: Version::new(0, last.0, last.1), digests, selectors, contents: c }
    }
    [
        class((26, 0), (34, 2), R::V0_18, S::V0_15_2, C::V0_26),
        class((25, 0), (25, 2), R::V0_18, S::V0_15_2, C::V0_25),
        class((18, 0), (24, 0), R::V0_18, S::V0_15_2, C::V0_14),
        class((17, 0), (17, 3), R::V0_17, S::V0_15_2, C::V0_14),
        class((15, 2), (16, 0), R::V0_13, S::V0_15_2, C::V0_14),
        class((14, 0), (15, 1), R::V0_13, S::V0_13, C::V0_14),
        class((13, 0), (13, 2), R::V0_13, S::V0_13, C::V0_11),
        class((11, 0), (12, 5), R::V0_11, S::V0_11, C::V0_11),
    ]
};

/// A set of classes, such as the possible classes of an exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Releases {
    /// In the order of [`CLASSES`].
    chosen: [bool; CLASSES.len()],
}

impl Releases {
    /// All classes.
    pub const ALL: Self = Self { chosen: [true; CLASSES.len()] };

    /// Returns the classes for which `holds` is true; `None` if there are none.
    pub fn of(holds: impl FnMut(&Class) -> bool) -> Option<Self> {
        let chosen = CLASSES.each_ref().map(holds);
        chosen.contains(&true).then_some(Self { chosen })
    }

    /// Returns those of them that have a release in `span`. Returns all if there are none: then the two facts
    /// come from different daemons.
    pub fn within(self, span: Span) -> Self {
        let of_span = |class: &Class| self.has(class) && span.may_be_of(class);
        Self::of(of_span).unwrap_or(self)
    }

    /// Returns the classes of both.
    pub fn or(self, other: Self) -> Self {
        let mut either = self;
        either.chosen.iter_mut().zip(other.chosen).for_each(|(slot, other)| *slot |= other);
        either
    }

    /// Returns the classes, newest first.
    pub fn classes(&self) -> impl Iterator<Item = &'static Class> {
        CLASSES.iter().zip(self.chosen).filter_map(|(class, chosen)| chosen.then_some(class))
    }

    /// Returns whether the release of `target` can be one of them.
    pub fn contains(&self, target: &Target) -> bool {
        self.has(&target.class)
    }

    /// Returns whether `class` is one of them.
    pub fn has(&self, class: &Class) -> bool {
        self.classes().any(|chosen| chosen == class)
    }
}

impl fmt::Display for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Oldest first; neighbours are joined.
        let numbered: Vec<_> = CLASSES.iter().zip(self.chosen).rev().collect();
        let runs = numbered.chunk_by(|(_, a), (_, b)| a == b).filter(|run| run[0].1);
        for (number, run) in runs.enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            let (oldest, newest) = (run[0].0.first, run[run.len() - 1].0.last);
            if newest == Version::NEWEST {
                write!(f, "{separator}{oldest} or later")?;
            } else {
                write!(f, "{separator}{oldest} to {newest}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Releases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The daemon that will use a state.
///
/// ```
/// use llb::release::Target;
///
/// let target: Target = "v0.16.0".parse()?;
/// assert_eq!(target.to_string(), "v0.16.0");
/// assert!("v0.10.6".parse::<Target>().is_err());
/// # Ok::<(), llb::release::ParseTargetError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    version: Version,
    class: Class,
}

/// Why no state can be made for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedVersion {
    /// Its state has another format.
    #[error("the state of BuildKit {0} has another format; {oldest} is the oldest release that can \
             use what is written", oldest = Version::OLDEST)]
    TooOld(Version),
    /// The release is not known.
    #[error("the state of BuildKit {0} may have another format than that of {newest}, the newest \
             release known; use a newer oci2bk", newest = Version::NEWEST)]
    TooNew(Version),
}

/// Why a text is not a release for which a state can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// The text is not a version.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
    /// The release is not supported.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedVersion),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text.parse()?)?)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

impl Target {
    /// A daemon of the newest known release.
    pub const NEWEST: Self = Self { version: Version::NEWEST, class: CLASSES[0] };

    /// Returns a daemon of the release `version`.
    ///
    /// A release newer than [`Version::NEWEST`] is assumed to behave like it, unless its major number
    /// differs: the state format has been the same for all of v0 since v0.11.
    ///
    /// # Errors
    /// Returns an error if its state has, or may have, another format.
    pub fn new(version: Version) -> Result<Self, UnsupportedVersion> {
        if version.major > Version::NEWEST.major {
            return Err(UnsupportedVersion::TooNew(version));
        }
        // The last release of a class is the last one that exists; a v0.24.1 would behave like v0.24.0.
        let class = CLASSES.into_iter().find(|class| class.first <= version);
        class.map(|class| Self { version, class }).ok_or(UnsupportedVersion::TooOld(version))
    }

    /// Returns the release.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns how it computes keys.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Returns whether that is an assumption, because the release is newer than any known.
    pub fn is_presumed(&self) -> bool {
        let Version { major, minor, .. } = self.version;
        (major, minor) > (Version::NEWEST.major, Version::NEWEST.minor)
    }

    /// Returns whether garbage collection has limits on reserved, used and free space. Before v0.17 there was
    /// one limit (`DefaultGCPolicy` in `cmd/buildkitd/config/gcpolicy.go`).
    pub fn has_space_limits(&self) -> bool {
        self.version >= Version::new(0, 17, 0)
    }

    /// Returns the possible encodings of the daemon. Releases up to v0.14 were built with a Go older than
    /// 1.22 (`GO_VERSION` in the Dockerfile of BuildKit), but can be built with a newer one.
    pub fn encodings(&self) -> impl Iterator<Item = Encoding> {
        let digests = self.class.digests;
        let escapes: &[_] = if self.version < Version::new(0, 15, 0) {
            &[ControlEscapes::Long, ControlEscapes::Short]
        } else {
            &[ControlEscapes::Short]
        };
        escapes.iter().map(move |&escapes| Encoding { release: digests, escapes })
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.version.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, UnsupportedVersion> {
        Target::new(text.parse().unwrap())
    }

    #[test]
    fn versions_are_read_as_people_write_them() {
        for (text, version) in [
            ("v0.16.0", "v0.16.0"),
            ("0.16.0", "v0.16.0"),
            ("0.16", "v0.16.0"),
            ("v0.34", "v0.34.2"),
            ("0.15", "v0.15.2"),
        ] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), version, "{text}");
        }
        for text in ["", "v", "0", "latest", "0.16.0-rc1", "0.+1", "0.1.2.3"] {
            let error = text.parse::<Version>().unwrap_err();
            assert_eq!(error, ParseVersionError::Form, "{text}");
            let message = "a version has two or three numbers, as in v0.34.2 or 0.34";
            assert_eq!(error.to_string(), message);
        }
        for text in ["0..1", "0.99999999999"] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(matches!(error, ParseVersionError::Number(_)), "{text}: {error}");
            let message = "a version consists of numbers, as in v0.34.2 or 0.34";
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn every_release_has_the_class_it_falls_into() {
        for class in CLASSES {
            for version in [class.first, class.last] {
                assert_eq!(*Target::new(version).unwrap().class(), class, "{version}");
            }
        }
        assert!(CLASSES.is_sorted_by(|newer, older| newer.first > older.last));
        assert_eq!(Target::new(Version::NEWEST).unwrap(), Target::NEWEST);
        assert_eq!(CLASSES[7].first, Version::OLDEST);
        assert_eq!(target("0.15").unwrap().class().selectors, Selectors::V0_15_2);
        assert_eq!(target("0.15.1").unwrap().class().selectors, Selectors::V0_13);
    }

    #[test]
    fn what_is_not_known_is_presumed_or_refused() {
        assert!(!target("0.34.9").unwrap().is_presumed());
        assert!(target("0.35").unwrap().is_presumed());
        assert_eq!(target("0.40.1").unwrap().class(), Target::NEWEST.class());
        let error = target("1.0").unwrap_err();
        assert!(matches!(error, UnsupportedVersion::TooNew(_)), "{error}");
        assert!(
            error.to_string().starts_with(
                "the state of BuildKit v1.0.0 may have another format than that of v0."
            ),
            "{error}"
        );
        let error = target("0.10.6").unwrap_err();
        assert!(matches!(error, UnsupportedVersion::TooOld(_)), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("the state of BuildKit v0.10.6 has another format; v0.11"),
            "{error}"
        );
    }

    #[test]
    fn old_releases_may_be_of_either_go() {
        let escapes = |text: &str| -> Vec<_> {
            target(text).unwrap().encodings().map(|encoding| encoding.escapes).collect()
        };
        assert_eq!(escapes("0.14.1"), [ControlEscapes::Long, ControlEscapes::Short]);
        assert_eq!(escapes("0.15.0"), [ControlEscapes::Short]);
    }

    #[test]
    fn neighbouring_classes_are_named_by_their_ends() {
        let named =
            |holds: fn(&Class) -> bool| Releases::of(holds).map(|releases| releases.to_string());
        assert_eq!(named(|_| true).unwrap(), "v0.11.0 or later");
        assert_eq!(named(|class| class.contents == Contents::V0_26).unwrap(), "v0.26.0 or later");
        assert_eq!(named(|class| class.digests == Release::V0_13).unwrap(), "v0.13.0 to v0.16.0");
        assert_eq!(named(|class| class.digests == Release::V0_17).unwrap(), "v0.17.0 to v0.17.3");
        assert_eq!(
            named(|class| class.digests != Release::V0_17 && class.first.minor > 11).unwrap(),
            "v0.13.0 to v0.16.0, v0.18.0 or later"
        );
        assert_eq!(named(|_| false), None);
    }
}

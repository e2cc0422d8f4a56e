//! Releases of the Dockerfile frontend.

use std::fmt;

use llb::release::Version;

/// A release of the Dockerfile frontend (`dockerfile.v0`), by that of the BuildKit which contains it.
///
/// The images `docker/dockerfile:1.N` are the same code: 1.5 is that of v0.11, 1.28 that of v0.34.
///
/// ```
/// use dockerfile::Frontend;
///
/// let frontend = Frontend::of("0.16.0".parse()?);
/// assert!(Frontend::classes().contains(&frontend));
/// assert_eq!(frontend.to_string(), "docker/dockerfile:1.10");
/// assert_eq!(Frontend::of("0.10.0".parse()?), Frontend::OLDEST);
/// // A newer one is assumed to be the same.
/// assert!(Frontend::of("0.99.0".parse()?) > Frontend::NEWEST);
/// # Ok::<(), llb::release::ParseVersionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// N of `docker/dockerfile:1.N`.
    minor: u32,
}

/// How much the minor number of a release of BuildKit is above that of the image of its frontend.
const OFFSET: u32 = 6;

impl Frontend {
    /// The newest known release.
    pub const NEWEST: Self = Self { minor: Version::NEWEST.minor - OFFSET };

    /// The oldest known release.
    pub const OLDEST: Self = Self { minor: Version::OLDEST.minor - OFFSET };

    /// Returns the frontend in a release of BuildKit.
    pub fn of(version: Version) -> Self {
        let minor = if version.major == 0 { version.minor } else { u32::MAX };
        Self { minor: minor.saturating_sub(OFFSET) }.max(Self::OLDEST)
    }

    /// Returns one release of each range of releases that make the same ops of the same Dockerfile, newest
    /// first. A Dockerfile that two of them accept can still give other ops only if it uses what changed.
    pub fn classes() -> Vec<Self> {
        CLASSES.iter().map(|&minor| Self { minor }).collect()
    }

    /// Returns whether it is `1.minor` or later.
    pub(crate) fn since(self, minor: u32) -> bool {
        self.minor >= minor
    }
}

/// The last releases before something changed in the ops of a Dockerfile that the releases before and since
/// accept: the files of heredocs (1.6), inputs of secrets (1.10), global arguments without values (1.11), versions
/// of operating systems (1.13), escapes in flags (1.15), times of WORKDIR and blanks in heredocs (1.16), required
/// paths (1.20), `#!` behind tabs (1.22), SOURCE_DATE_EPOCH as a global argument (1.24), backslashes in patterns
/// and empty groups (1.28).
const CLASSES: [u32; 11] = [28, 27, 23, 21, 19, 15, 14, 12, 10, 9, 5];

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker/dockerfile:1.{}", self.minor)
    }
}

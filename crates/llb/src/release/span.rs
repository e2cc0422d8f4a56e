//! The possible releases of a daemon, according to a document that it wrote.

use super::{CLASSES, Class, Version};

/// The possible releases of a daemon, according to a document that it wrote.
///
/// ```
/// use llb::release::{Span, Version};
///
/// // The `dockerfileVersion` in provenance: the version of the frontend inside the daemon.
/// let span = Span::of_builtin_frontend("1.26.0").expect("it is one of v0.30 or later");
/// assert_eq!(span.to_string(), "v0.32.0 to before v0.33.0");
/// assert!(span.contains("0.32.2".parse()?) && !span.contains("0.33.0".parse()?));
///
/// // Either of two documents can belong to the build.
/// let either = span.or(Span::since("0.34.0".parse()?));
/// assert_eq!((either.since, either.before), ("0.32.0".parse()?, None));
/// assert_eq!(Span::of_either(Some(span), None), Some(span));
///
/// // The only possible one, for who knows.
/// let known = Span::of("0.32.2".parse()?);
/// assert!(known.contains("0.32.2".parse()?) && !known.contains("0.32.1".parse()?));
///
/// // Some features exist only in newer daemons.
/// assert_eq!(Span::with_cache_debug().to_string(), "v0.24.0 or later");
/// assert_eq!(Span::with_layer_identity().to_string(), "v0.33.1 or later");
/// # Ok::<(), llb::release::ParseVersionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The oldest of them.
    pub since: Version,
    /// The first later release that is not possible; `None` if all later ones are.
    pub before: Option<Version>,
}

/// Minor versions of the frontend, and those of the releases that have it built in
/// (`frontend/dockerfile/version/version.go`), from the first release that records it.
const FRONTENDS: [(u32, u32); 5] = [(24, 30), (25, 31), (26, 32), (27, 33), (28, 34)];

/// The oldest release that writes `dockerfileVersion` and `compatibilityVersion` into provenance
/// (`solver/llbsolver/provenance.go`).
const TELLS: Version = Version::new(0, 30, 0);

impl Span {
    /// Returns the release `since`, and all later ones.
    pub const fn since(since: Version) -> Self {
        Self { since, before: None }
    }

    /// Returns the release `version` alone.
    pub const fn of(version: Version) -> Self {
        let Version { major, minor, patch } = version;
        let next = Version::new(major, minor, patch.saturating_add(1));
        Self { since: version, before: Some(next) }
    }

    /// Returns the daemons with `--save-cache-debug`, which write a `cache-debug.db`
    /// (`cmd/buildkitd/main.go`).
    pub const fn with_cache_debug() -> Self {
        Self::since(Version::new(0, 24, 0))
    }

    /// Returns the daemons that store the identity of a layer with its blob (`cache/blobs.go` `setBlob`).
    pub const fn with_layer_identity() -> Self {
        Self::since(Version::new(0, 33, 1))
    }

    /// Returns the daemons whose provenance has a `compatibilityVersion`. Its value is the client's request
    /// and does not identify the daemon.
    pub(crate) const fn with_compatibility_version() -> Self {
        Self::since(TELLS)
    }

    /// Returns the daemons whose provenance has this `dockerfileVersion`, such as `1.26.0` or `1.28.0-dev`.
    /// It is the version of the frontend inside the daemon, whichever frontend built. `None` if it is not a
    /// version.
    pub fn of_builtin_frontend(version: &str) -> Option<Self> {
        let number = |part: &str| part.parse::<u32>().ok();
        let mut parts = version.splitn(3, '.');
        let frontend = (number(parts.next()?)?, number(parts.next()?)?);
        // As far as known, each series has one, and later series have newer ones.
        let released = |(_, release): &(u32, u32)| Version::new(0, *release, 0);
        let since = FRONTENDS.iter().rfind(|(minor, _)| (1, *minor) <= frontend);
        let is_known = since.is_some_and(|(minor, _)| (1, *minor) == frontend);
        let since = since.map_or(TELLS, released);
        let next = Version::new(since.major, since.minor + 1, 0);
        Some(Self { since, before: is_known.then_some(next) })
    }

    /// Returns the releases from the oldest of both to the newest.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let before = Option::zip(self.before, other.before).map(|(a, b)| a.max(b));
        Self { since: self.since.min(other.since), before }
    }

    /// Returns the possible releases if either document can belong to the build.
    pub fn of_either(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.or(b)),
            (a, b) => a.or(b),
        }
    }

    /// Returns whether `version` is one of them.
    pub fn contains(&self, version: Version) -> bool {
        self.since <= version && self.before.is_none_or(|before| version < before)
    }

    /// Returns whether a release of `class` is one of them.
    pub(crate) fn may_be_of(&self, class: &Class) -> bool {
        // Newest first: the class of the oldest release.
        let oldest = CLASSES.iter().find(|class| class.first <= self.since);
        oldest.is_none_or(|oldest| oldest.first <= class.first)
            && self.before.is_none_or(|before| class.first < before)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.before {
            Some(before) => write!(f, "{} to before {before}", self.since),
            None => write!(f, "{} or later", self.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn span(since: &str, before: Option<&str>) -> Span {
        Span { since: version(since), before: before.map(version) }
    }

    #[test]
    fn the_frontend_inside_a_daemon_tells_its_series() {
        for (frontend, since, before) in [
            ("1.24.0", "0.30.0", Some("0.31.0")),
            ("1.25.0-rc1", "0.31.0", Some("0.32.0")),
            ("1.26.0-dev", "0.32.0", Some("0.33.0")),
            ("1.27.0-45-g95735c4ef", "0.33.0", Some("0.34.0")),
            ("1.28.3", "0.34.0", Some("0.35.0")),
            ("1.28", "0.34.0", Some("0.35.0")),
            // Unknown: newer.
            ("1.29.0", "0.34.0", None),
            ("2.0.0", "0.34.0", None),
            // An unreleased development version.
            ("1.23.0-dev", "0.30.0", None),
        ] {
            let expected = Some(span(since, before));
            assert_eq!(Span::of_builtin_frontend(frontend), expected, "{frontend}");
        }
        for text in ["", "1", "v1.26.0", "1.x", "latest", "1.99999999999.0"] {
            assert_eq!(Span::of_builtin_frontend(text), None, "{text}");
        }
    }

    #[test]
    fn every_series_that_tells_has_its_frontend() {
        let series: Vec<_> = FRONTENDS.iter().map(|(_, release)| *release).collect();
        assert_eq!(series, (TELLS.minor..=Version::NEWEST.minor).collect::<Vec<_>>());
    }

    #[test]
    fn spans_are_joined() {
        let older = span("0.30.0", Some("0.31.0"));
        let newer = span("0.32.0", Some("0.33.0"));
        assert_eq!(older.or(newer), span("0.30.0", Some("0.33.0")));
        let open = Span::since(version("0.30.0"));
        assert_eq!(newer.or(open), open);
    }

    #[test]
    fn a_span_meets_the_classes_that_its_releases_are_in() {
        let met = |span: Span| -> Vec<_> {
            let met = CLASSES.iter().filter(|class| span.may_be_of(class));
            met.map(|class| class.first.to_string()).collect()
        };
        assert_eq!(met(span("0.34.0", Some("0.35.0"))), ["v0.26.0"]);
        assert_eq!(met(Span::since(version("0.99.0"))), ["v0.26.0"]);
        assert_eq!(met(span("0.25.1", Some("0.26.0"))), ["v0.25.0"]);
        assert_eq!(met(span("0.24.7", Some("0.26.1"))), ["v0.26.0", "v0.25.0", "v0.18.0"]);
        assert_eq!(met(Span::since(version("0.1.0"))).len(), CLASSES.len());
    }
}

//! How op digests differ between BuildKit releases.

use std::fmt;

use codec::gojson::ControlEscapes;

/// A range of BuildKit releases that encode the same op as the same JSON.
///
/// Newest first. Fields that a release added do not need another class: an op with such a field was made for
/// a release that knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Release {
    /// v0.18.0 and later: zero indexes are omitted, user options are `byName` and `byId`
    /// (`solver/pb/json.go`).
    V0_18,
    /// v0.17.0 to v0.17.3: as v0.18, but user options have the names of the Go types, `ByName` and `ByID`,
    /// and an id of 0 is printed (google.golang.org/protobuf has no JSON tags for oneofs).
    V0_17,
    /// v0.13.0 to v0.16.0: `input`, `output` and `builder` are printed even when 0 (gogo/protobuf
    /// `customtype`), user options are `byName` and `byID`.
    V0_13,
    /// v0.11.0 to v0.12.5: as v0.13, but options of cache mounts are kept, the platform's OS version and
    /// features are not part of an exec op, and merge and diff ops are named by the JSON itself and not by
    /// its hash (`solver/llbsolver/ops/{exec,merge,diff}.go`).
    V0_11,
}

impl Release {
    /// Returns whether zero `input`, `output` and `builder` indexes are omitted.
    pub(super) const fn omits_zero_indexes(self) -> bool {
        matches!(self, Self::V0_18 | Self::V0_17)
    }

    /// Returns whether options of a cache mount that do not affect the result are cleared
    /// (`checkShouldClearCacheOpts` in `ops/exec.go`).
    pub(super) const fn clears_cache_options(self) -> bool {
        !matches!(self, Self::V0_11)
    }

    /// Returns whether OS version and OS features of the platform are part of an exec op.
    pub(super) const fn hashes_os_version(self) -> bool {
        !matches!(self, Self::V0_11)
    }

    /// Returns whether merge and diff ops are hashed, and not named by their JSON.
    pub(super) const fn hashes_merge_and_diff(self) -> bool {
        !matches!(self, Self::V0_11)
    }

    /// Returns the JSON key of a user given by name.
    pub(super) const fn by_name(self) -> &'static str {
        match self {
            Self::V0_17 => "ByName",
            Self::V0_18 | Self::V0_13 | Self::V0_11 => "byName",
        }
    }

    /// Returns the JSON key of a user given by id.
    pub(super) const fn by_id(self) -> &'static str {
        match self {
            Self::V0_18 => "byId",
            Self::V0_17 => "ByID",
            Self::V0_13 | Self::V0_11 => "byID",
        }
    }

    /// Returns whether a user id of 0 is printed.
    pub(super) const fn prints_zero_id(self) -> bool {
        matches!(self, Self::V0_17)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_18 => "v0.18 and later",
            Self::V0_17 => "v0.17",
            Self::V0_13 => "v0.13 to v0.16",
            Self::V0_11 => "v0.11 and v0.12",
        })
    }
}

/// Everything that, with the op, determines the bytes of its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The BuildKit release.
    pub release: Release,
    /// The version class of Go that built the daemon. It matters only for ops with a backspace or a form feed
    /// in a string.
    pub escapes: ControlEscapes,
}

impl Encoding {
    /// The encoding of current releases.
    pub const NEWEST: Self = Self::new(Release::V0_18, ControlEscapes::Short);

    /// Every encoding, in the order to try them: newest release first. Go 1.22 came with BuildKit
    /// v0.15 (`GO_VERSION` in its Dockerfile), older releases may be built with either.
    pub const ALL: [Self; 6] = [
        Self::NEWEST,
        Self::new(Release::V0_17, ControlEscapes::Short),
        Self::new(Release::V0_13, ControlEscapes::Short),
        Self::new(Release::V0_13, ControlEscapes::Long),
        Self::new(Release::V0_11, ControlEscapes::Long),
        Self::new(Release::V0_11, ControlEscapes::Short),
    ];

    const fn new(release: Release, escapes: ControlEscapes) -> Self {
        Self { release, escapes }
    }
}

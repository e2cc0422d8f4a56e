//! What makes a state less than its caches.

use bkstate::Digest;
use serde::Serialize;

use super::{Lost, LostReason, Plan, SourceIndex};

/// Something in the caches that is not in the state, or that no build will find in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Shortfall {
    /// What it is.
    pub kind: ShortfallKind,
    /// The source.
    pub source: SourceIndex,
    /// The digest of the record in the export; for a layer that no step leads to, of its blob.
    pub digest: Digest,
    /// The step as the user wrote it, or the description of its layer, if anything knows it.
    pub name: Option<String>,
    /// The names of the steps that it builds on, as far as they are known.
    pub inputs: Vec<String>,
    /// What it costs: the size of the step's layer, or of the missing one, in bytes of its blob. It is made or
    /// fetched again. A layer that no step leads to is stored without a use.
    pub size: u64,
}

/// Why something in the caches is not in the state, or not found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ShortfallKind {
    /// A step without a key ([`LostReason::NoKey`]).
    NoKey,
    /// A step whose key is not proven ([`LostReason::Unproven`]).
    Unproven,
    /// A step that builds on one without a key ([`LostReason::LostInput`]).
    LostInput,
    /// The scan of a build with an SBOM ([`LostReason::SbomScan`]).
    SbomScan,
    /// A step with a key, for whose result a layer is missing in a partial copy of a cache.
    MissingLayer,
    /// A step that a daemon of the target's release certainly does not find.
    NotFound,
    /// A layer that no step leads to: those of steps without keys. Only builds that import the cache use it.
    UnusedLayer,
}

impl ShortfallKind {
    /// Returns its name in reports.
    ///
    /// ```
    /// use oci2bk::plan::ShortfallKind;
    ///
    /// assert_eq!(ShortfallKind::MissingLayer.name(), "missing-layer");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::Unproven => "unproven",
            Self::LostInput => "lost-input",
            Self::SbomScan => "sbom-scan",
            Self::MissingLayer => "missing-layer",
            Self::NotFound => "not-found",
            Self::UnusedLayer => "unused-layer",
        }
    }
}

impl From<LostReason> for ShortfallKind {
    fn from(reason: LostReason) -> Self {
        match reason {
            LostReason::NoKey => Self::NoKey,
            LostReason::Unproven => Self::Unproven,
            LostReason::LostInput => Self::LostInput,
            LostReason::SbomScan => Self::SbomScan,
        }
    }
}

impl From<&Lost> for Shortfall {
    fn from(lost: &Lost) -> Self {
        Self {
            kind: lost.reason.into(),
            source: lost.source,
            digest: lost.digest,
            name: lost.name.clone(),
            inputs: lost.inputs.clone(),
            size: lost.size,
        }
    }
}

impl Plan {
    /// Returns everything that makes the state less than the caches: steps without a key and those on them,
    /// results with missing layers, steps that a daemon of the target's release will not find, and layers that
    /// no step leads to. What a daemon only may not find is in [`misses`](Self::misses).
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let lost = self.lost.iter().map(Shortfall::from);
        let dropped = self.dropped.iter().map(|dropped| Shortfall {
            kind: ShortfallKind::MissingLayer,
            source: dropped.source,
            digest: dropped.record,
            name: dropped.name.clone(),
            inputs: dropped.inputs.clone(),
            size: dropped.size,
        });
        let misses = self.misses.iter().filter(|miss| miss.certain).map(|miss| Shortfall {
            kind: ShortfallKind::NotFound,
            source: miss.source,
            digest: miss.record,
            name: miss.name.clone(),
            inputs: miss.inputs.clone(),
            size: miss.size,
        });
        let unused = self.unused_layers().into_iter().filter_map(|index| {
            let layer = self.layers.get(index.0)?;
            let blob = self.blobs.get(&layer.blob)?;
            Some(Shortfall {
                kind: ShortfallKind::UnusedLayer,
                source: blob.source,
                digest: layer.blob,
                name: layer.description.clone(),
                inputs: Vec::new(),
                size: blob.size,
            })
        });
        lost.chain(dropped).chain(misses).chain(unused).collect()
    }

    /// Returns whether the state is all that the caches have: there are no [shortfalls](Self::shortfalls).
    pub fn is_complete(&self) -> bool {
        let misses = self.misses.iter().any(|miss| miss.certain);
        self.lost.is_empty()
            && self.dropped.is_empty()
            && !misses
            && self.unused_layers().is_empty()
    }
}

//! Verified op digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bkstate::Digest;
use llb::release::{Span, Target};
use llb::{Encoding, OpDigest, Vertex};

use super::beside;
use super::error::{SourceError, TooManyOutputs};
use super::read::{read_layout, read_source};
use super::scan::Scans;
use super::source::{Candidate, KeySource, SourceDescription, SourceKind};
use crate::export::{CacheExport, layouts};
use crate::image::BaseImage;
use crate::index::index;
use crate::limits::Limits;

/// The op digest of a record, proved by the record's own digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The solver's name for the op.
    pub op_digest: OpDigest,
    /// The output of the record's op.
    pub output: u32,
    /// The step in the words of a Dockerfile, if the source has it.
    pub name: Option<String>,
    /// Its source.
    pub source: KeySourceIndex,
    /// The releases of BuildKit with this digest, if it was computed.
    pub encoding: Option<Encoding>,
    /// The op, if any source has it.
    pub vertex: Option<Arc<Vertex>>,
    /// The possible releases of the daemon that made the record, according to all sources that have its op
    /// digest and identify a release.
    pub builder: Option<Span>,
}

index! {
    /// The index of a key source in [`Keyring::sources`].
    ///
    /// ```
    /// use oci2bk::keys::{KeySourceIndex, Keyring, Resolved, SourceSummary};
    ///
    /// /// Where the op digest of a record comes from.
    /// fn origin<'k>(keyring: &'k Keyring, key: &Resolved) -> &'k SourceSummary {
    ///     let source: KeySourceIndex = key.source;
    ///     &keyring.sources()[source]
    /// }
    /// ```
    pub struct KeySourceIndex of SourceSummary;
}

/// The contribution of one key source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceSummary {
    /// The description of the source.
    pub description: SourceDescription,
    /// Number of op digests it offered.
    pub candidates: usize,
    /// Number of records that it resolved and no earlier source did.
    pub resolved: usize,
    /// Whether it has the op digest of any wanted record.
    pub matches: bool,
    /// The cache to which it is attached, if any.
    pub attached_to: Option<Digest>,
    /// Whether it has a signature, which is not checked.
    pub signed: bool,
    /// Whether it was found inside an export or beside it, and not named by the user.
    pub found: bool,
}

/// The wanted records whose op digests are known.
///
/// ```
/// use oci2bk::keys::SourceError;
/// use oci2bk::{BaseImage, CacheExport, Keyring, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// keyring.read("fixtures/index/keys/provenance.json", &limits)?;
/// keyring.read_layouts(&exports)?;
/// assert!(keyring.has_sources());
/// for source in keyring.sources() {
///     println!("{}: {} of {}", source.description, source.resolved, source.candidates);
/// }
/// assert_eq!(keyring.sources()[0].resolved, keyring.len());
///
/// // No document about a build has the scans for its SBOM. The image of the scanner determines them; this
/// // one is not a scanner.
/// let image = "debian=fixtures/manifest/keys/image".parse()?;
/// keyring.add_scanners(&BaseImage::read(&image, &limits)?);
/// assert_eq!(keyring.sources().len(), 1);
///
/// // Of another build: nothing is resolved, which is not an error.
/// let wanted = exports[0].config.digests_with_inputs().collect();
/// let mut keyring = Keyring::new(wanted);
/// keyring.read("fixtures/zstd/keys/cache.db", &limits)?;
/// assert!(keyring.is_empty());
///
/// // A source beside a cache counts if it has a key. A named source counts anyway.
/// let mut found = Keyring::for_exports(&exports);
/// for error in found.read_beside(&exports) {
///     eprintln!("left out: {error}");
/// }
/// assert!(!found.has_sources() && keyring.has_sources());
/// let is_proof = |source: &oci2bk::keys::SourceSummary| source.signed && !source.found;
/// assert!(!keyring.sources().iter().any(is_proof));
///
/// let error = keyring.read("no such file", &limits).unwrap_err();
/// assert!(matches!(error, SourceError::Read { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keyring {
    wanted: BTreeSet<Digest>,
    records: BTreeMap<Digest, Resolved>,
    sources: Vec<SourceSummary>,
    scans: Scans,
    /// The stated release of the exporter.
    exporter: Option<Target>,
    /// Number of outputs of ops that were tried.
    tried: u64,
}

impl Keyring {
    /// Creates a keyring without keys, for the records with these digests.
    pub fn new(wanted: BTreeSet<Digest>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Creates a keyring without keys, for all records of `exports` that need one: those with inputs.
    pub fn for_exports(exports: &[CacheExport]) -> Self {
        Self::new(exports.iter().flat_map(|export| export.config.digests_with_inputs()).collect())
    }

    /// Adds the keys in the file or directory at `path`, of any type that [`read_source`] supports.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, is too large, has an unknown type or no keys, or has too many
    /// outputs of ops to try.
    pub fn read(&mut self, path: impl AsRef<Path>, limits: &Limits) -> Result<(), SourceError> {
        for source in read_source(path.as_ref(), limits)? {
            self.add(source, limits)?;
        }
        Ok(())
    }

    /// Adds the keys beside the caches in the layouts of `exports`. The first source with a key also names
    /// the step, and keys attached to a cache only have its kind, so [`read`](Self::read) others before.
    ///
    /// # Errors
    /// See [`read_layout`]; also if there are too many outputs of ops to try.
    pub fn read_layouts(&mut self, exports: &[CacheExport]) -> Result<(), SourceError> {
        for layout in layouts(exports) {
            for source in read_layout(layout)? {
                self.add(source, layout.limits())?;
            }
        }
        Ok(())
    }

    /// Adds the keys that are still missing from files near the layouts of `exports`: in their directories or
    /// beside them, with the names that tools use ([`docs/format/keys.md`]). A file without such keys is
    /// ignored. Returns why others cannot be read: the user did not name them, so that is not an error of the
    /// keyring.
    ///
    /// [`docs/format/keys.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/keys.md
    pub fn read_beside(&mut self, exports: &[CacheExport]) -> Vec<SourceError> {
        let mut errors = Vec::new();
        for (limits, place) in beside::places(layouts(exports).map(|layout| &**layout)) {
            // Once all keys are known, files unrelated to the cache are not reported.
            if self.records.len() == self.wanted.len() {
                break;
            }
            for source in beside::read(&place, limits) {
                let sources = self.sources.len();
                if let Err(error) = source.and_then(|source| Ok(self.add(source, limits)?)) {
                    errors.push(error);
                }
                let added = self.sources.get(sources);
                if added.is_some_and(|source| source.resolved == 0) {
                    self.sources.truncate(sources);
                }
            }
        }
        errors
    }

    /// States which release of BuildKit exported the caches. No key depends on it, but it tells which steps a
    /// daemon of another release may not find ([`Plan::misses`](crate::Plan::misses)). It counts as far as the names of the
    /// records allow for it, together with what the key sources tell.
    ///
    /// ```
    /// use oci2bk::{CacheExport, Keyring, Limits, Plan};
    ///
    /// let limits = Limits::default();
    /// let exports = CacheExport::read_sources(&["fixtures/manifest/cache".parse()?], &limits)?;
    /// let mut keyring = Keyring::for_exports(&exports);
    /// keyring.read("fixtures/manifest/keys/image", &limits)?;
    /// keyring.exported_by("0.32.2".parse::<oci2bk::Target>()?);
    /// let plan = Plan::for_target(&exports, &keyring, "0.32.2".parse()?)?;
    /// assert!(plan.misses.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exported_by(&mut self, release: impl Into<Option<Target>>) {
        self.exporter = release.into();
    }

    /// Returns the stated release of the exporter.
    pub(crate) fn exporter(&self) -> Option<Target> {
        self.exporter
    }

    /// Tries every output of every candidate and keeps those that name a wanted record.
    ///
    /// A resolved record stays as it is: the first source takes precedence, and in a source the first
    /// candidate. Later sources only add the op, and the possible releases of the builder.
    ///
    /// # Errors
    /// Returns an error if more outputs would be tried for all sources of the keyring than `limits` allow.
    /// Then nothing of the source is added.
    pub fn add(&mut self, source: KeySource, limits: &Limits) -> Result<(), TooManyOutputs> {
        let outputs = source.candidates.iter().map(|candidate| u64::from(candidate.outputs));
        let outputs = outputs.fold(self.tried, u64::saturating_add);
        if outputs > limits.key_outputs {
            let (description, limit) = (source.description, limits.key_outputs);
            return Err(TooManyOutputs { description, outputs, limit });
        }
        self.tried = outputs;
        self.try_outputs(source);
        Ok(())
    }

    fn try_outputs(&mut self, source: KeySource) {
        let KeySource { description, candidates, scans, attached_to, signed, found, .. } = source;
        let source = KeySourceIndex(self.sources.len());
        let resolved_before = self.records.len();
        let mut count = 0;
        let mut matches = false;
        for candidate in candidates {
            count += 1;
            for output in 0..candidate.outputs {
                let record = candidate.op_digest.record(output);
                if self.wanted.contains(&record) {
                    matches = true;
                    let resolved = self.records.entry(record).or_insert_with(|| Resolved {
                        op_digest: candidate.op_digest.clone(),
                        output,
                        name: candidate.name.clone(),
                        source,
                        encoding: candidate.encoding,
                        vertex: None,
                        builder: None,
                    });
                    resolved.builder = Span::of_either(resolved.builder, candidate.builder);
                    if resolved.vertex.is_none() {
                        resolved.vertex.clone_from(&candidate.vertex);
                    }
                }
            }
        }
        let resolved = self.records.len() - resolved_before;
        self.sources.push(SourceSummary {
            description,
            candidates: count,
            resolved,
            matches,
            attached_to,
            signed,
            found,
        });
        if matches {
            self.scans.extend(scans);
        }
    }

    /// Adds the keys of the SBOM scans that any of `images` made, which follow from its config: no document
    /// about a build has them. Images that made none are ignored.
    pub fn add_scanners<'a>(&mut self, images: impl IntoIterator<Item = &'a BaseImage>) {
        for source in images.into_iter().filter_map(KeySource::from_scanner) {
            let is_missing = |record: Digest| {
                self.wanted.contains(&record) && !self.records.contains_key(&record)
            };
            if source.candidates.iter().flat_map(Candidate::records).any(is_missing) {
                self.try_outputs(source);
            }
        }
    }

    /// Returns whether any scan can be recognised.
    pub(crate) fn knows_scanners(&self) -> bool {
        !self.scans.is_empty()
    }

    /// Returns whether a step is an SBOM scan that runs in one of `images`, by their records, and mounts
    /// something for which `mounted` is true: the name of the image, if known.
    pub(crate) fn scanner(
        &self,
        images: impl IntoIterator<Item = Digest>,
        mounted: impl Fn(&BTreeSet<Digest>) -> bool,
    ) -> Option<Option<&str>> {
        self.scans.image(images, mounted)
    }

    /// Returns the op digest of `record`, if it is known.
    pub fn get(&self, record: &Digest) -> Option<&Resolved> {
        self.records.get(record)
    }

    /// Returns all resolved records, by their digests.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Resolved)> {
        self.records.iter()
    }

    /// Returns the number of resolved records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether no record is resolved.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns whether there is any source for the keys: one that was named or is in the layout, with any
    /// content, or one [beside it](Self::read_beside) with a key. Images of scanners do not count.
    pub fn has_sources(&self) -> bool {
        self.sources.iter().any(|source| source.description.kind != SourceKind::Scanner)
    }

    /// Returns the sources, in the order in which they were added.
    pub fn sources(&self) -> &[SourceSummary] {
        &self.sources
    }
}

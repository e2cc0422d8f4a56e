//! Verified op digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bkstate::Digest;
use llb::release::Span;
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
    /// What the solver calls the op.
    pub op_digest: OpDigest,
    /// Which of the op's outputs the record is.
    pub output: u32,
    /// The step in the words of a Dockerfile, where the source tells it.
    pub name: Option<String>,
    /// The source it came from.
    pub source: KeySourceIndex,
    /// The releases of BuildKit that call the op so, where the digest was computed.
    pub encoding: Option<Encoding>,
    /// The op, where any source has it.
    pub vertex: Option<Arc<Vertex>>,
    /// The releases of which the daemon can have been that made the record, by all the sources that
    /// have its op digest and tell.
    pub builder: Option<Span>,
}

index! {
    /// The index of a key source in [`Keyring::sources`].
    pub struct KeySourceIndex of SourceSummary;
}

/// What came of one key source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceSummary {
    /// What the source is.
    pub description: SourceDescription,
    /// How many op digests it offered.
    pub candidates: usize,
    /// How many records it resolved that no source before it had.
    pub resolved: usize,
    /// Whether it has the op digest of any record that is wanted.
    pub matches: bool,
    /// The cache that it is attached to, if it is.
    pub attached_to: Option<Digest>,
    /// Whether it came with a signature, which is not checked.
    pub signed: bool,
    /// Whether it lay inside an export or beside it, so that nobody named it.
    pub found: bool,
}

/// The records whose op digests are known, out of those that are wanted.
///
/// ```
/// use oci2bk::keys::{KeySourceIndex, SourceError};
/// use oci2bk::{BaseImage, CacheExport, Keyring, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["../../fixtures/index/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
/// keyring.read("../../fixtures/index/keys/provenance.json", &limits)?;
/// keyring.read_layouts(&exports)?;
/// assert!(keyring.has_sources());
/// for source in keyring.sources() {
///     println!("{}: {} of {}", source.description, source.resolved, source.candidates);
/// }
/// let first = KeySourceIndex(0);
/// assert_eq!(keyring.sources()[first].resolved, keyring.len());
/// assert!(keyring.iter().all(|(_, key)| key.source == first));
///
/// // What scans made the SBOM of a build is in no document about it. The image of the scanner tells; this
/// // one is of no scanner.
/// let image = "debian=../../fixtures/manifest/keys/image".parse()?;
/// keyring.add_scanners(&BaseImage::read(&image, &limits)?);
/// assert_eq!(keyring.sources().len(), 1);
///
/// // Of another build: nothing is resolved, and nothing is wrong.
/// let wanted = exports[0].config.digests_with_inputs().collect();
/// let mut keyring = Keyring::new(wanted);
/// keyring.read("../../fixtures/zstd/keys/cache.db", &limits)?;
/// assert!(keyring.is_empty());
///
/// // What lies beside a cache counts if it has a key. What was named counts anyway.
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
    /// How many outputs of ops were tried.
    tried: u64,
}

impl Keyring {
    /// A keyring without keys, for the records of these digests.
    pub fn new(wanted: BTreeSet<Digest>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// A keyring without keys, for all records of `exports` that need one: those with inputs.
    pub fn for_exports(exports: &[CacheExport]) -> Self {
        Self::new(exports.iter().flat_map(|export| export.config.digests_with_inputs()).collect())
    }

    /// Adds the keys in the file or directory at `path`, whatever it is of all that [`read_source`]
    /// knows.
    ///
    /// # Errors
    /// When it cannot be read, is too large, is nothing known or holds no keys, or has too many outputs of
    /// ops to try.
    pub fn read(&mut self, path: impl AsRef<Path>, limits: &Limits) -> Result<(), SourceError> {
        for source in read_source(path.as_ref(), limits)? {
            self.add(source, limits)?;
        }
        Ok(())
    }

    /// Adds the keys that lie beside the caches in the layouts of `exports`. The first source that has
    /// a key names the step too, and keys attached to a cache have no more than its kind, so
    /// [`read`](Self::read) others before.
    ///
    /// # Errors
    /// See [`read_layout`], or there are too many outputs of ops to try.
    pub fn read_layouts(&mut self, exports: &[CacheExport]) -> Result<(), SourceError> {
        for layout in layouts(exports) {
            for source in read_layout(layout)? {
                self.add(source, layout.limits())?;
            }
        }
        Ok(())
    }

    /// Adds the keys that are still missing from the files that lie where the layouts of `exports` lie: in
    /// their directories or beside them, with the names that tools give them (`docs/format/keys.md`). Of a
    /// file that has none of them nothing is kept. Gives back why others cannot be read: nobody named
    /// them, so that is no error of the keyring.
    pub fn read_beside(&mut self, exports: &[CacheExport]) -> Vec<SourceError> {
        let mut errors = Vec::new();
        for (limits, place) in beside::places(layouts(exports).map(|layout| &**layout)) {
            // Once all keys are there, nobody need hear of files that have nothing to do with the cache.
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

    /// Tries every output of every candidate and keeps those that name a wanted record.
    ///
    /// A record that is already resolved stays as it is: the first source wins, and in a source
    /// the first candidate. Only the op, and of which release the builder may have been, is learnt
    /// later too.
    ///
    /// # Errors
    /// If there would be more outputs than `limits` allow to be tried for all sources of the keyring. Then
    /// nothing of the source is added.
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

    /// Adds the keys of the SBOM scans that any of `images` did, which follow from its config: no document
    /// about a build has them. Those of images that did none are passed over.
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

    /// Whether any scan could be recognised.
    pub(crate) fn knows_scanners(&self) -> bool {
        !self.scans.is_empty()
    }

    /// Whether a step is an SBOM scan that runs in one of `images`, by their records, and mounts what
    /// `mounted` holds for: the name of the image, as far as it is known.
    pub(crate) fn scanner(
        &self,
        images: impl IntoIterator<Item = Digest>,
        mounted: impl Fn(&BTreeSet<Digest>) -> bool,
    ) -> Option<Option<&str>> {
        self.scans.image(images, mounted)
    }

    /// The op digest of `record`, if it is known.
    pub fn get(&self, record: &Digest) -> Option<&Resolved> {
        self.records.get(record)
    }

    /// All resolved records, by their digests.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Resolved)> {
        self.records.iter()
    }

    /// How many records are resolved.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is resolved.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether there is any source that the keys should come from: one that was named or lies in the layout,
    /// whatever it has, or one [beside it](Self::read_beside), which has a key. Images of scanners do not
    /// count.
    pub fn has_sources(&self) -> bool {
        self.sources.iter().any(|source| source.description.kind != SourceKind::Scanner)
    }

    /// The sources, in the order they were added.
    pub fn sources(&self) -> &[SourceSummary] {
        &self.sources
    }
}

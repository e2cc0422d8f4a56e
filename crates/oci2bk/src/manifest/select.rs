//! Selects the cache of a source from the content of a layout.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;

use bkstate::Digest;

use super::document::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};
use super::{CacheManifest, Document, InlineCache, ManifestError};
use crate::layout::{BlobError, Descriptor, Layout};
use crate::limits::MAX_INDEX_DEPTH;
use crate::source::Reference;

/// The tag of an entry of `index.json` (OCI image-spec 1.1, `annotations.md`).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full image name that containerd and BuildKit add to entries for images.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// BuildKit's default tag of a local cache (`client/solve.go`).
pub(crate) const DEFAULT_TAG: &str = "latest";
/// Maximum number of caches or tags in an error message.
const LISTED: usize = 20;

/// A cache in a layout.
///
/// ```
/// use oci2bk::Limits;
/// use oci2bk::layout::Layout;
/// use oci2bk::manifest::{CACHE_CONFIG, FoundCache, SelectError, select};
/// use oci2bk::source::Reference;
/// use serde_json::json;
///
/// // Two caches, neither of which has the tag `latest`.
/// let temporary = tempfile::tempdir()?;
/// std::fs::create_dir_all(temporary.path().join("blobs/sha256"))?;
/// std::fs::write(temporary.path().join("index.json"), r#"{"manifests":[]}"#)?;
/// let layout = Layout::open(temporary.path(), &Limits::default())?;
/// let mut writer = layout.writer()?;
/// let mut entries = Vec::new();
/// for tag in ["main", "release"] {
///     let config = json!({"mediaType": CACHE_CONFIG, "digest": writer.put_blob(b"{}")?, "size": 2});
///     let cache = json!({"config": config, "layers": [], "annotations": {"of": tag}}).to_string();
///     let (digest, size) = (writer.put_blob(cache.as_bytes())?, cache.len());
///     let annotations = json!({"org.opencontainers.image.ref.name": tag});
///     entries.push(json!({"digest": digest, "size": size, "annotations": annotations}));
/// }
/// writer.put_index(json!({"manifests": entries}).to_string().into_bytes())?;
///
/// let layout = Layout::open(temporary.path(), &Limits::default())?;
/// let Err(SelectError::SeveralCaches { caches, .. }) = select(&layout, &Reference::Default) else {
///     panic!("one of them was taken");
/// };
/// let tags: Vec<&str> = caches.iter().flat_map(|FoundCache { tags, .. }| tags).map(|t| &**t).collect();
/// assert_eq!(tags, ["main", "release"]);
/// select(&layout, &Reference::Tag("main".to_owned()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundCache {
    /// The digest of its top object.
    pub digest: Digest,
    /// Its tags in `index.json`.
    pub tags: BTreeSet<String>,
}

/// The selected cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selected {
    /// A separate cache.
    Cache {
        /// The reference to it.
        found: FoundCache,
        /// Its top object.
        manifest: Box<CacheManifest>,
    },
    /// The inline caches of an image, one for each platform; at least one.
    Inline {
        /// The reference to them: the image, or the index of its platforms.
        found: FoundCache,
        /// The caches.
        platforms: Vec<InlineCache>,
    },
}

impl Selected {
    /// Adds its tags in `index.json`.
    fn with_tags(mut self, layout: &Layout) -> Self {
        let (Self::Cache { found, .. } | Self::Inline { found, .. }) = &mut self;
        let entries = layout.entries().iter().filter(|entry| entry.digest == found.digest);
        found.tags = entries.flat_map(entry_names).map(str::to_owned).collect();
        self
    }
}

/// Why no cache was selected in a layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A manifest cannot be read, or is not a usable cache.
    #[error("cannot use a manifest in {}", path.display())]
    Manifest {
        /// The layout.
        path: PathBuf,
        /// The manifest, and the cause.
        #[source]
        source: Box<ManifestError>,
    },
    /// No entry has the tag.
    #[error("{} has no entry with the tag {tag:?}; it has {}", path.display(), list(known))]
    NoTag {
        /// The layout.
        path: PathBuf,
        /// The requested tag.
        tag: String,
        /// The existing tags.
        known: BTreeSet<String>,
    },
    /// None of the examined manifests is a cache.
    #[error(
        "{} has no cache and no image among the {manifests} manifests looked at",
        path.display()
    )]
    NoCache {
        /// The layout.
        path: PathBuf,
        /// The number of examined manifests and indexes.
        manifests: usize,
    },
    /// The requested cache is listed, but missing.
    #[error(
        "{} lists {tag:?}, but {digest}, which it leads to, is not in the layout; export or copy that \
         cache again{}",
        path.display(), or_another(whole)
    )]
    Gone {
        /// The layout.
        path: PathBuf,
        /// The tag of the entry.
        tag: String,
        /// The missing blob.
        digest: Digest,
        /// The existing caches, with any tags.
        whole: Vec<FoundCache>,
    },
    /// Several caches match.
    #[error(
        "{} has several caches; choose one with :TAG or @DIGEST: {}",
        path.display(), list_caches(caches)
    )]
    SeveralCaches {
        /// The layout.
        path: PathBuf,
        /// The matching caches.
        caches: Vec<FoundCache>,
    },
    /// Indexes are nested too deep.
    #[error("index {digest} lies more than {} indexes deep", MAX_INDEX_DEPTH)]
    TooDeep {
        /// The index at the limit.
        digest: Digest,
    },
    /// The manifests exceed the limit on their total size.
    #[error(
        "the manifests in {} have more than {limit} bytes; choose the cache with @DIGEST",
        path.display(),
    )]
    TooLarge {
        /// The layout.
        path: PathBuf,
        /// The limit ([`Limits::manifests_size`](crate::Limits::manifests_size)).
        limit: u64,
    },
    /// There are more manifests than the limit.
    #[error(
        "{} has more than {limit} manifests; choose the cache with @DIGEST",
        path.display(),
    )]
    TooMany {
        /// The layout.
        path: PathBuf,
        /// The limit ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
}

/// Reads the cache of `reference`.
///
/// - A tag is compared with the ref name of each entry of `index.json`; if none matches, with the containerd
///   image name. It is enough that one matching entry is a cache: images may have the same tag.
/// - A digest may be that of any blob of the layout, as in BuildKit, so that an older export without a tag
///   can be selected, too.
/// - No reference means the only cache, or the one tagged `latest` if there are several.
///
/// A missing cache is not replaced by another: an entry with the requested tag, or, if none was requested,
/// with any tag, may be that of a cache whose manifest is missing from the layout (BuildKit's `reset=true`
/// removes the manifest of a concurrent export). Entries of keys attached to a cache are not affected.
///
/// If an index of manifests is selected, the cache is searched in it and the indexes below.
///
/// A separate cache takes precedence over inline caches. If there is none, each entry of `index.json` with
/// inline caches counts as one cache: its platforms belong together.
///
/// # Errors
/// See [`SelectError`].
pub fn select(layout: &Layout, reference: &Reference) -> Result<Selected, SelectError> {
    match reference {
        Reference::Default => {
            let all = survey(layout, layout.entries(), Trust::MediaType)?.candidates(layout)?;
            let latest = tagged(layout, DEFAULT_TAG);
            match all.gone() {
                _ if all.found.len() > 1 && !latest.is_empty() => of_tag(layout, &latest),
                Some(gone) if !all.has_default() => Err(gone_error(layout, gone)?),
                _ => all.only(layout),
            }
        }
        Reference::Tag(tag) => {
            let entries = tagged(layout, tag);
            if entries.is_empty() {
                return Err(SelectError::NoTag {
                    path: layout.path().to_owned(),
                    tag: tag.clone(),
                    known: layout
                        .entries()
                        .iter()
                        .flat_map(entry_names)
                        .map(str::to_owned)
                        .collect(),
                });
            }
            of_tag(layout, &entries)
        }
        Reference::Digest(digest) => {
            let entry = layout.describe_blob(*digest).map_err(|error| unusable(layout, error))?;
            let selected =
                survey(layout, &[entry], Trust::Nothing)?.candidates(layout)?.only(layout)?;
            Ok(selected.with_tags(layout))
        }
    }
}

fn unusable(layout: &Layout, error: impl Into<ManifestError>) -> SelectError {
    SelectError::Manifest { path: layout.path().to_owned(), source: Box::new(error.into()) }
}

/// Returns the descriptors of all manifests in the layout that are not caches: images, their attestations,
/// artifacts. They are searched for keys.
///
/// Each manifest is listed once, in the order of `index.json`. Manifests that are referred to but missing, as
/// in a copy of one platform of an image, are omitted.
///
/// # Errors
/// Returns an error if a manifest or index is corrupt, or the limits of the layout are exceeded.
pub fn other_manifests(layout: &Layout) -> Result<Vec<Descriptor>, SelectError> {
    let survey = survey(layout, layout.entries(), Trust::MediaType)?;
    Ok(survey.others.into_iter().map(|other| other.descriptor).collect())
}

/// Returns the digests of all manifests and indexes reachable from `entries`, existing or not.
pub(crate) fn reachable(
    layout: &Layout,
    entries: &[Descriptor],
) -> Result<BTreeSet<Digest>, SelectError> {
    Ok(survey(layout, entries, Trust::MediaType)?.seen)
}

/// Which initial descriptors of a survey are examined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Those with another media type than a manifest or index are skipped.
    MediaType,
    /// All, because each was requested, so it must be a manifest or index, with any media type.
    Nothing,
}

#[derive(Default)]
struct Survey {
    caches: Vec<Cache>,
    others: Vec<Other>,
    missing: Vec<Missing>,
    /// The tags of the initial entries.
    tags: BTreeMap<Digest, BTreeSet<String>>,
    /// The entries that could be meant by a tag.
    named: BTreeSet<Digest>,
    /// All digests referred to.
    seen: BTreeSet<Digest>,
}

/// A separate cache.
struct Cache {
    descriptor: Descriptor,
    tags: BTreeSet<String>,
    /// The digest of the first entry that leads to it.
    entry: Digest,
}

/// A manifest that is not a separate cache.
struct Other {
    descriptor: Descriptor,
    /// The digest of the first entry that leads to it.
    entry: Digest,
}

/// A digest that is referred to but missing.
struct Missing {
    digest: Digest,
    /// The digest of the first entry that leads to it.
    entry: Digest,
}

/// A possible match of a reference.
struct Candidate {
    cache: FoundCache,
    /// The digest of the first entry that leads to it.
    entry: Digest,
    content: Content,
}

enum Content {
    Cache(Descriptor),
    Inline(Vec<InlineCache>),
}

/// Returns the cache with the tag of `entries`.
fn of_tag(layout: &Layout, entries: &[Descriptor]) -> Result<Selected, SelectError> {
    let found = survey(layout, entries, Trust::Nothing)?.candidates(layout)?;
    match found.gone() {
        Some(gone) => Err(gone_error(layout, gone)?),
        None => found.only(layout),
    }
}

/// The candidates in the manifests of a layout.
struct Candidates {
    found: Vec<Candidate>,
    /// Number of manifests without a cache.
    without: usize,
    missing: Vec<Missing>,
    tags: BTreeMap<Digest, BTreeSet<String>>,
    named: BTreeSet<Digest>,
}

impl Survey {
    /// Returns the caches found, or if there are none, the images with inline caches.
    fn candidates(self, layout: &Layout) -> Result<Candidates, SelectError> {
        let Self { caches, others, mut missing, tags, named, .. } = self;
        let without = others.len();
        let mut found: Vec<_> = caches.into_iter().map(Candidate::from).collect();
        if found.is_empty() {
            let Inline { images, missing: configs } = inline(layout, others)?;
            missing.extend(configs);
            found.extend(images.into_iter().map(|(entry, caches)| {
                let tags = tags.get(&entry).cloned().unwrap_or_default();
                let cache = FoundCache { digest: entry, tags };
                Candidate { cache, entry, content: Content::Inline(caches) }
            }));
        }
        Ok(Candidates { found, without, missing, tags, named })
    }
}

impl From<Cache> for Candidate {
    fn from(Cache { descriptor, tags, entry }: Cache) -> Self {
        let cache = FoundCache { digest: descriptor.digest, tags };
        Self { cache, entry, content: Content::Cache(descriptor) }
    }
}

impl Candidates {
    /// Returns the tag of an entry that may be that of a missing cache, and the missing digest. The default
    /// tag comes first.
    fn gone(&self) -> Option<(String, Digest)> {
        let leads_to_one = |entry| self.found.iter().any(|found| found.entry == entry);
        let gone = self
            .missing
            .iter()
            .filter(|missing| self.named.contains(&missing.entry) && !leads_to_one(missing.entry));
        let tagged = gone.flat_map(|missing| {
            let tags = self.tags.get(&missing.entry).into_iter().flatten();
            tags.map(|tag| (tag.clone(), missing.digest))
        });
        tagged.min_by_key(|(tag, _)| tag != DEFAULT_TAG)
    }

    fn has_default(&self) -> bool {
        self.found.iter().any(|found| found.cache.tags.contains(DEFAULT_TAG))
    }

    /// Returns the only candidate.
    fn only(mut self, layout: &Layout) -> Result<Selected, SelectError> {
        if self.found.len() > 1 {
            let caches = self.found.into_iter().map(|found| found.cache).collect();
            return Err(SelectError::SeveralCaches { path: layout.path().to_owned(), caches });
        }
        let found = self.found.pop().map(|found| (found.cache, found.content));
        match (found, self.missing.first()) {
            (Some((found, Content::Inline(platforms))), _) => {
                Ok(Selected::Inline { found, platforms })
            }
            (Some((found, Content::Cache(cache))), _) => {
                let manifest = CacheManifest::read(layout, &cache);
                let manifest = manifest.map_err(|error| unusable(layout, error))?;
                Ok(Selected::Cache { found, manifest: Box::new(manifest) })
            }
            (None, Some(&Missing { digest, .. })) => {
                Err(unusable(layout, BlobError::Missing { digest }))
            }
            (None, None) => {
                let (path, manifests) = (layout.path().to_owned(), self.without);
                Err(SelectError::NoCache { path, manifests })
            }
        }
    }
}

fn gone_error(
    layout: &Layout,
    (tag, digest): (String, Digest),
) -> Result<SelectError, SelectError> {
    let all = survey(layout, layout.entries(), Trust::MediaType)?.candidates(layout)?;
    let whole = all.found.into_iter().map(|found| found.cache).collect();
    Ok(SelectError::Gone { path: layout.path().to_owned(), tag, digest, whole })
}

/// The inline caches found.
#[derive(Default)]
struct Inline {
    /// Those of each image, by the digest of the entry that leads to it.
    images: BTreeMap<Digest, Vec<InlineCache>>,
    /// Missing configs of images.
    missing: Vec<Missing>,
}

fn inline(layout: &Layout, manifests: Vec<Other>) -> Result<Inline, SelectError> {
    let mut inline = Inline::default();
    for Other { descriptor, entry } in manifests {
        match InlineCache::read(layout, &descriptor) {
            Ok(Some(cache)) => inline.images.entry(entry).or_default().push(cache),
            Ok(None) => {}
            Err(ManifestError::Blob(BlobError::Missing { digest })) => {
                inline.missing.push(Missing { digest, entry });
            }
            Err(error) => return Err(unusable(layout, error)),
        }
    }
    Ok(inline)
}

/// Returns the entries of `index.json` with this tag.
pub(crate) fn tagged(layout: &Layout, tag: &str) -> Vec<Descriptor> {
    let with = |name: &str| -> Vec<Descriptor> {
        let fits = |entry: &&Descriptor| entry.annotations.get(name).is_some_and(|n| n == tag);
        layout.entries().iter().filter(fits).cloned().collect()
    };
    let by_ref_name = with(REF_NAME);
    if by_ref_name.is_empty() { with(IMAGE_NAME) } else { by_ref_name }
}

/// Returns whether an entry is a referrer of a manifest, such as the keys of a cache, or the index of a
/// manifest's referrers (OCI distribution-spec 1.1, "Referrers Tag Schema").
fn is_referrer(entry: &Descriptor) -> bool {
    let lists = |tag: &String| {
        tag.strip_prefix("sha256-")
            .is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
    };
    entry.artifact_type.is_some() || entry.annotations.get(REF_NAME).is_some_and(lists)
}

/// Returns the names of an entry of `index.json`.
pub(crate) fn entry_names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, IMAGE_NAME].into_iter().filter_map(|name| entry.annotations.get(name)).map(|n| &**n)
}

/// Reads every manifest and index reachable from `entries`, breadth first, each digest once.
fn survey(layout: &Layout, entries: &[Descriptor], trust: Trust) -> Result<Survey, SelectError> {
    let wanted = |entry: &&Descriptor| trust == Trust::Nothing || may_be_manifest(entry);
    let entries: Vec<_> = entries.iter().filter(wanted).cloned().collect();
    let mut survey = Survey::default();
    // The same manifest may have several tags, each in a separate entry.
    for entry in &entries {
        let tags = survey.tags.entry(entry.digest).or_default();
        tags.extend(entry_names(entry).map(str::to_owned));
        if !is_referrer(entry) {
            survey.named.insert(entry.digest);
        }
    }
    let mut queue = Queue::default();
    for entry in entries {
        let digest = entry.digest;
        queue.push(layout, Waiting { descriptor: entry, depth: 0, entry: digest })?;
    }
    let limits = layout.limits();
    let mut left = limits.manifests_size;
    while let Some(Waiting { descriptor, depth, entry }) = queue.waiting.pop_front() {
        let digest = descriptor.digest;
        // A descriptor with a wrong size is rejected when its blob is read.
        left = left.checked_sub(descriptor.size.min(limits.manifest)).ok_or_else(|| {
            let (path, limit) = (layout.path().to_owned(), limits.manifests_size);
            SelectError::TooLarge { path, limit }
        })?;
        let document = match Document::read(layout, &descriptor) {
            Err(ManifestError::Blob(BlobError::Missing { digest })) => {
                survey.missing.push(Missing { digest, entry });
                continue;
            }
            document => document.map_err(|error| unusable(layout, error))?,
        };
        match document {
            document if document.is_cache() => {
                let tags = survey.tags.get(&digest).cloned().unwrap_or_default();
                survey.caches.push(Cache { descriptor, tags, entry });
            }
            Document::Manifest(_) => survey.others.push(Other { descriptor, entry }),
            Document::Index(_) if depth == MAX_INDEX_DEPTH => {
                return Err(SelectError::TooDeep { digest });
            }
            Document::Index(index) => {
                for descriptor in index.manifests.into_iter().filter(may_be_manifest) {
                    queue.push(layout, Waiting { descriptor, depth: depth + 1, entry })?;
                }
            }
        }
    }
    survey.seen = queue.seen;
    Ok(survey)
}

/// Manifests and indexes that remain to be read.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    seen: BTreeSet<Digest>,
}

struct Waiting {
    descriptor: Descriptor,
    /// Its depth.
    depth: usize,
    /// The digest of the entry that leads to it.
    entry: Digest,
}

impl Queue {
    /// Adds descriptors that were not seen before.
    fn push(&mut self, layout: &Layout, waiting: Waiting) -> Result<(), SelectError> {
        if self.seen.insert(waiting.descriptor.digest) {
            self.waiting.push_back(waiting);
        }
        let limit = layout.limits().manifests;
        if self.seen.len() as u64 > limit {
            return Err(SelectError::TooMany { path: layout.path().to_owned(), limit });
        }
        Ok(())
    }
}

/// Returns whether a descriptor may be that of a manifest or an index. Reading it determines which; this only
/// skips blobs that are obviously something else, such as layers.
fn may_be_manifest(descriptor: &Descriptor) -> bool {
    matches!(
        &*descriptor.media_type,
        "" | OCI_INDEX | OCI_MANIFEST | DOCKER_MANIFEST_LIST | DOCKER_MANIFEST
    )
}

fn list(tags: &BTreeSet<String>) -> String {
    if tags.is_empty() {
        return "no tags".to_owned();
    }
    let shown: Vec<_> = tags.iter().take(LISTED).map(|tag| format!("{tag:?}")).collect();
    shown.join(", ") + if tags.len() > LISTED { ", …" } else { "" }
}

fn or_another(whole: &[FoundCache]) -> String {
    match whole {
        [] => String::new(),
        whole => format!("; or choose another with :TAG or @DIGEST: {}", list_caches(whole)),
    }
}

fn list_caches(caches: &[FoundCache]) -> String {
    let mut text = String::new();
    for (position, cache) in caches.iter().take(LISTED).enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{} ({})", cache.digest, list(&cache.tags));
    }
    text + if caches.len() > LISTED { ", …" } else { "" }
}

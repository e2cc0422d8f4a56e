//! Finds the cache that a source means among everything in a layout.

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
/// The tag that BuildKit gives to a local cache by default (`client/solve.go`).
pub(crate) const DEFAULT_TAG: &str = "latest";
/// How many caches or tags an error message lists.
const LISTED: usize = 20;

/// A cache that lies in a layout.
///
/// ```
/// use oci2bk::Limits;
/// use oci2bk::layout::Layout;
/// use oci2bk::manifest::{CACHE_CONFIG, FoundCache, SelectError, select};
/// use oci2bk::source::Reference;
/// use serde_json::json;
///
/// // Two caches, neither of which is tagged `latest`.
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
pub struct FoundCache {
    /// The digest of its top object.
    pub digest: Digest,
    /// The tags in `index.json` that lead to it.
    pub tags: BTreeSet<String>,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// A cache of its own.
    Cache {
        /// What leads to it.
        found: FoundCache,
        /// Its top object.
        manifest: Box<CacheManifest>,
    },
    /// The inline caches of an image, one for each platform; at least one.
    Inline {
        /// What leads to them: the image, or the index of its platforms.
        found: FoundCache,
        /// The caches.
        platforms: Vec<InlineCache>,
    },
}

impl Selected {
    /// With the tags that `index.json` has for it.
    fn with_tags(mut self, layout: &Layout) -> Self {
        let (Self::Cache { found, .. } | Self::Inline { found, .. }) = &mut self;
        let entries = layout.entries().iter().filter(|entry| entry.digest == found.digest);
        found.tags = entries.flat_map(entry_names).map(str::to_owned).collect();
        self
    }
}

/// Why no cache was chosen in a layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A manifest could not be read, or is not a usable cache.
    #[error("cannot use a manifest in {}", path.display())]
    Manifest {
        /// The layout.
        path: PathBuf,
        /// Which manifest, and what is wrong with it.
        #[source]
        source: Box<ManifestError>,
    },
    /// No entry has the tag.
    #[error("{} has no entry with the tag {tag:?}; it has {}", path.display(), list(known))]
    NoTag {
        /// The layout.
        path: PathBuf,
        /// The tag that was asked for.
        tag: String,
        /// The tags that there are.
        known: BTreeSet<String>,
    },
    /// There is no cache among the manifests that were looked at.
    #[error(
        "{} has no cache and no image among the {manifests} manifests looked at",
        path.display()
    )]
    NoCache {
        /// The layout.
        path: PathBuf,
        /// How many manifests and indexes were looked at.
        manifests: usize,
    },
    /// What was asked for is listed, and is not there.
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
        /// What is not there.
        digest: Digest,
        /// The caches that are there, whatever their tags.
        whole: Vec<FoundCache>,
    },
    /// Several caches fit.
    #[error(
        "{} has several caches; choose one with :TAG or @DIGEST: {}",
        path.display(), list_caches(caches)
    )]
    SeveralCaches {
        /// The layout.
        path: PathBuf,
        /// The caches that fit.
        caches: Vec<FoundCache>,
    },
    /// Indexes are nested too deeply.
    #[error("index {digest} lies more than {} indexes deep", MAX_INDEX_DEPTH)]
    TooDeep {
        /// The index at the limit.
        digest: Digest,
    },
    /// The manifests are too large to look at them all.
    #[error(
        "the manifests in {} have more than {limit} bytes; choose the cache with @DIGEST",
        path.display(),
    )]
    TooLarge {
        /// The layout.
        path: PathBuf,
        /// How many they may have ([`Limits::manifests_size`](crate::Limits::manifests_size)).
        limit: u64,
    },
    /// There are too many manifests to look at.
    #[error(
        "{} has more than {limit} manifests; choose the cache with @DIGEST",
        path.display(),
    )]
    TooMany {
        /// The layout.
        path: PathBuf,
        /// How many it may have ([`Limits::manifests`](crate::Limits::manifests)).
        limit: u64,
    },
}

/// Reads the cache that `reference` means.
///
/// - A tag is compared with the ref name of each entry of `index.json`; if none fits, with the
///   containerd image name. It is enough that one entry that fits is a cache: images may have the
///   same tag.
/// - A digest may be that of any blob of the layout, as for BuildKit, so that an older export that
///   has lost its tag can be chosen as well.
/// - Nothing means the only cache there is, or the one tagged `latest` if there are several.
///
/// No other cache is taken in place of one that is gone: an entry with the tag that was asked for, or, if
/// nothing was, with any tag, may be that of a cache whose manifest is not in the layout (BuildKit's
/// `reset=true` removes that of an export at the same time). That of keys attached to a cache is not.
///
/// Where an index of manifests is chosen, the cache is looked for in it and the indexes below.
///
/// A cache of its own outweighs inline caches. If there is none, each entry of `index.json` that
/// leads to images with inline caches counts as one cache: its platforms belong together.
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

/// Descriptors of all manifests in the layout that are not caches: images, their attestations,
/// artifacts. Key recovery looks at them.
///
/// Each manifest is listed once, in the order in which `index.json` leads to them. Manifests that
/// are mentioned but not there, as in the copy of one platform of an image, are left out.
///
/// # Errors
/// A manifest or index is corrupt, or the limits of the layout are exceeded.
pub fn other_manifests(layout: &Layout) -> Result<Vec<Descriptor>, SelectError> {
    let survey = survey(layout, layout.entries(), Trust::MediaType)?;
    Ok(survey.others.into_iter().map(|other| other.descriptor).collect())
}

/// The digests of all manifests and indexes that `entries` lead to, there or not.
pub(crate) fn reachable(
    layout: &Layout,
    entries: &[Descriptor],
) -> Result<BTreeSet<Digest>, SelectError> {
    Ok(survey(layout, entries, Trust::MediaType)?.seen)
}

/// What is believed of the descriptors that a survey starts with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Those with a media type that is not a manifest's or index's are passed over.
    MediaType,
    /// Each was asked for, so it must be a manifest or index, whatever its media type.
    Nothing,
}

#[derive(Default)]
struct Survey {
    caches: Vec<Cache>,
    others: Vec<Other>,
    missing: Vec<Missing>,
    /// The tags of the entries that the survey started with.
    tags: BTreeMap<Digest, BTreeSet<String>>,
    /// Those of the entries that somebody may mean by a tag.
    named: BTreeSet<Digest>,
    /// All that is mentioned.
    seen: BTreeSet<Digest>,
}

/// A cache of its own.
struct Cache {
    descriptor: Descriptor,
    tags: BTreeSet<String>,
    /// The digest of the entry that led to it first.
    entry: Digest,
}

/// A manifest that is no cache of its own.
struct Other {
    descriptor: Descriptor,
    /// The digest of the entry that led to it first.
    entry: Digest,
}

/// Something that is mentioned and not there.
struct Missing {
    digest: Digest,
    /// The digest of the entry that led to it first.
    entry: Digest,
}

/// What a reference may mean.
struct Candidate {
    cache: FoundCache,
    /// The digest of the entry that led to it first.
    entry: Digest,
    content: Content,
}

enum Content {
    Cache(Descriptor),
    Inline(Vec<InlineCache>),
}

/// The cache with the tag that `entries` have.
fn of_tag(layout: &Layout, entries: &[Descriptor]) -> Result<Selected, SelectError> {
    let found = survey(layout, entries, Trust::Nothing)?.candidates(layout)?;
    match found.gone() {
        Some(gone) => Err(gone_error(layout, gone)?),
        None => found.only(layout),
    }
}

/// What the manifests of a layout offer.
struct Candidates {
    found: Vec<Candidate>,
    /// How many manifests have no cache.
    without: usize,
    missing: Vec<Missing>,
    tags: BTreeMap<Digest, BTreeSet<String>>,
    named: BTreeSet<Digest>,
}

impl Survey {
    /// The caches that were found, or else the images with inline caches.
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
    /// The tag of an entry that may be that of a cache which is not there, and what is not. The default
    /// one comes first.
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

    /// The only one.
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

/// What inline caches there are.
#[derive(Default)]
struct Inline {
    /// Those of each image, by the digest of the entry that led to it.
    images: BTreeMap<Digest, Vec<InlineCache>>,
    /// Configs of images that are not there.
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

/// The entries of `index.json` with this tag.
pub(crate) fn tagged(layout: &Layout, tag: &str) -> Vec<Descriptor> {
    let with = |name: &str| -> Vec<Descriptor> {
        let fits = |entry: &&Descriptor| entry.annotations.get(name).is_some_and(|n| n == tag);
        layout.entries().iter().filter(fits).cloned().collect()
    };
    let by_ref_name = with(REF_NAME);
    if by_ref_name.is_empty() { with(IMAGE_NAME) } else { by_ref_name }
}

/// Whether an entry is of something that refers to a manifest, such as the keys of a cache, or the index
/// that lists such for one (OCI distribution-spec 1.1, "Referrers Tag Schema").
fn is_referrer(entry: &Descriptor) -> bool {
    let lists = |tag: &String| {
        tag.strip_prefix("sha256-")
            .is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
    };
    entry.artifact_type.is_some() || entry.annotations.get(REF_NAME).is_some_and(lists)
}

/// The names that an entry of `index.json` has.
pub(crate) fn entry_names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, IMAGE_NAME].into_iter().filter_map(|name| entry.annotations.get(name)).map(|n| &**n)
}

/// Reads every manifest and index that `entries` lead to, breadth first, each digest once.
fn survey(layout: &Layout, entries: &[Descriptor], trust: Trust) -> Result<Survey, SelectError> {
    let wanted = |entry: &&Descriptor| trust == Trust::Nothing || may_be_manifest(entry);
    let entries: Vec<_> = entries.iter().filter(wanted).cloned().collect();
    let mut survey = Survey::default();
    // The same manifest may have several tags, each an entry of its own.
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
        // Whatever lies about its size is refused when it is read.
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

/// Manifests and indexes that are still to be read.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    seen: BTreeSet<Digest>,
}

struct Waiting {
    descriptor: Descriptor,
    /// How deep it is nested.
    depth: usize,
    /// The digest of the entry that led to it.
    entry: Digest,
}

impl Queue {
    /// Adds what was not seen before.
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

/// Whether a descriptor may name a manifest or an index. Which of them is found out by reading it;
/// this only passes over blobs that are obviously something else, such as layers.
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

//! Dockerfiles as key sources: what is known of a build before it runs.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ::dockerfile::{Conversion, Frontend, ImageConfig, Images, Options, ParseError, convert};
use bkstate::{Class, Classified as _};
use llb::{Graph, Op, Platform};

use super::bake::{self, Target};
use super::error::SourceError;
use super::input::{self, Input};
use super::read::{describe, within_limit};
use super::source::{Candidate, KeySource, SourceDescription, SourceKind, candidates_of};
use crate::image::{BaseImage, ImageError};
use crate::json;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::source::{Reference, Source};

/// What all builds that may be meant may become together ([`dockerfile::Limits::growth`]).
const MAX_GROWTH: u64 = 512 << 20;

/// Maximum length of the name of a stage in a message.
const LONGEST_NAME: usize = 100;

/// A Dockerfile, and what is known of its build.
///
/// Its ops follow from its text, the options of the build, and the configs of its base images. What is not
/// known is tried: every release of the frontend, every platform of BuildKit's releases. A wrong guess costs time
/// only, as every key is proved.
///
/// ```
/// use oci2bk::keys::{DockerfileKeys, SourceKind};
/// use oci2bk::{CacheExport, Keyring, Limits};
///
/// let limits = Limits::default();
/// let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
/// let mut keyring = Keyring::for_exports(&exports);
///
/// let mut build = DockerfileKeys::new("fixtures/index/Dockerfile");
/// build.options.push(("build-arg:UNUSED".to_owned(), "1".to_owned()));
/// build.platforms.push("linux/amd64".parse()?);
/// for source in build.read(&[], &limits)? {
///     assert_eq!(source.description.kind, SourceKind::Dockerfile);
///     assert!(source.refused.is_empty());
///     keyring.add(source, &limits)?;
/// }
/// // It has every key of the cache, without a document that the build wrote.
/// let wanted: Vec<_> = exports[0].config.digests_with_inputs().collect();
/// assert!(wanted.iter().all(|record| keyring.get(record).is_some()));
/// // The same builds as graphs, to explain them.
/// assert_eq!(build.graphs(&[], &limits)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DockerfileKeys {
    /// The Dockerfile; or what `docker buildx bake --print` prints, for the Dockerfiles of its targets.
    pub path: PathBuf,
    /// Options of the frontend, such as `build-arg:NAME` and `target`, in order. Those of a bake file come before.
    pub options: Vec<(String, String)>,
    /// The platforms of the build. Without any, those of the bake file, or all.
    pub platforms: Vec<Platform>,
    /// Configs of base images.
    pub images: Vec<ImageConfigPath>,
    /// The release that exported the cache, if it is known. Then no other is tried, unless the Dockerfile asks for a
    /// frontend of its own.
    pub frontend: Option<Frontend>,
}

/// A build of a Dockerfile, as far as it is known.
///
/// ```
/// use oci2bk::Limits;
/// use oci2bk::keys::{DockerfileBuild, DockerfileKeys};
///
/// let mut build = DockerfileKeys::new("fixtures/index/Dockerfile");
/// build.platforms.push("linux/amd64".parse()?);
/// let builds = build.graphs(&[], &Limits::default())?;
/// let [DockerfileBuild { description, graphs, refused, unknown_bases, .. }] = builds.as_slice() else {
///     panic!("{builds:?}")
/// };
/// assert!(refused.is_empty() && unknown_bases.is_empty());
/// assert_eq!(description.to_string(), "Dockerfile fixtures/index/Dockerfile");
/// assert!(graphs[0].steps.iter().any(|step| step.name().starts_with("line ")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DockerfileBuild {
    /// The Dockerfile.
    pub description: SourceDescription,
    /// What it may become: for each release of the frontend and each platform that may be meant, the most likely first. What
    /// is equal is there once.
    pub graphs: Vec<Graph>,
    /// What the newest of these releases refuses.
    pub refused: Vec<ParseError>,
    /// The base images whose configs would be needed to be sure of all steps, and were not given.
    pub unknown_bases: BTreeSet<String>,
}

/// The config of a base image: `NAME[@PLATFORM]=PATH`, a file or a layout.
///
/// ```
/// use std::ffi::OsString;
///
/// use oci2bk::keys::{ImageConfigPath, ParseImageConfigError};
///
/// let word = OsString::from("debian:12@linux/arm64=config.json");
/// let ImageConfigPath { name, platform, path } = word.try_into()?;
/// assert_eq!((name.as_str(), path.to_str()), ("debian:12", Some("config.json")));
/// assert_eq!(platform, Some("linux/arm64".parse()?));
/// let error: ParseImageConfigError = "debian".parse::<ImageConfigPath>().unwrap_err();
/// assert!(error.to_string().contains("NAME[@PLATFORM]=FILE"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfigPath {
    /// The name behind `FROM`. Without a tag, it counts for every tag that has no config of its own.
    pub name: String,
    /// The platform, if configs differ.
    pub platform: Option<Platform>,
    /// A file with the config, or a layout with the image.
    pub path: PathBuf,
}

/// Why a word does not name the config of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has the form NAME[@PLATFORM]=FILE, such as debian:12=config.json")]
#[non_exhaustive]
pub struct ParseImageConfigError {}

impl TryFrom<OsString> for ImageConfigPath {
    type Error = ParseImageConfigError;

    fn try_from(word: OsString) -> Result<Self, Self::Error> {
        let bytes = word.as_bytes();
        let error = ParseImageConfigError {};
        let at = bytes.iter().position(|&byte| byte == b'=').ok_or(error.clone())?;
        let name = std::str::from_utf8(&bytes[..at]).map_err(|_| error.clone())?;
        let path = PathBuf::from(OsString::from_vec(bytes[at + 1..].to_vec()));
        if name.is_empty() || path.as_os_str().is_empty() {
            return Err(error);
        }
        // A digest has no slash.
        let (name, platform) =
            match name.rsplit_once('@').filter(|(_, platform)| platform.contains('/')) {
                Some((name, platform)) => (name, Some(platform.parse().map_err(|_| error)?)),
                None => (name, None),
            };
        Ok(Self { name: name.to_owned(), platform, path })
    }
}

impl FromStr for ImageConfigPath {
    type Err = ParseImageConfigError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        OsString::from(word).try_into()
    }
}

impl DockerfileKeys {
    /// Returns the Dockerfile at `path`, of whose build nothing is known. `-` is stdin.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (options, platforms, images) = (Vec::new(), Vec::new(), Vec::new());
        Self { path: path.into(), options, platforms, images, frontend: None }
    }

    /// Reads it. The configs of `known` images count, too, for their names.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, is too large, is not what it must be, or if no frontend accepts the
    /// Dockerfile.
    pub fn read(
        &self,
        known: &[BaseImage],
        limits: &Limits,
    ) -> Result<Vec<KeySource>, SourceError> {
        let images = self.images(known, limits)?;
        let (path, targets) = self.targets(limits)?;
        let source = |target: Target| {
            let mut found = Found::default();
            let description = self.convert(&path, target, &images, limits, |_, conversion| {
                found.add(conversion);
                Ok(())
            })?;
            let source = KeySource::from_digests(found.candidates(), description);
            Ok(KeySource { refused: found.refused.unwrap_or_default(), ..source })
        };
        targets.into_iter().map(source).collect()
    }

    /// Returns the builds that it means, as graphs. The configs of `known` images count, too, for their names.
    ///
    /// # Errors
    /// Same as [`read`](Self::read); also if there is no stage with the name of the target.
    pub fn graphs(
        &self,
        known: &[BaseImage],
        limits: &Limits,
    ) -> Result<Vec<DockerfileBuild>, SourceError> {
        let images = self.images(known, limits)?;
        let (path, targets) = self.targets(limits)?;
        let build = |target: Target| {
            let (mut graphs, mut refused, mut unknown_bases) = (Vec::new(), None, BTreeSet::new());
            let description =
                self.convert(&path, target, &images, limits, |options, conversion| {
                    let stage = conversion.stage_named(&options.target);
                    let stage = stage.ok_or_else(|| SourceError::NoStage {
                        path: path.clone(),
                        name: options.target.chars().take(LONGEST_NAME).collect(),
                    })?;
                    let steps = conversion.steps_of(stage).into_iter();
                    let bases =
                        steps.filter_map(|step| conversion.steps[step].unknown_base.clone());
                    unknown_bases.extend(bases);
                    let graph = conversion.graph(stage, &options.platform);
                    if !graphs.iter().any(|known: &Graph| known.steps == graph.steps) {
                        graphs.push(graph);
                    }
                    let problems = conversion.problems.into_iter().map(|problem| problem.error);
                    refused.get_or_insert_with(|| problems.collect::<Vec<_>>());
                    Ok(())
                })?;
            let refused = refused.unwrap_or_default();
            Ok(DockerfileBuild { description, graphs, refused, unknown_bases })
        };
        targets.into_iter().map(build).collect()
    }

    /// Reads the file; a Dockerfile is one target without a name.
    fn targets(&self, limits: &Limits) -> Result<(PathBuf, Vec<Target>), SourceError> {
        let (path, content) = read_file(&self.path, limits)?;
        if bake::is_json(&content) {
            json::check(&content, limits)
                .map_err(|source| SourceError::TooComplex { path: path.clone(), source })?;
        }
        let targets = match bake::targets(&content) {
            Some(targets) => {
                targets.map_err(|source| SourceError::Bake { path: path.clone(), source })?
            }
            None => vec![Target { content: Some(content), ..Target::default() }],
        };
        Ok((path, targets))
    }

    /// Converts one target for every build that may be meant, the most likely first.
    fn convert(
        &self,
        path: &Path,
        target: Target,
        images: &Images,
        limits: &Limits,
        mut each: impl FnMut(&Options, Conversion) -> Result<(), SourceError>,
    ) -> Result<SourceDescription, SourceError> {
        let (path, content) = match target.content {
            Some(content) => (path.to_owned(), content),
            None => read_file(&target.dockerfile, limits)?,
        };
        let description = describe(&path, SourceKind::Dockerfile, target.name);
        let (mut any, mut error) = (false, None);
        let mut left = MAX_GROWTH;
        for options in self.builds(&content, &target.options, &target.platforms)? {
            let default = ::dockerfile::Limits::default();
            let bounds = ::dockerfile::Limits { growth: default.growth.min(left), ..default };
            match convert(&content, &options, images, &bounds) {
                Ok(conversion) => {
                    left = left.saturating_sub(conversion.growth);
                    any = true;
                    each(&options, conversion)?;
                }
                Err(source) if source.class() == Class::Limit => {
                    return Err(SourceError::Dockerfile { path, source });
                }
                Err(of_release) => drop(error.get_or_insert(of_release)),
            }
        }
        match error {
            Some(source) if !any => Err(SourceError::Dockerfile { path, source }),
            _ => Ok(description),
        }
    }

    /// Returns the options of every build that may be meant, the most likely first.
    fn builds(
        &self,
        content: &[u8],
        options: &[(String, String)],
        platforms: &[Platform],
    ) -> Result<Vec<Options>, SourceError> {
        let has = |word: &[u8]| content.windows(word.len()).any(|window| window == word);
        let platforms = [&*self.platforms, platforms].into_iter().find(|list| !list.is_empty());
        let platforms = platforms.map_or_else(Platform::released_for, <[Platform]>::to_vec);
        let frontends = match self.frontend {
            Some(frontend) if ::dockerfile::syntax(content).is_none() => vec![frontend],
            _ => Frontend::classes(),
        };
        let mut builds = Vec::new();
        for platform in &platforms {
            let mut builders = vec![platform.clone()];
            // Only a Dockerfile that names the platform of the builder depends on it.
            if has(b"BUILD") {
                builders.extend(["amd64", "arm64"].map(|architecture| Platform {
                    os: "linux".to_owned(),
                    architecture: architecture.to_owned(),
                    ..Platform::default()
                }));
            }
            let normal: BTreeSet<_> =
                builders.iter().map(|builder| builder.normalized().to_string()).collect();
            builders.truncate(normal.len().max(1));
            for (builder, &frontend) in
                builders.iter().flat_map(|b| frontends.iter().map(move |f| (b, f)))
            {
                let mut build = Options::new(frontend, builder.normalized());
                for (key, value) in options.iter().chain(&self.options) {
                    build.set(key, value)?;
                }
                build.platform = platform.normalized();
                builds.push(build);
            }
        }
        Ok(builds)
    }

    /// Returns the configs of base images: those that were given, and those of known images.
    fn images(&self, known: &[BaseImage], limits: &Limits) -> Result<Images, SourceError> {
        let mut images = Images::default();
        for image in known {
            add_image(&mut images, image)?;
        }
        for given in &self.images {
            match input::open(&given.path, limits)? {
                (path, Input::File(file)) => {
                    let json = within_limit(&path, file, limits.of_config(), |source| {
                        SourceError::Read { path: path.clone(), source }
                    })?;
                    json::check(&json, limits)
                        .map_err(|source| SourceError::TooComplex { path: path.clone(), source })?;
                    let config = ImageConfig::from_json(&json)
                        .map_err(|source| SourceError::ImageConfig { path, source })?;
                    images.add(&given.name, given.platform.clone(), config)?;
                }
                (path, Input::Directory) => {
                    let of_layout = |source: ImageError| SourceError::BaseImage {
                        path: path.clone(),
                        source: source.into(),
                    };
                    let layout =
                        Layout::open(&path, limits).map_err(|error| of_layout(error.into()))?;
                    let source = Source { path: path.clone(), reference: Reference::Default };
                    let found =
                        BaseImage::named_by(&source, &Arc::new(layout)).map_err(of_layout)?;
                    for on in found.iter().flat_map(|image| &image.platforms) {
                        let Some(document) = on.documents.last() else { continue };
                        let config =
                            ImageConfig::from_json(&document.content).map_err(|source| {
                                SourceError::ImageConfig { path: path.clone(), source }
                            })?;
                        let platform =
                            given.platform.clone().unwrap_or_else(|| on.platform.clone());
                        images.add(&given.name, Some(platform), config)?;
                    }
                }
            }
        }
        Ok(images)
    }
}

/// Adds the configs of an image under all of its names.
fn add_image(images: &mut Images, image: &BaseImage) -> Result<(), SourceError> {
    let tagged = image.name.clone();
    for repository in &image.repositories {
        let names = match (&tagged, &image.tag) {
            (Some(name), _) => vec![name.clone()],
            (None, Some(tag)) => vec![format!("{repository}:{tag}")],
            (None, None) => vec![repository.to_string()],
        };
        for on in &image.platforms {
            let Some(document) = on.documents.last() else { continue };
            // A config that cannot be read is of no use here, and no reason to stop.
            let Ok(config) = ImageConfig::from_json(&document.content) else { continue };
            for name in &names {
                images.add(name, Some(on.platform.clone()), config.clone())?;
            }
        }
    }
    Ok(())
}

/// The ops of all builds that may be meant, each once.
#[derive(Default)]
struct Found {
    known: HashSet<Arc<Op>>,
    ops: Vec<Arc<Op>>,
    /// What the newest release refuses.
    refused: Option<Vec<ParseError>>,
}

impl Found {
    fn add(&mut self, conversion: Conversion) {
        let problems = conversion.problems.into_iter().map(|problem| problem.error);
        self.refused.get_or_insert_with(|| problems.collect());
        for step in conversion.steps {
            let op = Arc::new(step.op);
            if self.known.insert(op.clone()) {
                self.ops.push(op);
            }
        }
    }

    /// Returns the digests of the ops, each once.
    fn candidates(&self) -> Vec<Candidate> {
        // An op without a platform does not depend on any.
        let any = Platform::default();
        let mut seen = BTreeSet::new();
        let mut candidates = Vec::new();
        for op in &self.ops {
            let platform = std::slice::from_ref(op.platform.as_ref().unwrap_or(&any));
            let of_op = candidates_of(op, platform, None).unwrap_or_default().into_iter();
            candidates.extend(of_op.filter(|candidate| seen.insert(candidate.op_digest.clone())));
        }
        candidates
    }
}

/// Reads a Dockerfile, or JSON about it.
fn read_file(path: &Path, limits: &Limits) -> Result<(PathBuf, Vec<u8>), SourceError> {
    let limit = limits.of_keys_document(limits.keys_document);
    match input::open(path, limits)? {
        (path, Input::Directory) => Err(SourceError::NotAFile { path }),
        (path, Input::File(file)) => {
            let read = |source| SourceError::Read { path: path.clone(), source };
            let content = within_limit(&path, file, limit, read)?;
            Ok((path, content))
        }
    }
}

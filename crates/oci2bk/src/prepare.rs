//! Prepares a conversion: reads the sources and the keys, and plans.
//!
//! It is what the command does before it converts, in one call, with [events](crate::Event) and
//! [warnings](crate::warning). The parts can be called one by one, too: [`Inputs`], [`Keyring`], [`Plan`].
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use oci2bk::keys::DockerfileKeys;
//! use oci2bk::prepare::{PrepareError, Prepared};
//! use oci2bk::{Cancel, Class, Classified as _, Event, Limits, Preparer, Target, Time};
//!
//! let stages = Arc::new(Mutex::new(Vec::new()));
//! let noted = Arc::clone(&stages);
//! let note = move |event: Event<'_>| {
//!     if let Event::StageFinished(stage) = event {
//!         noted.lock().unwrap().push(stage.name());
//!     }
//! };
//! let (cancel, release) = (Cancel::new(), "0.32.2".parse::<Target>()?);
//! let preparer = Preparer::new()
//!     .keys(["fixtures/index/keys/provenance.json"])
//!     .dockerfiles([DockerfileKeys::new("fixtures/index/Dockerfile")])
//!     .images(["busybox=fixtures/manifest/keys/image".parse()?])
//!     .platforms(["linux/amd64".parse()?])
//!     .target(release)
//!     .exported_by(release)
//!     .now("2026-11-29T12:00:00Z".parse::<Time>()?)
//!     .limits(Limits::default())
//!     .progress(Arc::new(note))
//!     .cancel(cancel.clone());
//!
//! let sources = ["fixtures/index/cache".parse()?];
//! let Prepared { exports, plan, keyring, images, .. } = preparer.prepare(&sources)?;
//! assert_eq!(*stages.lock().unwrap(), ["read", "keys", "plan"]);
//! assert_eq!((exports.len(), images.len()), (1, 0));
//! assert!(plan.is_complete() && keyring.has_sources());
//!
//! cancel.cancel();
//! let error = preparer.prepare(&sources).unwrap_err();
//! assert!(matches!(error, PrepareError::Cancelled) && error.class() == Class::Cancelled);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;

use bkstate::Time;
use bkstate::state::is_ahead;
use dockerfile::Frontend;
use llb::Platform;
use llb::release::Target;

use crate::cancel::Cancel;
use crate::export::CacheExport;
use crate::image::{BaseImage, ImageError, ImageRef, WholeImage};
use crate::inputs::{InputError, Inputs};
use crate::keys::{DockerfileKeys, KeyPath, KeySource, Keyring, SourceError};
use crate::limits::Limits;
use crate::plan::{Plan, PlanError};
use crate::progress::{self, Event, Progress, Silent, Stage};
use crate::source::Source;
use crate::warning::Warning;

/// Prepares conversions. The [module](self) has an example.
#[derive(Clone)]
pub struct Preparer {
    keys: Vec<KeyPath>,
    dockerfiles: Vec<DockerfileKeys>,
    images: Vec<ImageRef>,
    platforms: Vec<Platform>,
    target: Target,
    exporter: Option<Target>,
    now: Option<Time>,
    limits: Limits,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
}

/// What a conversion needs.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// The caches.
    pub exports: Vec<CacheExport>,
    /// The images among the sources, each for one platform.
    pub images: Vec<WholeImage>,
    /// The keys, and their sources.
    pub keyring: Keyring,
    /// The plan.
    pub plan: Plan,
}

/// Why a conversion cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A source cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A key source cannot be used.
    #[error(transparent)]
    Keys(#[from] SourceError),
    /// An image beside a cache, or one that was named, cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The sources cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The preparation was [cancelled](Preparer::cancel).
    #[error("the preparation was cancelled")]
    Cancelled,
}

impl Preparer {
    /// Creates a preparer without key sources and images, for this machine's platform and the newest known
    /// release, within the default limits.
    pub fn new() -> Self {
        Self {
            keys: Vec::new(),
            dockerfiles: Vec::new(),
            images: Vec::new(),
            platforms: Vec::new(),
            target: Target::NEWEST,
            exporter: None,
            now: None,
            limits: Limits::default(),
            progress: Arc::new(Silent),
            cancel: Cancel::new(),
        }
    }

    /// Sets the key sources. The keys inside the layouts of caches and beside them are used after these.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = impl Into<KeyPath>>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Sets Dockerfiles whose builds made the caches. They count after the other key sources that were named. The configs
    /// of named images, and of those beside a cache, count for the images of the same name in them.
    #[must_use]
    pub fn dockerfiles(mut self, files: impl IntoIterator<Item = DockerfileKeys>) -> Self {
        self.dockerfiles = files.into_iter().collect();
        self
    }

    /// Sets the base images, for steps that start from them by digest and for SBOM scanners. Those beside a
    /// cache are used anyway.
    #[must_use]
    pub fn images(mut self, images: impl IntoIterator<Item = ImageRef>) -> Self {
        self.images = images.into_iter().collect();
        self
    }

    /// Sets for which platforms images are taken; without any, for that of this machine.
    #[must_use]
    pub fn platforms(mut self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        self.platforms = platforms.into_iter().collect();
        self
    }

    /// Sets the release of the daemon that will use the state.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Sets the release of the daemon that exported the caches ([`Keyring::exported_by`]).
    #[must_use]
    pub fn exported_by(mut self, release: impl Into<Option<Target>>) -> Self {
        self.exporter = release.into();
        self
    }

    /// Sets the current time, for a warning about results that are dated after it.
    #[must_use]
    pub fn now(mut self, now: impl Into<Option<Time>>) -> Self {
        self.now = now.into();
        self
    }

    /// Sets the limits on reading.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reports events to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Stops with [`PrepareError::Cancelled`] when `cancel` requests it, after the source that is being read.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Reads `sources` and all that belongs to them, and plans their conversion.
    ///
    /// # Errors
    /// See [`PrepareError`]. Steps without keys and missing layers are not errors: see
    /// [`Plan::shortfalls`].
    pub fn prepare(&self, sources: &[Source]) -> Result<Prepared, PrepareError> {
        let platforms = match self.platforms.as_slice() {
            [] => vec![Platform::of_machine()],
            given => given.to_vec(),
        };
        self.check()?;
        let done = self.stage(Stage::Read);
        let Inputs { exports, images: whole } = Inputs::read(sources, &platforms, &self.limits)?;
        done();

        let done = self.stage(Stage::Keys);
        let mut keyring = self.keyring(&exports)?;
        let mut images = Vec::with_capacity(self.images.len());
        for image in &self.images {
            self.check()?;
            images.push(BaseImage::read(image, &self.limits)?);
        }
        keyring.add_scanners(images.iter().flatten());
        done();

        self.check()?;
        let done = self.stage(Stage::Plan);
        let mut plan = Plan::for_target(&exports, &keyring, self.target)?;
        plan.add_images_of(&exports)?;
        for image in &whole {
            plan.add_layers(image)?;
            plan.add_images(std::slice::from_ref(&image.image));
            if image.name().is_none() {
                self.warn(Warning::NamelessImage { reference: &image.image.reference });
            }
        }
        for images in &images {
            add_layers_there(&mut plan, images, &platforms)?;
            for reference in plan.add_images(images) {
                self.warn(Warning::UnusedImage { reference: &reference });
            }
        }
        self.warn_of(&plan);
        done();
        Ok(Prepared { exports, images: whole, keyring, plan })
    }

    /// Reads the key sources for `exports`: those that were named, then those inside the layouts, then those beside
    /// them. The first source with a key also names the step, and keys attached to a layout only have its kind.
    ///
    /// # Errors
    /// Returns an error if a source that was named, or one inside a layout, cannot be used.
    pub fn keyring(&self, exports: &[CacheExport]) -> Result<Keyring, PrepareError> {
        let limits = &self.limits;
        let mut keyring = Keyring::for_exports(exports);
        keyring.exported_by(self.exporter);
        for named in &self.keys {
            self.check()?;
            for source in named.read(limits)? {
                if let Some(history) = &source.unread {
                    self.warn(Warning::UnreadHistory { history });
                }
                keyring.add(source, limits).map_err(SourceError::from)?;
            }
        }
        for source in self.of_dockerfiles(exports)? {
            keyring.add(source, limits).map_err(SourceError::from)?;
        }
        self.check()?;
        keyring.read_layouts(exports)?;
        for export in exports {
            keyring.add_scanners(&BaseImage::in_layout(&export.layout)?);
        }
        self.check()?;
        for error in &keyring.read_beside(exports) {
            self.warn(Warning::KeySource { error });
        }
        for source in keyring.sources().iter().filter(|source| source.signed) {
            self.warn(Warning::Signature { source: &source.description });
        }
        Ok(keyring)
    }

    /// Reads the Dockerfiles.
    fn of_dockerfiles(&self, exports: &[CacheExport]) -> Result<Vec<KeySource>, PrepareError> {
        if self.dockerfiles.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = Vec::new();
        for image in &self.images {
            self.check()?;
            known.extend(BaseImage::read(image, &self.limits)?);
        }
        for export in exports {
            known.extend(BaseImage::in_layout(&export.layout)?);
        }
        let mut sources = Vec::new();
        for file in &self.dockerfiles {
            self.check()?;
            let mut file = file.clone();
            file.frontend =
                self.exporter.map(|target| Frontend::of(target.version())).or(file.frontend);
            for source in file.read(&known, &self.limits)? {
                for error in &source.refused {
                    self.warn(Warning::Dockerfile { source: &source.description, error });
                }
                sources.push(source);
            }
        }
        Ok(sources)
    }

    /// Warns of what the plan is not.
    fn warn_of(&self, plan: &Plan) {
        let shortfalls = plan.shortfalls();
        if !shortfalls.is_empty() {
            self.warn(Warning::Incomplete { shortfalls: &shortfalls });
        }
        if plan.target.is_presumed() {
            self.warn(Warning::PresumedRelease { target: plan.target });
        }
        let results = plan.steps.iter().flat_map(|step| &step.results);
        let dates = results.filter_map(|result| result.created_at);
        let is_late = |date: &Time| self.now.is_some_and(|now| is_ahead(*date, now));
        let ahead: Vec<_> = dates.filter(is_late).collect();
        if let Some(&latest) = ahead.iter().max() {
            self.warn(Warning::DatedAhead { results: ahead.len(), latest });
        }
    }

    fn warn(&self, warning: Warning<'_>) {
        self.progress.event(Event::Warning(warning));
    }

    fn stage(&self, stage: Stage) -> impl FnOnce() {
        progress::stage(&*self.progress, stage)
    }

    fn check(&self) -> Result<(), PrepareError> {
        self.cancel.check(PrepareError::Cancelled)
    }
}

/// Adds the existing layers of base images: manifest and config are useful alone, too.
fn add_layers_there(
    plan: &mut Plan,
    images: &[BaseImage],
    platforms: &[Platform],
) -> Result<(), PrepareError> {
    for (image, platform) in
        images.iter().flat_map(|image| platforms.iter().map(move |p| (image, p)))
    {
        match image.whole(platform) {
            Ok(whole) => plan.add_layers(&whole)?,
            // An image store has only whole images.
            Err(
                ImageError::NoPlatform { .. }
                | ImageError::NoManifest { .. }
                | ImageError::NoLayer { .. },
            ) if image.name.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Default for Preparer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Preparer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, images, platforms, target, exporter, now, limits, .. } = self;
        f.debug_struct("Preparer")
            .field("keys", keys)
            .field("images", images)
            .field("platforms", platforms)
            .field("target", target)
            .field("exporter", exporter)
            .field("now", now)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

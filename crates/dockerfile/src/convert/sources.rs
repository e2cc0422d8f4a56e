//! What steps build on and take files from: stages, images, named contexts.

use std::collections::{BTreeSet, HashMap};

use llb::Platform;

use super::Converter;
use super::graph::Vertex;
use super::stage::State;
use crate::error::Reason;
use crate::image::ImageConfig;
use crate::path;
use crate::reference::Reference;

/// The name of the empty image.
pub(super) const SCRATCH: &str = "scratch";

/// All stages, and what else files are taken from, in the order in which BuildKit numbers them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    list: Vec<Slot>,
    /// The last stage of each name, in lower case.
    names: HashMap<String, SlotIndex>,
}

/// An index of a slot. Those of stages are their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotIndex(pub(super) usize);

/// A stage or another source.
#[derive(Debug)]
enum Slot {
    /// A stage that is not converted yet.
    Pending,
    /// A stage with all that it passes on.
    Stage(Box<State>),
    /// An image, or nothing.
    Other(Option<Vertex>),
    /// A named context that is a directory. Two of one name are the same if they load the same paths.
    Directory(String),
    /// An image whose name is none.
    Invalid(String),
}

impl Slots {
    pub(super) fn push_stage(&mut self, name: Option<&str>) -> SlotIndex {
        let index = SlotIndex(self.list.len());
        self.list.push(Slot::Pending);
        if let Some(name) = name {
            self.names.insert(name.to_owned(), index);
        }
        index
    }

    /// Returns the stage that `FROM name` means so far.
    pub(super) fn stage_named(&self, name: &str) -> Option<SlotIndex> {
        self.names.get(name).copied()
    }

    pub(super) fn finish(&mut self, index: SlotIndex, state: State) {
        if let Some(slot) = self.list.get_mut(index.0) {
            *slot = Slot::Stage(Box::new(state));
        }
    }

    /// Returns a converted stage.
    pub(super) fn state(&self, index: SlotIndex) -> Option<&State> {
        match self.list.get(index.0)? {
            Slot::Stage(state) => Some(state),
            _ => None,
        }
    }
}

/// What a named context is.
pub(super) enum Context<'a> {
    Scratch,
    /// An image.
    Image {
        reference: String,
        config: Option<&'a ImageConfig>,
    },
    /// A directory.
    Directory,
    /// A repository, a URL.
    Files,
}

impl<'a> Converter<'a> {
    /// Returns the source that `--from` of a COPY names: a number, a stage, or an image (`toCommand`).
    pub(super) fn copy_source(&mut self, from: &str) -> Result<SlotIndex, Reason> {
        // Go's Atoi.
        match crate::value::signed(from) {
            None => Ok(self.source_named(from)),
            Some(index) => {
                let slot = usize::try_from(index).ok().filter(|&slot| slot < self.slots.list.len());
                slot.map(SlotIndex).ok_or(Reason::StageIndex { index })
            }
        }
    }

    /// Returns the source that a mount names; nothing for one that names none.
    pub(super) fn mount_source(&mut self, from: &str) -> SlotIndex {
        self.source_named(if from.is_empty() { SCRATCH } else { from })
    }

    fn source_named(&mut self, name: &str) -> SlotIndex {
        if let Some(index) = self.slots.stage_named(&name.to_lowercase()) {
            return index;
        }
        let slot = match name {
            SCRATCH => Slot::Other(None),
            name => match Reference::parse(name) {
                Some(reference) => self.image_slot(&reference.tagged()),
                None => Slot::Invalid(name.chars().take(100).collect()),
            },
        };
        self.slots.list.push(slot);
        SlotIndex(self.slots.list.len() - 1)
    }

    /// Returns an image for the target platform, or what takes its place.
    fn image_slot(&mut self, name: &str) -> Slot {
        let platform = self.options.platform.clone();
        match self.context(name, &platform) {
            Some(Context::Directory) => Slot::Directory(name.to_owned()),
            Some(context) => Slot::Other(self.context_files(name, &context, &platform)),
            None if self.images.get(name, &platform).is_some_and(|config| config.is_empty) => {
                Slot::Other(None)
            }
            None => Slot::Other(Some(self.image(name, &platform))),
        }
    }

    /// Returns the files of a source, of which `paths` are taken. `name` is how it was named.
    pub(super) fn files<'p>(
        &mut self,
        index: SlotIndex,
        name: &str,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<Option<Vertex>, Reason> {
        match self.slots.list.get(index.0) {
            Some(Slot::Stage(state)) => Ok(state.files),
            Some(Slot::Other(vertex)) => Ok(*vertex),
            Some(Slot::Directory(name)) => {
                let mut paths: BTreeSet<String> =
                    paths.map(|path| path::join(&["/", path])).collect();
                if paths.contains("/") {
                    paths.clear();
                }
                Ok(Some(
                    self.graph
                        .source(format!("context:{name} {paths:?}"), &format!("local://{name}")),
                ))
            }
            Some(Slot::Invalid(name)) => Err(Reason::Reference { name: name.clone() }),
            Some(Slot::Pending) | None => {
                Err(Reason::LaterStage { name: name.chars().take(100).collect() })
            }
        }
    }

    /// Returns the vertex of an image, which frontends name by its digest, too. Platforms count as they are written:
    /// `arm64/v8` is not `arm64`.
    pub(super) fn image(&mut self, tagged: &str, platform: &Platform) -> Vertex {
        let digest = if tagged.contains('@') { "" } else { "@resolved" };
        let identifier = format!("docker-image://{tagged}");
        self.graph.source(format!("{identifier}{digest} {platform}"), &identifier)
    }

    /// Returns the vertex of an image that is named as it was given.
    fn named_image(&mut self, name: &str, platform: &Platform) -> Vertex {
        let identifier = format!("docker-image://{name}");
        self.graph.source(format!("{identifier} {platform}"), &identifier)
    }

    /// Returns the vertex of the build context.
    pub(super) fn main_context(&mut self) -> Vertex {
        self.graph.source("local://context".to_owned(), "local://context")
    }

    /// Returns the named context that takes the place of a stage or an image (`NamedContext` in
    /// `dockerui/config.go`).
    pub(super) fn context(&self, name: &str, platform: &Platform) -> Option<Context<'a>> {
        if self.options.contexts.is_empty()
            || name.eq_ignore_ascii_case(SCRATCH)
            || name.eq_ignore_ascii_case("context")
        {
            return None;
        }
        let name = Reference::parse(name)?.familiar();
        let platform = platform.normalized();
        let contexts = &self.options.contexts;
        let value = contexts.get(&format!("{name}::{platform}")).or_else(|| contexts.get(&name))?;
        let Some(image) = value.strip_prefix("docker-image:") else {
            // A layout, or the result of another build, has a config, which is given by the context's name.
            let has_config =
                ["oci-layout:", "input:", "target:"].iter().any(|kind| value.starts_with(kind));
            let config = self.images.get(&name, &platform);
            return Some(match has_config {
                true => Context::Image { reference: value.clone(), config },
                false if value.starts_with("local:") => Context::Directory,
                false => Context::Files,
            });
        };
        let image = image.strip_prefix("//").unwrap_or(image);
        if image == SCRATCH {
            return Some(Context::Scratch);
        }
        let reference = Reference::parse(image)?.tagged();
        let config = self.images.get(&reference, &platform);
        Some(Context::Image { reference, config })
    }

    /// Returns the files of a named context.
    pub(super) fn context_files(
        &mut self,
        name: &str,
        context: &Context<'_>,
        platform: &Platform,
    ) -> Option<Vertex> {
        match context {
            Context::Scratch => None,
            // It is named as it was given, so it is not the same as the image behind FROM.
            Context::Image { reference, .. } => Some(self.named_image(reference, platform)),
            // A stage takes all of it, or so it is assumed: what other stages take of it counts, too.
            Context::Directory => {
                let all = BTreeSet::<String>::new();
                Some(
                    self.graph
                        .source(format!("context:{name} {all:?}"), &format!("local://{name}")),
                )
            }
            Context::Files => {
                Some(self.graph.source(format!("context:{name}"), &format!("context:{name}")))
            }
        }
    }
}

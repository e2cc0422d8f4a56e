//! Hints about what to do when the command fails.
//!
//! The errors of the libraries tell what is wrong. The advice in terms of this command, or of the other
//! programs of a build, is here. It depends on the variant of the error and never on its text. It is printed
//! on separate lines after the error.

mod input;
mod root;
mod source;

use bkstate::Classified;
use oci2bk::text;

use crate::failure::{Failure, KnownDockerfile};

pub(crate) use input::{ELSEWHERE, of_key_source};
pub(crate) use source::of_word;

/// Returns a hint about an exceeded limit.
pub(crate) fn of_limit(error: &(impl Classified + ?Sized)) -> Option<String> {
    error.limit_name().map(raise)
}

/// Returns how to raise the limit with this name.
pub(crate) fn raise(name: &str) -> String {
    format!("allow for more with --limit {name}=VALUE")
}

impl Failure {
    /// Returns hints about the failure, one per line.
    pub(crate) fn hints(&self) -> Vec<String> {
        let own = match self {
            Self::Unkeyed { dockerfile, .. } => vec![
                of_dockerfile(dockerfile),
                "give the provenance of the build (mode=max), its metadata file, the exported image, a \
                 bundle of docker buildx history export, or the root or cache.db of the builder with --keys"
                    .to_owned(),
                "go on without these steps with --allow-unkeyed".to_owned(),
            ],
            Self::NoKeys => vec!["record provenance with --provenance=mode=max, and give it; or give the Dockerfile".to_owned()],
            Self::NoRelease { .. } => vec!["leave out --buildkit".to_owned()],
            Self::SizesOfRoot { .. } => vec!["leave out --sizes".to_owned()],
            Self::Word(error) => of_word(error).into_iter().collect(),
            Self::Export(error) => input::of_export(error).into_iter().collect(),
            Self::Image(error) => input::of_image(error).into_iter().collect(),
            Self::Plan(error) => input::of_plan(error).into_iter().collect(),
            Self::Keys(error) => of_key_source(error).into_iter().collect(),
            Self::Attach(error) => input::of_attach(error).into_iter().collect(),
            Self::Daemon(error) => error.hints(),
            Self::Convert(error) => root::of_convert(error).into_iter().collect(),
            Self::Verify(error) => root::of_verify(error).into_iter().collect(),
            Self::Mend(error) => root::of_mend(error).into_iter().collect(),
            Self::Root(error) => root::of_open(error).into_iter().collect(),
            Self::Usage(error) => root::of_usage(error).into_iter().collect(),
            Self::Mounts(error) | Self::MountsOfDone(error) => {
                root::of_mounts(error).into_iter().collect()
            }
            Self::Packed(error) => root::of_packed(error).into_iter().collect(),
            Self::Inspect(error) => root::of_inspect(error).into_iter().collect(),
            Self::Place(error) => input::of_place(error).into_iter().collect(),
            Self::Damaged { limits, .. } => limits.iter().map(|name| raise(name)).collect(),
            Self::Sparse(error) => input::of_sparse(error).into_iter().collect(),
            // The conversion itself succeeded, so the class does not matter.
            Self::SparseOfDone(error) => {
                input::of_sparse(error).into_iter().chain(of_limit(error)).collect()
            }
            _ => Vec::new(),
        };
        let limit = self.about().limit_name.map(raise);
        own.into_iter().chain(limit).collect()
    }
}

/// Returns how a Dockerfile can have the missing keys.
fn of_dockerfile(dockerfile: &KnownDockerfile) -> String {
    match dockerfile {
        KnownDockerfile::Given => "give what else the build of the Dockerfile had: configs of base images with \
                                   --image-config, build arguments with --build-arg, other options with --opt"
            .to_owned(),
        KnownDockerfile::Found(path) => {
            format!("if the cache is that of the Dockerfile beside it, add --dockerfile {}", text::path(path))
        }
        KnownDockerfile::None => "give the Dockerfile of the build with --dockerfile".to_owned(),
    }
}

/// Returns a hint in the form to follow a warning.
pub(crate) fn behind(hint: Option<String>) -> String {
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

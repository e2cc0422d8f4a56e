//! A Dockerfile as a key source, and what is known of its build.

use std::path::PathBuf;

use clap::Args;
use oci2bk::keys::{DockerfileKeys, ImageConfigPath};
use oci2bk::llb::Platform;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DockerfileArguments {
    /// Compute op digests from the Dockerfile FILE, without any document of the build
    ///
    /// FILE is a Dockerfile, or what docker buildx bake --print printed. Every stage counts. What is not known of the
    /// build is tried: all releases of the frontend, and without --platform all platforms. Steps may be missing
    /// that depend on a build argument without a default, or on the config of a base image: see --build-arg and
    /// --image-config. Configs of images with a name inside SRC, and of --image, are used anyway.
    #[arg(long = "dockerfile", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Set a build argument, as for docker buildx build
    ///
    /// Without a value, it is that of the environment variable NAME, if it is set.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", requires = "files")]
    build_args: Vec<String>,

    /// The stage that was built
    ///
    /// Only steps of a stage that declares ARG TARGETSTAGE depend on it.
    #[arg(long = "target", value_name = "NAME", requires = "files")]
    target: Option<String>,

    /// The config of a base image
    ///
    /// FILE is what skopeo inspect --config or docker buildx imagetools inspect --format '{{json .Image}}' prints, for one
    /// platform, or a layout with the image. NAME is the name behind FROM; without a tag, it counts for all tags. An
    /// image whose environment has only the default PATH, and that sets no user or directory, needs none.
    #[arg(long = "image-config", value_name = "NAME[@PLATFORM]=FILE", requires = "files")]
    image_configs: Vec<ImageConfigPath>,

    /// Set any other option of the frontend, such as force-network-mode=none
    ///
    /// As for buildctl build --opt. Those that change steps are add-hosts, cgroup-parent, context:NAME,
    /// force-network-mode, hostname, shm-size and ulimit; others are ignored.
    #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = option, requires = "files")]
    options: Vec<(String, String)>,
}

/// The same, for a command that takes no images.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DockerfileBuildArguments {
    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArguments,

    /// The platforms of the build, such as linux/arm64 [default: all]
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',', requires = "files")]
    platforms: Vec<Platform>,
}

impl DockerfileArguments {
    /// Returns the key sources. The platforms are those of the build; without any, all are tried.
    pub(crate) fn sources(&self, platforms: &[Platform]) -> Vec<DockerfileKeys> {
        let argument = |word: &String| {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (&**word, std::env::var(word).ok()?),
            };
            Some((format!("build-arg:{name}"), value))
        };
        let mut options: Vec<_> = self.build_args.iter().filter_map(argument).collect();
        options.extend(self.target.iter().map(|target| ("target".to_owned(), target.clone())));
        options.extend(self.options.iter().cloned());
        let source = |path: &PathBuf| {
            let mut source = DockerfileKeys::new(path);
            source.options.clone_from(&options);
            source.platforms = platforms.to_vec();
            source.images.clone_from(&self.image_configs);
            source
        };
        self.files.iter().map(source).collect()
    }
}

impl DockerfileBuildArguments {
    /// Returns the key sources.
    pub(crate) fn sources(&self) -> Vec<DockerfileKeys> {
        self.dockerfile.sources(&self.platforms)
    }
}

fn option(word: &str) -> Result<(String, String), String> {
    let (key, value) = word.split_once('=').ok_or("it has the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

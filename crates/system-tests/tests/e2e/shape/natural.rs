//! Every kind of record, made by a real daemon.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testkit::protobuf::Message;

use super::Shape;
use super::read::{Origin, files, read};
use crate::build::{Options, Source};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::ops::file::file_in;
use crate::ops::graph::{Graph, Kind};
use crate::process::{run, run_with_input};
use crate::proof::GARBAGE_COLLECTED;
use crate::world::World;

/// A step of each kind whose record differs, and the kinds of cache mounts.
const CASE: Case = Case {
    name: "shape",
    dockerfile: || DOCKERFILE.into(),
    context: |context| {
        context.file("src/a", "a\n");
        context.file("src/b", "b\n");
    },
    edit: |context| drop(context.file("src/a", "edited\n")),
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

const DOCKERFILE: &str = "
FROM {registry}/busybox AS base
FROM base
WORKDIR /work
COPY src/a a
RUN cat a > b
COPY --link src/b /linked/b
RUN --mount=type=cache,target=/cache echo 1 > /cache/z && cp /cache/z cached
RUN --mount=type=cache,target=/owned,uid=1000,gid=1000 ls -ld /owned > owned
RUN --mount=type=cache,target=/from,from=base,source=/bin ls /from > from
";

/// A daemon's states and the states converted from its export.
pub(super) struct Made {
    pub(super) natural: Shape,
    pub(super) converted: Shape,
}

/// Makes the states of the release of `world`: of a daemon that pulls, builds and exports, and of one that
/// imports.
pub(super) fn make(world: &World) -> Result<Made> {
    // Files that not every release can write are not part of the shape.
    let mut release = world.release.clone();
    release.tools.saves_cache_debug = false;
    let dir = tempfile::Builder::new().prefix("shape").tempdir_in(world.scratch())?;
    let context = dir.path().join("context");
    let files = Context::create(&context);
    files.file("Dockerfile", world.fill_in(&(CASE.dockerfile)()));
    (CASE.context)(&files);
    let source = Source { case: &CASE, context: &context };
    let bench = Bench { world: world.on(release), dir: dir.path(), source };
    let image = bench.push_image().context("an image of its own")?;
    let mut natural = bench.first(&image).context("the first daemon")?;
    natural.merge(bench.second(&image, &files).context("the importing daemon")?);
    let mut converted = Shape::default();
    for extract in [true, false] {
        converted.merge(bench.convert(extract).context("the conversion")?);
    }
    Ok(Made { natural, converted })
}

struct Bench<'a> {
    world: World,
    dir: &'a Path,
    source: Source<'a>,
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Pushes an image with unique layers.
    fn push_image(&self) -> Result<String> {
        let digits = self.world.release.version.replace(['v', '.'], "");
        let image = format!("{}/shape/{digits}", self.world.registry());
        let context = Context::create(&self.path("image"));
        context.file("only", format!("only in {image}\n"));
        let daemon = self.world.start(&self.path("pusher"))?;
        let output = format!("type=image,name={image},push=true,oci-mediatypes=true");
        build(
            &daemon,
            context,
            "FROM scratch\nCOPY only /\nCOPY only /twice\n",
            &["--output", &output],
        )?;
        daemon.stop()?;
        Ok(image)
    }

    /// Pulls, runs, links, merges, takes differences and exports all of it.
    fn first(&self, image: &str) -> Result<Shape> {
        let daemon = self.start("first")?;
        let (cache, keys) = (self.path("cache"), self.path("keys"));
        self.source.make(&self.world.tools, &daemon, &cache, &keys)?;
        self.merge_and_diff(&daemon, Some(&self.path("graph")))?;
        build(&daemon, Context::create(&self.path("lazy")), &format!("FROM {image}\n"), &[])?;
        self.settle_and_read(daemon)
    }

    /// Imports, unpacks the layers below an edited step, and pulls an image that it does not unpack.
    fn second(&self, image: &str, files: &Context) -> Result<Shape> {
        let daemon = self.start("second")?;
        let cache = self.path("cache");
        self.source.build(&daemon, &Options { import: Some(&cache), ..Options::default() })?;
        (CASE.edit)(files);
        self.source.build(&daemon, &Options::default())?;
        self.merge_and_diff(&daemon, None)?;
        let context = Context::create(&self.path("packed"));
        let output = format!("type=oci,tar=false,dest={}", self.path("packed-image").display());
        build(&daemon, context, &format!("FROM {image}\n"), &["--output", &output])?;
        self.settle_and_read(daemon)
    }

    fn convert(&self, extract: bool) -> Result<Shape> {
        let root = self.path(if extract { "converted" } else { "packed-root" });
        let mut command = Command::new(&self.world.tools.oci2bk);
        command.args(["convert", "--progress=quiet", "--buildkit", &self.world.release.version]);
        if !extract {
            command.arg("--no-extract");
        }
        let keys = self.path("keys").join("provenance.json");
        run(command.arg("--keys").args([&keys, &self.path("cache"), &root]))?;
        read(&self.world.tools, &root, Origin::Conversion)
    }

    /// Makes a difference that is one layer of its input, one that is more, and a merge of both, exported to
    /// a directory or not.
    fn merge_and_diff(&self, daemon: &Daemon, export: Option<&Path>) -> Result<()> {
        let mut graph = Graph::default();
        let image = format!("docker-image://{}/busybox:latest", self.world.registry());
        let base = graph.add_one(&[], Kind::Source, Message::new().text(1, image));
        let one = graph.add_one(std::slice::from_ref(&base), Kind::File, file_in(0, "/one", b"1"));
        let two = graph.add_one(std::slice::from_ref(&one), Kind::File, file_in(0, "/two", b"2"));
        let input = |index| Message::new().int(1, index);
        let difference = || Message::new().message(1, input(0)).message(2, input(1));
        let layer = graph.add_one(&[base.clone(), one], Kind::Diff, difference());
        let layers = graph.add_one(&[base.clone(), two], Kind::Diff, difference());
        let merge = Message::new().messages(1, (0..3).map(input));
        let merged = graph.add_one(&[base, layer, layers], Kind::Merge, merge);
        let definition = self.path("definition");
        std::fs::write(&definition, graph.definition(&merged))?;
        let mut command = daemon.buildctl();
        command.args(["build", "--progress=plain"]);
        if let Some(dir) = export {
            let dir = dir.display();
            command.args(["--export-cache", &format!("type=local,dest={dir},mode=max")]);
        }
        run_with_input(&mut command, File::open(definition)?).map(drop)
    }

    fn start(&self, root: &str) -> Result<Daemon> {
        self.world.start(&self.path(root))
    }

    /// Stops a daemon that has finished its work after a build, and knows all sizes.
    fn settle_and_read(&self, daemon: Daemon) -> Result<Shape> {
        std::thread::sleep(GARBAGE_COLLECTED);
        daemon.du()?;
        let root = daemon.root().to_owned();
        // Some files exist only while it runs.
        let mut shape = files(&root)?;
        daemon.stop()?;
        shape.merge(read(&self.world.tools, &root, Origin::Daemon)?);
        Ok(shape)
    }
}

/// Builds a Dockerfile in a context.
fn build(daemon: &Daemon, context: Context, dockerfile: &str, arguments: &[&str]) -> Result<()> {
    context.file("Dockerfile", dockerfile);
    run(daemon
        .buildctl()
        .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
        .arg(format!("--local=context={}", context.dir().display()))
        .arg(format!("--local=dockerfile={}", context.dir().display()))
        .args(arguments))
    .map(drop)
}

//! A build from an image given by digest, without the registry.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Options, Source};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::process::run;
use crate::proof::GARBAGE_COLLECTED;
use crate::proof::ensure_same_steps;
use crate::registry::Registry;
use crate::state;
use crate::world::World;

pub(crate) const CASE: Case = Case {
    name: "offline",
    dockerfile: String::new,
    context: |_| {},
    edit: |_| {},
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

pub(crate) const BASE: &str =
    "FROM {registry}/busybox\nRUN mkdir /base && echo base > /base/file\n";

/// `{image}` is the base by its digest, `{other}` an image that is only copied.
const DOCKERFILE: &str = "
FROM {image} AS made
RUN mkdir /made && cp /base/file /made/file
FROM scratch AS scratch-dir
WORKDIR /deep/dir
COPY a ./
FROM {image}
COPY a /a
RUN cat /a /base/file > /b
COPY --from=made /made /made
COPY --from=scratch-dir /deep /deep
COPY --from={other} /etc/passwd /other
";

/// With its base images seeded, a converted state builds without a registry, as the first daemon's own state
/// does; without them, it does not.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("offline").tempdir_in(world.scratch())?;
    let dir = dir.path();
    let registry = Registry::start(&world.tools, dir)?;
    let address = registry.address().to_owned();
    let start = |root: &str| Daemon::start(&world.tools, &dir.join(root), &[&address]);
    let context = Context::create(&dir.join("context"));
    let source = Source { case: &CASE, context: context.dir() };

    let (base, other) = (format!("{address}/team/base"), format!("{address}/other"));
    let daemon = world.start(&dir.join("pusher"))?;
    context.file("Dockerfile", world.fill_in(BASE));
    let base_digest = push(&daemon, &source, &base, &dir.join("base"), "")?;
    context.file("Dockerfile", world.fill_in("FROM {registry}/busybox\n"));
    let name = format!(",name={other}:latest");
    let other_digest = push(&daemon, &source, &other, &dir.join("other"), &name)?;
    daemon.stop()?;
    let dockerfile = DOCKERFILE
        .replace("{image}", &format!("{base}@{base_digest}"))
        .replace("{other}", &format!("{other}@{other_digest}"));
    context.file("Dockerfile", dockerfile);
    context.file("a", "a\n");

    let cache = dir.join("cache");
    let daemon = start("first")?;
    let keys = source.make(&world.tools, &daemon, &cache, &dir.join("keys"))?;
    let keys = keys.context("the case has a file with keys")?;
    daemon.stop()?;
    drop(registry);
    let daemon = start("first")?;
    let warm = source.build(&daemon, &Options::default()).context("the first daemon, offline")?;
    context.file("a", "edited\n");
    let edited = source.build(&daemon, &Options::default())?;
    daemon.stop()?;
    context.file("a", "a\n");

    let convert = |root: &Path, images: &[String]| -> Result<()> {
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=quiet"]).arg("--keys").arg(&keys);
        run(command.args(images).arg(&cache).arg(root))?;
        state::ensure_sound(&world.tools, root)
    };
    convert(&dir.join("without"), &[])?;
    let daemon = start("without")?;
    let refused = source.build(&daemon, &Options::default());
    ensure!(refused.is_err(), "the build needs no registry even without the images");
    daemon.stop()?;

    let second = dir.join("second");
    // The second layout has the image's name.
    let images = [
        format!("--image={base}={}", dir.join("base").display()),
        format!("--image={}", dir.join("other").display()),
    ];
    convert(&second, &images)?;
    let daemon = start("second")?;
    ensure_same_steps(CASE.keys, &warm, &source.build(&daemon, &Options::default())?)?;
    daemon.stop()?;
    // Also after a start and its garbage collection.
    let daemon = start("second")?;
    std::thread::sleep(GARBAGE_COLLECTED);
    context.file("a", "edited\n");
    let again = source.build(&daemon, &Options::default())?;
    ensure_same_steps(CASE.keys, &edited, &again).context("after the edit")?;
    for step in ["WORKDIR /deep/dir", &base, &other] {
        let cached = edited.cached(CASE.keys).iter().any(|name| name.contains(step));
        ensure!(cached, "the first daemon does not report {step} as cached, so nothing is proved");
    }
    again.ensure_nothing_imported(|_| false)?;
    daemon.prune_all()?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &second)?;
    let blobs = state::blob_files(&second)?;
    ensure!(blobs.iter().all(|blob| !base_digest.ends_with(blob)), "pruning leaves the image");
    Ok(())
}

/// Builds an image, pushes it, also writes it into a layout, and returns the digest of its manifest.
pub(crate) fn push(
    daemon: &Daemon,
    source: &Source<'_>,
    repository: &str,
    layout: &Path,
    attributes: &str,
) -> Result<String> {
    // Earlier releases push Docker's media types unless they are told to: another manifest than that in the layout.
    let types = "oci-mediatypes=true";
    let output = Some(format!("type=image,name={repository},push=true,{types}"));
    source.build(daemon, &Options { output, ..Options::default() })?;
    let output = Some(format!("type=oci,tar=false,dest={}{attributes}", layout.display()));
    source.build(daemon, &Options { output, ..Options::default() })?;
    let index: Value = serde_json::from_str(&std::fs::read_to_string(layout.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str().context("the layout has no image")?;
    Ok(digest.to_owned())
}

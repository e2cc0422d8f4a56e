//! Other forms than one separate cache in a directory: inline caches, and several caches at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::build::{Options, Report, Source, buildx, file_of};
use crate::case::{Case, Context, Export, Keys};
use crate::process::{run, run_with_input};
use crate::proof::ensure_same_steps;
use crate::state::{self, State};
use crate::world::World;

/// Images exported with an inline cache.
pub(crate) const INLINE: &[Case] = &[
    inline_case("inline", || ORDINARY.into(), &["--export-cache=type=inline"]),
    inline_case(
        "inline-platforms",
        || PLATFORMS.into(),
        &["--export-cache=type=inline", "--opt", "platform=linux/amd64,linux/arm64"],
    ),
];

const fn inline_case(
    name: &'static str,
    dockerfile: fn() -> String,
    arguments: &'static [&'static str],
) -> Case {
    Case {
        name,
        dockerfile,
        context,
        edit: |context| drop(context.file("b", "edited\n")),
        arguments,
        export: Export::MAX,
        keys: Keys::Inside,
    }
}

/// The order of the image's layers differs from the build's: `COPY --link`.
const ORDINARY: &str = r#"
FROM {registry}/busybox AS build
COPY a /src/a
RUN mkdir -p /out && cp /src/a /out/made
FROM {registry}/busybox
RUN mkdir /first
ENV NAME=value
COPY --link a /linked/a
COPY --from=build --link /out /out
COPY b /b
RUN cat /out/made /b > /final
"#;

const PLATFORMS: &str = r#"
FROM --platform=$BUILDPLATFORM {registry}/busybox AS native
ARG TARGETARCH
RUN echo "built for $TARGETARCH" > /target
FROM scratch
COPY --from=native /bin/busybox /bin/sh
COPY --from=native /target /target
COPY b /b
COPY a /a
"#;

fn context(context: &Context) {
    context.file("a", "a\n");
    context.file("b", "b\n");
}

/// An image with an inline cache, in BuildKit's own archive, makes a state as warm as the daemon that imports
/// the cache.
pub(crate) fn prove_inline(world: &World, case: &Case) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(case.name).tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let archive = path("image.tar");
    let contexts = [false, true].map(|edited| write_source(world, case, dir.path(), edited));
    let [source, edited] = contexts.each_ref().map(|context| Source { case, context });

    let daemon = world.start(&path("first"))?;
    let output = Some(format!("type=oci,name=app:latest,dest={}", archive.display()));
    source.build(&daemon, &Options { output, provenance: "mode=max", ..Options::default() })?;
    daemon.stop()?;

    let layout = path("layout");
    std::fs::create_dir(&layout)?;
    run(Command::new("tar").arg("-C").arg(&layout).arg("-xf").arg(&archive))?;
    let daemon = world.start(&path("importer"))?;
    let import = Some(&*layout);
    let imported = source.build(&daemon, &Options { import, ..Options::default() })?;
    let imported_edited = edited.build(&daemon, &Options { import, ..Options::default() })?;
    daemon.stop()?;

    let mut words = vec![format!("oci-archive:{}:latest", archive.display())];
    if !case.arguments.iter().any(|argument| argument.starts_with("platform=")) {
        // As `docker save` writes it, with one platform.
        let saved = format!("docker-archive:{}:app:latest", path("saved.tar").display());
        run(Command::new(world.tools.copier("skopeo")).args([
            "--insecure-policy",
            "copy",
            &words[0],
            &saved,
        ]))?;
        words.push(saved);
    }
    for (number, word) in words.iter().enumerate() {
        let root = path(&format!("root-{number}"));
        run(Command::new(&world.tools.oci2bk)
            .args(["convert", "--progress=plain"])
            // Skopeo copies the image alone, without its provenance.
            .arg(format!("--keys={}", archive.display()))
            .arg(word)
            .arg(&root))?;
        state::ensure_sound(&world.tools, &root)?;
        let daemon = world.start(&root)?;
        let warm = source.build(&daemon, &Options::default())?;
        // A daemon that imports has no results of steps without inputs.
        ensure_same_steps(Keys::Donor, &imported, &warm)?;
        warm.ensure_nothing_imported(|_| false)?;
        let warm = edited.build(&daemon, &Options::default())?;
        ensure_same_steps(Keys::Donor, &imported_edited, &warm).context("after the edit")?;
        warm.ensure_nothing_imported(|_| false).context("after the edit")?;
        daemon.prune_all()?;
        let records = daemon.du()?;
        ensure!(records.is_empty(), "prune --all leaves the records {records:?}");
        daemon.stop()?;
        state::ensure_sound(&world.tools, &root).with_context(|| word.clone())?;
    }
    Ok(())
}

/// The same stages in two branches of a Dockerfile.
const BRANCHES: [Case; 2] = [
    branch("branch-a", || SHARED.to_owned() + "COPY a /a\nRUN cat /shared /a > /final\n"),
    branch("branch-b", || SHARED.to_owned() + "RUN tr a-z A-Z < /shared > /final\nCOPY b /b\n"),
];

const SHARED: &str = "
FROM {registry}/busybox AS base
COPY b /shared
RUN mkdir /layers && cp /shared /layers/1
FROM base
";

const fn branch(name: &'static str, dockerfile: fn() -> String) -> Case {
    Case {
        name,
        dockerfile,
        context,
        edit: |_| {},
        arguments: &[],
        export: Export::MAX,
        keys: Keys::Provenance,
    }
}

/// Two caches with common stages make one state in which both builds are cached, and the common part is
/// stored once.
pub(crate) fn prove_branches(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("branches").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let contexts = BRANCHES.map(|case| write_source(world, &case, &path(case.name), false));
    let build = |daemon: &_, number: usize| -> Result<Report> {
        let source = Source { case: &BRANCHES[number], context: &contexts[number] };
        source.build(daemon, &Options::default())
    };

    let daemon = world.start(&path("first"))?;
    let mut made = Vec::new();
    for (case, context) in BRANCHES.iter().zip(&contexts) {
        let [cache, keys] = ["cache", "keys"].map(|name| path(case.name).join(name));
        let keys = Source { case, context }.make(&world.tools, &daemon, &cache, &keys)?;
        made.push((cache, keys.context("keys")?));
    }
    let expected = [build(&daemon, 0)?, build(&daemon, 1)?];
    daemon.stop()?;

    let convert = |name: &str, made: &[(PathBuf, PathBuf)]| -> Result<State> {
        let root = path(name);
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=plain"]);
        let keys = made.iter().flat_map(|(_, keys)| [Path::new("--keys"), keys]);
        command.args(keys).args(made.iter().map(|(cache, _)| cache));
        run(command.arg(&root))?;
        state::ensure_sound(&world.tools, &root)?;
        State::read(&world.tools, &root)
    };
    let [a, b] = [convert("a", &made[..1])?, convert("b", &made[1..])?];
    let both = convert("both", &made)?;
    let (a, b) = (a.records(), b.records());
    ensure!(a.intersection(&b).next().is_some(), "the branches share no layer");
    ensure!(both.records() == &a | &b, "{:?} is not {a:?} and {b:?}", both.records());

    let daemon = world.start(&path("both"))?;
    ensure!(daemon.du()? == both.records(), "du lists {:?}", daemon.du()?);
    for (number, expected) in expected.iter().enumerate() {
        let warm = build(&daemon, number)?;
        ensure_same_steps(BRANCHES[number].keys, expected, &warm)
            .with_context(|| BRANCHES[number].name)?;
        warm.ensure_nothing_imported(|_| false)?;
    }
    daemon.stop()?;
    state::ensure_sound(&world.tools, &path("both"))
}

/// A cache that BuildKit exports to a registry and skopeo copies into an archive makes a state in which the
/// build is cached as on the first daemon, with keys that buildx prints for the image in the registry into a
/// pipe.
pub(crate) fn prove_registry(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("registry").tempdir_in(world.scratch())?;
    let path = |name: &str| dir.path().join(name);
    let [case, _] = BRANCHES;
    let context = write_source(world, &case, dir.path(), false);
    let source = Source { case: &case, context: &context };
    let name = format!("{}/shapes/registry:latest", world.registry());

    let daemon = world.start(&path("first"))?;
    let export_to = Some(format!("type=registry,ref={name},mode=max"));
    let image = format!("{}/shapes/image:latest", world.registry());
    let output = Some(format!("type=image,name={image},push=true"));
    let provenance = "mode=max";
    source.build(&daemon, &Options { export_to, output, provenance, ..Options::default() })?;
    let expected = source.build(&daemon, &Options::default())?;
    daemon.stop()?;

    let archive = format!("oci-archive:{}:cache", path("cache.tar").display());
    run(Command::new(world.tools.copier("skopeo"))
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .arg(format!("docker://{name}"))
        .arg(&archive))?;
    let printed = run(buildx(&world.tools, &path("buildx"))
        .args(["imagetools", "inspect", "--format", "{{json .Provenance}}"])
        .arg(image))?;
    let root = path("second");
    let mut convert = Command::new(&world.tools.oci2bk);
    convert.args(["convert", "--progress=plain", "--keys", "-"]).arg(archive).arg(&root);
    run_with_input(&mut convert, file_of(printed.as_bytes())?)?;
    let daemon = world.start(&root)?;
    let warm = source.build(&daemon, &Options::default())?;
    ensure_same_steps(case.keys, &expected, &warm)?;
    warm.ensure_nothing_imported(|_| false)?;
    daemon.stop()?;
    state::ensure_sound(&world.tools, &root)
}

/// Writes the context of `case` to a new directory below `dir`.
fn write_source(world: &World, case: &Case, dir: &Path, edited: bool) -> PathBuf {
    let context = Context::create(&dir.join(if edited { "edited" } else { "context" }));
    context.file("Dockerfile", world.fill_in(&(case.dockerfile)()));
    (case.context)(&context);
    if edited {
        (case.edit)(&context);
    }
    context.dir().to_owned()
}

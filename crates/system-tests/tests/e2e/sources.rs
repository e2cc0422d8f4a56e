//! The forms of SRC, and the places of caches: each makes a root on which the build is cached.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::state;
use crate::world::World;

const CASE: Case = Case {
    context: |context| drop(context.file("a", "a\n")),
    ..Case::plain("sources", || {
        "FROM {registry}/busybox\nCOPY a /a\nRUN cp /a /b && mkdir /c\nCOPY --link a /linked\n"
            .into()
    })
};

/// Archives of the layout in `cache`, and the commands that create them.
const ARCHIVES: [&str; 6] = [
    "tar -C cache -cf plain.tar .",
    "tar -C cache -czf gzip.tar.gz .",
    "tar -C cache --zstd -cf zstd.tar.zst .",
    "tar -cf below.tar cache",
    "tar -czf below.tar.gz cache",
    "tar --zstd -cf below.tar.zst cache",
];

/// SRC arguments; `{dir}` is the directory with the cache, `{digest}` its digest.
const WORDS: [&str; 17] = [
    "{dir}/cache",
    "{dir}/cache:latest",
    "{dir}/cache@{digest}",
    "{dir}/cache:latest@{digest}",
    "oci:{dir}/cache:latest@{digest}",
    "ocidir://{dir}/cache",
    "ocidir://{dir}/cache:latest",
    "oci-layout://{dir}/cache@{digest}",
    "type=local,src={dir}/cache",
    "type=local,src={dir}/cache,tag=latest",
    "type=local,src={dir}/cache,digest={digest}",
    "{dir}/plain.tar",
    "{dir}/gzip.tar.gz:latest",
    "oci-archive:{dir}/zstd.tar.zst",
    "oci-archive:{dir}/below.tar:latest",
    "{dir}/below.tar.gz@{digest}",
    "type=local,src={dir}/below.tar.zst,tag=latest",
];

/// A build with its keys, and the steps cached when it is repeated.
struct Bench<'w> {
    world: &'w World,
    dir: tempfile::TempDir,
    expected: Report,
}

impl<'w> Bench<'w> {
    /// Builds, and exports the cache to each of `places`.
    fn new(world: &'w World, places: &[String]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(CASE.name).tempdir_in(world.scratch())?;
        let context = Context::create(&dir.path().join("context"));
        context.file("Dockerfile", world.fill_in(&(CASE.dockerfile)()));
        (CASE.context)(&context);
        let source = Source { case: &CASE, context: context.dir() };
        let daemon = world.start(&dir.path().join("first"))?;
        let output = Some(format!("type=local,dest={}", dir.path().join("keys").display()));
        let export = dir.path().join("cache");
        let export = Some((&*export, ""));
        let provenance = "mode=max";
        source.build(&daemon, &Options { export, output, provenance, ..Options::default() })?;
        for place in places {
            let export_to = Some(format!("{place},mode=max"));
            source
                .build(&daemon, &Options { export_to, ..Options::default() })
                .context("export")?;
        }
        let expected = source.build(&daemon, &Options::default())?;
        daemon.stop()?;
        Ok(Self { world, dir, expected })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Checks that everything is cached on a root made from the cache that `word` names.
    fn ensure_warm(&self, word: &str, number: usize) -> Result<()> {
        let root = self.path().join(format!("root-{number}"));
        run(Command::new(&self.world.tools.oci2bk)
            .args(["convert", "--progress=plain", "--buildkit", &self.world.release.version])
            .arg("--keys")
            .arg(self.path().join("keys/provenance.json"))
            .arg(word)
            .arg(&root))?;
        let context = self.path().join("context");
        let daemon = self.world.start(&root)?;
        let warm = Source { case: &CASE, context: &context }.build(&daemon, &Options::default())?;
        ensure_same_steps(CASE.keys, &self.expected, &warm)?;
        ensure!(!warm.cached(CASE.keys).is_empty(), "nothing is cached");
        warm.ensure_nothing_imported(|_| false)?;
        daemon.stop()?;
        state::ensure_sound(&self.world.tools, &root)?;
        Ok(std::fs::remove_dir_all(&root)?)
    }
}

/// Every form of a layout on disk.
pub(crate) fn prove_forms(world: &World) -> Result<()> {
    let bench = Bench::new(world, &[])?;
    for archive in ARCHIVES {
        let mut words = archive.split(' ');
        let program = words.next().context("an empty command")?;
        run(Command::new(program).args(words).current_dir(bench.path()))?;
    }
    let index = std::fs::read(bench.path().join("cache/index.json"))?;
    let index: Value = serde_json::from_slice(&index)?;
    let digest = index["manifests"][0]["digest"].as_str().context("no digest")?;
    let dir = bench.path().display().to_string();
    for (number, word) in WORDS.iter().enumerate() {
        let word = word.replace("{dir}", &dir).replace("{digest}", digest);
        bench.ensure_warm(&word, number).with_context(|| word.clone())?;
    }
    Ok(())
}

/// The mirror of a cache that a daemon exported to S3.
pub(crate) fn prove_s3(world: &World) -> Result<()> {
    let logs = tempfile::Builder::new().prefix("s3").tempdir_in(world.scratch())?;
    let server = testkit::S3::start(&world.tools, logs.path())?;
    let s3 = server.attributes();
    let bench = Bench::new(
        world,
        &[
            s3.clone(),
            // A field with a semicolon is not quoted: there is no shell.
            format!("{s3},prefix=ci/app/,name=main;team/pr-7"),
            format!("{s3},prefix=old-,manifests_prefix=caches/,blobs_prefix=layers/"),
        ],
    )?;
    let mirror = bench.path().join("mirror");
    server.mirror(&mirror)?;
    let mirror = mirror.display();
    for (number, word) in [
        format!("{mirror}/ci"),
        format!("s3dir:{mirror}:main"),
        format!("s3dir:{mirror}:team/pr-7"),
        format!("s3dir:{mirror}/ci/app:main"),
        format!("s3dir:{mirror}:buildkit"),
        format!("s3dir:{mirror}"),
    ]
    .iter()
    .enumerate()
    {
        bench.ensure_warm(word, number).with_context(|| word.clone())?;
    }
    // With its own prefixes, and nothing else beside it.
    let alone = bench.path().join("alone");
    std::fs::create_dir(&alone)?;
    for part in ["old-caches", "old-layers"] {
        std::fs::rename(bench.path().join("mirror").join(part), alone.join(part))?;
    }
    let word = format!("s3dir:{}:old-caches/buildkit", alone.display());
    bench.ensure_warm(&word, WORDS.len()).context(word)
}

//! Builds with an SBOM: the scan is a step that no document about the build lists.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::schema;

use crate::build::{Options, Source, buildx};
use crate::case::{Case, Context, Export, Keys};
use crate::daemon::Daemon;
use crate::export::CacheExport;
use crate::offline::push;
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::state;
use crate::world::World;

const CASE: Case = Case {
    name: "sbom",
    dockerfile: String::new,
    context: |_| {},
    edit: |_| {},
    arguments: &["--opt", "platform=linux/amd64,linux/arm64"],
    export: Export::MAX,
    keys: Keys::Attestation,
};

/// A scanner that finds nothing.
const SCANNER: &str = r#"
FROM {registry}/busybox
COPY --chmod=755 <<'SCAN' /bin/scan
#!/bin/sh
set -e
echo '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{}}' \
    > "$BUILDKIT_SCAN_DESTINATION/${BUILDKIT_SCAN_SOURCE##*/}.spdx.json"
SCAN
WORKDIR /scanning
ENTRYPOINT ["/bin/scan"]
CMD ["--quiet"]
"#;

/// Each platform has its own copy to scratch: a shared step has the name that the first platform gave it.
const DOCKERFILE: &str = "
FROM --platform=$BUILDPLATFORM {registry}/busybox AS made
ARG TARGETARCH
COPY a /a
RUN cat /a > /made && echo $TARGETARCH >> /made
FROM scratch
ARG TARGETARCH
COPY a /a-$TARGETARCH
COPY --from=made /made /made
";

/// The result of a conversion.
struct Converted {
    report: Value,
    warnings: String,
}

impl Converted {
    /// Returns the names of the scanners whose scans are predicted to run again.
    fn scans(&self) -> Vec<&str> {
        let lost = self.report["lost"].as_array().into_iter().flatten();
        let scans = lost.filter(|lost| lost["reason"] == "sbom-scan");
        scans.map(|lost| lost["hint"].as_str().unwrap_or_default()).collect()
    }
}

fn convert(
    world: &World,
    keys: &Path,
    cache: &Path,
    root: &Path,
    image: &[String],
) -> Result<Converted> {
    let mut command = Command::new(&world.tools.oci2bk);
    command
        .args(["convert", "--progress=quiet", "--format=json", "--keys"])
        .arg(keys)
        .args(image)
        .args([cache, root]);
    let output = command.output()?;
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {warnings}", output.status);
    schema::ensure_output(command.get_args(), &output.stdout, &output.stderr)?;
    state::ensure_verified(&world.tools, root, true)?;
    Ok(Converted { report: serde_json::from_slice(&output.stdout)?, warnings })
}

/// A build with an SBOM, for two platforms, converts with every source of keys; with the image of the
/// scanner, the scans are cached as on the daemon that ran them.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sbom").tempdir_in(world.scratch())?;
    let dir = dir.path();
    let context = Context::create(&dir.join("context"));
    let source = Source { case: &CASE, context: context.dir() };
    let scanner = format!("{}/scanner", world.registry());
    let layout = dir.join("scanner");
    let pusher = Source { case: &Case { arguments: &[], ..CASE }, context: context.dir() };
    let daemon = world.start(&dir.join("pusher"))?;
    context.file("Dockerfile", world.fill_in(SCANNER));
    push(&daemon, &pusher, &scanner, &layout, "")?;
    daemon.stop()?;
    context.file("Dockerfile", world.fill_in(DOCKERFILE));
    context.file("a", "a\n");

    // Not beside the files with keys, which would be found.
    std::fs::create_dir(dir.join("alone"))?;
    let (cache, image) = (dir.join("alone/cache"), dir.join("image"));
    let first = dir.join("first");
    let daemon = world.start(&first)?;
    let build = |daemon: &Daemon, cache: &Path, image: &Path| {
        let output = Some(format!("type=oci,tar=false,dest={}", image.display()));
        let (export, sbom) = (Some((cache, "")), format!("generator={scanner}"));
        let provenance = "mode=max";
        source.build(daemon, &Options { export, output, provenance, sbom, ..Options::default() })
    };
    build(&daemon, &cache, &image)?;
    let warm = build(&daemon, &dir.join("again"), &dir.join("image-again"))?;
    let scans = warm.cached(CASE.keys).iter().filter(|name| name.contains("sbom")).count();
    ensure!(scans == 2, "the first daemon reports {scans} scans as cached, so nothing is proved");
    let others = with_buildx(world, &daemon, &scanner, context.dir(), dir)?;
    daemon.stop()?;

    let keys_file = dir.join("keys.json");
    run(Command::new(&world.tools.oci2bk).args(["keys", "-o"]).args([&keys_file, &image]))?;
    for (number, keys) in others.iter().chain([&image, &keys_file]).enumerate() {
        let root = dir.join(format!("without-{number}"));
        let found = convert(world, keys, &cache, &root, &[])?;
        let of_file = keys == &keys_file;
        let name = if of_file { String::new() } else { format!("{scanner}:latest") };
        ensure!(found.scans() == [&*name; 2], "{}: {:#}", keys.display(), found.report);
        ensure!(found.report["step_counts"]["unkeyed"] == 0, "{:#}", found.report);
        let by = if of_file { String::new() } else { format!(" by {name}") };
        let told = format!("the SBOM scan{by} will run again");
        ensure!(found.warnings.matches(&told).count() == 1, "{}", found.warnings);
    }

    let second = dir.join("second");
    let images = [format!("--image={scanner}={}", layout.display())];
    let found = convert(world, &image, &cache, &second, &images)?;
    ensure!(found.report["lost"].as_array().is_some_and(Vec::is_empty), "{:#}", found.report);
    ensure!(found.warnings.is_empty(), "{}", found.warnings);
    // From the builder's own root, everything is found without the image.
    let found = convert(world, &first, &cache, &dir.join("root"), &[])?;
    ensure!(found.report["lost"].as_array().is_some_and(Vec::is_empty), "{:#}", found.report);

    let daemon = world.start(&second)?;
    let again = build(&daemon, &dir.join("exported"), &dir.join("image-exported"))?;
    ensure_same_steps(CASE.keys, &warm, &again)?;
    again.ensure_nothing_imported(|_| false)?;
    daemon.stop()?;
    let export = CacheExport::open(&cache, "latest")?;
    export.ensure_same(&CacheExport::open(&dir.join("exported"), "latest")?)
}

/// Builds with buildx, and returns its metadata file and its `.dockerbuild`.
fn with_buildx(
    world: &World,
    daemon: &Daemon,
    scanner: &str,
    context: &Path,
    dir: &Path,
) -> Result<[std::path::PathBuf; 2]> {
    let (config, metadata) = (dir.join("buildx"), dir.join("metadata.json"));
    let tools = &world.tools;
    run(buildx(tools, &config)
        .args(["create", "--name", "e2e", "--driver", "remote"])
        .arg(daemon.address()))?;
    run(buildx(tools, &config)
        .env("BUILDX_METADATA_PROVENANCE", "max")
        .args(["--builder", "e2e", "build", "--progress=plain", "--provenance=mode=max"])
        .args(["--platform=linux/amd64,linux/arm64", "--metadata-file"])
        .arg(&metadata)
        .arg(format!("--sbom=generator={scanner}"))
        .arg(format!("--output=type=oci,dest={}", dir.join("buildx.tar").display()))
        .arg(context))?;
    let bundle = dir.join("build.dockerbuild");
    run(buildx(tools, &config)
        .args(["--builder", "e2e", "history", "export", "--all", "--output"])
        .arg(&bundle))
    .context("buildx history export")?;
    Ok([metadata, bundle])
}

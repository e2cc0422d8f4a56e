//! Untrusted caches and keys together with honest ones, and a daemon's behaviour on the result.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bkstate::Digest;
use serde_json::{Value, json};

use crate::build::Options;
use crate::case::Case;
use crate::images::Image;
use crate::matrix::{PREVIOUS, Release};
use crate::merging::{Bench, Made, bench};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::world::World;

/// The last release class whose exports have no selector for a mount of a whole input.
const BEFORE_SELECTORS: &str = "v0.12.5";

const HONEST: Case = Case::plain("honest", || {
    "FROM {registry}/busybox\nRUN echo honest > /which\nRUN cp /which /out\n".into()
});
const WHOLE: Case = Case::plain("whole", || {
    DATA.to_owned() + "RUN --mount=type=bind,from=data,target=/m cat /m/f > /out\n"
});
const PART: Case = Case::plain("part", || {
    DATA.to_owned() + "RUN --mount=type=bind,from=data,source=/other,target=/m cat /m/f > /out\n"
});
const DATA: &str = "
FROM {registry}/busybox AS data
RUN mkdir /other && echo other > /other/f && echo top > /f
FROM {registry}/busybox
";

/// Converts `sources`, and returns the exit code and the messages.
fn convert(
    world: &World,
    arguments: &[&str],
    sources: &[&Path],
    root: &Path,
) -> Result<(Option<i32>, String)> {
    let output = Command::new(&world.tools.oci2bk)
        .args(["convert", "--progress=quiet", "--allow-unkeyed"])
        .args(arguments)
        .args(sources)
        .arg(root)
        .output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

/// Returns the content of `/out` in a build of `case` on `root`.
fn out(bench: &Bench<'_>, world: &World, case: &Case, root: &Path) -> Result<String> {
    let out = tempfile::tempdir_in(world.scratch())?;
    let output = Some(format!("type=local,dest={}", out.path().display()));
    let daemon = world.start(root)?;
    bench.build_with(&daemon, case, false, &Options { output, ..Options::default() })?;
    daemon.stop()?;
    Ok(fs::read_to_string(out.path().join("out"))?)
}

/// Creates a cache with one record and one layer, the tar of a file `/which`, that claims to be the layer
/// `diff_id`.
fn forged(layout: &Path, diff_id: Option<&str>) -> Result<()> {
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let store = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    };
    fs::write(layout.join("which"), "evil\n")?;
    let tar = Command::new("tar").arg("-C").arg(layout).args(["-c", "which"]).output()?.stdout;
    let mut layer = store("application/vnd.oci.image.layer.v1.tar", &tar)?;
    let own = Digest::of(&tar).to_string();
    layer["annotations"] = json!({"containerd.io/uncompressed": diff_id.unwrap_or(&own)});
    let name = Digest::of(layout.display().to_string());
    let config = json!({
        "layers": [{"blob": layer["digest"], "parent": -1}],
        "records": [{"digest": name, "layers": [{"layer": 0, "createdAt": "2026-01-01T00:00:00Z"}]}],
    });
    let config = store("application/vnd.buildkit.cacheconfig.v0", config.to_string().as_bytes())?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer],
    });
    let manifest = store(media_type, manifest.to_string().as_bytes())?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    Ok(fs::write(layout.join("index.json"), index.to_string())?)
}

/// Returns the newest release and the previous one.
fn releases(world: &World) -> Result<[World; 2]> {
    let previous = Release::old(&world.tools, PREVIOUS).map_err(anyhow::Error::msg)?;
    Ok([world.clone(), world.on(previous)])
}

/// Two untrusted caches that disagree about the diffID of a blob do not bring the blob into the builds of an
/// honest cache, for every kind of blob storage, together or one after the other.
pub(crate) fn prove_two_diff_ids(world: &World) -> Result<()> {
    let bench = bench(world, "two-diff-ids")?;
    let daemon = world.start(&bench.path("maker"))?;
    let made = bench.make(&daemon, &HONEST)?;
    daemon.stop()?;
    let (true_one, liar) = (bench.path("true"), bench.path("liar"));
    forged(&true_one, None)?;
    forged(&liar, Some(&lowest_diff_id(&made)?))?;
    for blobs in ["none", "copy", "auto"] {
        let blobs = format!("--blobs={blobs}");
        for sources in [[&*true_one, &*liar, &*made.cache], [&*made.cache, &*liar, &*true_one]] {
            let root = bench.path("refused");
            let (code, said) = convert(world, &[&blobs], &sources, &root)?;
            ensure!(code == Some(3), "{blobs}: {code:?} {said}");
            for named in [&true_one, &liar] {
                ensure!(said.contains(&named.display().to_string()), "{blobs}: {said}");
            }
            ensure!(!root.exists(), "{blobs}: something was written");
        }
        for world in releases(world)? {
            // One after the other, no two contradict each other.
            let root = bench.path(&format!("root{blobs}-{}", world.release.version));
            let (code, said) = convert(&world, &[&blobs], &[&true_one], &root)?;
            ensure!(code == Some(0), "{code:?} {said}");
            let (code, said) = convert(&world, &[&blobs], &[&liar], &root)?;
            ensure!(code == Some(3) && said.contains("diffID"), "{code:?} {said}");
            let keys = made.keys.display().to_string();
            let (code, said) = convert(&world, &[&blobs, "--keys", &keys], &[&made.cache], &root)?;
            ensure!(code == Some(0), "{code:?} {said}");
            let text = out(&bench, &world, &HONEST, &root)?;
            ensure!(text == "honest\n", "/out has {text:?}");
        }
    }
    Ok(())
}

fn lowest_diff_id(made: &Made) -> Result<String> {
    let image = Image::at(&made.cache);
    let config = image.config()?;
    let layers = config["layers"].as_array().context("layers")?;
    let lowest = layers.iter().find(|layer| layer["parent"] == -1).context("a lowest layer")?;
    let described = image.manifest()?["layers"].as_array().cloned().unwrap_or_default();
    let described = described.into_iter().find(|layer| layer["digest"] == lowest["blob"]);
    let diff_id =
        described.context("its descriptor")?["annotations"]["containerd.io/uncompressed"].take();
    Ok(diff_id.as_str().context("its diffID")?.to_owned())
}

/// Claims of another cache about a blob, given first, do not appear in the builds of the honest one.
pub(crate) fn prove_annotations(world: &World) -> Result<()> {
    let bench = bench(world, "annotations")?;
    let daemon = world.start(&bench.path("maker"))?;
    let made = bench.make(&daemon, &HONEST)?;
    daemon.stop()?;
    let other = bench.path("other");
    run(Command::new("cp").arg("-a").args([&made.cache, &other]))?;
    Image::at(&other).change(|manifest, _| {
        for layer in manifest["layers"].as_array_mut().context("layers")? {
            layer["mediaType"] = layer["mediaType"]
                .as_str()
                .context("a media type")?
                .replace("layer.v1", "layer.nondistributable.v1")
                .into();
            layer["annotations"]["org.example.said"] = "by somebody else".into();
            layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"] =
                Digest::of("evil").to_string().into();
        }
        Ok(())
    })?;
    for world in releases(world)? {
        let root = bench.path(&format!("root-{}", world.release.version));
        let keys = made.keys.display().to_string();
        let (code, said) = convert(&world, &["--keys", &keys], &[&other, &made.cache], &root)?;
        ensure!(code == Some(0), "{code:?} {said}");
        let path = |name: &str| bench.path(&format!("{name}-{}", world.release.version));
        let (cache, image) = (path("cache"), path("image"));
        let daemon = world.start(&root)?;
        let output = Some(format!("type=oci,tar=false,dest={}", image.display()));
        let options = Options { export: Some((&*cache, "")), output, ..Options::default() };
        let warm = bench.build_with(&daemon, &HONEST, false, &options)?;
        ensure_same_steps(HONEST.keys, &made.warm, &warm)?;
        daemon.stop()?;
        for layout in [&cache, &image] {
            for word in ["org.example.said", "stargz", "nondistributable"] {
                let found = Command::new("grep")
                    .args(["-rlaF", word])
                    .arg(layout.join("blobs"))
                    .output()?;
                ensure!(
                    found.stdout.is_empty(),
                    "{word}: {}",
                    String::from_utf8_lossy(&found.stdout)
                );
            }
        }
    }
    Ok(())
}

/// Provenance of the same step with another `source=` in a mount, which is in no digest, does not add a
/// selection to a cache without one.
pub(crate) fn prove_wrong_key(world: &World) -> Result<()> {
    let old = world.on(Release::old(&world.tools, BEFORE_SELECTORS).map_err(anyhow::Error::msg)?);
    let bench = bench(&old, "wrong-key")?;
    let daemon = old.start(&bench.path("maker"))?;
    let made = bench.make(&daemon, &WHOLE)?;
    daemon.stop()?;
    let mut provenance: Value = serde_json::from_slice(&fs::read(&made.keys)?)?;
    ensure!(select(&mut provenance, "/other") == 1, "no mount was changed");
    let other = bench.path("other.json");
    fs::write(&other, provenance.to_string())?;
    for world in releases(world)? {
        for (keys, whose) in [(&other, "other"), (&made.keys, "own")] {
            let root = bench.path(&format!("{whose}-{}", world.release.version));
            let keys = keys.display().to_string();
            let (code, said) = convert(&world, &["--keys", &keys], &[&made.cache], &root)?;
            ensure!(code == Some(0), "{code:?} {said}");
            for (case, expected) in [(&PART, "other\n"), (&WHOLE, "top\n")] {
                let text = out(&bench, &world, case, &root)?;
                ensure!(text == expected, "{}: /out has {text:?}", case.name);
            }
        }
    }
    Ok(())
}

/// Makes the mounts of another input select `directory`; returns their number.
fn select(value: &mut Value, directory: &str) -> usize {
    match value {
        Value::Array(values) => values.iter_mut().map(|value| select(value, directory)).sum(),
        Value::Object(members) => {
            if members.contains_key("dest") && members.get("input") == Some(&json!(1)) {
                members.insert("selector".to_owned(), directory.into());
                return 1;
            }
            members.values_mut().map(|value| select(value, directory)).sum()
        }
        _ => 0,
    }
}

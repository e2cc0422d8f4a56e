//! Steps with several results.
//!
//! No exporter from v0.11 to v0.32 writes more than one result with a record (`marshalItem` in
//! `cache/remotecache/v1/utils.go`). But the format allows several, and if two daemons ran the same step
//! independently, their caches together have two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::build::{Options, Report, Source};
use crate::case::{Case, Context, Export, Keys};
use crate::export::CacheExport;
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::state::{self, State};
use crate::world::World;

const CASE: Case = Case {
    name: "results",
    dockerfile: || DOCKERFILE.into(),
    context: |context| drop(context.file("b", "b\n")),
    edit: |_| {},
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

/// Steps with another result in each run, and one with the same result.
const DOCKERFILE: &str = "
FROM {registry}/busybox AS made
RUN cat /proc/sys/kernel/random/uuid > /random
RUN cp /random /copied
FROM scratch
COPY b /b
COPY --from=made /random /copied /
COPY b /c
";

/// Number of steps of [`DOCKERFILE`] with a different result on each daemon.
const DIFFERENT: usize = 4;

/// Number of those that are one key in the caches of two daemons. Files copied from a stage are also found by
/// content, so the other two are separate keys.
const SHARED: usize = 2;

/// The output of a daemon.
struct Made {
    cache: PathBuf,
    keys: PathBuf,
    /// A file that differs between daemons.
    random: Vec<u8>,
    warm: Report,
}

/// The caches of two daemons with the same build, given as two and united into one, make a state with both
/// results of the steps. A daemon on it has all steps cached, with the newest result of each.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(CASE.name).tempdir_in(world.scratch())?;
    let dir = dir.path();
    let context = Context::create(&dir.join("context"));
    context.file("Dockerfile", world.fill_in(DOCKERFILE));
    (CASE.context)(&context);
    let source = Source { case: &CASE, context: context.dir() };

    let [older, newer] = ["older", "newer"].map(|name| make(world, &source, &dir.join(name)));
    let (older, newer) = (older?, newer?);
    ensure!(older.random != newer.random, "both daemons made {:?}", newer.random);
    let united = dir.join("united");
    unite(&older.cache, &newer.cache, &united)?;

    for (name, caches, keys) in [
        ("two", &[&older.cache, &newer.cache][..], SHARED),
        ("turned", &[&newer.cache, &older.cache], SHARED),
        ("one", &[&united], DIFFERENT),
    ] {
        let root = dir.join(name);
        run(Command::new(&world.tools.oci2bk)
            .args(["convert", "--progress=plain", "--keys"])
            .arg(&newer.keys)
            .args(caches)
            .arg(&root))?;
        state::ensure_sound(&world.tools, &root)?;
        let state = State::read(&world.tools, &root)?;
        let several = state.results_by_key().into_values().filter(|results| *results > 1).count();
        ensure!(several == keys, "{name}: {several} keys have several results");

        let daemon = world.start(&root)?;
        let files = dir.join(name).with_extension("files");
        let output = Some(format!("type=local,dest={}", files.display()));
        let warm = source.build(&daemon, &Options { output, ..Options::default() })?;
        ensure_same_steps(CASE.keys, &newer.warm, &warm).context(name)?;
        warm.ensure_nothing_imported(|_| false)?;
        for file in ["random", "copied"] {
            ensure!(fs::read(files.join(file))? == newer.random, "{name}: another {file}");
        }
        daemon.prune_all()?;
        let records = daemon.du()?;
        ensure!(records.is_empty(), "prune --all leaves the records {records:?}");
        daemon.stop()?;
        state::ensure_sound(&world.tools, &root)?;
    }
    Ok(())
}

fn make(world: &World, source: &Source<'_>, dir: &Path) -> Result<Made> {
    fs::create_dir(dir)?;
    let cache = dir.join("cache");
    let daemon = world.start(&dir.join("root"))?;
    let keys = source.make(&world.tools, &daemon, &cache, &dir.join("keys"))?;
    let keys = keys.context("provenance is a file")?;
    let random = fs::read(keys.with_file_name("random"))?;
    let warm = source.build(&daemon, &Options::default())?;
    daemon.stop()?;
    Ok(Made { cache, keys, random, warm })
}

/// Combines two caches into one in which no two records have the same digest: a record of both gets the
/// results and the inputs of both.
fn unite(first: &Path, second: &Path, united: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(first).arg(united))?;
    run(Command::new("cp").arg("-a").arg(second.join("blobs")).arg(united))?;
    let [first, second] = [first, second].map(|dir| -> Result<_> {
        let manifest = read(dir, &CacheExport::open(dir, "latest")?.digest)?;
        let config = manifest["config"]["digest"].as_str().context("a manifest without config")?;
        Ok((manifest.clone(), read(dir, config)?))
    });
    let ((mut manifest, first), (other, second)) = (first?, second?);
    let config = serde_json::to_vec(&united_config(&first, &second)?)?;

    let mut layers: BTreeMap<String, Value> = BTreeMap::new();
    for layer in list(&manifest, "layers")?.iter().chain(list(&other, "layers")?) {
        layers.insert(layer["digest"].to_string(), layer.clone());
    }
    manifest["layers"] = layers.into_values().collect();
    manifest["config"]["digest"] = write(united, &config)?.into();
    manifest["config"]["size"] = config.len().into();
    let manifest = serde_json::to_vec(&manifest)?;
    let mut index: Value = serde_json::from_slice(&fs::read(united.join("index.json"))?)?;
    index["manifests"][0]["digest"] = write(united, &manifest)?.into();
    index["manifests"][0]["size"] = manifest.len().into();
    Ok(fs::write(united.join("index.json"), serde_json::to_vec(&index)?)?)
}

fn united_config(first: &Value, second: &Value) -> Result<Value> {
    let mut layers: Vec<Value> = Vec::new();
    let mut records: Vec<Value> = Vec::new();
    let mut index_of: BTreeMap<String, usize> = BTreeMap::new();
    for config in [first, second] {
        let below = layers.len();
        for layer in list(config, "layers")? {
            // Zero is omitted from the JSON.
            let parent = layer["parent"].as_i64().unwrap_or_default();
            let parent = if parent < 0 { parent } else { parent + i64::try_from(below)? };
            layers.push(json!({"blob": layer["blob"], "parent": parent}));
        }
        let own = list(config, "records")?;
        let mut indexes = Vec::new();
        for record in own {
            let next = records.len();
            let index = *index_of.entry(record["digest"].to_string()).or_insert(next);
            if index == next {
                records.push(json!({"digest": record["digest"], "layers": [], "inputs": []}));
            }
            ensure!(!indexes.contains(&index), "two records are {}", record["digest"]);
            indexes.push(index);
        }
        for (record, index) in own.iter().zip(&indexes) {
            let united = &mut records[*index];
            for result in record["layers"].as_array().into_iter().flatten() {
                let layer = result["layer"].as_u64().context("a result without a layer")?;
                let layer = usize::try_from(layer)? + below;
                let result = json!({"layer": layer, "createdAt": result["createdAt"]});
                push(&mut united["layers"], result)?;
            }
            for (number, alternatives) in
                record["inputs"].as_array().into_iter().flatten().enumerate()
            {
                if united["inputs"][number].is_null() {
                    push(&mut united["inputs"], json!([]))?;
                }
                for alternative in alternatives.as_array().context("an input")? {
                    let link = alternative["link"].as_u64().context("an input without a link")?;
                    let mut alternative = alternative.clone();
                    alternative["link"] = indexes[usize::try_from(link)?].into();
                    push(&mut united["inputs"][number], alternative)?;
                }
            }
        }
    }
    Ok(json!({"layers": layers, "records": records}))
}

fn list<'a>(document: &'a Value, member: &str) -> Result<&'a Vec<Value>> {
    document[member].as_array().with_context(|| format!("no {member} in {document}"))
}

/// Adds a missing value to a list.
fn push(list: &mut Value, value: Value) -> Result<()> {
    let list = list.as_array_mut().context("not a list")?;
    if value == json!([]) || !list.contains(&value) {
        list.push(value);
    }
    Ok(())
}

fn read(layout: &Path, digest: &str) -> Result<Value> {
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    Ok(serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?)
}

/// Adds a blob, and returns its digest.
fn write(layout: &Path, blob: &[u8]) -> Result<String> {
    let digest = bkstate::Digest::of(blob).to_string();
    fs::write(layout.join("blobs").join(digest.replace(':', "/")), blob)?;
    Ok(digest)
}

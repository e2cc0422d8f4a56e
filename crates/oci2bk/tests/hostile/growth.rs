//! How memory and databases grow with the records of a cache that is like real ones, only larger: many steps
//! with inputs, keys and results, over many layers.
//!
//! `scripts/bench records` measures the time; a test of it would depend on the load of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use bkstate::Digest;
use oci2bk::convert::Converter;
use oci2bk::limits::Limits;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::keys::file_of;
use super::outcome::read;
use super::*;

/// Set in the converting process: layout, keys and root.
const CHILD: &str = "OCI2BK_GROWTH_CHILD";

/// Number of builds with each layer: a step and its content are two records.
const BUILDS: usize = 5;
/// Length of a chain of layers.
const CHAIN: usize = 100;

/// Creates a cache of ten records for each of `layers` layers, and its keys.
fn cache(layers: usize) -> (Layout, NamedTempFile) {
    let layout = Layout::new();
    let blobs: Vec<_> = (0..layers).map(|layer| layout.layer(&layer.to_string())).collect();
    let lowest = |layer: usize| layer.is_multiple_of(CHAIN);
    let node = |(layer, blob): (usize, &Value)| {
        let parent = if lowest(layer) { -1 } else { layer as i64 - 1 };
        json!({"blob": blob["digest"], "parent": parent})
    };
    let nodes: Vec<_> = blobs.iter().enumerate().map(node).collect();
    let ops: Vec<_> = (0..layers * BUILDS).map(|op| Digest::of(format!("op {op}"))).collect();
    let mut records = Vec::new();
    for (number, op) in ops.iter().enumerate() {
        let layer = number / BUILDS;
        let contents = records.len();
        let below = if lowest(layer) { contents } else { contents + 1 - 2 * BUILDS };
        records.push(json!({"digest": Digest::of(format!("contents {number}"))}));
        records.push(json!({
            "digest": Digest::of(format!("{op}@0")),
            "inputs": [[{"link": below}], [{"link": contents}]],
            "layers": [{"layer": layer}],
        }));
    }
    layout.cache(&blobs, json!({"layers": nodes, "records": records}).to_string());
    let ops: Vec<_> = ops.iter().map(ToString::to_string).collect();
    (layout, file_of(&ops.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The cost of a conversion.
#[derive(Debug)]
struct Cost {
    /// Memory in bytes.
    memory: u64,
    /// Size of the databases in bytes.
    databases: u64,
}

/// Converts such a cache in a child process, which runs the test with this name.
fn cost(test: &str, layers: usize) -> Cost {
    let (layout, keys) = cache(layers);
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("growth::{test}"), "--nocapture"]);
    let paths = [layout.path(), keys.path(), root.path()].map(|path| path.to_str().unwrap());
    let output = child.env(CHILD, paths.join(":")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let memory = text.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
    let databases =
        ["cache.db", "runc-overlayfs/metadata_v2.db", "runc-overlayfs/containerdmeta.db"];
    let size = |name| fs::metadata(root.path().join(name)).unwrap().len();
    Cost { memory: memory.parse().unwrap(), databases: databases.map(size).iter().sum() }
}

/// The work of the child process.
fn convert_and_tell(paths: &str) {
    let paths: Vec<_> = paths.split(':').map(Path::new).collect();
    let [layout, keys, root] = paths.as_slice() else { panic!("{paths:?}") };
    let limits = Limits::default();
    let source = layout.to_str().unwrap().parse().unwrap();
    let plan = read(&source, &[keys], &limits).unwrap();
    assert!(plan.lost.is_empty());
    Converter::new().extract(false).convert(&plan, root).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("\npeak {}", kibibytes << 10);
}

#[test]
fn memory_and_databases_grow_as_the_records_do() {
    const TEST: &str = "memory_and_databases_grow_as_the_records_do";
    const LAYERS: usize = 1000;
    if let Ok(paths) = std::env::var(CHILD) {
        return convert_and_tell(&paths);
    }
    let [none, few, many] = [1, LAYERS / 4, LAYERS].map(|layers| cost(TEST, layers));
    println!("{none:?} {few:?} {many:?}");
    let memory = |cost: &Cost| cost.memory - none.memory;
    assert!(memory(&many) < 5 * memory(&few), "{few:?} {many:?}");
    assert!(many.databases < 5 * few.databases, "{few:?} {many:?}");
    // 100,000 records may take a gibibyte.
    let records = (LAYERS * 2 * BUILDS) as u64;
    assert!(memory(&many) * 100_000 / records < 1 << 30, "{many:?}");
}

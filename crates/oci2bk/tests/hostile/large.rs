//! Sound but very large caches, each in a separate process to measure its memory.

use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;
use std::time::Instant;

use bkstate::Digest;
use oci2bk::convert::Converter;
use oci2bk::limits::{Limits, MAX_CHAIN};
use serde_json::json;

use super::keys::file_of;
use super::layout::config_of;
use super::outcome::read;
use super::*;

/// Set in the process that does the work.
const CHILD: &str = "OCI2BK_HOSTILE_CHILD";

/// Runs `work` in a child process, by running the same test again, and asserts that it takes at most
/// `mebibytes` of memory.
fn bounded(test: &str, mebibytes: u64, work: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        let started = Instant::now();
        work();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("{test}: {} MiB, {:.1} s", peak >> 10, started.elapsed().as_secs_f64());
        assert!(peak >> 10 <= mebibytes, "{} MiB", peak >> 10);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = format!("large::{test}");
    child.args(["--exact", &name, "--nocapture", "--include-ignored"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.contains(" MiB, ")) {
        println!("{line}");
    }
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Converts the layout without unpacking, and returns the plan's numbers of steps and layers.
fn packed(layout: &Layout, keys: &[&std::path::Path]) -> (usize, usize) {
    let limits = Limits::default();
    let source = layout.path().to_str().unwrap().parse().unwrap();
    let plan = read(&source, keys, &limits).unwrap();
    let converter = Converter::new().extract(false).jobs(NonZeroUsize::MIN).limits(limits);
    let root = tempfile::tempdir().unwrap();
    converter.convert(&plan, root.path()).unwrap();
    (plan.steps.len(), plan.layers.len())
}

/// Creates a cache of this many records without inputs.
fn many_records(count: usize) {
    let layout = Layout::new();
    let mut records = String::new();
    for n in 0..count {
        let separator = if n == 0 { "" } else { "," };
        write!(records, r#"{separator}{{"digest":"{}"}}"#, Digest::of(n.to_string())).unwrap();
    }
    layout.cache(&[], format!(r#"{{"records":[{records}]}}"#));
    drop(records);
    assert_eq!(packed(&layout, &[]), (count, 0));
}

/// Converts a chain of this many records.
fn deep_records(count: usize) {
    let layout = Layout::new();
    // One op on itself over and over: the key of each step is different.
    let op = Digest::of("op").to_string();
    let step = Digest::of(format!("{op}@0"));
    let record = |n: usize| match n {
        0 => json!({"digest": Digest::of("root")}),
        n => json!({"digest": step, "inputs": [[{"link": n - 1}]]}),
    };
    let records: Vec<_> = (0..count).map(record).collect();
    layout.cache(&[], json!({"records": records}).to_string());
    let keys = file_of(&[&op]);
    assert_eq!(packed(&layout, &[keys.path()]), (count, 0));
}

// A KiB for each record, half of which are the config's JSON and its records.
#[test]
fn records_200_000() {
    bounded("records_200_000", 200, || many_records(200_000));
}

#[test]
#[ignore = "it takes more than a minute without optimisation; scripts/matrix runs it"]
fn a_million_records() {
    bounded("a_million_records", 1000, || many_records(1_000_000));
}

#[test]
fn records_in_a_chain_of_30_000() {
    bounded("records_in_a_chain_of_30_000", 300, || deep_records(30_000));
}

#[test]
#[ignore = "the large one of the test above; scripts/matrix runs it"]
fn records_in_a_chain_of_100_000() {
    bounded("records_in_a_chain_of_100_000", 1000, || deep_records(100_000));
}

#[test]
fn layers_in_a_chain_of_10_000_left_packed() {
    bounded("layers_in_a_chain_of_10_000_left_packed", 500, || {
        const DEEP: usize = 10_000;
        let layout = Layout::new();
        // Few blobs, many nodes.
        let layers: Vec<_> = (0..100).map(|n| layout.layer(&n.to_string())).collect();
        let deep: Vec<_> = layers.iter().cycle().take(DEEP).cloned().collect();
        layout.cache(&layers, config_of(&deep).to_string());
        assert_eq!(packed(&layout, &[]), (1, DEEP));
    });
}

/// Unpacks this many chains of the greatest height.
fn unpacked_chains(count: usize) {
    let layout = Layout::new();
    // Few blobs, many nodes. Each file is in a directory that only the lowest layer has.
    let layers: Vec<_> = (0..100).map(|n| layout.layer(&format!("dir/{n}"))).collect();
    let node = |n: usize| {
        let (chain, height) = (n / MAX_CHAIN, n % MAX_CHAIN);
        let below = if height == 0 { -1 } else { n as i64 - 1 };
        json!({"blob": layers[(chain + height) % layers.len()]["digest"], "parent": below})
    };
    let nodes: Vec<_> = (0..count * MAX_CHAIN).map(node).collect();
    let top = |chain: usize| json!({"layer": (chain + 1) * MAX_CHAIN - 1});
    let record = |chain| json!({"digest": Digest::of(format!("{chain}")), "layers": [top(chain)]});
    let records: Vec<_> = (0..count).map(record).collect();
    layout.cache(&layers, json!({"layers": nodes, "records": records}).to_string());
    let (_, report) = converted(layout.path()).unwrap();
    assert_eq!(report.snapshots, count * MAX_CHAIN);
}

fn can_unpack() -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "unpacking layers takes root");
        eprintln!("not unpacked: that takes root");
    }
    can
}

#[test]
fn layers_in_4_chains_of_500_unpacked() {
    if can_unpack() {
        bounded("layers_in_4_chains_of_500_unpacked", 100, || unpacked_chains(4));
    }
}

#[test]
#[ignore = "the large one of the test above; scripts/matrix runs it"]
fn layers_in_20_chains_of_500_unpacked() {
    if can_unpack() {
        bounded("layers_in_20_chains_of_500_unpacked", 500, || unpacked_chains(20));
    }
}

/// Reads configs with as many values of one kind as `fifths` of the default limits allow.
fn dense_configs(fifths: usize) {
    let repeated = |item: &str, count: usize| {
        let count = count * fifths;
        format!("{}{item}", format!("{item},").repeat(count - 1))
    };
    let digest = Digest::of("x");
    for config in [
        // Inputs of one alternative each.
        format!(
            r#"{{"records":[{{"digest":"{digest}"}},{{"digest":"{digest}","inputs":[{}]}}]}}"#,
            repeated(r#"[{"link":0}]"#, 780_000)
        ),
        // Inputs of none.
        format!(
            r#"{{"records":[{{"digest":"{digest}","inputs":[{}]}}]}}"#,
            repeated("[]", 1_400_000)
        ),
        // Results, and explicit chains.
        format!(
            r#"{{"records":[{{"digest":"{digest}","layers":[{}]}}]}}"#,
            repeated(r#"{"layer":0}"#, 780_000)
        ),
        format!(
            r#"{{"records":[{{"digest":"{digest}","chains":[{}]}}]}}"#,
            repeated(r#"{"layers":[0]}"#, 780_000)
        ),
        format!(
            r#"{{"records":[{{"digest":"{digest}","chains":[{{"layers":[{}]}}]}}]}}"#,
            repeated("0", 2_980_000)
        ),
    ] {
        let layout = Layout::new();
        let layer = layout.layer("file");
        let node = json!({"blob": layer["digest"], "parent": -1});
        layout.cache(&[layer], config.replacen('{', &format!(r#"{{"layers":[{node}],"#), 1));
        drop(config);
        // Rejected or not, it must stay within the limit.
        let started = Instant::now();
        let result = planned(layout.path(), &[]);
        println!("{} {:?}", result.is_ok(), started.elapsed());
    }
}

#[test]
fn configs_that_are_a_fifth_as_dense_as_json_can_be() {
    bounded("configs_that_are_a_fifth_as_dense_as_json_can_be", 500, || dense_configs(1));
}

// The maximum memory of a config of the default size, as far as known.
#[test]
#[ignore = "it takes minutes without optimisation; scripts/matrix runs it"]
fn configs_that_are_as_dense_as_json_can_be() {
    bounded("configs_that_are_as_dense_as_json_can_be", 2500, || dense_configs(5));
}

//! How work grows with each quantity of an input. Work is counted and not timed: it is the lowest limit with
//! which the input still passes. `docs/limits.md` has the times, which `scripts/limits` measures.

use std::io::Write as _;

use oci2bk::Digest;
use oci2bk::keys::{KEYS_MEDIA_TYPE, Keyring};
use oci2bk::limits::{Limits, MAX_CHAIN, Setting};
use serde_json::json;

use super::cache::Cache;
use super::converter;
use super::fixture::can_extract;

/// The cost of each lookup in addition to the bytes of its path.
const CALL: u64 = 256;

/// Returns the lowest value of `limit` with which `passes` is true.
fn least(limit: &str, passes: impl Fn(&Limits) -> bool) -> u64 {
    let holds = |value: u64| {
        let setting: Setting = format!("{limit}={value}").parse().unwrap();
        passes(&Limits::with(&[setting]))
    };
    let mut high = 1;
    while !holds(high) {
        high *= 2;
    }
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    high
}

/// Asserts that work is at most proportional to the amount, above a constant.
#[track_caller]
fn assert_linear(what: &str, work: impl Fn(u64) -> u64) {
    let [one, two, four] = [8, 16, 32].map(work);
    assert!(one < two, "{what}: {one} of 8, {two} of 16");
    assert!(four - two <= 2 * (two - one), "{what}: {one} of 8, {two} of 16, {four} of 32");
}

/// Returns a layer of empty files with these names.
fn layer(names: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &b""[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Creates a cache of layers, with a record for each topmost one.
fn cache(layers: &[(Vec<u8>, i64)]) -> Cache {
    let is_top = |index: &usize| layers.iter().all(|(_, below)| *below != *index as i64);
    let record = |index: usize| json!({"digest": Digest::of(format!("r{index}")), "layers": [{"layer": index}]});
    let records: Vec<_> = (0..layers.len()).filter(is_top).map(record).collect();
    Cache::new(layers, &json!(records))
}

/// Returns what `limit` counts when `cache` is converted.
fn converting(limit: &str, cache: &Cache) -> u64 {
    let plan = cache.plan(&[]);
    least(limit, |limits| {
        let root = tempfile::tempdir().unwrap();
        let converted = converter(true).limits(*limits).convert(&plan, root.path());
        // A layer that exceeds its own limit stays packed.
        converted.is_ok_and(|report| report.left_packed.is_empty())
    })
}

#[test]
fn reading_grows_with_records_and_links() {
    let reading = |cache: &Cache| least("json-values", |limits| cache.export(limits).is_ok());
    let record = |n: u64| json!({"digest": Digest::of(format!("r{n}"))});
    assert_linear("records", |n| {
        reading(&Cache::new(&[], &json!((0..n).map(record).collect::<Vec<_>>())))
    });
    assert_linear("links", |n| {
        let links: Vec<_> = (0..n).map(|_| json!({"link": 0})).collect();
        let linked = json!({"digest": Digest::of("linked"), "inputs": [links]});
        reading(&Cache::new(&[], &json!([record(0), linked])))
    });
}

#[test]
fn unpacking_grows_with_layers_and_entries() {
    if !can_extract() {
        return;
    }
    let names = |n: u64| (0..n).map(|n| format!("f{n:02}"));
    for limit in ["total-entries", "total-size"] {
        assert_linear("layers", |n| {
            let layers: Vec<_> = names(n).map(|name| (layer([name]), -1)).collect();
            converting(limit, &cache(&layers))
        });
    }
    assert_linear("entries", |n| converting("total-entries", &cache(&[(layer(names(n)), -1)])));
    assert_linear("uses of a blob", |n| {
        let bases = names(n).map(|name| (layer([name]), -1));
        let again = (0..).take(n as usize).map(|below| (layer(["same".to_owned()]), below));
        converting("total-entries", &cache(&bases.chain(again).collect::<Vec<_>>()))
    });
}

#[test]
fn looking_directories_up_grows_with_their_number_and_with_the_layers_below() {
    if !can_extract() {
        return;
    }
    let base = || (layer(["f".to_owned()]), -1);
    let in_directories = |n: u64| (0..n).map(|n| format!("d{n:02}/f"));
    assert_linear("implied directories", |n| {
        converting("total-lookups", &cache(&[base(), (layer(in_directories(n)), 0)]))
    });
    assert_linear("chains", |n| {
        let tops = in_directories(n).map(|name| (layer([name]), 0));
        let layers: Vec<_> = [base()].into_iter().chain(tops).collect();
        converting("total-lookups", &cache(&layers))
    });
    // In a chain it is that times the number of layers below, which is less than MAX_CHAIN.
    for height in [8, 16, 32] {
        let layers = in_directories(height).zip(-1..).map(|(name, below)| (layer([name]), below));
        let found = converting("total-lookups", &cache(&layers.collect::<Vec<_>>()));
        let of_one = CALL + "d00".len() as u64;
        let below: u64 = (0..height).sum();
        assert_eq!(found, height * of_one + below * (CALL + of_one));
        assert!(found <= height * (MAX_CHAIN as u64) * (CALL + of_one));
    }
    // Creating a path looks up the path to each of its components, in at most 4095 bytes.
    for depth in [8, 16, 32] {
        let path = "d/".repeat(depth) + "f";
        let found = converting("total-lookups", &cache(&[(layer([path.clone()]), -1)]));
        assert!(found <= depth as u64 * (CALL + path.len() as u64), "{depth}: {found}");
    }
}

#[test]
fn finding_keys_grows_with_files_ops_digests_and_outputs() {
    let finding = |files: u64, ops: u64, digests: u64, outputs: u64| {
        let op = |op: u64| {
            let digest = |n| json!({"digest": Digest::of(format!("{op} {n}"))});
            let digests: Vec<_> = (0..digests).map(digest).collect();
            json!({"digests": digests, "outputs": outputs})
        };
        let ops: Vec<_> = (0..ops).map(op).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{}", json!({"mediaType": KEYS_MEDIA_TYPE, "ops": ops})).unwrap();
        least("key-outputs", |limits| {
            let mut keyring = Keyring::new([Digest::of("wanted")].into());
            (0..files).all(|_| keyring.read(file.path(), limits).is_ok())
        })
    };
    assert_linear("files", |n| finding(n, 2, 2, 2));
    assert_linear("ops", |n| finding(2, n, 2, 2));
    assert_linear("digests", |n| finding(2, 2, n, 2));
    assert_linear("outputs", |n| finding(2, 2, 2, n));
    assert_eq!(finding(2, 3, 5, 7), 2 * 3 * 5 * 7);
}

//! What counts as the scan of a build, and what as a missing key.

use bkstate::Digest;
use llb::{Encoding, Platform, Provenance, digest};
use serde_json::{Value, json};

use crate::image::record_of;
use crate::keys::{KeySource, Keyring, KeysFile, SourceDescription, SourceKind};
use crate::limits::Limits;
use crate::plan::testing::export;
use crate::plan::{LostReason, Plan};

fn image(name: &str) -> Digest {
    Digest::of(format!("manifest of {name}"))
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn material(name: &str) -> Value {
    let digest = image(name).hex().to_string();
    let uri = format!("pkg:docker/registry.example/{name}@latest?platform=linux%2Famd64");
    json!({"uri": uri, "digest": {"sha256": digest}})
}

/// The steps of `FROM base`, `RUN a`, `RUN b`.
fn steps() -> Value {
    let source = format!("docker-image://registry.example/base:latest@{}", image("base"));
    let run =
        |argument: &str| json!({"exec": {"meta": {"args": [argument]}, "mounts": [{"dest": "/"}]}});
    let step = |id: &str, op: Value, input: Option<&str>| json!({"id": id, "inputs": input.into_iter().collect::<Vec<_>>(), "op": {"Op": op}});
    json!([
        step("step0", json!({"source": {"identifier": source}}), None),
        step("step1", run("a"), Some("step0:0")),
        step("step2", run("b"), Some("step1:0")),
        step("step3", json!({}), Some("step2:0")),
    ])
}

/// Returns provenance of that build in SLSA v1, with these materials.
fn provenance(materials: &[Value]) -> Provenance {
    let document = json!({"buildDefinition": {
        "resolvedDependencies": materials,
        "internalParameters": {
            "builderPlatform": "linux/amd64",
            "buildConfig": {"llbDefinition": steps()},
        },
    }});
    Provenance::from_json(document.to_string().as_bytes()).unwrap()
}

/// Returns the same in SLSA v0.2.
fn provenance_v02(materials: &[Value]) -> Provenance {
    let document = json!({
        "materials": materials,
        "invocation": {"environment": {"platform": "linux/amd64"}},
        "buildConfig": {"llbDefinition": steps()},
    });
    Provenance::from_json(document.to_string().as_bytes()).unwrap()
}

fn source(provenance: &Provenance) -> KeySource {
    let (path, kind) = ("provenance.json".into(), SourceKind::Provenance);
    KeySource::from_provenance(provenance, SourceDescription { path, kind, part: None })
}

const BASE: usize = 0;
const SCANNER: usize = 1;
const FIRST: usize = 2;
const RESULT: usize = 3;
const SCAN: usize = 4;

/// Returns a daemon's export of the build and of its scan, whose inputs are `scanned`.
fn records(scanned: [usize; 2]) -> Vec<Value> {
    let provenance = provenance(&[]);
    let of_image = |name: &str| json!({"digest": record_of(image(name), &platform())});
    let of_step = |step: usize, input: usize| {
        let op_digest = digest(&provenance.ops[step], Encoding::NEWEST, &platform()).unwrap();
        json!({"digest": op_digest.record(0), "inputs": [[{"link": input}]]})
    };
    let scan = json!({
        "digest": Digest::of("a scan"),
        "inputs": [[{"link": scanned[0]}], [{"link": scanned[1]}]],
    });
    vec![of_image("base"), of_image("scanner"), of_step(1, BASE), of_step(2, FIRST), scan]
}

/// Returns why the records that cannot be converted are lost, with their descriptions.
fn lost(source: KeySource, records: &[Value]) -> Vec<(LostReason, Option<String>)> {
    let (_layout, export) = export(&[], &[], &json!(records));
    let exports = [export];
    let mut keyring = Keyring::for_exports(&exports);
    keyring.add(source, &Limits::default()).unwrap();
    let plan = Plan::new(&exports, &keyring).unwrap();
    let scans = plan.lost.iter().filter(|lost| lost.reason == LostReason::SbomScan).count();
    assert_eq!(plan.unkeyed().count() + scans, plan.lost.len());
    plan.lost.into_iter().map(|lost| (lost.reason, lost.hint)).collect()
}

fn materials() -> [Value; 2] {
    [material("base"), material("scanner")]
}

fn scan(name: Option<&str>) -> Vec<(LostReason, Option<String>)> {
    vec![(LostReason::SbomScan, name.map(str::to_owned))]
}

#[test]
fn the_scan_of_a_build_is_no_missing_key() {
    let records = records([SCANNER, RESULT]);
    let expected = scan(Some("registry.example/scanner:latest"));
    assert_eq!(lost(source(&provenance(&materials())), &records), expected);
    assert_eq!(lost(source(&provenance_v02(&materials())), &records), expected);
}

#[test]
fn the_scans_of_several_platforms_are_no_missing_keys() {
    let mut records = records([SCANNER, RESULT]);
    // The same op on the result for another platform, whose image has one layer less.
    let other = json!([[{"link": SCANNER}], [{"link": FIRST}]]);
    records.push(json!({"digest": records[SCAN]["digest"], "inputs": other}));
    let found = lost(source(&provenance(&materials())), &records);
    // What that one has scanned is not the result of a known build.
    assert_eq!(found.iter().filter(|lost| lost.0 == LostReason::SbomScan).count(), 1);
    assert_eq!(found.iter().filter(|lost| lost.0 == LostReason::NoKey).count(), 1);
}

#[test]
fn a_keys_file_tells_as_much_without_the_name() {
    let sources = [source(&provenance(&materials()))];
    let json = KeysFile::from_sources(&sources).encode().unwrap();
    assert!(!String::from_utf8_lossy(&json).contains("example"));
    let file = KeysFile::decode(&json).unwrap();
    assert_eq!(file.encode().unwrap(), json);
    let description =
        || SourceDescription { path: "keys".into(), kind: SourceKind::KeysFile, part: None };
    let records = records([SCANNER, RESULT]);
    assert_eq!(lost(KeySource::from_keys_file(&file, description()), &records), scan(None));
    // As attached to this cache, and to one without the result.
    let wanted = [FIRST, RESULT, SCAN].map(|number| records[number]["digest"].as_str().unwrap());
    let wanted = wanted.map(|digest| digest.parse().unwrap());
    let (ours, _) = file.of_records(&wanted.into());
    let found = lost(KeySource::from_keys_file(&ours, description()), &records);
    assert!(found.contains(&scan(None)[0]), "{found:?}");
    let (others, _) = file.of_records(&[wanted[2]].into());
    assert!(!String::from_utf8_lossy(&others.encode().unwrap()).contains("scans"));
}

#[test]
fn what_only_looks_like_a_scan_is_a_missing_key() {
    let is_scan = |materials: &[Value], records: &[Value]| {
        let found = lost(source(&provenance(materials)), records);
        found.iter().any(|lost| lost.0 == LostReason::SbomScan)
    };
    assert!(is_scan(&materials(), &records([SCANNER, RESULT])));
    // Another image, another build's result, and the other way round.
    assert!(!is_scan(&materials(), &records([BASE, RESULT])));
    assert!(!is_scan(&materials(), &records([SCANNER, FIRST])));
    assert!(!is_scan(&materials(), &records([RESULT, SCANNER])));
    // The build does not have the image, or is made from it.
    assert!(!is_scan(&[material("base")], &records([SCANNER, RESULT])));
    assert!(!is_scan(&[], &records([BASE, RESULT])));
    // Something builds on it.
    let mut records = records([SCANNER, RESULT]);
    records.push(json!({"digest": Digest::of("above"), "inputs": [[{"link": SCAN}]]}));
    assert!(!is_scan(&materials(), &records));
}

//! Scans as daemons name them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::image::testing;
use crate::keys::Keyring;

/// Returns an image with this config for linux/amd64.
fn image(config: &Value) -> BaseImage {
    let config = json!({"os": "linux", "architecture": "amd64", "config": config});
    testing::image("scanner", config.to_string(), BTreeSet::new(), None)
}

fn records(config: &Value) -> Vec<Digest> {
    let source = KeySource::from_scanner(&image(config)).unwrap();
    source.candidates.iter().flat_map(Candidate::records).collect()
}

/// The export of a daemon v0.34.2, and of one v0.32.2, for `attest:sbom` with a scanner of this config.
#[test]
fn a_scan_has_the_record_that_daemons_export() {
    let exported = "sha256:b04f741b3e04e358457831634eeeeabaa5fd0daaf823904b015b5fe6ba98e004";
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["/scan"]});
    assert!(records(&config).contains(&exported.parse().unwrap()));
    let other = json!({"Env": ["PATH=/bin"], "Entrypoint": ["/scan"], "Cmd": ["-v"]});
    assert!(!records(&other).contains(&exported.parse().unwrap()));
}

#[test]
fn scans_are_added_to_a_keyring_that_lacks_them() {
    let image = image(&json!({"Cmd": ["/scan"]}));
    let scan = *records(&json!({"Cmd": ["/scan"]})).first().unwrap();
    let mut keyring = Keyring::new(BTreeSet::from([scan]));
    for _ in 0..2 {
        keyring.add_scanners([&image]);
        assert_eq!(keyring.get(&scan).unwrap().name.as_deref(), Some("the SBOM scan"));
        assert_eq!(keyring.sources().len(), 1);
    }
    // An image that made none of the records.
    let mut keyring = Keyring::new(BTreeSet::from([Digest::of("another")]));
    keyring.add_scanners([&image]);
    assert!(keyring.sources().is_empty());
}

#[test]
fn an_image_without_a_command_is_no_scanner() {
    for config in [json!({}), json!({"Cmd": [], "Entrypoint": null})] {
        assert!(KeySource::from_scanner(&image(&config)).is_none(), "{config}");
    }
}

#[test]
fn the_working_directory_and_the_environment_are_as_the_client_library_makes_them() {
    for (directory, expected) in
        [("", "/"), ("/app/", "/app/"), ("app/../b", "/b"), (".", "/"), ("../..", "/")]
    {
        assert_eq!(self::directory(directory), expected, "{directory}");
    }
    let mut variables = Variables::default();
    ["A=1", "B=2", "A=3=4", "C"].into_iter().for_each(|variable| variables.set(variable));
    assert_eq!(variables.0, ["B=2", "A=3=4", "C="]);
}

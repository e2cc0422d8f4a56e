//! `--require` and `--drop-unused-layers` on caches with losses.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::{Place, Printed, command, convert, index};

/// The step of the last `RUN` of the fixture.
const STEP: &str = "sha256:e6e9d12f59b869c8ac7a89f00c86085670bfce0e70ff8a7c72502d9a3ad1fbb4";
/// Its layer, on which no other lies.
const LAYER: &str = "c6c10558fda9fb35a5bbf56ff984c60b3811e8e776e0cb843ea9ad79c8702690";

/// Returns the arguments for the fixture, with keys of all steps but [`STEP`].
fn without_a_key(place: &Place) -> Vec<String> {
    let path = place.temp.path().join("keys.json");
    let [cache, option, keys] = index();
    Printed::of(command().args(["keys", &keys, "--output"]).arg(&path), 0);
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["ops"].as_array_mut().unwrap().remove(10);
    fs::write(&path, file.to_string()).unwrap();
    vec![cache, option, path.to_str().unwrap().to_owned()]
}

/// Returns the arguments for a copy of the fixture without [`LAYER`], with all keys.
fn without_a_layer(place: &Place) -> Vec<String> {
    let [cache, option, keys] = index();
    let copy = place.temp.path().join("cache");
    assert!(Command::new("cp").arg("-r").arg(&cache).arg(&copy).status().unwrap().success());
    fs::remove_file(copy.join("blobs/sha256").join(LAYER)).unwrap();
    vec![copy.to_str().unwrap().to_owned(), option, keys]
}

/// Asserts that it is refused, with and without `--dry-run`, as text and as the only document.
fn refused(place: &Place, words: &[String], required: &str, kind: &str, lines: &[&str]) {
    for dry in [false, true] {
        let of = || {
            let mut command = convert(words, place);
            command.args(["--require", required]).args(dry.then_some("--dry-run"));
            command
        };
        let printed = Printed::of(&mut of(), 4);
        printed.says(lines);
        printed.says(&["nothing was written"]);
        assert_eq!(printed.stdout.is_empty(), !dry, "people see the plan: {}", printed.stdout);
        let printed = Printed::of(of().arg("--format=json"), 4);
        printed.says(lines);
        let error = &printed.json()["error"];
        assert_eq!((&error["kind"], &error["exit_code"]), (&json!(kind), &json!(4)));
        for line in lines {
            assert!(error["message"].as_str().unwrap().contains(line), "{error}");
        }
        assert!(!place.root().exists());
    }
}

/// Asserts that it is accepted, and that the document says that something is missing.
fn accepted(place: &Place, words: &[String], required: &str) -> Value {
    let dry = ["--require", required, "--dry-run", "--format=json"];
    let plan = Printed::of(convert(words, place).args(dry), 0).json();
    assert_eq!(plan["complete"], false, "{required}");
    plan
}

#[test]
fn a_lost_key_is_less_than_all_keys_and_all_steps() {
    let place = Place::new();
    let words = without_a_key(&place);
    let no_key = format!("{STEP}, a step after COPY (no key, 280 B)");
    let unused = format!("sha256:{LAYER} (no step leads to the layer, 280 B)");
    let incomplete = "command.incomplete";
    let all = ["the state would not be complete:", &no_key, &unused];
    refused(&place, &words, "all", incomplete, &all);
    let keys = ["no key source has the key of 1 step:", STEP];
    refused(&place, &words, "keys", "command.unkeyed", &keys);
    let steps = ["builds will not find 100% of the steps:", &no_key];
    refused(&place, &words, "100%", incomplete, &steps);
    // 19 of 20.
    refused(
        &place,
        &words,
        "96%",
        incomplete,
        &["builds will not find 96% of the steps:", &no_key],
    );
    for required in ["95%", "0%", "layers"] {
        let plan = accepted(&place, &words, required);
        assert_eq!(plan["lost"][0]["digest"], STEP);
    }
}

#[test]
fn a_missing_layer_is_less_than_all_layers_and_all_steps() {
    let place = Place::new();
    let words = without_a_layer(&place);
    let missing = "echo done > /etc/state (a layer is missing)";
    let incomplete = "command.incomplete";
    let all = ["the state would not be complete:", missing];
    refused(&place, &words, "all", incomplete, &all);
    refused(&place, &words, "layers", incomplete, &["layers are missing:", missing]);
    let steps = ["builds will not find 100% of the steps:", missing];
    refused(&place, &words, "100%", incomplete, &steps);
    for required in ["95%", "keys"] {
        let plan = accepted(&place, &words, required);
        assert_eq!(plan["dropped"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn layers_that_no_step_leads_to_are_left_out_if_asked() {
    let place = Place::new();
    let words = without_a_key(&place);
    let converted = |place: &Place, options: &[&str]| {
        let options = [&["--allow-unkeyed", "--format=json"], options].concat();
        Printed::of(convert(&words, place).args(options), 0)
    };
    let kept = converted(&place, &[]);
    kept.says(&["no step leads to 1 layer of 280 B", "--drop-unused-layers"]);
    let place = Place::new();
    let dropped = converted(&place, &["--drop-unused-layers"]);
    assert!(!dropped.stderr.contains("no step leads to"), "{}", dropped.stderr);
    let [kept, dropped] = [kept.json(), dropped.json()];
    let number = |json: &Value, place: &str| json.pointer(place).unwrap().as_u64().unwrap();
    for (pointer, less) in
        [("/layer_count", 1), ("/stored/blob_count", 1), ("/stored/blob_size", 280)]
    {
        assert_eq!(number(&dropped, pointer) + less, number(&kept, pointer), "{pointer}");
    }
    // The step is still lost.
    assert_eq!((&kept["complete"], &dropped["complete"]), (&json!(false), &json!(false)));
    assert_eq!(dropped["step_counts"], kept["step_counts"]);
    Printed::of(command().arg("verify").arg(place.root()), 0);
    let all =
        convert(&words, &Place::new()).args(["--drop-unused-layers", "--require=all"]).output();
    assert_eq!(all.unwrap().status.code(), Some(4), "the key is missing all the same");
}

#[test]
fn a_whole_cache_has_all() {
    for required in ["all", "keys", "layers", "100%"] {
        let dry = ["--require", required, "--dry-run", "--format=json"];
        let plan = Printed::of(convert(index(), &Place::new()).args(dry), 0).json();
        assert_eq!(plan["complete"], true, "{required}");
    }
}

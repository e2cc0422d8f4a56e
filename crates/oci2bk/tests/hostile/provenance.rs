//! Provenance and dumps of LLB that are damaged, nested, huge or contradictory.

use std::path::Path;

use bkstate::Digest;
use oci2bk::json::TooComplex;
use oci2bk::keys::SourceError;
use oci2bk::llb::ProvenanceError;
use serde_json::{Value, json};

use super::keys::{file, refused};
use super::*;

/// Returns provenance with these steps.
fn of(steps: &Value) -> Value {
    json!({
        "invocation": {"environment": {"platform": "linux/amd64"}},
        "buildConfig": {"llbDefinition": steps},
    })
}

fn merge(inputs: &Value) -> Value {
    json!([{"op": {"Op": {"merge": {"inputs": inputs}}}, "inputs": ["a:0", "b:0"]}])
}

/// Creates a cache with a step on a root, whose op digest is the hash of `preimage`.
fn cache_of(op: &str) -> Layout {
    let layout = Layout::new();
    let step = Digest::of(format!("{op}@0"));
    let records = json!([{"digest": Digest::of("r")}, {"digest": step, "inputs": [[{"link": 0}]]}]);
    layout.cache(&[], json!({"records": records}).to_string());
    layout
}

/// Returns the number of steps of the cache `layout` with keys in the source, which must not take long.
fn resolved(layout: &Layout, source: &Path) -> usize {
    let started = processor_time();
    let (plan, _) = converted_with(layout.path(), &[source]).unwrap();
    assert!((processor_time() - started).as_secs() < 60, "{:?}", processor_time() - started);
    plan.steps.len() - 1
}

#[test]
fn cut_off_at_every_byte() {
    let whole = of(&merge(&json!([{"input": 0}, {"input": 1}]))).to_string();
    for length in 0..whole.len() {
        let error = refused(file(&whole[..length]).path());
        let named = match error {
            SourceError::Empty { .. } => length == 0,
            SourceError::Unrecognised { .. } => length > 0,
            _ => false,
        };
        assert!(named, "{length}: {error:?}");
    }
}

#[test]
fn with_any_byte_flipped_names_no_other_step() {
    let whole = of(&merge(&json!([{"input": 0}, {"input": 1}]))).to_string();
    let digest =
        Digest::of(r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":[{"input":0},{"input":1}]}}"#);
    let layout = cache_of(&digest.to_string());
    assert_eq!(resolved(&layout, file(&whole).path()), 1);
    for at in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[at] ^= 1 << (at % 8);
        match planned(layout.path(), &[file(&bytes).path()]) {
            // Correct or missing: a hash proves each key.
            Ok(plan) => assert!(plan.steps.len() <= 2),
            Err(Fault::Keys(_)) => {}
            Err(fault) => panic!("{at}: {fault:?}"),
        }
    }
}

#[test]
fn nested_100_000_deep() {
    const DEEP: usize = 100_000;
    let nested = format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    for text in [
        nested.clone(),
        format!(r#"{{"invocation":{nested}}}"#),
        format!(
            r#"{{"invocation":{{}},"buildConfig":{{"llbDefinition":[{{"op":{{"Op":{nested}}}}}]}}}}"#
        ),
        format!(r#"{{"Op":{nested},"Digest":""}}"#),
        format!("{}{{}}{}", r#"{"predicate":"#.repeat(DEEP), "}".repeat(DEEP)),
    ] {
        let error = refused(file(text).path());
        let named = matches!(
            error,
            SourceError::Unrecognised { .. }
                | SourceError::Provenance { .. }
                | SourceError::Dump { .. }
        );
        assert!(named, "{error:?}");
    }
    // Unused members may be nested at any depth.
    let unknown = format!(
        r#"{{"x":{nested},"invocation":{{"environment":{{"platform":"linux/amd64"}}}},
            "buildConfig":{{"llbDefinition":[{{"op":{{"Op":{{"new":{nested}}}}}}}]}}}}"#
    );
    let (layout, _) = one_layer();
    converted_with(layout.path(), &[file(unknown).path()]).unwrap();
}

#[test]
fn whose_steps_lead_in_circles_or_nowhere() {
    // The order of steps comes from the cache; their own references are not followed.
    let step = |inputs: Value| json!({"op": {"Op": {"merge": {"inputs": [{"input": 0}]}}}, "inputs": inputs});
    for steps in [
        json!([step(json!(["step0:0"]))]),
        json!([step(json!(["step1:0"])), step(json!(["step0:0"]))]),
        json!([step(json!(["nowhere:-1", "", ":", "step0:99999999999999999999"]))]),
    ] {
        let source = file(of(&steps).to_string());
        let (layout, _) = one_layer();
        converted_with(layout.path(), &[source.path()]).unwrap();
    }
}

#[test]
fn with_absurd_indexes_and_outputs() {
    for number in [i64::MAX, i64::MIN, -2, 1 << 40] {
        let action = json!({"input": number, "secondaryInput": number, "output": number,
            "Action": {"mkdir": {"path": "/a"}}});
        let mount = json!({"input": number, "dest": "/", "output": number});
        let steps = json!([
            {"op": {"Op": {"file": {"actions": [action]}}}},
            {"op": {"Op": {"exec": {"meta": {"args": ["a"]}, "mounts": [mount]}}}},
            {"op": {"Op": {"merge": {"inputs": [{"input": number}]}}}},
            {"op": {"Op": {"diff": {"lower": {"input": number}, "upper": {"input": number}}}}},
            {"op": {"Op": {"build": {"builder": number}}}},
            {"op": {"Op": {"passthrough": {"outputs": [number]}}}},
        ]);
        let (layout, _) = one_layer();
        converted_with(layout.path(), &[file(of(&steps).to_string()).path()]).unwrap();
    }
}

#[test]
fn with_numbers_beyond_any_range() {
    for number in ["1e400", "-1e400", "99999999999999999999", "NaN", "0.1"] {
        let text = of(&merge(&json!(["@"]))).to_string();
        let text = text.replace(r#""@""#, &format!(r#"{{"input":{number}}}"#));
        let (layout, _) = one_layer();
        match converted_with(layout.path(), &[file(text).path()]) {
            Ok(_)
            | Err(Fault::Keys(SourceError::Unrecognised { .. } | SourceError::Provenance { .. })) =>
                {}
            result => panic!("{number}: {result:?}"),
        }
    }
}

#[test]
fn of_which_two_bytes_would_take_hundreds() {
    let objects = "{},".repeat(5_000_000);
    for (text, expected) in [
        (format!(r#"{{"invocation":{{}},"x":[{objects}{{}}]}}"#), "objects"),
        (format!(r#"{{"invocation":{{}},"x":[{}0]}}"#, "0,".repeat(16_000_000)), "values"),
    ] {
        let error = refused(file(text).path());
        assert!(error.to_string().ends_with(" is not a document of a build"), "{error}");
        match (&error, expected) {
            (SourceError::TooComplex { source: TooComplex::Objects { .. }, .. }, "objects")
            | (SourceError::TooComplex { source: TooComplex::Values { .. }, .. }, "values") => {}
            _ => panic!("{expected}: {error:?}"),
        }
    }
}

#[test]
fn with_a_merge_of_200_000_inputs() {
    // Up to v0.12 such an op is named by its JSON, which would be stored with every link to it.
    let inputs: Vec<_> = (0..200_000).map(|input| json!({"input": input})).collect();
    let steps = merge(&json!(inputs));
    let json = json!({"Type": "buildkit.merge.v0", "Merge": {"inputs": inputs}}).to_string();
    let source = file(of(&steps).to_string());
    assert_eq!(resolved(&cache_of(&json), source.path()), 0);
}

// The step's op names every record of the step, and must not be encoded again for each.
#[test]
fn with_an_op_of_a_megabyte_that_thousands_of_records_share() {
    let args = ["x".repeat(1 << 20)];
    let mount = json!({"dest": "/"});
    let exec = json!({"meta": {"args": args, "cwd": "/"}, "mounts": [mount]});
    let provenance = of(&json!([{"op": {"Op": {"exec": exec}}, "inputs": ["a:0"]}]));
    let source = file(provenance.to_string());
    let sources = oci2bk::keys::read_source(source.path(), &Default::default()).unwrap();
    let op = sources[0].candidates[0].op_digest.record(0);
    let layout = Layout::new();
    let root = |n: usize| json!({"digest": Digest::of(n.to_string())});
    let step = |n: usize| json!({"digest": op, "inputs": [[{"link": n}]]});
    let records: Vec<_> = (0..2000).map(root).chain((0..2000).map(step)).collect();
    layout.cache(&[], json!({"records": records}).to_string());
    let started = processor_time();
    let (plan, _) = converted_with(layout.path(), &[source.path()]).unwrap();
    assert_eq!(plan.steps.len(), 4000);
    // Encoding it once for each record takes many minutes.
    assert!((processor_time() - started).as_secs() < 30, "{:?}", processor_time() - started);
}

// All mounts are visited for each input of each record of the op.
#[test]
fn with_an_op_of_more_mounts_than_any() {
    let mounts = |count: usize| {
        let mount = |n: usize| json!({"input": n, "dest": format!("/{n}"), "output": -1});
        let mounts: Vec<_> = (0..count).map(mount).collect();
        let exec = json!({"meta": {"args": ["a"]}, "mounts": mounts});
        let source = file(of(&json!([{"op": {"Op": {"exec": exec}}}])).to_string());
        oci2bk::keys::read_source(source.path(), &Default::default()).unwrap().remove(0)
    };
    assert!(!mounts(4096).candidates.is_empty());
    let refused = mounts(4097);
    assert!(refused.candidates.is_empty());
    let reason = refused.uncomputable[0].reason.to_string();
    assert!(reason.contains("it has 4097 mounts"), "{reason}");
}

#[test]
fn that_calls_the_builder_s_platform_names() {
    for platform in ["", "/", "a/b/c/d", "linux/\0", &"x/".repeat(1 << 20)] {
        let mut provenance = of(&merge(&json!([{"input": 0}])));
        provenance["invocation"]["environment"]["platform"] = platform.into();
        let source = file(provenance.to_string());
        let (layout, _) = one_layer();
        match converted_with(layout.path(), &[source.path()]) {
            Ok(_) => {}
            Err(Fault::Keys(SourceError::Provenance { source, .. })) => {
                assert!(matches!(source, ProvenanceError::Platform(_)), "{source:?}");
                assert!(source.to_string().len() < 1000);
            }
            result => panic!("{result:?}"),
        }
    }
}

#[test]
fn with_members_that_are_there_twice() {
    let step = r#"{"op":{"Op":{"merge":{"inputs":[{"input":0}]},"Merge":{"inputs":[]}}}}"#;
    for text in [
        format!(r#"{{"invocation":{{}},"buildConfig":{{"llbDefinition":[{step}]}}}}"#),
        r#"{"invocation":{},"invocation":{},"buildConfig":{}}"#.to_owned(),
        r#"{"invocation":{},"buildConfig":{"llbDefinition":[],"llbDefinition":[{"op":{}}]}}"#
            .to_owned(),
    ] {
        let error = refused(file(&text).path());
        let SourceError::Provenance { source, .. } = error else { panic!("{text}: {error:?}") };
        assert!(matches!(source, ProvenanceError::Json(_)), "{text}: {source:?}");
        assert_eq!(source.to_string(), "the provenance is not JSON of the SLSA form");
    }
}

//! JSON definitions that no frontend would send.

use std::fs;
use std::path::Path;

use oci2bk::Limits;
use oci2bk::keys::{SourceError, read_source};
use oci2bk::llb::DefinitionError;
use serde_json::{Value, json};

fn refused(content: impl AsRef<[u8]>, limits: &Limits) -> SourceError {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    read_source(file.path(), limits).unwrap_err()
}

fn answer(ops: &Value) -> String {
    json!({"def": ops, "metadata": {}}).to_string()
}

/// Returns a chain of ops, from the last to the first.
fn chain(length: usize) -> serde_json::Map<String, Value> {
    let op = |at: usize| {
        let input = json!({"digest": format!("{:08}", at + 1)});
        (format!("{at:08}"), json!({"inputs": [input], "merge": {}}))
    };
    (0..length).map(op).collect()
}

#[test]
fn that_are_cut_off_at_any_place() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/history/raw.answer.json");
    let whole = fs::read(data).unwrap();
    for length in (1..whole.len() - 2).step_by(97) {
        let error = refused(&whole[..length], &Limits::default());
        assert!(matches!(error, SourceError::Unrecognised { .. }), "{length}: {error:?}");
        assert!(error.to_string().contains(" is not a known key source; "), "{error}");
    }
}

#[test]
fn with_a_chain_that_leads_nowhere_or_in_a_circle() {
    let mut ops = chain(3000);
    for last in ["nowhere", "00000000"] {
        ops["00002999"]["inputs"][0]["digest"] = json!(last);
        let error = refused(answer(&json!(ops)), &Limits::default());
        let SourceError::Dump { source, .. } = error else { panic!("{error:?}") };
        assert!(
            source.to_string().ends_with(", which is not there or builds on that op itself"),
            "{source}"
        );
        let DefinitionError::NoOrder { input } = source else { panic!("{source:?}") };
        assert!(input.len() < 10);
    }
    // With a first op it is a valid, if strange, build.
    ops["00002999"]["inputs"] = json!([]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), answer(&json!(ops))).unwrap();
    assert_eq!(read_source(file.path(), &Limits::default()).unwrap().len(), 1);
}

#[test]
fn with_more_in_them_than_any_build_has() {
    let limits = Limits { json_objects: 1000, ..Limits::default() };
    let error = refused(answer(&json!(chain(1000))), &limits);
    assert!(matches!(error, SourceError::TooComplex { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" is not a document of a build"), "{error}");
    let mounts = format!(
        r#"{{"def":{{"a":{{"exec":{{"mounts":[{}{{}}]}}}}}},"metadata":{{}}}}"#,
        "{},".repeat(1000)
    );
    let error = refused(mounts, &limits);
    assert!(matches!(error, SourceError::TooComplex { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" is not a document of a build"), "{error}");
}

#[test]
fn whose_names_are_long_are_not_quoted_whole() {
    let ops = json!({"a": {"inputs": [{"digest": "x".repeat(1 << 20)}]}});
    let error = refused(answer(&ops), &Limits::default());
    let SourceError::Dump { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().len() < 300);
    let wrong = json!({"a": {"exec": {"mounts": [{"mountType": "x".repeat(1 << 20)}]}}});
    let error = refused(answer(&wrong), &Limits::default());
    assert!(
        matches!(error, SourceError::Dump { source: DefinitionError::Answer(_), .. }),
        "{error:?}"
    );
    assert!(error.to_string().ends_with(" gives no keys"), "{error}");
}

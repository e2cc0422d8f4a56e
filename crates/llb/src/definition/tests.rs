//! Valid and invalid definitions.

use super::*;
use crate::op::MergeOp;

/// A protobuf field with bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    assert!(number < 16 && length < 128);
    [&[number << 3 | 2, length], bytes].concat()
}

/// A merge op of `inputs`, one of which may be missing.
fn merge(inputs: &[Digest]) -> Vec<u8> {
    let mut op = Vec::new();
    for input in inputs {
        op.extend(field(1, &field(1, input.to_string().as_bytes())));
    }
    op.extend(field(6, &[]));
    op
}

fn definition(ops: &[&[u8]]) -> Vec<u8> {
    ops.iter().flat_map(|op| field(1, op)).collect()
}

fn last(input: &[u8]) -> Vec<u8> {
    field(1, &field(1, Digest::of(input).to_string().as_bytes()))
}

#[test]
fn ops_come_with_their_inputs_and_the_last_is_the_result() {
    let first = field(3, b"");
    let second = merge(&[Digest::of(&first)]);
    let bytes = definition(&[&first, &second, &last(&second)]);
    let ops = Definition::from_protobuf(&bytes).unwrap().ops;
    let of = |inputs, kind| Op { inputs, kind, platform: None };
    let expected =
        [of(0, Kind::Source), of(1, Kind::Merge(MergeOp::default())), of(1, Kind::Return)];
    assert_eq!(ops, expected);
}

#[test]
fn unknown_fields_are_passed_over_and_unknown_ops_said_to_be_such() {
    let source = [field(3, &field(9, b"new")), field(12, b"newer")].concat();
    let unknown = [last(&source), field(9, b"op of the future")].concat();
    let bytes = [definition(&[&source, &unknown, &last(&unknown)]), field(7, b"newest")].concat();
    let ops = Definition::from_protobuf(&bytes).unwrap().ops;
    let kinds: Vec<_> = ops.into_iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [Kind::Source, Kind::Unknown, Kind::Return]);
}

#[test]
fn an_op_whose_input_is_not_there_is_refused() {
    let orphan = merge(&[Digest::of("elsewhere")]);
    let error = Definition::from_protobuf(&definition(&[&orphan])).unwrap_err();
    assert!(matches!(error, DefinitionError::MissingInput { index: 0 }), "{error}");
    assert_eq!(
        error.to_string(),
        "op 0 builds on one that is not there, so it is not a whole definition"
    );
}

#[test]
fn what_is_no_definition_is_refused() {
    let error = Definition::from_protobuf(b"").unwrap_err();
    assert!(matches!(error, DefinitionError::Empty), "{error}");
    assert_eq!(error.to_string(), "it has no ops");
    let error = Definition::from_protobuf(&field(3, b"")).unwrap_err();
    assert!(matches!(error, DefinitionError::Empty), "{error}");
    assert_eq!(error.to_string(), "it has no ops");
    let cut = &definition(&[&field(3, b"")])[..3];
    for bytes in [cut, b"text\n", &[0xff; 20], &definition(&[b"\x0a\x7f"])] {
        let error = Definition::from_protobuf(bytes).unwrap_err();
        assert!(matches!(error, DefinitionError::Protobuf(_)), "{error}");
        assert_eq!(error.to_string(), "it is not LLB in protobuf");
    }
}

#[test]
fn groups_nested_without_end_are_refused() {
    let groups = [15 << 3 | 3].repeat(1_000_000);
    let error = Definition::from_protobuf(&groups).unwrap_err();
    assert!(matches!(error, DefinitionError::Protobuf(_)), "{error}");
    assert_eq!(error.to_string(), "it is not LLB in protobuf");
}

#[test]
fn more_parts_than_any_build_has_are_refused_before_they_take_memory() {
    let long = |number: u8, bytes: Vec<u8>| {
        let mut message = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut message);
        [message, bytes].concat()
    };
    let empty = |number: u8| [number << 3 | 2, 0].repeat(MAX_PARTS);
    let (mounts, actions) = (long(2, empty(2)), long(4, empty(2)));
    for bytes in [long(1, mounts), long(1, actions), [empty(1), long(1, vec![])].concat()] {
        let error = Definition::from_protobuf(&bytes).unwrap_err();
        assert!(matches!(error, DefinitionError::TooLarge), "{error}");
        assert_eq!(
            error.to_string(),
            format!("it has more than {MAX_PARTS} ops, mounts and file actions")
        );
    }
    assert_eq!(Definition::from_protobuf(&empty(1)).unwrap().ops.len(), MAX_PARTS);
}

#[test]
fn a_dump_is_an_object_per_op_whatever_lies_between() {
    let op = r#"{"Op":{"Op":{"merge":{"inputs":[{}]}}},"Digest":"x","OpMetadata":{"caps":{}}}"#;
    for dump in [format!("{op}\n{op}\n"), format!("{op}{op}"), format!("  {op}\r\n\n{op}")] {
        assert_eq!(Definition::from_dump(dump.as_bytes()).unwrap().ops.len(), 2);
    }
    let error = Definition::from_dump(b" \n").unwrap_err();
    assert!(matches!(error, DefinitionError::Empty), "{error}");
    assert_eq!(error.to_string(), "it has no ops");
    for bad in ["{", "null", "[]", r#"{"Op":1}"#, r#"{"Digest":"x"}"#] {
        let error = Definition::from_dump(format!("{op}\n{bad}").as_bytes()).unwrap_err();
        assert!(matches!(error, DefinitionError::Dump { index: 1, .. }), "{bad}: {error}");
        assert_eq!(error.to_string(), "op 1 of the dump is malformed");
    }
}

/// A frontend's response with these ops.
fn answer(ops: &serde_json::Value) -> String {
    serde_json::json!({"def": ops, "metadata": {}, "source": {}}).to_string()
}

#[test]
fn the_ops_of_an_answer_come_inputs_first_and_the_last_is_the_result() {
    let input = |name: &str| serde_json::json!([{"digest": name}]);
    let ops = serde_json::json!({
        "a": {"inputs": input("c")},
        "b": {"source": {"identifier": "local://context"}},
        "c": {"inputs": input("d"), "merge": {"inputs": [{"input": "-1"}]}, "newer": {}},
        "d": {"inputs": input("b"), "future": {}},
    });
    let definition = Definition::from_convertllb(answer(&ops).as_bytes()).unwrap();
    let kinds: Vec<_> = definition.ops.into_iter().map(|op| op.kind).collect();
    let merge = MergeOp { inputs: vec![crate::op::InputIndex { input: -1 }] };
    assert_eq!(kinds, [Kind::Source, Kind::Unknown, Kind::Merge(merge), Kind::Return]);
    let graph = definition.graph.unwrap();
    assert_eq!(graph.steps[0].identifier.as_deref(), Some("local://context"));
    assert_eq!(graph.steps[3].inputs, [crate::Output { step: 2, output: 0 }]);
}

#[test]
fn an_answer_that_lacks_an_op_or_has_a_circle_is_refused() {
    let op = |input: &str| serde_json::json!({"inputs": [{"digest": input}], "merge": {}});
    for ops in [
        serde_json::json!({"a": op("b")}),
        serde_json::json!({"a": op("b"), "b": op("a"), "c": {"source": {}}}),
        serde_json::json!({"b": op("b")}),
    ] {
        let error = Definition::from_convertllb(answer(&ops).as_bytes()).unwrap_err();
        let DefinitionError::NoOrder { input } = &error else { panic!("{error:?}") };
        assert!(["a", "b"].contains(&input.as_str()), "{error}");
        let message = "which is not there or builds on that op itself";
        assert_eq!(error.to_string(), format!("an op builds on {input}, {message}"));
    }
    // An op waits only once for two equal inputs.
    let both = serde_json::json!({"inputs": [{"digest": "b"}, {"digest": "b", "index": "1"}]});
    let ops = serde_json::json!({"a": both, "b": {"source": {}}});
    assert_eq!(Definition::from_convertllb(answer(&ops).as_bytes()).unwrap().ops.len(), 2);
}

#[test]
fn an_answer_is_in_the_json_of_protobuf() {
    let exec = |mount: serde_json::Value| {
        let ops = serde_json::json!({"a": {"exec": {"network": "NONE", "mounts": [mount]}}});
        Definition::from_convertllb(answer(&ops).as_bytes())
    };
    let definition = exec(serde_json::json!({"input": "-1", "output": 3, "mountType": "CACHE",
        "cacheOpt": {"ID": "x", "sharing": "LOCKED"}, "contentCache": 9}));
    let op = definition.unwrap().ops.remove(0);
    let Kind::Exec(exec_op) = op.kind else { panic!("{op:?}") };
    let mount = &exec_op.mounts[0];
    assert_eq!((exec_op.network, mount.input, mount.output, mount.mount_type), (2, -1, 3, 3));
    assert_eq!((mount.cache_opt.as_ref().unwrap().sharing, mount.content_cache), (2, 9));
    for wrong in [
        serde_json::json!({"input": "one"}),
        serde_json::json!({"input": 1.5}),
        serde_json::json!({"mountType": "TAPE"}),
        serde_json::json!({"mountType": 1_u64 << 40}),
        serde_json::json!({"cacheOpt": ["x"]}),
        serde_json::json!(["x"]),
    ] {
        let error = exec(wrong.clone()).unwrap_err();
        assert!(matches!(error, DefinitionError::Answer(_)), "{wrong}: {error}");
        assert_eq!(
            error.to_string(),
            "it is not a definition in JSON, as a Dockerfile frontend answers"
        );
    }
    for (json, is_empty) in [("", true), ("{}", false), (&*answer(&serde_json::json!({})), true)] {
        let error = Definition::from_convertllb(json.as_bytes()).unwrap_err();
        assert_eq!(matches!(error, DefinitionError::Empty), is_empty, "{json}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0..=u8::MAX, 0..200)) {
        let _ = Definition::from_protobuf(&bytes);
        let _ = Definition::from_dump(&bytes);
        let _ = Definition::from_convertllb(&bytes);
    }
}

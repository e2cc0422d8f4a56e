//! Documents in the forms in which tools write and print them.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::*;

/// Returns a signed statement, with its payload in base64.
fn envelope(payload: &str) -> Value {
    json!({"payloadType": "application/vnd.in-toto+json", "payload": payload})
}

/// Returns a statement that is not provenance, in the URL-safe form of base64.
fn sbom() -> String {
    let sbom = json!({"predicateType": "https://spdx.dev/Document", "predicate": {"~~": "??>>"}});
    let payload = BASE64_URL_SAFE_NO_PAD.encode(sbom.to_string());
    assert!(payload.contains(['-', '_']), "{payload}");
    payload
}

fn parts(sources: &[KeySource]) -> Vec<Option<&str>> {
    sources.iter().map(|source| source.description.part.as_deref()).collect()
}

#[test]
fn signed_provenance_is_found_among_other_attestations() {
    let provenance = BASE64_STANDARD.encode(statement(&merge_provenance()).to_string());
    let signed = envelope(&provenance);
    for content in [
        signed.to_string(),
        json!({"mediaType": "bundle", "dsseEnvelope": signed}).to_string(),
        format!("{}\n{signed}\n{{}}\n", envelope(&sbom())),
        format!("{signed}\n{}\n", envelope(&sbom())),
    ] {
        let sources = read(&content).unwrap();
        assert_eq!(sources.len(), 1, "{content}");
        assert!(offers_the_merge(&sources) && sources[0].signed, "{content}");
        assert_eq!(sources[0].description.kind, SourceKind::Attestation);
    }
}

#[test]
fn signed_documents_without_provenance_are_refused() {
    let error = read(envelope(&sbom()).to_string()).unwrap_err();
    assert!(matches!(error, SourceError::NoProvenance { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" is SLSA provenance; give the one that is"), "{error}");
    let error = read(envelope("?").to_string()).unwrap_err();
    let SourceError::Envelope { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, EnvelopeError::Base64(_)), "{source}");
    assert_eq!(source.to_string(), "the payload of the envelope is not base64");
    let error = read(r#"{"payloadType":"text/plain","payload":"aGVsbG8="}"#).unwrap_err();
    let SourceError::Envelope { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, EnvelopeError::PayloadType(kind) if kind == "text/plain"), "{source}");
    assert_eq!(
        source.to_string(),
        "the envelope holds \"text/plain\", not an attestation (application/vnd.in-toto+json)"
    );
}

#[test]
fn provenance_that_buildx_prints_is_a_source_for_each_platform() {
    let printed = json!({"SLSA": merge_provenance()});
    for (content, expected) in [
        (printed.clone(), vec![None]),
        (
            json!({"linux/amd64": printed, "linux/arm64": printed, "other": 1}),
            vec![Some("linux/amd64"), Some("linux/arm64")],
        ),
    ] {
        let sources = read(content.to_string()).unwrap();
        assert_eq!(parts(&sources), expected);
        for source in sources {
            assert_eq!(source.description.kind, SourceKind::Provenance);
            assert!(offers_the_merge(&[source]));
        }
    }
}

#[test]
fn a_metadata_file_is_a_source_for_each_target_and_platform() {
    let single = json!({"buildx.build.ref": "a", "buildx.build.provenance": merge_provenance()});
    let several = json!({"buildx.build.provenance/linux/arm64": merge_provenance()});
    for (content, expected) in [
        (single.clone(), vec![None]),
        (several.clone(), vec![Some("linux/arm64")]),
        (json!({"app": single, "web": several}), vec![Some("app"), Some("web linux/arm64")]),
    ] {
        let sources = read(content.to_string()).unwrap();
        assert_eq!(parts(&sources), expected);
        for source in sources {
            assert_eq!(source.description.kind, SourceKind::MetadataFile);
            assert!(offers_the_merge(&[source]));
        }
    }
}

fn data(name: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    fs::read(data.join(name)).unwrap()
}

#[test]
fn the_answer_of_a_frontend_may_follow_the_name_of_its_document() {
    let json = String::from_utf8(data("history/raw.answer.json")).unwrap();
    let ops = |content: &str| {
        let sources = read(content).unwrap();
        assert_eq!(sources[0].description.kind, SourceKind::Definition);
        let candidates = sources[0].candidates.iter();
        candidates.map(|candidate| candidate.op_digest.clone()).collect::<Vec<_>>()
    };
    let expected = ops(&json);
    assert!(!expected.is_empty());
    for printed in [
        format!("result.json:{json}"),
        format!("result.json\n{json}\n"),
        format!("Name:\"convertllb\" map[result.json:{json} version:0.1.0]\n"),
    ] {
        assert_eq!(ops(&printed), expected);
    }
}

#[test]
fn llb_in_protobuf_may_have_16_mebibytes() {
    let mut llb = data("history/raw.pb");
    // Field 1000, which no release has, fills it up.
    let filler = (16 << 20) - llb.len() - 6;
    llb.extend([0xC2, 0x3E]);
    llb.extend([0, 7, 14, 21].map(|shift| {
        let rest = u8::try_from(filler >> shift & 0x7F).unwrap();
        if shift < 21 { rest | 0x80 } else { rest }
    }));
    llb.resize(16 << 20, 0);
    let sources = read(&llb).unwrap();
    assert_eq!(sources[0].description.kind, SourceKind::Definition);
    // Another field, of one byte.
    llb.extend([0xC0, 0x3E, 1]);
    let error = read(&llb).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
    assert!(error.to_string().contains(" is not a known key source; "), "{error}");
}

#[test]
fn a_document_may_be_as_large_as_the_limit() {
    let document = statement(&merge_provenance()).to_string();
    let (_dir, path) = file_with(&document);
    let length = document.len() as u64;
    let within =
        |limit: u64| read_source(&path, &Limits { keys_document: limit, ..Limits::default() });
    assert!(offers_the_merge(&within(length).unwrap()));
    let error = within(length - 1).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    let said = format!(" has more than {} bytes", length - 1);
    assert!(error.to_string().ends_with(&said), "{error}");
}

#[test]
fn a_packed_layout_without_attestations_is_refused_as_an_unpacked_one() {
    let index = crate::archives::file("index.json", r#"{"manifests":[]}"#);
    let error = read(crate::archives::archive(&[index])).unwrap_err();
    assert!(matches!(error, SourceError::NoAttestations { .. }), "{error:?}");
    let said = " and nothing in it has provenance that lists the build's ops";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn the_cache_db_of_a_builder_has_digests_only() {
    let sources = read(data("provenance/cache.db")).unwrap();
    let [source] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(source.description.kind, SourceKind::CacheDb);
    assert!(!source.candidates.is_empty());
    assert!(source.candidates.iter().all(|c| c.vertex.is_none() && c.name.is_none()));
}

use super::*;

/// The output of a build that imports a cache whose second step has changed.
const IMPORTED: &str = r#"
time="2026-11-22T01:22:34Z" level=warning msg="a warning of the client"
{"vertexes":[{"digest":"sha256:i","name":"importing cache manifest from cache:5000/cache","started":"2026-01-01T00:00:00.5Z"}]}
{"vertexes":[{"digest":"sha256:i","name":"importing cache manifest from cache:5000/cache","started":"2026-01-01T00:00:00.5Z","completed":"2026-01-01T00:00:00.75Z"}]}
{"vertexes":[{"digest":"sha256:l","name":"[internal] load build context","started":"2026-01-01T00:00:00Z","completed":"2026-01-01T00:00:01Z"}]}
{"vertexes":[{"digest":"sha256:f","name":"[build 1/3] FROM base:5000/base:latest@sha256:base","started":"2026-01-01T00:00:00Z","completed":"2026-01-01T00:00:00.1Z"}]}
{"vertexes":[{"digest":"sha256:a","inputs":["sha256:f"],"name":"[build 2/3] COPY a /"}]}
{"vertexes":[{"digest":"sha256:a","inputs":["sha256:f"],"name":"[build 2/3] COPY a /","started":"2026-01-01T00:00:01Z","cached":true}]}
{"vertexes":[{"digest":"sha256:a","name":"[build 2/3] COPY a /","started":"2026-01-01T00:00:01Z","completed":"2026-01-01T00:00:04Z"}]}
{"statuses":[{"id":"sha256:one","vertex":"sha256:a","total":100,"current":10,"timestamp":"2026-01-01T00:00:01Z","started":"2026-01-01T00:00:01Z"}]}
{"statuses":[{"id":"sha256:one","vertex":"sha256:a","total":100,"current":100,"timestamp":"2026-01-01T00:00:02Z","started":"2026-01-01T00:00:01Z","completed":"2026-01-01T00:00:02Z"}]}
{"statuses":[{"id":"extracting sha256:one","vertex":"sha256:a","current":0,"timestamp":"2026-01-01T00:00:03Z","started":"2026-01-01T00:00:02Z","completed":"2026-01-01T00:00:03Z"}]}
{"statuses":[{"id":"extracting sha256:two","vertex":"sha256:a","current":0,"timestamp":"2026-01-01T00:00:03Z","started":"2026-01-01T00:00:02.5Z","completed":"2026-01-01T00:00:04Z"}]}
{"vertexes":[{"digest":"sha256:b","inputs":["sha256:a"],"name":"[build 3/3] RUN b","started":"2026-01-01T00:00:04Z","completed":"2026-01-01T00:00:06.25Z"}]}
{"vertexes":[{"digest":"sha256:never","inputs":["sha256:a"],"name":"[other 2/2] RUN nobody needs it"}]}
{"vertexes":[{"digest":"sha256:e","name":"exporting to image","started":"2026-01-01T00:00:06.25Z","completed":"2026-01-01T00:00:07Z"}]}
{"statuses":[{"id":"sha256:pushed","vertex":"sha256:e","total":7,"current":7,"timestamp":"2026-01-01T00:00:07Z","started":"2026-01-01T00:00:06.5Z","completed":"2026-01-01T00:00:07Z"}]}
"#;

#[test]
fn steps_are_the_instructions_that_were_needed() {
    let measures = measure(IMPORTED).unwrap();
    let steps: Vec<_> =
        measures.steps.iter().map(|step| (step.name(), step.cached, step.micros)).collect();
    assert_eq!(
        steps,
        [
            ("[build 2] COPY a /".to_owned(), true, 0),
            ("[build 3] RUN b".to_owned(), false, 2_250_000)
        ]
    );
    assert_eq!((measures.cached(), measures.ran()), (1, 1));
    assert_eq!(measures.solve, 7_000_000);
    assert_eq!(measures.bases["base:5000/base:latest"], "sha256:base");
}

#[test]
fn a_step_stays_cached_while_its_result_is_extracted() {
    let measures = measure(IMPORTED).unwrap();
    assert!(measures.steps[0].cached);
    let layers: Vec<_> = measures
        .extracted
        .iter()
        .map(|layer| (layer.digest.as_str(), layer.bytes, layer.micros))
        .collect();
    assert_eq!(layers, [("sha256:one", Some(100), 1_000_000), ("sha256:two", None, 1_500_000)]);
    assert_eq!(measures.extracted[0].step, "[build 2/3] COPY a /");
    // The two overlap by half a second.
    assert_eq!(measures.extracting, 2_000_000);
    assert_eq!(measures.extracted_bytes(), 100);
}

#[test]
fn what_is_pushed_is_not_fetched() {
    let measures = measure(IMPORTED).unwrap();
    assert_eq!((measures.fetched_bytes, measures.fetching), (100, 1_000_000));
}

#[test]
fn an_import_that_fails_is_told_with_the_reason() {
    let measures = measure(IMPORTED).unwrap();
    assert_eq!(measures.importing, 250_000);
    assert_eq!(measures.imports[0].from, "cache:5000/cache");
    assert_eq!(measures.imports[0].error, None);

    let refused = IMPORTED.replace(
        r#""completed":"2026-01-01T00:00:00.75Z""#,
        r#""completed":"2026-01-01T00:00:00.75Z","error":"connection refused""#,
    );
    let measures = measure(&refused).unwrap();
    assert_eq!(measures.imports[0].error.as_deref(), Some("connection refused"));
}

#[test]
fn names_of_instructions_are_taken_apart() {
    for (name, parts) in [
        ("[2/5] RUN x", Some(("", 2, "RUN x"))),
        ("[build 2/5] COPY [\"a b\", \"/\"]", Some(("build", 2, "COPY [\"a b\", \"/\"]"))),
        ("[linux/amd64 build 10/12] RUN x", Some(("linux/amd64 build", 10, "RUN x"))),
        ("[internal] load build context", None),
        ("[auth] library/debian:pull token for registry", None),
        ("exporting to image", None),
        ("[broken", None),
        ("[x 1/y] RUN", None),
    ] {
        assert_eq!(instruction(name), parts, "{name}");
    }
}

#[test]
fn what_is_not_progress_is_refused() {
    let error = measure("{\"vertexes\":[{\"digest\":1}]}").unwrap_err();
    assert!(error.to_string().starts_with("not a SolveStatus: {\"vertexes\":"), "{error}");
    let error =
        measure("{\"vertexes\":[{\"digest\":\"a\",\"started\":\"yesterday\"}]}").unwrap_err();
    assert!(error.to_string().starts_with("not a SolveStatus: {\"vertexes\":"), "{error}");
    assert_eq!(measure("").unwrap(), Measures::default());
}

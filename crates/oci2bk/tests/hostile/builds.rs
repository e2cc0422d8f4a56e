//! Builds and caches that match in as many places as possible, to be explained. Work is counted, not timed.

use bkstate::{Classified as _, Digest};
use oci2bk::explain::{Cache, ExplainError, Explainer, Explanation, Outcome, Reason};
use oci2bk::export::CacheExport;
use oci2bk::keys::read_source;
use oci2bk::limits::Limits;
use oci2bk::llb::{Encoding, Op, Selectors, Vertex};
use serde_json::{Value, json};

use super::keys::file;
use super::*;

/// Returns a command; it does not name its inputs.
fn command(word: &str) -> Value {
    let mount = json!({"input": 0, "dest": "/", "output": 0});
    json!({"Op": {"exec": {"meta": {"args": [word]}, "mounts": [mount]}}})
}

/// Returns a step without inputs.
fn start(path: &str) -> Value {
    let mkdir = json!({"mkdir": {"path": path, "mode": 493, "timestamp": -1}});
    let action = json!({"input": -1, "secondaryInput": -1, "output": 0, "Action": mkdir});
    json!({"Op": {"file": {"actions": [action]}}})
}

fn vertex(op: &Value) -> Vertex {
    let op: Op = serde_json::from_value(op.clone()).unwrap();
    Vertex { op, default_platform: "linux/amd64".parse().unwrap() }
}

/// Returns the digest of the step's record in an export.
fn record(op: &Value) -> Digest {
    vertex(op).digest(Encoding::ALL[0]).unwrap().record(0)
}

/// Returns the selector for the input of a [`command`].
fn selector() -> String {
    vertex(&command("")).selector(0, Selectors::ALL[0]).unwrap()
}

/// Returns a step with inputs.
fn step((op, inputs): (Value, Vec<String>)) -> Value {
    json!({"op": op, "inputs": inputs})
}

/// Returns provenance with these steps, named `0`, `1` and so on.
fn build(steps: impl IntoIterator<Item = (Value, Vec<String>)>) -> Value {
    let steps = steps.into_iter().map(step).enumerate().map(|(number, mut step)| {
        step["id"] = number.to_string().into();
        step
    });
    json!({
        "invocation": {"environment": {"platform": "linux/amd64"}},
        "buildConfig": {"llbDefinition": steps.collect::<Value>()},
    })
}

fn cache(records: &Value) -> Cache {
    let layout = Layout::new();
    layout.cache(&[], json!({"records": records}).to_string());
    let source = layout.path().to_str().unwrap().parse().unwrap();
    Cache::of_exports(&CacheExport::read_all(&source, &Limits::default()).unwrap())
}

/// Returns the explanation of `build`, and the number of comparisons.
fn explained(
    build: &Value,
    cache: &Cache,
    limits: &Limits,
) -> Result<(Explanation, u64), ExplainError> {
    let sources = read_source(file(build.to_string()).path(), limits).unwrap();
    let explainer = Explainer::new(cache, limits);
    let explanation = explainer.explain(sources[0].graph.as_ref().unwrap())?;
    Ok((explanation, explainer.comparisons()))
}

/// Returns a root, and as many steps with one name on it as there are ways to select something of it.
fn alike(count: usize) -> Cache {
    let records = (0..count).map(|number| {
        let link = json!({"link": 0, "selector": selector()});
        let other = json!({"link": 0, "selector": number.to_string()});
        json!({"digest": record(&command("x")), "inputs": [[link, other]]})
    });
    let root = json!({"digest": record(&start("/"))});
    cache(&std::iter::once(root).chain(records).collect())
}

/// Returns that many steps that are all the same command on one root.
fn all_the_same(count: usize) -> Value {
    let steps = (0..count).map(|_| (command("x"), vec!["0:0".to_owned()]));
    build(std::iter::once((start("/"), Vec::new())).chain(steps))
}

#[test]
fn where_every_step_is_like_every_cached_one_have_an_end() {
    let cache = alike(300);
    let limits = Limits::default();
    let (explanation, comparisons) = explained(&all_the_same(300), &cache, &limits).unwrap();
    assert!(explanation.steps.iter().all(|step| step.outcome == Outcome::Hit), "{explanation:?}");
    assert!((90_000..1_000_000).contains(&comparisons), "{comparisons}");
    let limits = Limits { comparisons: comparisons - 1, ..limits };
    let error = explained(&all_the_same(300), &cache, &limits).unwrap_err();
    assert_eq!(error, ExplainError::TooMany { limit: comparisons - 1 });
    assert_eq!(error.limit_name(), Some("comparisons"), "{error}");
}

#[test]
fn that_miss_beside_many_others_are_compared_with_their_neighbours_only() {
    const MANY: usize = 5000;
    let on = |link: usize| json!([[{"link": link, "selector": selector()}]]);
    let mut records = vec![json!({"digest": record(&start("/"))})];
    for number in 0..MANY {
        let digest = record(&command(&format!("cached {number}")));
        records.push(json!({"digest": digest, "inputs": on(number)}));
    }
    let cache = cache(&records.into());
    let mut steps = vec![(start("/"), Vec::new())];
    for number in 0..MANY {
        steps.push((command(&format!("cached {number}")), vec![format!("{}:0", steps.len() - 1)]));
    }
    for number in 0..MANY {
        steps.push((command(&format!("new {number}")), vec![format!("{number}:0")]));
    }
    let (explanation, comparisons) = explained(&build(steps), &cache, &Limits::default()).unwrap();
    let misses = explanation.steps.iter().filter(|step| step.outcome == Outcome::Miss);
    let one = Some(Reason::Op { others: 1, nearest: None });
    assert_eq!(misses.filter(|step| step.reason == one).count(), MANY);
    assert!(comparisons < 20 * MANY as u64, "{comparisons}");
}

#[test]
fn whose_ops_are_large_and_differ_in_everything_have_an_end() {
    let large = |word: &str| command(&word.repeat(100_000 / word.len()));
    let cached: Vec<_> = (0..20).map(|number| large(&format!("cached {number}"))).collect();
    let on = json!([[{"link": 0, "selector": selector()}]]);
    let mut records = vec![json!({"digest": record(&start("/"))})];
    records.extend(cached.iter().map(|op| json!({"digest": record(op), "inputs": on})));
    let mut cache = cache(&records.into());
    let known = build(cached.into_iter().map(|op| (op, Vec::new())));
    let sources = read_source(file(known.to_string()).path(), &Limits::default()).unwrap();
    cache.learn(sources, &Limits::default()).unwrap();
    let asked = |count: usize| {
        let steps = (0..count).map(|n| (large(&format!("new {n}")), vec!["0:0".to_owned()]));
        build(std::iter::once((start("/"), Vec::new())).chain(steps))
    };
    let limits = Limits::default();
    let (explanation, one) = explained(&asked(1), &cache, &limits).unwrap();
    let reason = explanation.first_miss().unwrap().reason.as_ref();
    assert!(matches!(reason, Some(Reason::Op { others: 20, nearest: Some(_) })));
    assert!(one > 100_000, "{one}");
    let limits = Limits { comparisons: 2 * one, ..limits };
    let error = explained(&asked(3), &cache, &limits).unwrap_err();
    assert_eq!(error, ExplainError::TooMany { limit: 2 * one });
}

#[test]
fn whose_images_are_all_of_one_repository_have_an_end() {
    let image = |digest: usize| {
        let name = format!("docker-image://docker.io/library/debian@sha256:{digest:064x}");
        (json!({"Op": {"source": {"identifier": name}}}), Vec::new())
    };
    let record = json!({"digest": Digest::of("another build"), "inputs": []});
    let mut cache = cache(&json!([record]));
    let known = build((0..500).map(image));
    let sources = read_source(file(known.to_string()).path(), &Limits::default()).unwrap();
    cache.learn(sources, &Limits::default()).unwrap();
    let (explanation, comparisons) =
        explained(&build((500..1000).map(image)), &cache, &Limits::default()).unwrap();
    assert!(explanation.steps.iter().all(|step| step.outcome == Outcome::Miss));
    let limits = Limits { comparisons: comparisons / 2, ..Limits::default() };
    let error = explained(&build((500..1000).map(image)), &cache, &limits).unwrap_err();
    assert_eq!(error, ExplainError::TooMany { limit: comparisons / 2 });
    assert!(error.to_string().starts_with("what the builds ask for is compared "), "{error}");
}

#[test]
fn of_one_op_with_very_many_inputs_outputs_and_parts_take_linear_time() {
    const MANY: i64 = 10_000;
    let copy = |number: i64| {
        let copy = json!({"src": "/a", "dest": "/b", "mode": -1, "timestamp": -1});
        json!({"input": MANY + number - 1, "secondaryInput": number, "output": number,
            "Action": {"copy": copy}})
    };
    let actions: Vec<_> = (0..MANY).map(copy).collect();
    let inputs: Vec<_> = (0..MANY).map(|_| "0:0".to_owned()).collect();
    let outputs = (0..MANY).map(|number| format!("1:{number}")).collect();
    let many = json!({"Op": {"file": {"actions": actions}}});
    let steps = [(start("/"), Vec::new()), (many.clone(), inputs), (many, outputs)];
    let links: Vec<_> = (0..MANY).map(|_| json!([{"link": 0}])).collect();
    let records = json!([
        {"digest": record(&start("/"))},
        {"digest": Digest::of("something else"), "inputs": links},
    ]);
    let started = processor_time();
    let cache = cache(&records);
    let (explanation, comparisons) = explained(&build(steps), &cache, &Limits::default()).unwrap();
    assert_eq!(explanation.steps[1].outcome, Outcome::Miss);
    assert!(comparisons < 10 * MANY as u64, "{comparisons}");
    // Comparing each with each takes longer.
    assert!((processor_time() - started).as_secs() < 20, "{:?}", processor_time() - started);
}

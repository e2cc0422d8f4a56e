//! Steps that become one key because an existing state has joined them.

use super::*;

/// Roots, and a step on each of two alone, with a result.
fn narrow() -> Plan {
    let records = json!([
        {"digest": record("r")},
        {"digest": record("s")},
        {"digest": record("t")},
        {"digest": record("x"), "inputs": [[{"link": 0}]], "layers": result(0)},
        {"digest": record("x"), "inputs": [[{"link": 1}]], "layers": result(0)},
    ]);
    planned(&[plain("a")], &[("a", -1)], &records, &["x"])
}

/// The records of roots, of the step on all of them as alternatives, and of the one on the root `on` alone.
fn wide_and_narrow(on: usize) -> Vec<Value> {
    let mut records: Vec<_> = ["r", "s", "t"].map(|root| json!({"digest": record(root)})).into();
    let all = json!([[{"link": 0}, {"link": 1}, {"link": 2}]]);
    records.push(json!({"digest": record("x"), "inputs": all}));
    records.push(json!({"digest": record("x"), "inputs": [[{"link": on}]]}));
    records
}

// The step on all roots is the first of the two keys that the state has. From then on that key is the one of the
// other version too, whichever key that was before, and gets what was added to it.
#[test]
fn steps_are_looked_up_again_until_their_keys_stay() {
    let (existing, _) = merged(&nothing(), &narrow(), false);
    let existing = naturalised(existing);
    let unchanged: fn(&mut Vec<Value>) = |_| {};
    let another_root = |records: &mut Vec<Value>| records.push(json!({"digest": record("z")}));
    let results = |records: &mut Vec<Value>| {
        records[3]["layers"] = result(1);
        records[4]["layers"] = result(0);
    };
    for change in [unchanged, another_root, results] {
        for on in 0..2 {
            let mut records = wide_and_narrow(on);
            change(&mut records);
            let layers = ["a", "b"].map(plain);
            let plan = planned(&layers, &[("a", -1), ("b", -1)], &json!(records), &["x"]);
            let places = Places::new(&plan, &existing, scope(false));
            let mut solver = existing.state.solver.clone();
            let worker = &existing.state.worker_id;
            let keys = steps::add(&plan, &places, worker, &mut solver).unwrap();
            assert_eq!(keys.raw[4], keys.raw[3], "{on}");
            assert_eq!(steps::keys(&plan, &solver), keys);
            let links = |key: &KeyId| existing.state.solver.backlinks.contains_key(key);
            assert!(links(&keys.raw[3]), "no key of the state");
            let added = solver.clone();
            steps::add(&plan, &places, worker, &mut solver).unwrap();
            assert_eq!(solver, added);
        }
    }
}

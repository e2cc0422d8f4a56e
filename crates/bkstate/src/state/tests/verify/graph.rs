//! Cycles, and chains as long as a hostile file makes them.

use super::*;

#[test]
fn circles_of_records_are_found_wherever_they_are() {
    for records in [2, 3, 50] {
        let mut state = sound();
        let names: Vec<_> = (0..records).map(|number| format!("circle {number}")).collect();
        for (name, next) in names.iter().zip(names.iter().cycle().skip(1)) {
            let record = Record {
                committed: Some(true),
                merge_parents: Some(vec![id("base"), id(next)]),
                ..Record::default()
            };
            state.add_record(name, id(name).as_str(), record);
        }
        // Not in the cycle, but above it.
        record_mut(&mut state, "merged").merge_parents = Some(vec![id("circle 0"), id("circle 1")]);
        assert_eq!(kinds_of(&damage_of(&Root::with(&state))), ["parent-cycle"], "{records}");
    }
}

#[test]
fn a_twin_counts_for_circles() {
    let mut state = sound();
    record_mut(&mut state, "local").parent = Some(id("files"));
    let found = kinds_of(&damage_of(&Root::with(&state)));
    assert_eq!(found, ["snapshot-on-other", "wrong-twin", "parent-cycle"]);
}

#[test]
fn a_chain_of_ten_thousand_layers_is_followed() {
    const LENGTH: usize = 10_000;
    let mut state = State::without_anything();
    let name = |number: usize| format!("layer {number:05}");
    for number in 0..LENGTH {
        let below = number.checked_sub(1).map(name);
        state.add_layer(&name(number), below.as_deref(), false);
        state.add_snapshot(&name(number), Kind::Committed, below.as_deref());
    }
    let result = result(&state, &name(LENGTH - 1));
    state.solver.add_key(&key("top"));
    state.solver.add_result(&key("top"), result, NOW);
    // The lowest is on top of the topmost.
    let topmost = state.snapshots.by_name.keys().last().cloned();
    state.snapshots.by_name.values_mut().next().unwrap().parent = topmost;
    // Only the databases: this many files take long.
    let root = Root::empty();
    let nothing = nothing();
    let staging = Staging::begin(&root.held, &nothing).unwrap();
    let written = staging.write(&state).unwrap();
    staging.publish(written).unwrap();
    let mut counts = BTreeMap::new();
    for damage in damage_of(&root) {
        *counts.entry(damage.kind()).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([
        ("blob-without-file", LENGTH),
        ("missing-directory", LENGTH),
        ("snapshot-parent-cycle", 1),
        ("snapshot-parent-differs", 1),
    ]);
    assert_eq!(counts, expected);
}

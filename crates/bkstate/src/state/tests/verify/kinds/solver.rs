//! Damage to the keys and results in `cache.db`.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "a result of a deleted record",
        &["result-without-record"],
        Model(|state| {
            let removed = result(state, "removed");
            state.solver.add_result(&key("top"), removed, NOW);
        }),
    ),
    (
        "a result of no record",
        &["result-without-record"],
        Model(|state| {
            let result = result(state, "unknown");
            state.solver.add_result(&key("top"), result, NOW);
        }),
    ),
    (
        "a result of another worker",
        &["result-of-unknown-worker"],
        Model(|state| {
            let worker = WorkerId::derive("another");
            state.solver.add_result(&key("top"), ResultId { worker, record: Some(id("top")) }, NOW);
        }),
    ),
    (
        "another worker id",
        &["result-of-unknown-worker"; 3],
        Model(|state| {
            state.worker_id = WorkerId::derive("another");
        }),
    ),
    (
        "a key that does not exist has results",
        &["invisible-key"],
        Model(|state| {
            let result = result(state, "top");
            state.solver.add_result(&key("invisible"), result, NOW);
        }),
    ),
    (
        "a link without its backlink",
        &["missing-backlink"],
        Model(|state| {
            state.solver.backlinks.remove(&key("top"));
        }),
    ),
    (
        "a backlink without its link",
        &["stray-backlink"],
        Model(|state| {
            state.solver.links.insert(key("root"), Default::default());
        }),
    ),
    (
        "a result that _byresult lacks",
        &["unindexed-result"; 2],
        Model(|state| {
            state.solver.by_result.retain(|result, _| {
                result.record != Some(id("top")) && result.record != Some(id("packed"))
            });
        }),
    ),
    (
        "a result that only _byresult has",
        &["stray-result-index"],
        Model(|state| {
            let result = result(state, "top");
            state.solver.by_result.get_mut(&result).unwrap().insert(key("root"));
        }),
    ),
    (
        "a link in other bytes",
        &["unfindable-link"],
        Entries("cache.db", |tree| {
            let path = ["_links", "root"];
            let link = String::from_utf8(only_key(tree, &path)).unwrap();
            remove(tree, &path, &link);
            put(tree, &path, link.replace("{", "{ "), "");
        }),
    ),
    (
        "a result under another's id",
        &["misnamed-result"],
        Entries("cache.db", |tree| {
            let path = ["_result", "root"];
            let name = only_key(tree, &path);
            put(tree, &path, name, r#"{"CreatedAt":"2026-11-21T20:00:00Z","ID":"other::id"}"#);
        }),
    ),
    (
        "a link that is none",
        &["unknown-content"],
        Entries("cache.db", |tree| {
            put(tree, &["_links", "root"], "no link", "");
        }),
    ),
];

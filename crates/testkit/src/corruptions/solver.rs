//! `cache.db`.

use bkstate::Time;
use bkstate::digest::Digest;
use bkstate::ids::WorkerId;
use bkstate::solver::Link;

use super::Outcome::{Against, Counted, Exported, Found, Harmless, Noted};
use super::*;

pub(super) const ALL: &[Corruption] = &[
    model("link: input", Counted, |m| change_links(m, |link| link.input += 7)),
    model("link: output", Counted, |m| change_links(m, |link| link.output += 7)),
    model("link: digest", Counted, |m| {
        change_links(m, |link| link.digest = Digest::of("another op").into())
    }),
    model("link: selector", Counted, |m| {
        change_links(m, |link| link.selector = Digest::of("another path").to_string())
    }),
    model("link: target", Against("link-to-other-step"), |m| {
        let (middle, top) = (m.key(m.middle())?, m.key(m.top())?);
        let links = links_to(m, &middle);
        ensure!(!links.is_empty(), "no links");
        for (from, link) in links {
            let solver = &mut m.state.solver;
            solver.links.get_mut(&from).context("no key")?.retain(|(_, to)| *to != middle);
            solver.backlinks.get_mut(&middle).context("no key")?.retain(|key| *key != from);
            solver.add_link(&from, link, &top);
        }
        Ok(())
    }),
    entries("link: bytes", Found("unfindable-link"), SOLVER, |tree, m| {
        let key = m.key(m.top())?;
        let (from, link) = links_to(m, &key).pop().context("no link")?;
        let name = format!("{}@{key}", serde_json::to_string(&link)?);
        let links = bucket(tree, &["_links", &from.to_string()])?;
        let value = links.entries.remove(name.as_bytes()).context("no such link")?;
        links.entries.insert(name.replacen('{', "{ ", 1).into_bytes(), value);
        Ok(())
    }),
    model("_links: a link gone", Found("stray-backlink"), |m| {
        let key = m.key(m.top())?;
        for links in m.state.solver.links.values_mut() {
            links.retain(|(_, to)| *to != key);
        }
        Ok(())
    }),
    model("_backlinks: all of a key gone", Found("missing-backlink"), |m| {
        let key = m.key(m.top())?;
        m.state.solver.backlinks.remove(&key).context("no backlinks").map(drop)
    }),
    entries("_links: a key gone", Found("invisible-key"), SOLVER, |tree, m| {
        let key = m.key(m.top())?;
        remove(tree, &["_links"], &key.to_string())
    }),
    model("_links: a key too many", Harmless("no link leads to it"), |m| {
        m.state.solver.add_key(&KeyId::derive("nothing"));
        Ok(())
    }),
    model("result: record of another step", Against("result-of-other-step"), |m| {
        let (key, other) = (m.key(m.top())?, m.result(m.middle()));
        replace_result(m, &key, other)
    }),
    model("result: record that is not there", Found("result-without-record"), |m| {
        let (key, other) = (m.key(m.top())?, m.result(&RecordId::derive("nothing")));
        replace_result(m, &key, other)
    }),
    model("result: worker", Found("result-of-unknown-worker"), |m| {
        let (key, mut result) = (m.key(m.top())?, m.result(m.top()));
        result.worker = WorkerId::derive("another");
        replace_result(m, &key, result)
    }),
    model("result: gone", Counted, |m| {
        let key = m.key(m.top())?;
        take_results(m, &key)
    }),
    model("result: date in the future", Noted("future-result"), |m| {
        date_results(m, "2099-01-01T00:00:00Z".parse()?)
    }),
    model(
        "result: date long ago",
        Exported("the step has no other result; the export has the date"),
        |m| date_results(m, Time::from_unix_seconds(-1)),
    ),
    entries("result: date that is none", Found("unknown-content"), SOLVER, |tree, m| {
        let (key, result) = (m.key(m.top())?, m.result(m.top()).to_string());
        let value = format!(r#"{{"CreatedAt":"yesterday","ID":"{result}"}}"#);
        put(tree, &["_result", &key.to_string()], &result, value.as_bytes())
    }),
    entries("result: ID", Found("misnamed-result"), SOLVER, |tree, m| {
        let (key, result) = (m.key(m.top())?, m.result(m.top()).to_string());
        let other = m.result(m.middle());
        let value = format!(r#"{{"CreatedAt":"2026-01-01T00:00:00Z","ID":"{other}"}}"#);
        put(tree, &["_result", &key.to_string()], &result, value.as_bytes())
    }),
    model("_byresult: a row gone", Found("unindexed-result"), |m| {
        let result = m.result(m.top());
        m.state.solver.by_result.remove(&result).context("no row").map(drop)
    }),
    model("_byresult: a row too many", Found("stray-result-index"), |m| {
        let (key, result) = (m.key(m.top())?, m.result(m.middle()));
        m.state.solver.by_result.entry(result).or_default().insert(key);
        Ok(())
    }),
];

fn links_to(model: &Model, key: &KeyId) -> Vec<(KeyId, Link)> {
    let mut found = Vec::new();
    for (from, links) in &model.state.solver.links {
        for (link, to) in links.iter() {
            if to == key {
                found.push((from.clone(), link.clone()));
            }
        }
    }
    found
}

/// Changes all links to the topmost step.
fn change_links(model: &mut Model, change: fn(&mut Link)) -> Result<()> {
    let key = model.key(model.top())?;
    let links = links_to(model, &key);
    ensure!(!links.is_empty(), "no links");
    for (from, mut link) in links {
        let solver = &mut model.state.solver;
        solver.links.get_mut(&from).context("no key")?.retain(|(_, to)| *to != key);
        change(&mut link);
        solver.add_link(&from, link, &key);
    }
    Ok(())
}

fn take_results(model: &mut Model, key: &KeyId) -> Result<()> {
    let solver = &mut model.state.solver;
    let results = solver.results.remove(key).context("no results")?;
    for result in results.keys() {
        let keys = solver.by_result.get_mut(result).context("no row")?;
        keys.retain(|other| other != key);
        if keys.is_empty() {
            solver.by_result.remove(result);
        }
    }
    Ok(())
}

fn replace_result(model: &mut Model, key: &KeyId, result: ResultId) -> Result<()> {
    take_results(model, key)?;
    model.state.solver.add_result(key, result, Time::from_unix_seconds(1_795_299_875));
    Ok(())
}

fn date_results(model: &mut Model, time: Time) -> Result<()> {
    let (key, result) = (model.key(model.top())?, model.result(model.top()));
    take_results(model, &key)?;
    model.state.solver.add_result(&key, result, time);
    Ok(())
}

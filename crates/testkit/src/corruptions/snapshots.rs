//! `snapshots/metadata.db`.

use bkstate::Time;
use bkstate::snapshots::Kind;

use super::Outcome::{Found, Harmless};
use super::*;

const DATES: &str = "nobody goes by it";

pub(super) const ALL: &[Corruption] = &[
    model("snapshot: id of another", Found("shared-snapshot-id"), |m| {
        let (top, middle) = (m.top().clone(), m.middle().clone());
        m.snapshot(&top)?.id = m.snapshot(&middle)?.id;
        Ok(())
    }),
    model("snapshot: id of nothing", Found("missing-directory"), |m| {
        m.state.snapshots.sequence = 99;
        let top = m.top().clone();
        m.snapshot(&top)?.id = 99;
        Ok(())
    }),
    model("snapshot: kind", Found("snapshot-kind"), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.kind = Kind::View;
        Ok(())
    }),
    model("snapshot: parent in one database", Found("snapshot-parent-differs"), |m| {
        let (top, base) = (m.top().clone(), m.snapshot_name(&m.layers[0])?);
        m.snapshot(&top)?.parent = Some(base);
        Ok(())
    }),
    model("snapshot: parent in both databases", Found("snapshot-on-other"), |m| {
        let [base, _, middle, top] = m.layers.clone();
        let (name, [base, middle, key]) =
            (m.snapshot_name(&base)?, [m.key_of(&base)?, m.key_of(&middle)?, m.key_of(&top)?]);
        m.snapshot(&top)?.parent = Some(name);
        let rows = &mut m.table()?.rows;
        rows.get_mut(&middle).context("no row")?.children.remove(&key);
        rows.get_mut(&base).context("no row")?.children.insert(key.clone());
        rows.get_mut(&key).context("no row")?.parent = Some(base);
        Ok(())
    }),
    model("snapshot: createdat", Harmless(DATES), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.created_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("snapshot: updatedat", Harmless(DATES), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.updated_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("snapshot: inodes", Found("snapshot-usage"), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.inodes = Some(-1);
        Ok(())
    }),
    model("snapshot: size", Found("snapshot-usage"), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.size = Some(i64::MAX);
        Ok(())
    }),
    model("snapshot: a label", Harmless("nobody asks for it"), |m| {
        let top = m.top().clone();
        m.snapshot(&top)?.labels.insert("nothing".to_owned(), "nothing".to_owned());
        Ok(())
    }),
    model("snapshot: of nothing", Found("snapshot-not-in-containerd"), |m| {
        let top = m.top().clone();
        let snapshot = Snapshot { id: 99, ..m.snapshot(&top)?.clone() };
        m.state.snapshots.sequence = 99;
        m.state.snapshots.by_name.insert("buildkit/99/nothing".to_owned(), snapshot);
        Ok(())
    }),
    entries("parents: an entry gone", Found("missing-parents-entry"), SNAPSHOTS, |tree, _| {
        let parents = bucket(tree, &["v1", "parents"])?;
        parents.entries.pop_first().context("no entry").map(drop)
    }),
    entries("parents: an entry too many", Found("stray-parents-entry"), SNAPSHOTS, |tree, _| {
        let parents = bucket(tree, &["v1", "parents"])?;
        parents.entries.insert(vec![98, 0, 99], Node::Value(b"buildkit/99/nothing".to_vec()));
        Ok(())
    }),
    model("sequence", Found("snapshot-id"), |m| {
        m.state.snapshots.sequence = 1;
        Ok(())
    }),
];

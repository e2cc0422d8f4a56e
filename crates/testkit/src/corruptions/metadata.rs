//! `containerdmeta.db`.

use bkstate::digest::Digest;
use bkstate::metadata::{
    Content, LABEL_GC_EXPIRE, LABEL_GC_FLAT, LABEL_TEMPORARY, LABEL_UNCOMPRESSED, Lease,
    SnapshotRow,
};
use bkstate::{Time, layers};

use super::Outcome::{Found, Harmless};
use super::*;

const DATES: &str = "nobody goes by it";

pub(super) const ALL: &[Corruption] = &[
    model("version: of the future", Harmless("the daemon knows no later one"), |m| {
        m.state.metadata.version = 250;
        Ok(())
    }),
    model("content: a row gone", Found("blob-without-row"), |m| {
        let blob = m.record(m.top())?.blob.context("no blob")?;
        m.namespace()?.content.remove(&blob).context("no row").map(drop)
    }),
    model("content: a row of nothing", Found("blob-without-file"), |m| {
        let row = Content { size: 7, ..Content::default() };
        m.namespace()?.content.insert(Digest::of("nothing"), row);
        Ok(())
    }),
    model("content: size", Found("blob-file-size"), |m| {
        content(m)?.size += 1;
        Ok(())
    }),
    model("content: createdat", Harmless(DATES), |m| {
        content(m)?.created_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("content: updatedat", Harmless(DATES), |m| {
        content(m)?.updated_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("content: the diffID is another", Found("record-diff-id"), |m| {
        let other = Digest::of("another").to_string();
        content(m)?.labels.insert(LABEL_UNCOMPRESSED.to_owned(), other);
        Ok(())
    }),
    model("content: the diffID is gone", Harmless("the record has it"), |m| {
        content(m)?.labels.remove(LABEL_UNCOMPRESSED).context("no label").map(drop)
    }),
    model("content: a label of nothing", Harmless("it leads to nothing"), |m| {
        let label = "containerd.io/gc.ref.content.0".to_owned();
        content(m)?.labels.insert(label, Digest::of("nothing").to_string());
        Ok(())
    }),
    model("snapshots: a row gone", Found("missing-snapshot"), |m| {
        let key = m.key_of(m.top())?;
        m.table()?.rows.remove(&key).context("no row").map(drop)
    }),
    model("snapshots: name of another", Found("shared-snapshot-name"), |m| {
        let name = m.snapshot_name(m.middle())?;
        row(m)?.name = name;
        Ok(())
    }),
    model("snapshots: name of nothing", Found("snapshot-not-in-snapshotter"), |m| {
        row(m)?.name = "buildkit/1/nothing".to_owned();
        Ok(())
    }),
    model("snapshots: parent", Found("snapshot-parent-differs"), |m| {
        let base = m.key_of(&m.layers[0])?;
        row(m)?.parent = Some(base);
        Ok(())
    }),
    model("snapshots: parent gone", Found("snapshot-parent-differs"), |m| {
        row(m)?.parent = None;
        Ok(())
    }),
    model("snapshots: a child gone", Found("missing-snapshot-child"), |m| {
        let (top, middle) = (m.key_of(m.top())?, m.key_of(m.middle())?);
        m.table()?.rows.get_mut(&middle).context("no row")?.children.remove(&top);
        Ok(())
    }),
    model("snapshots: a child too many", Found("stray-snapshot-child"), |m| {
        row(m)?.children.insert("nothing".to_owned());
        Ok(())
    }),
    model("snapshots: createdat", Harmless(DATES), |m| {
        row(m)?.created_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("snapshots: updatedat", Harmless(DATES), |m| {
        row(m)?.updated_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("snapshots: a label", Harmless("nobody asks for it"), |m| {
        row(m)?.labels.insert("nothing".to_owned(), "nothing".to_owned());
        Ok(())
    }),
    model("snapshots: sequence", Found("snapshot-number"), |m| {
        m.table()?.sequence = 1;
        Ok(())
    }),
    model("snapshots: of another snapshotter", Harmless("nobody asks for them"), |m| {
        let row = SnapshotRow { name: "buildkit/99/nothing".to_owned(), ..SnapshotRow::default() };
        let table = SnapshotTable { sequence: 99, rows: [("nothing".to_owned(), row)].into() };
        m.namespace()?.snapshots.insert("native".to_owned(), table);
        Ok(())
    }),
    model("lease: gone", Found("unleased"), |m| {
        let top = m.top().to_string();
        m.namespace()?.leases.remove(&top).context("no lease").map(drop)
    }),
    model("lease: without the snapshot", Found("unleased"), |m| {
        lease(m)?.snapshots.clear();
        Ok(())
    }),
    model("lease: without the blob", Found("unleased"), |m| {
        lease(m)?.content.clear();
        Ok(())
    }),
    model("lease: temporary", Found("temporary-lease"), |m| {
        lease(m)?.labels.insert(LABEL_TEMPORARY.to_owned(), String::new());
        Ok(())
    }),
    model("lease: expires", Found("expiring-lease"), |m| {
        lease(m)?.labels.insert(LABEL_GC_EXPIRE.to_owned(), "2026-01-01T00:00:00Z".to_owned());
        Ok(())
    }),
    model("lease: createdat", Harmless(DATES), |m| {
        lease(m)?.created_at = Some(Time::from_unix_seconds(1));
        Ok(())
    }),
    model("lease: not flat", Harmless("what it keeps refers to nothing else"), |m| {
        lease(m)?.labels.remove(LABEL_GC_FLAT).context("no label").map(drop)
    }),
    model("lease: keeps what is not there", Harmless("there is nothing to collect"), |m| {
        lease(m)?.content.insert(Digest::of("nothing"));
        let keys = lease(m)?.snapshots.entry("overlayfs".to_owned()).or_default();
        keys.insert(layers::snapshot_key(&Digest::of("nothing")));
        Ok(())
    }),
    model("lease: of nothing", Found("stray-lease"), |m| {
        let id = RecordId::derive("nothing").to_string();
        m.namespace()?.leases.insert(id, Lease::default());
        Ok(())
    }),
    model("namespace: another", Harmless("the daemon has its own"), |m| {
        let blob = m.record(m.top())?.blob.context("no blob")?;
        let row = content(m)?.clone();
        let other = Namespace { content: [(blob, row)].into(), ..Namespace::default() };
        m.state.metadata.namespaces.insert("another".to_owned(), other);
        Ok(())
    }),
];

fn content(model: &mut Model) -> Result<&mut Content> {
    let blob = model.record(model.top())?.blob.context("no blob")?;
    model.namespace()?.content.get_mut(&blob).context("no row")
}

fn row(model: &mut Model) -> Result<&mut SnapshotRow> {
    let key = model.key_of(model.top())?;
    model.table()?.rows.get_mut(&key).context("no row")
}

fn lease(model: &mut Model) -> Result<&mut Lease> {
    let top = model.top().to_string();
    model.namespace()?.leases.get_mut(&top).context("no lease")
}

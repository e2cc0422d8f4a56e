//! `metadata_v2.db`.

use std::collections::BTreeMap;

use bkstate::digest::Digest;

use super::Outcome::{Exported, Found, Harmless, Noted};
use super::*;

const UNUSED: &str = "the daemon shows it and goes by it only when it collects garbage";

pub(super) const ALL: &[Corruption] = &[
    model("snapshot.committed: gone", Found("mutable-without-snapshot"), |m| {
        m.top_mut()?.committed = None;
        Ok(())
    }),
    model("snapshot.committed: false", Found("mutable-without-snapshot"), |m| {
        m.top_mut()?.committed = Some(false);
        Ok(())
    }),
    model("cache.parent: not there", Found("missing-parent"), |m| {
        m.top_mut()?.parent = Some(RecordId::derive("nothing"));
        Ok(())
    }),
    model("cache.parent: another", Found("chain-id"), |m| {
        let base = m.layers[0].clone();
        m.top_mut()?.parent = Some(base);
        Ok(())
    }),
    model("cache.parent: another, with the chains of it", Found("snapshot-on-other"), |m| {
        let base = m.record(&m.layers[0])?.clone();
        let below = m.layers[0].clone();
        let chained = |below: Option<Digest>, own: Digest| {
            below.map(|below| Digest::of(format!("{below} {own}")))
        };
        let top = m.top_mut()?;
        let (blob, diff_id) = (top.blob.context("no blob")?, top.diff_id.context("no diffID")?);
        top.parent = Some(below);
        top.chain_id = chained(base.chain_id, diff_id);
        let pair = Digest::of(format!("{blob} {diff_id}"));
        top.blob_chain_id = chained(base.blob_chain_id, pair);
        let chain_id = top.chain_id.context("no chain")?;
        // Its own key would reveal it.
        let (id, key) = (m.top().clone(), bkstate::layers::snapshot_key(&chain_id));
        let old = m.key_of(&id)?;
        let table = m.table()?;
        let row = table.rows.remove(&old).context("no row")?;
        table.rows.insert(key.clone(), row);
        for row in table.rows.values_mut() {
            if row.children.remove(&old) {
                row.children.insert(key.clone());
            }
        }
        m.take_snapshot(&id, key)
    }),
    model("cache.parent: gone", Found("snapshot-on-other"), |m| {
        m.top_mut()?.parent = None;
        Ok(())
    }),
    model("cache.mergeParents: of a layer", Found("snapshot-of-other"), |m| {
        let parents = m.layers[..2].to_vec();
        m.top_mut()?.merge_parents = Some(parents);
        Ok(())
    }),
    model("cache.lowerDiffParent: of a layer", Found("snapshot-of-other"), |m| {
        let lower = m.layers[0].clone();
        m.top_mut()?.lower_diff_parent = Some(lower);
        Ok(())
    }),
    model("cache.upperDiffParent: of a layer", Found("snapshot-of-other"), |m| {
        let upper = m.layers[1].clone();
        m.top_mut()?.upper_diff_parent = Some(upper);
        Ok(())
    }),
    model("cache.snapshot: of the layer below", Found("snapshot-of-other"), |m| {
        let (top, key) = (m.top().clone(), m.key_of(m.middle())?);
        m.take_snapshot(&top, key)
    }),
    model("cache.snapshot: the old form of another's", Found("snapshot-of-other"), |m| {
        let chain = m.record(m.middle())?.chain_id.context("no chain")?;
        let top = m.top().clone();
        m.take_snapshot(&top, chain.to_string())
    }),
    model("cache.snapshot: not there", Found("missing-snapshot"), |m| {
        let top = m.top().clone();
        m.take_snapshot(&top, "nothing".to_owned())
    }),
    model("cache.snapshot: gone", Found("missing-snapshot"), |m| {
        m.top_mut()?.snapshot = None;
        Ok(())
    }),
    model("cache.blob: another's", Found("record-diff-id"), |m| {
        let other = m.record(m.middle())?.blob;
        m.top_mut()?.blob = other;
        Ok(())
    }),
    model("cache.blob: gone", Found("incomplete-layer"), |m| {
        m.top_mut()?.blob = None;
        Ok(())
    }),
    model("cache.diffID: another", Found("record-diff-id"), |m| {
        m.top_mut()?.diff_id = Some(Digest::of("another"));
        Ok(())
    }),
    model("cache.diffID: gone", Found("incomplete-layer"), |m| {
        m.top_mut()?.diff_id = None;
        Ok(())
    }),
    model("cache.layerIdentity: another", Found("layer-identity"), |m| {
        m.top_mut()?.layer_identity = Some(Digest::of("another"));
        Ok(())
    }),
    model("cache.layerIdentity: gone", Harmless("the diffID counts then"), |m| {
        m.top_mut()?.layer_identity = None;
        Ok(())
    }),
    model("cache.chainID: another", Found("chain-id"), |m| {
        m.top_mut()?.chain_id = Some(Digest::of("another"));
        Ok(())
    }),
    model("cache.chainID: gone", Harmless("the daemon makes it again"), |m| {
        m.top_mut()?.chain_id = None;
        Ok(())
    }),
    model("cache.blobChainID: another", Found("chain-id"), |m| {
        m.top_mut()?.blob_chain_id = Some(Digest::of("another"));
        Ok(())
    }),
    model("cache.blobChainID: gone", Harmless("images are found by the chainID, too"), |m| {
        m.top_mut()?.blob_chain_id = None;
        Ok(())
    }),
    model("cache.mediatype: of another compression", Found("media-type"), |m| {
        m.top_mut()?.media_type = Some("application/vnd.oci.image.layer.v1.tar+zstd".to_owned());
        Ok(())
    }),
    model("cache.mediatype: of no layer", Found("media-type"), |m| {
        m.top_mut()?.media_type = Some("text/plain".to_owned());
        Ok(())
    }),
    model("cache.mediatype: gone", Found("incomplete-layer"), |m| {
        m.top_mut()?.media_type = None;
        Ok(())
    }),
    model("cache.blobsize: another", Found("record-blob-size"), |m| {
        m.top_mut()?.blob_size = Some(7);
        Ok(())
    }),
    model("cache.blobsize: gone", Found("incomplete-layer"), |m| {
        m.top_mut()?.blob_size = None;
        Ok(())
    }),
    model("cache.blobonly: of an unpacked layer", Harmless("the snapshot is found"), |m| {
        m.top_mut()?.blob_only = Some(true);
        Ok(())
    }),
    model("cache.layer.urls", Found("layer-urls"), |m| {
        m.top_mut()?.urls = Some(vec!["http://nowhere.invalid/".to_owned()]);
        Ok(())
    }),
    model("cache.imageRefs", Harmless("du shows it"), |m| {
        m.top_mut()?.image_refs = Some(vec!["docker.io/library/nothing:latest".to_owned()]);
        Ok(())
    }),
    model("cache.layerType", Harmless("only blobs that are to be made are others"), |m| {
        m.top_mut()?.layer_type = Some("windows".to_owned());
        Ok(())
    }),
    model("cache.recordType", Harmless(UNUSED), |m| {
        m.top_mut()?.record_type = Some("exec.cachemount".to_owned());
        Ok(())
    }),
    model("cache.createdAt", Exported("the daemon notes it with the layer"), |m| {
        m.top_mut()?.created_at = Some(1);
        Ok(())
    }),
    model("cache.createdAt: gone", Exported("the daemon notes it with the layer"), |m| {
        m.top_mut()?.created_at = None;
        Ok(())
    }),
    model("cache.lastUsedAt: negative", Harmless(UNUSED), |m| {
        m.top_mut()?.last_used_at = Some(-1);
        m.top_mut()?.usage_count = Some(1);
        Ok(())
    }),
    model("cache.lastUsedAt: in the future", Noted("future-use"), |m| {
        m.top_mut()?.last_used_at = Some(4_102_444_800_000_000_000);
        m.top_mut()?.usage_count = Some(1);
        Ok(())
    }),
    model("cache.usageCount: negative", Harmless(UNUSED), |m| {
        m.top_mut()?.usage_count = Some(-5);
        Ok(())
    }),
    model("cache.cachePolicy", Harmless("it matters for mutable records"), |m| {
        m.top_mut()?.cache_policy = Some(0);
        Ok(())
    }),
    model("cache.description", Exported("the daemon notes it with the layer"), |m| {
        m.top_mut()?.description = Some("another step".to_owned());
        Ok(())
    }),
    model("snapshot.size: huge", Found("record-size"), |m| {
        m.top_mut()?.size = Some(9_000_000_000_000_000_000);
        Ok(())
    }),
    model("snapshot.size: negative", Found("record-size"), |m| {
        m.top_mut()?.size = Some(-2);
        Ok(())
    }),
    model("snapshot.size: nothing", Harmless(UNUSED), |m| {
        m.top_mut()?.size = Some(0);
        Ok(())
    }),
    model("cache.equalMutable: an immutable record", Found("wrong-twin"), |m| {
        let [base, _, middle, _] = m.layers.clone();
        m.record_mut(&middle)?.equal_mutable = Some(base);
        Ok(())
    }),
    model("cache.equalMutable: itself", Found("parent-cycle"), |m| {
        let top = m.top().clone();
        m.top_mut()?.equal_mutable = Some(top);
        Ok(())
    }),
    model(
        "cache.equalMutable: not there",
        Harmless("the daemon takes it away if the record has a snapshot"),
        |m| {
            m.top_mut()?.equal_mutable = Some(RecordId::derive("nothing"));
            Ok(())
        },
    ),
    model("cache.deleted: below others", Found("removed-parent"), |m| {
        let middle = m.middle().clone();
        m.record_mut(&middle)?.deleted = Some(true);
        Ok(())
    }),
    model("cache.deleted: of a result", Found("result-without-record"), |m| {
        m.top_mut()?.deleted = Some(true);
        Ok(())
    }),
    model("cache-dir", Harmless("no immutable record is mounted as a cache"), |m| {
        m.top_mut()?.cache_dir = Some("//nothing".to_owned());
        Ok(())
    }),
    model("local.sharedKey", Harmless("no immutable record is a local source"), |m| {
        m.top_mut()?.shared_key = Some("nothing".to_owned());
        Ok(())
    }),
    entries("a value of another type", Found("unknown-content"), RECORDS, |tree, m| {
        let top = m.top().to_string();
        put(tree, &["_main", &top], "cache.createdAt", br#"{"value":"x"}"#)
    }),
    entries("a field of no release", Harmless("nobody asks for it"), RECORDS, |tree, m| {
        let top = m.top().to_string();
        put(tree, &["_main", &top], "cache.nothing", br#"{"value":"x"}"#)
    }),
    model("a record of nothing", Found("mutable-without-snapshot"), |m| {
        m.state.records.by_id.insert(RecordId::derive("nothing"), Record::default());
        Ok(())
    }),
    entries("_index: a row gone", Found("missing-index"), RECORDS, |tree, m| {
        let chain = m.record(m.top())?.chain_id.context("no chain")?;
        remove(tree, &["_index"], &format!("chainid:{chain}::{}", m.top()))
    }),
    entries("_index: a row too many", Found("stray-index"), RECORDS, |tree, m| {
        put(tree, &["_index"], &format!("chainid:{}::{}", Digest::of("x"), m.top()), b"")
    }),
    entries("_index: a row without an end", Found("endless-index"), RECORDS, |tree, _| {
        put(tree, &["_index"], "chainid:nothing", b"")
    }),
    model("_external: garbage", Harmless("the daemon hashes the files again"), |m| {
        let top = m.top().clone();
        let values = [("buildkit.contenthash.v0".to_owned(), b"garbage".to_vec())];
        m.state.records.external.insert(top, values.into());
        Ok(())
    }),
    model("_external: of nothing", Found("stray-external"), |m| {
        m.state.records.external.insert(RecordId::derive("nothing"), BTreeMap::new());
        Ok(())
    }),
];

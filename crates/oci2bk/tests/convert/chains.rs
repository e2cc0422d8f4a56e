//! Chains of layers that are too long to mount, and limits on all layers together.

use std::fs;
use std::path::Path;

use oci2bk::convert::{ConvertError, Converter, PackedReason, StoreBlobs};
use oci2bk::limits::{Limits, MAX_CHAIN};
use oci2bk::{Class, Classified as _, Digest};
use serde_json::json;

use super::cache::{Cache, record};
use super::converter;
use super::fixture::can_extract;
use super::packed::{layer, state_of};

/// Returns this many layers, each on top of the previous one.
fn chain(layers: i64) -> Vec<(Vec<u8>, i64)> {
    (0..layers).map(|n| (layer(&format!("f{n}"), false), n - 1)).collect()
}

/// Creates an image of this many layers.
fn image(layers: usize) -> Cache {
    let image = json!({"digest": Digest::of("image"), "layers": [{"layer": layers - 1}]});
    Cache::new(&chain(layers as i64), &json!([image]))
}

/// Creates a cache of a command on an image, whose result is the topmost of this many layers.
fn command(layers: usize) -> Cache {
    let image = json!({"digest": Digest::of("image"), "layers": [{"layer": layers - 2}]});
    let run = json!({
        "digest": record("run"), "layers": [{"layer": layers - 1}], "inputs": [[{"link": 0}]],
    });
    Cache::new(&chain(layers as i64), &json!([image, run]))
}

/// Counts the files in a root after the conversion failed.
fn left(root: &Path) -> usize {
    fs::read_dir(root).unwrap().count()
}

#[test]
fn a_chain_that_a_step_needs_is_refused_beyond_what_can_be_mounted() {
    if !can_extract() {
        return;
    }
    let cache = command(MAX_CHAIN + 2);
    let plan = cache.plan(&["run"]);
    let root = tempfile::tempdir().unwrap();
    let error = converter(true).convert(&plan, root.path()).unwrap_err();
    assert!(
        matches!(&error, ConvertError::ChainTooLong { layer, .. } if *layer == cache.layers[MAX_CHAIN])
    );
    assert_eq!((error.class(), error.limit_name()), (Class::Limit, None), "{error}");
    assert_eq!(left(root.path()), 1, "the lock file");
    // So does the plan.
    let error = converter(true).preview(&plan, root.path()).unwrap_err();
    assert!(matches!(error, ConvertError::ChainTooLong { .. }), "{error}");
    // Existing ones count.
    let below = command(MAX_CHAIN + 1);
    let plan_of_below = below.plan(&["run"]);
    let report = converter(true).convert(&plan_of_below, root.path()).unwrap();
    // The command's layer on top of the maximum is not built on.
    assert_eq!((report.snapshots, report.left_packed.len()), (MAX_CHAIN, 1));
    let before = state_of(root.path());
    let error = converter(true).convert(&plan, root.path()).unwrap_err();
    assert!(matches!(error, ConvertError::ChainTooLong { .. }), "{error}");
    assert!(
        error.to_string().contains(
            " lies on 500 others, and a step needs its files; overlayfs mounts no more \
             at a time, so no daemon could use it"
        ),
        "{error}"
    );
    assert_eq!(state_of(root.path()), before);
    // Packed, it may have any length.
    converter(false).convert(&plan, root.path()).unwrap();
}

#[test]
fn a_chain_that_no_step_needs_stays_packed_from_where_it_cannot_be_mounted() {
    if !can_extract() {
        return;
    }
    let cache = image(MAX_CHAIN + 2);
    let plan = cache.plan(&[]);
    let root = tempfile::tempdir().unwrap();
    let report = converter(true).convert(&plan, root.path()).unwrap();
    assert_eq!((report.snapshots, report.blobs), (MAX_CHAIN, MAX_CHAIN + 2));
    let [first, second] = report.left_packed.as_slice() else { panic!("{report:?}") };
    assert_eq!(first.layer, cache.layers[MAX_CHAIN]);
    let PackedReason::CannotUnpack(why) = &first.reason else { panic!("{first:?}") };
    assert!(why.contains("500"), "{why}");
    assert_eq!(second.layer, cache.layers[MAX_CHAIN + 1]);
    assert_eq!(second.reason, PackedReason::LiesOn(first.layer));
    assert_eq!(state_of(root.path()).snapshots.by_name.len(), MAX_CHAIN);
    // Without its blob nothing would be left of it.
    let root = tempfile::tempdir().unwrap();
    let without = converter(true).blobs(StoreBlobs::None);
    let error = without.convert(&plan, root.path()).unwrap_err();
    assert!(matches!(error, ConvertError::ChainTooLong { .. }), "{error}");
    assert!(
        error.to_string().contains(
            " lies on 500 others, and a step needs its files; overlayfs mounts no more \
             at a time, so no daemon could use it"
        ),
        "{error}"
    );
}

fn within(limits: Limits) -> Converter {
    converter(true).limits(limits)
}

#[test]
fn what_is_known_to_be_too_much_is_refused_before_anything_is_read() {
    if !can_extract() {
        return;
    }
    let cache = image(3);
    let plan = cache.plan(&[]);
    let bytes = plan.blobs.values().map(|blob| blob.size).sum();
    let enough = Limits { snapshots: 3, total_size: bytes, total_entries: 3, ..Limits::default() };
    let root = tempfile::tempdir().unwrap();
    within(enough).convert(&plan, root.path()).unwrap();
    // Now everything exists.
    let nothing = Limits { snapshots: 0, total_size: 0, ..enough };
    within(nothing).convert(&plan, root.path()).unwrap();

    let root = tempfile::tempdir().unwrap();
    let error = |limits| within(limits).convert(&plan, root.path()).unwrap_err();
    let too_many = error(Limits { snapshots: 2, ..enough });
    assert!(
        matches!(too_many, ConvertError::TooManySnapshots { count: 3, limit: 2 }),
        "{too_many}"
    );
    assert!(
        too_many.to_string().starts_with("3 snapshots are to be unpacked, more than 2"),
        "{too_many}"
    );
    let too_large = error(Limits { total_size: bytes - 1, ..enough });
    assert!(
        matches!(&too_large, ConvertError::TooLarge { bytes: found, .. } if *found == bytes),
        "{too_large}"
    );
    assert!(
        too_large.to_string().starts_with(
            "the layers have 6144 bytes or more when they are unpacked, more than 6143"
        ),
        "{too_large}"
    );
    // The number of entries is known only after unpacking.
    let entries = error(Limits { total_entries: 2, ..enough });
    assert!(matches!(entries, ConvertError::Unpack { .. }), "{entries}");
    assert!(entries.to_string().starts_with("cannot unpack the layer "), "{entries}");
    for (error, limit) in
        [(too_many, "snapshots"), (too_large, "total-size"), (entries, "total-entries")]
    {
        assert_eq!((error.class(), error.limit_name()), (Class::Limit, Some(limit)), "{error}");
    }
    assert_eq!(left(root.path()), 1, "the lock file");
    // Packed layers are read and count as bytes; they have no entries and no snapshots.
    let packed = converter(false).limits(Limits { snapshots: 0, total_entries: 0, ..enough });
    packed.convert(&plan, root.path()).unwrap();
}

//! Layers that cannot be unpacked.

use std::fs;
use std::path::Path;

use bkstate::Root;
use bkstate::layers;
use bkstate::state::State;
use oci2bk::convert::{ConvertError, PackedReason, StoreBlobs};
use oci2bk::{Class, Classified as _, Digest};
use serde_json::json;

use super::cache::{Cache, record};
use super::converter;
use super::fixture::can_extract;

/// Returns a layer of the file `name`, and if it is `broken`, a hard link to a missing file.
pub(super) fn layer(name: &str, broken: bool) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, &b"text"[..]).unwrap();
    if broken {
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        archive.append_link(&mut header, "link", "later").unwrap();
    }
    archive.into_inner().unwrap()
}

/// Creates a cache of an image of a base and a layer on it, below a file copied with `COPY --link`.
fn below_a_linked_copy(broken: bool) -> Cache {
    let copied = layer("copied", false);
    let layers =
        [(layer("base", broken), -1), (layer("top", false), 0), (copied.clone(), -1), (copied, 1)];
    let records = json!([
        {"digest": Digest::of("image"), "layers": [{"layer": 1}]},
        {"digest": Digest::of("context")},
        {"digest": record("copy"), "layers": [{"layer": 2}], "inputs": [[{"link": 1}]]},
        {
            "digest": record("merge"), "layers": [{"layer": 3}],
            "inputs": [[{"link": 0}], [{"link": 2}]],
        },
    ]);
    Cache::new(&layers, &records)
}

/// Returns the content of a root, without the sizes and times of files.
pub(super) fn state_of(root: &Path) -> State {
    let root = Root::open(root).unwrap();
    assert!(root.verify_databases().unwrap().damage.is_empty());
    root.state().unwrap()
}

#[test]
fn a_chain_that_no_step_needs_unpacked_stays_packed() {
    if !can_extract() {
        return;
    }
    let cache = below_a_linked_copy(true);
    let plan = cache.plan(&["copy", "merge"]);
    let root = tempfile::tempdir().unwrap();
    let report = converter(true).convert(&plan, root.path()).unwrap();
    let [base, top, merged] = report.left_packed.as_slice() else { panic!("{report:?}") };
    assert_eq!(base.layer, cache.layers[0]);
    let PackedReason::CannotUnpack(why) = &base.reason else { panic!("{base:?}") };
    assert!(why.contains("link") && why.contains("later"), "{why}");
    assert_eq!((top.layer, &top.reason), (cache.layers[1], &PackedReason::LiesOn(cache.layers[0])));
    assert_eq!(merged.layer, cache.layers[3]);
    assert_eq!(merged.reason, PackedReason::LiesOn(cache.layers[1]));
    assert_eq!((report.snapshots, report.shares.snapshots.added), (1, 1));
    // Only the copied file is unpacked, but all blobs and results exist.
    let state = state_of(root.path());
    assert_eq!(state.snapshots.by_name.len(), 1);
    assert_eq!(
        fs::read_dir(root.path().join("runc-overlayfs/snapshots/snapshots")).unwrap().count(),
        1
    );
    assert_eq!(report.blobs, 3);
    for layer in &plan.layers {
        let record = &state.records.by_id[&layer.record];
        let chain = plan.snapshots[layer.snapshot].chain_id;
        let packed = layer.parent.is_some() || layer.blob == cache.layers[0];
        assert_eq!(record.blob_only, packed.then_some(true));
        assert_eq!(record.snapshot, Some(layers::snapshot_key(&chain)));
    }
    assert_eq!(state.solver.results.values().flatten().count(), 3);
    // Again: nothing changes, and the report is the same.
    let again = converter(true).convert(&plan, root.path()).unwrap();
    assert_eq!(again.left_packed, report.left_packed);
    assert_eq!(state_of(root.path()), state);
    // A cache of the same steps on a good image is unpacked.
    let cache = below_a_linked_copy(false);
    let plan = cache.plan(&["copy", "merge"]);
    let root = tempfile::tempdir().unwrap();
    let report = converter(true).convert(&plan, root.path()).unwrap();
    assert_eq!((report.left_packed.len(), report.snapshots), (0, 4));
}

#[test]
fn a_chain_that_a_step_needs_is_an_error_that_names_the_way_out() {
    if !can_extract() {
        return;
    }
    // A command on the image.
    let layers = [(layer("base", true), -1), (layer("top", false), 0), (layer("ran", false), 1)];
    let image = json!({"digest": Digest::of("image"), "layers": [{"layer": 1}]});
    let run = json!({"digest": record("run"), "layers": [{"layer": 2}], "inputs": [[{"link": 0}]]});
    let run = Cache::new(&layers, &json!([image, run]));
    // A file copied from the image.
    let layers = [(layer("base", true), -1), (layer("copied", false), -1)];
    let image = json!({"digest": Digest::of("image"), "layers": [{"layer": 0}]});
    let copy =
        json!({"digest": record("run"), "layers": [{"layer": 1}], "inputs": [[{"link": 0}]]});
    let copy = Cache::new(&layers, &json!([image, copy]));
    for cache in [run, copy] {
        let plan = cache.plan(&["run"]);
        let root = tempfile::tempdir().unwrap();
        let error = converter(true).convert(&plan, root.path()).unwrap_err();
        assert!(
            matches!(&error, ConvertError::Unpack { digest, .. } if *digest == cache.layers[0])
        );
        assert_eq!(error.class(), Class::Input);
        assert!(error.to_string().ends_with(", and a step needs its files"), "{error}");
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the lock file");
        // And that is correct.
        let report = converter(false).convert(&plan, root.path()).unwrap();
        assert_eq!(report.left_packed, []);
        assert!(state_of(root.path()).snapshots.by_name.is_empty());
    }
}

#[test]
fn what_stays_packed_needs_its_blob() {
    if !can_extract() {
        return;
    }
    let cache = below_a_linked_copy(true);
    let plan = cache.plan(&["copy", "merge"]);
    let root = tempfile::tempdir().unwrap();
    let without = converter(true).blobs(StoreBlobs::None);
    let error = without.convert(&plan, root.path()).unwrap_err();
    assert!(matches!(error, ConvertError::Unpack { .. }), "{error}");
    assert!(error.to_string().contains(", and a step needs its files"), "{error}");
}

#[test]
fn a_layer_with_a_wrong_diff_id_is_never_left_packed() {
    if !can_extract() {
        return;
    }
    let cache = below_a_linked_copy(true);
    let mut plan = cache.plan(&["copy", "merge"]);
    plan.blobs.get_mut(&cache.layers[0]).unwrap().diff_id = Digest::of("another");
    for extract in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let error = converter(extract).convert(&plan, root.path()).unwrap_err();
        let right = match error {
            ConvertError::Unpack { .. } => extract,
            ConvertError::Check { .. } => !extract,
            _ => false,
        };
        assert!(right, "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("diffID"), "{source}");
        assert!(!error.to_string().contains("needs its files"), "{error}");
    }
}

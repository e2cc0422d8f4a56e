//! Roots that lost extended attributes or devices, detected without comparing trees with layers.

use std::fs;
use std::path::Path;

use oci2bk::convert::StoreBlobs;
use oci2bk::{Digest, Root, Verifier};
use rustix::fs::{lremovexattr, lsetxattr};
use serde_json::json;

use super::cache::{Cache, record};
use super::converter;
use super::fixture::can_extract;

/// `security.capability` of a program that may ping.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn archive(entries: &[(&str, bool)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, has_capability) in entries {
        if *has_capability {
            let extension = [("SCHILY.xattr.security.capability", &CAPABILITY[..])];
            archive.append_pax_extensions(extension).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, &b""[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Creates a cache of a command that deletes a file and replaces a directory, on an image with a program.
fn cache() -> Cache {
    let base = archive(&[("bin/ping", true), ("gone", false), ("dir/old", false)]);
    let top = archive(&[("dir/.wh..wh..opq", false), ("dir/new", false), (".wh.gone", false)]);
    let records = json!([
        {"digest": Digest::of("image"), "layers": [{"layer": 0}]},
        {"digest": record("run"), "layers": [{"layer": 1}], "inputs": [[{"link": 0}]]},
    ]);
    Cache::new(&[(base, -1), (top, 0)], &records)
}

/// Returns the kinds and messages of the damage found.
fn damage(root: &Path, trees: bool) -> Vec<(&'static str, String)> {
    let report = Verifier::new().trees(trees).verify(&Root::open(root).unwrap()).unwrap();
    assert!(report.leftovers.is_empty());
    report.damage.iter().map(|damage| (damage.kind(), damage.to_string())).collect()
}

#[test]
fn what_copying_loses_is_found_by_the_plain_command() {
    if !can_extract() {
        return;
    }
    let cache = cache();
    let plan = cache.plan(&["run"]);
    for blobs in [StoreBlobs::Auto, StoreBlobs::None] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        converter(true).blobs(blobs).convert(&plan, root).unwrap();
        let tree = |id: u64| root.join(format!("runc-overlayfs/snapshots/snapshots/{id}/fs"));
        let (ping, dir, gone) =
            (tree(1).join("bin/ping"), tree(2).join("dir"), tree(2).join("gone"));
        for trees in [false, true] {
            assert_eq!(damage(root, trees), [], "{blobs:?}");
        }
        // As in a copy by tar without --xattrs, one by one.
        lremovexattr(&dir, "trusted.overlay.opaque").unwrap();
        let [(kind, message)] = &damage(root, false)[..] else { panic!("{blobs:?}") };
        assert_eq!(*kind, "lost-attributes");
        let text = r#"trees: 2/fs: "dir" has lost the extended attribute"#;
        assert!(message.starts_with(text), "{message}");
        // The comparison, if possible, reports it in its own words.
        let [(kind, _)] = &damage(root, true)[..] else { panic!("{blobs:?}") };
        let compared = blobs == StoreBlobs::Auto;
        assert_eq!(*kind, if compared { "tree-differs" } else { "lost-attributes" });
        lsetxattr(&dir, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();

        lremovexattr(&ping, "security.capability").unwrap();
        let [(kind, message)] = &damage(root, false)[..] else { panic!("{blobs:?}") };
        assert_eq!(*kind, "lost-attributes");
        assert!(message.contains("\"bin/ping\"") && message.contains("security.capability"));

        fs::remove_file(gone).unwrap();
        let found = damage(root, false);
        let kinds: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, ["lost-attributes", "lost-whiteouts"], "{found:?}");
        assert!(found[1].1.ends_with("the whiteout \"gone\" is gone"), "{found:?}");
    }
}

#[test]
fn a_packed_root_has_nothing_to_lose() {
    let cache = cache();
    let plan = cache.plan(&["run"]);
    let temp = tempfile::tempdir().unwrap();
    converter(false).convert(&plan, temp.path()).unwrap();
    assert_eq!(damage(temp.path(), false), []);
}

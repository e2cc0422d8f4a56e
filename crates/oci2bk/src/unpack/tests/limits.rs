//! Limits on the cost of a layer.

use crate::archives::*;

use super::*;
use crate::unpack::{Allowance, unpack_within};

/// The cost of each lookup in addition to the bytes of its path.
const CALL: u64 = 256;

/// Unpacks as a base layer with these limits.
fn unpacked(tar: &[u8], limits: &Limits) -> Result<Unpacked, UnpackError> {
    let snapshot = Snapshot::new();
    let file = blob_file(tar);
    let digest = Digest::of(tar);
    let size = tar.len() as u64;
    let layer = Layer { blob: &file, digest, size, media_type: PLAIN, diff_id: digest };
    unpack(&layer, snapshot.open().as_fd(), Placement::Base, &Worker::default(), limits, &|_| ())
}

/// Unpacks with the limit at exactly what the layer has, and fails with one less.
fn exact(members: &[Member], has: u64, limits: impl Fn(u64) -> Limits) -> UnpackError {
    let tar = archive(members);
    unpacked(&tar, &limits(has)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let error = unpacked(&tar, &limits(has - 1)).unwrap_err();
    assert!(error.is_input());
    error
}

#[test]
fn entries_are_limited() {
    require_root!();
    let error = exact(&[dir("a"), file("b", ""), file("b", "")], 3, |layer_entries| Limits {
        layer_entries,
        ..Limits::default()
    });
    assert!(matches!(error, UnpackError::TooManyEntries { limit: 2, .. }), "{error}");
    assert!(error.to_string().contains(" has more than 2 entries"), "{error}");
}

/// A file of a megabyte with only four bytes of data.
fn sparse() -> [Member; 2] {
    [
        pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"1000000"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", b"10,4"),
        ]),
        file("a", "data"),
    ]
}

#[test]
fn the_size_is_limited_and_holes_count() {
    require_root!();
    let limits = |layer_size| Limits { layer_size, ..Limits::default() };
    let error = exact(&[file("a", "data")], 2048, limits);
    assert!(matches!(error, UnpackError::TooLarge { name: "layer-size", .. }), "{error}");
    assert!(error.to_string().contains(" has more than 2047 bytes when it is unpacked"), "{error}");
    let error = exact(&sparse(), 3072 + 999_996, limits);
    assert!(matches!(error, UnpackError::TooLarge { name: "layer-size", .. }), "{error}");
    assert!(
        error.to_string().contains(" has more than 1003067 bytes when it is unpacked"),
        "{error}"
    );
}

#[test]
fn names_and_link_targets_are_limited() {
    require_root!();
    let limits = |path| Limits { path, ..Limits::default() };
    let error = exact(&[file("a/bc", "")], 4, limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::NameTooLong { bytes: 4, limit: 3 }), "{error}");
    assert!(
        error.to_string().starts_with("the name or the link's target has 4 bytes, more than 3"),
        "{error}"
    );
    let error = exact(&[symlink("a", "target")], 6, limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::NameTooLong { bytes: 6, limit: 5 }), "{error}");
    assert!(
        error.to_string().starts_with("the name or the link's target has 6 bytes, more than 5"),
        "{error}"
    );
}

#[test]
fn extended_attributes_are_limited() {
    require_root!();
    let records: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.user.a", b"12345"), ("SCHILY.xattr.security.b", b"")];
    let error =
        exact(&[pax(&records), file("a", "")], 21, |xattrs| Limits { xattrs, ..Limits::default() });
    let error = refusal(error);
    assert!(matches!(error, Refusal::XattrsTooLarge { bytes: 21, limit: 20 }), "{error}");
    assert!(
        error.to_string().starts_with("the extended attributes have 21 bytes, more than 20"),
        "{error}"
    );
}

#[test]
fn lookups_are_limited() {
    require_root!();
    let limits = |layer_lookups| Limits { layer_lookups, ..Limits::default() };
    // For `l/f` one link, then its target; for `d/f`, which exists, nothing.
    let layer = [dir("d"), symlink("l", "d"), file("l/f", ""), file("d/f", "")];
    let error = exact(&layer, 2 * (CALL + 1), limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::TooManyLookups { limit: 513 }), "{error}");
    assert!(
        error.to_string().starts_with(
            "finding the layer's paths, with the links in them and in the layers below, \
             takes looking up more than 513 bytes of paths"
        ),
        "{error}"
    );
    // A missing directory costs the path up to each of its components.
    let error = exact(&[file("a/b/c/f", "")], 3 * CALL + 1 + 3 + 5, limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::TooManyLookups { limit: 776 }), "{error}");
    assert!(
        error.to_string().starts_with(
            "finding the layer's paths, with the links in them and in the layers below, \
             takes looking up more than 776 bytes of paths"
        ),
        "{error}"
    );
}

#[test]
fn lookups_in_layers_below_count_for_the_layer() {
    require_root!();
    let unpacked = |has| {
        let (snapshot, tar) = (Snapshot::new(), archive(&[file("ab/f", "")]));
        let limits = Limits { layer_lookups: has, ..Limits::default() };
        let unpacked = unpacked_on(&snapshot, &tar, &Allowance::of_run(&limits, 0)).unwrap();
        let below = [Snapshot::new(), Snapshot::new()];
        let lowers = below.iter().map(Snapshot::open);
        unpacked.implied.settle(snapshot.open().as_fd(), lowers)
    };
    // The directory itself when it is created, then each layer below and the directory in it.
    let has = (CALL + 2) + 2 * (CALL + CALL + 2);
    unpacked(has).unwrap();
    let error = unpacked(has - 1).unwrap_err();
    assert!(error.is_input() && error.can_stay_packed());
    let UnpackError::Settle { reason, .. } = error else { panic!("{}", chain(&error)) };
    assert!(matches!(reason, Refusal::TooManyLookups { limit } if limit == has - 1), "{reason}");
    assert!(
        reason.to_string().starts_with(
            "finding the layer's paths, with the links in them and in the layers below, \
             takes looking up more than 1285 bytes of paths"
        ),
        "{reason}"
    );
}

/// Unpacks two such layers as overlays, with the limit at exactly what both have, and fails with one less.
fn both(members: &[Member], has: u64, limits: impl Fn(u64) -> Limits) -> UnpackError {
    let tar = archive(members);
    let run = |limits: Limits| {
        let allowance = Allowance::of_run(&limits, tar.len() as u64);
        unpacked_on(&Snapshot::new(), &tar, &allowance)?;
        unpacked_on(&Snapshot::new(), &tar, &allowance)
    };
    run(limits(has)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let error = run(limits(has - 1)).unwrap_err();
    assert!(error.is_input() && error.is_total() && !error.can_stay_packed());
    error
}

fn unpacked_on(
    snapshot: &Snapshot,
    tar: &[u8],
    allowance: &Allowance,
) -> Result<Unpacked, UnpackError> {
    let file = blob_file(tar);
    let (digest, size) = (Digest::of(tar), tar.len() as u64);
    let layer = Layer { blob: &file, digest, size, media_type: PLAIN, diff_id: digest };
    unpack_within(
        &layer,
        snapshot.open().as_fd(),
        Placement::Overlay,
        &Worker::default(),
        allowance,
        &|_| (),
    )
}

#[test]
fn all_layers_together_are_limited() {
    require_root!();
    let members = [file("a/b", "data")];
    let of_all = |error: UnpackError| {
        let message = "all layers together have more than ";
        assert!(error.to_string().contains(message), "{error}");
        let UnpackError::TotalReached { what, limit, .. } = error else {
            panic!("{}", chain(&error))
        };
        (what, limit.name)
    };
    let error = both(&members, 2, |total_entries| Limits { total_entries, ..Limits::default() });
    assert_eq!(of_all(error), ("entries", "total-entries"));
    let error = both(&members, 2 * 2048, |total_size| Limits { total_size, ..Limits::default() });
    assert_eq!(of_all(error), ("bytes", "total-size"));
    let lookups = 2 * (CALL + 1);
    let error =
        both(&members, lookups, |total_lookups| Limits { total_lookups, ..Limits::default() });
    let error = refusal(error);
    assert!(matches!(error, Refusal::TooManyTotalLookups { limit: 513 }), "{error}");
    assert!(
        error.to_string().starts_with(
            "finding the paths of all layers so far, with the links in them and in the \
             layers below, takes looking up more than 513 bytes of paths"
        ),
        "{error}"
    );
}

#[test]
fn holes_count_in_all_layers_together() {
    require_root!();
    let has = 2 * (3072 + 999_996);
    let error = both(&sparse(), has, |total_size| Limits { total_size, ..Limits::default() });
    assert!(matches!(error, UnpackError::TotalReached { what: "bytes", .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(", all layers together have more than 2006135 bytes when they are unpacked"),
        "{error}"
    );
}

#[test]
fn the_memory_for_names_of_directories_is_limited() {
    require_root!();
    let limits = |layer_directories| Limits { layer_directories, ..Limits::default() };
    // The same name again takes no more.
    let named = [dir("a"), dir("a"), dir("b"), file("c", "")];
    let error = exact(&named, 2 * 129, limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::TooManyDirectories { limit: 257 }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("the names of the layer's directories take more than 257 bytes of memory"),
        "{error}"
    );
    let implied = [file("a/b/c", ""), file("a/b/d", "")];
    let error = exact(&implied, 129 + 131, limits);
    let error = refusal(error);
    assert!(matches!(error, Refusal::TooManyDirectories { limit: 259 }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("the names of the layer's directories take more than 259 bytes of memory"),
        "{error}"
    );
}

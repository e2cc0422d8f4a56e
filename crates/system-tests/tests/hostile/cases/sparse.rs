//! Sparse files: maps that ask for much memory or disk space, and valid ones.

use archives::*;

use crate::case::{Case, Containerd};

/// A header for a sparse file of this size, with the map in the header.
fn in_header(size: &[u8], count: &[u8], map: &[u8]) -> Member {
    pax(&[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", size),
        ("GNU.sparse.numblocks", count),
        ("GNU.sparse.map", map),
    ])
}

/// A sparse file of this size whose map, with these lines, precedes its data.
fn before_data(size: &[u8], lines: &[u8], data: &[u8]) -> [Member; 2] {
    let mut body = lines.to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    let header = pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", size),
    ]);
    [header, file("GNUSparseFile.0/sparse", body)]
}

pub(super) fn all() -> Vec<Case> {
    let impossible = "map of the sparse file is impossible";
    vec![
        Case::refused("cve-2025-58183::count-before-data-is-huge", impossible, |_| {
            before_data(b"100", b"9223372036854775807\n", b"")
        }),
        Case::refused("cve-2025-58183::map-before-data-without-end", impossible, |_| {
            let count = b"1000000\n".to_vec();
            before_data(b"2000000", &[count, b"1\n0\n".repeat(400_000)].concat(), b"")
        }),
        Case::refused("cve-2025-58183::line-without-end", impossible, |_| {
            before_data(b"100", &b"1".repeat(2 << 20), b"")
        }),
        Case::refused("cve-2026-32288::old-gnu-format-with-many-extensions", "type S", |_| {
            let mut old = member(b'S', "old").gnu().raw(482, b"\x01");
            old = old.size(0).data_unsized(vec![b'0'; 64 * 512]);
            [old]
        }),
        Case::refused("cve-2026-32288::count-in-header-is-huge", impossible, |_| {
            [in_header(b"100", b"9223372036854775807", b"0,1"), file("f", "x")]
        }),
        Case::refused("cve-2026-32288::count-in-header-lies", impossible, |_| {
            [in_header(b"100", b"2", b"0,1"), file("f", "x")]
        }),
        Case::refused("sparse-files::size-near-the-end-of-numbers", "layer-size", |_| {
            before_data(b"9223372036854775807", b"0\n", b"")
        })
        .containerd(Containerd::NotTried("it writes zeros until the disk is full")),
        Case::refused("sparse-files::larger-than-a-layer-may-be", "layer-size", |_| {
            before_data(b"2199023255552", b"0\n", b"")
        })
        .containerd(Containerd::NotTried("it writes zeros until the disk is full")),
        Case::refused("sparse-files::fragment-outside-the-file", impossible, |_| {
            [in_header(b"100", b"1", b"99,2"), file("f", "xy")]
        }),
        Case::refused("sparse-files::fragments-overlap", impossible, |_| {
            [in_header(b"100", b"2", b"0,2,1,2"), file("f", "wxyz")]
        }),
        Case::refused("sparse-files::negative-offset", impossible, |_| {
            [in_header(b"100", b"1", b"-1,2"), file("f", "xy")]
        }),
        Case::refused("sparse-files::sum-overflows", impossible, |_| {
            [in_header(b"100", b"1", b"9223372036854775807,9223372036854775807"), file("f", "x")]
        }),
        Case::refused("sparse-files::less-data-than-the-map-has", "does not match its map", |_| {
            [in_header(b"100", b"1", b"0,3"), file("f", "xy")]
        }),
        Case::refused("sparse-files::more-data-than-the-map-has", "does not match its map", |_| {
            [in_header(b"100", b"1", b"0,1"), file("f", "xy")]
        }),
        Case::refused("sparse-files::directory-that-is-sparse", impossible, |_| {
            [in_header(b"100", b"1", b"0,1"), dir("d")]
        }),
        Case::unpacks("sparse-files::map-in-header", &["f"], |_| {
            [in_header(b"1000000", b"2", b"512,2,999998,2"), file("f", "abyz")]
        }),
        Case::unpacks("sparse-files::map-before-data", &["sparse"], |_| {
            before_data(b"1000000", b"2\n512\n2\n999998\n2\n", b"abyz")
        }),
        Case::unpacks("sparse-files::nothing-but-a-hole", &["sparse"], |_| {
            before_data(b"1000000", b"0\n", b"")
        }),
    ]
}

//! Contradictions in archives: sizes, names and links in PAX records, GNU long names and header blocks. A
//! reader that interprets them differently sees different entries.

use archives::*;

use crate::case::Case;

/// A file whose content is an archive with the file `smuggled`.
fn nested() -> Vec<u8> {
    open_archive(&[file("smuggled", "")])
}

/// A file whose PAX header and header block give these sizes; its data is an archive.
fn two_sizes(in_records: &'static [u8], in_block: i64) -> [Member; 3] {
    [
        pax(&[("size", in_records)]),
        file("carrier", "").size(in_block).data_unsized(nested()),
        file("after", ""),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let carried = ["after", "carrier"];
    let smuggled = ["after", "carrier", "smuggled"];
    vec![
        // The records take precedence over the block.
        Case::unpacks("rustsec-2025-0110::size-only-in-pax", &carried, |_| two_sizes(b"512", 0)),
        Case::unpacks("rustsec-2025-0111::size-only-in-pax-of-a-later-file", &carried, |_| {
            [&[file("after", "first")][..], &two_sizes(b"512", 0)].concat()
        }),
        Case::unpacks("rustsec-2026-0068::pax-size-larger-than-nonzero-size", &carried, |_| {
            two_sizes(b"512", 1)
        }),
        Case::unpacks("rustsec-2026-0068::pax-size-zero-and-size-nonzero", &smuggled, |_| {
            two_sizes(b"0", 512)
        }),
        Case::refused("rustsec-2026-0068::pax-size-negative", "negative size", |_| {
            two_sizes(b"-1", 512)
        }),
        Case::refused(
            "rustsec-2026-0068::pax-size-beyond-the-archive",
            "ends in the middle",
            |_| two_sizes(b"9223372036854775807", 0),
        ),
        // Malformed records are not skipped.
        Case::refused("rustsec-2026-0066::malformed-record", "malformed record", |_| {
            [member(b'x', "PaxHeaders/x").data("7 path\n"), file("f", "")]
        }),
        Case::refused("rustsec-2026-0066::record-length-lies", "malformed record", |_| {
            [member(b'x', "PaxHeaders/x").data("99 path=smuggled\n"), file("f", "")]
        }),
        Case::refused("rustsec-2026-0066::record-value-is-no-number", "malformed value", |_| {
            [pax(&[("size", b"0x200")]), file("f", "")]
        }),
        Case::refused("rustsec-2026-0066::name-with-nul", "malformed record", |_| {
            [pax(&[("path", b"f\0/../g")]), file("f", "")]
        }),
        // A second header replaces the first, and neither applies beyond the next entry.
        Case::unpacks(
            "rustsec-2026-0112::second-header-replaces-the-first",
            &["kept", "second"],
            |_| {
                [
                    pax(&[("path", b"first"), ("size", b"512")]),
                    pax(&[("path", b"second")]),
                    file("x", "").data_unsized(""),
                    file("kept", ""),
                ]
            },
        ),
        Case::unpacks("rustsec-2026-0112::global-header-ends-a-header", &["f", "kept"], |_| {
            [
                pax(&[("size", b"512"), ("path", b"renamed")]),
                member(b'g', "pax_global_header").data(pax_record(b"path", b"global")),
                file("f", ""),
                file("kept", ""),
            ]
        }),
        Case::unpacks("rustsec-2026-0112::global-size-does-not-count", &["f", "g"], |_| {
            [member(b'g', "x").data(pax_record(b"size", b"512")), file("f", ""), file("g", "")]
        }),
        // The size in a PAX header applies to the file, not to the long name before it.
        Case::unpacks("rustsec-2026-0145::pax-size-and-long-name", &["after", "long"], |_| {
            [
                pax(&[("size", b"512")]),
                gnu_long(b'L', "long"),
                file("x", "").data_unsized(nested()),
                file("after", ""),
            ]
        }),
        Case::unpacks("rustsec-2026-0145::pax-size-and-long-link", &["after", "f"], |_| {
            [
                pax(&[("size", b"1024")]),
                gnu_long(b'K', "target"),
                symlink("f", "x"),
                file("after", ""),
            ]
        }),
        Case::unpacks("header-precedence::gnu-name-before-pax-name", &["gnu"], |_| {
            [pax(&[("path", b"pax")]), gnu_long(b'L', "gnu"), file("block", "")]
        }),
        Case::unpacks("header-precedence::pax-name-before-block-and-prefix", &["pax"], |_| {
            [pax(&[("path", b"pax")]), file("block", "").raw(345, b"prefix")]
        }),
        Case::unpacks("header-precedence::empty-pax-name-counts-as-none", &["block"], |_| {
            [pax(&[("path", b"")]), file("block", "")]
        }),
        Case::unpacks("header-precedence::gnu-has-no-prefix", &["block"], |_| {
            [file("block", "").gnu().raw(345, b"00000000000\0")]
        }),
        Case::unpacks("header-precedence::last-record-of-a-key-counts", &["b"], |_| {
            [pax(&[("path", b"a"), ("path", b"b")]), file("block", "")]
        }),
        Case::refused("header-precedence::long-name-over-a-mebibyte", "1048576", |_| {
            [gnu_long(b'L', vec![b'a'; 1 << 20]), file("x", "")]
        }),
        Case::refused("header-precedence::pax-header-over-a-mebibyte", "1048576", |_| {
            [pax(&[("comment", &vec![b'a'; 1 << 20])]), file("x", "")]
        }),
        Case::refused("header-precedence::pax-header-without-end", "1048576", |_| {
            [member(b'x', "x").raw(124, b"\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF")]
        }),
        Case::refused("header-precedence::negative-size-in-base-256", "negative size", |_| {
            [file("f", "").raw(124, &[0xFF; 12])]
        }),
        Case::refused("header-precedence::checksum-wrong", "damaged header block", |_| {
            let mut tar = archive(&[file("f", "")]);
            tar[0] ^= 1;
            crate::case::Blob::plain(tar)
        }),
        Case::refused(
            "header-precedence::data-after-a-block-of-zeros",
            "after a block of zeros",
            |_| {
                let tar = [archive(&[])[..512].to_vec(), archive(&[file("f", "")])].concat();
                crate::case::Blob::plain(tar)
            },
        ),
        Case::unpacks("header-precedence::archive-after-the-end-is-not-read", &["f"], |_| {
            let tar = [archive(&[file("f", "")]), archive(&[file("smuggled", "")])].concat();
            crate::case::Blob::plain(tar)
        }),
    ]
}

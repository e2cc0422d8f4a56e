//! The parser alone, on archives built byte by byte.

use std::time::{Duration, Instant};

use crate::archives::*;

use super::*;

fn entries(archive: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = Reader::new(archive);
    std::iter::from_fn(|| reader.next().transpose()).collect()
}

fn one(members: &[Member]) -> Entry {
    let mut entries = entries(&archive(members)).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// Returns the content of the first file, with holes filled.
fn content(archive: &[u8]) -> Result<Vec<u8>, TarError> {
    let mut reader = Reader::new(archive);
    let entry = reader.next()?.expect("an entry");
    let mut file = vec![0; usize::try_from(entry.size).unwrap()];
    reader.copy_body(&entry, |offset, bytes| {
        let offset = usize::try_from(offset).unwrap();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok::<_, TarError>(())
    })?;
    Ok(file)
}

#[test]
fn long_names_come_from_pax_gnu_or_the_prefix() {
    let long = "d/".repeat(200) + "name";
    let target = "t/".repeat(300) + "target";
    let by_pax = pax(&[("path", long.as_bytes()), ("linkpath", target.as_bytes())]);
    let entry = one(&[by_pax, symlink("short", "short")]);
    assert_eq!((entry.name, entry.link), (long.clone().into(), target.clone().into()));
    let entry = one(&[gnu_long(b'L', &long), gnu_long(b'K', &target), symlink("s", "s").gnu()]);
    assert_eq!((entry.name, entry.link), (long.into(), target.into()));
    let entry = one(&[file("name", "").raw(345, b"prefix/of/it")]);
    assert_eq!(entry.name, b"prefix/of/it/name");
    let star = file("name", "").raw(345, b"star").raw(508, b"tar\0").raw(476, b"00000000144\0");
    assert_eq!(one(std::slice::from_ref(&star)).name, b"star/name");
    assert_eq!(one(&[star]).atime, Timestamp::from_unix(100, 0));
    let gnu = file("name", "").gnu().raw(345, b"00000000144\0");
    assert_eq!(one(&[gnu]).atime, Timestamp::from_unix(100, 0));
    let v7 = file("name", "").raw(257, &[0; 8]).raw(345, b"no prefix");
    assert_eq!(one(&[v7]).name, b"name");
}

#[test]
fn names_are_bytes() {
    assert_eq!(one(&[file(b"\xFF\xFE", "")]).name, b"\xFF\xFE");
    assert_eq!(one(&[pax(&[("path", b"\xC3\x28\n=")]), file("x", "")]).name, b"\xC3\x28\n=");
}

#[test]
fn gnu_long_names_win_over_pax_and_pax_over_the_block() {
    let members = [gnu_long(b'L', "gnu"), pax(&[("path", b"pax")]), file("block", "")];
    assert_eq!(one(&members).name, b"gnu");
    let members = [pax(&[("path", b"")]), file("block", "")];
    assert_eq!(one(&members).name, b"block", "an empty value leaves the block's");
}

#[test]
fn a_second_extended_header_replaces_the_first() {
    let members = [pax(&[("path", b"first"), ("uid", b"7")]), pax(&[("gid", b"8")]), file("x", "")];
    let entry = one(&members);
    assert_eq!((entry.name.as_slice(), entry.uid, entry.gid), (&b"x"[..], 0, 8));
}

#[test]
fn numbers_and_times_come_from_pax_before_the_block() {
    let entry = one(&[
        pax(&[
            ("uid", b"3000000"),
            ("gid", b"-1"),
            ("mtime", b"1.000000001"),
            ("atime", b"2.5"),
            ("ctime", b"3"),
            ("SCHILY.xattr.user.a", b"x\0y"),
            ("SCHILY.xattr.user.b", b""),
        ]),
        file("x", "").owner(1, 2),
    ]);
    assert_eq!((entry.uid, entry.gid), (3_000_000, -1));
    assert_eq!(entry.mtime, Timestamp::from_unix(1, 1));
    assert_eq!(entry.atime, Timestamp::from_unix(2, 500_000_000));
    assert_eq!(entry.xattrs[b"user.a".as_slice()], b"x\0y");
    assert_eq!(entry.xattrs[b"user.b".as_slice()], b"");
}

#[test]
fn a_pax_size_decides_how_much_data_there_is() {
    // RUSTSEC-2025-0110 and -2025-0111: with the block's size the data would be read as entries.
    let smuggled = open_archive(&[file("smuggled", "")]);
    let size = smuggled.len().to_string();
    let members = [
        pax(&[("size", size.as_bytes())]),
        file("outer", "").data_unsized(&smuggled),
        file("after", ""),
    ];
    let names: Vec<_> = entries(&archive(&members)).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, [b"outer".to_vec(), b"after".to_vec()]);
    assert_eq!(content(&archive(&members)).unwrap(), smuggled);
}

#[test]
fn a_pax_size_does_not_apply_to_the_headers_before_the_file() {
    let members =
        [pax(&[("size", b"3")]), gnu_long(b'L', "long name"), file("x", "").data_unsized("abc")];
    assert_eq!(content(&archive(&members)).unwrap(), b"abc");
}

#[test]
fn links_devices_and_directories_have_no_data_whatever_their_size() {
    for typeflag in b'1'..=b'6' {
        let members = [member(typeflag, "a").size(512), file("b", "")];
        assert_eq!(entries(&archive(&members)).unwrap().len(), 2, "{typeflag}");
        let members = [pax(&[("size", b"512")]), member(typeflag, "a"), file("b", "")];
        assert_eq!(entries(&archive(&members)).unwrap().len(), 2, "{typeflag}");
    }
}

#[test]
fn negative_sizes_are_refused() {
    let negative = [0xFF; 12];
    let error = entries(&archive(&[file("x", "").raw(124, &negative)])).unwrap_err();
    assert!(matches!(error, TarError::NegativeSize), "{error}");
    assert_eq!(error.to_string(), "the entry has a negative size");
    let error = entries(&archive(&[pax(&[("size", b"-1")]), file("x", "")])).unwrap_err();
    assert!(matches!(error, TarError::NegativeSize), "{error}");
    assert_eq!(error.to_string(), "the entry has a negative size");
    // The size of a directory is ignored.
    assert_eq!(one(&[dir("x").raw(124, &negative)]).kind, Kind::Directory);
}

#[test]
fn entries_of_old_archives_are_directories_by_their_slash() {
    assert_eq!(one(&[member(0, "a/")]).kind, Kind::Directory);
    assert_eq!(one(&[member(0, "a")]).kind, Kind::Regular);
    assert_eq!(one(&[member(b'0', "a/")]).kind, Kind::Regular);
    let by_pax = [pax(&[("path", b"a/")]), member(0, "a")];
    assert_eq!(one(&by_pax).kind, Kind::Directory);
}

#[test]
fn a_global_header_is_an_entry_and_ends_the_extended_header_before_it() {
    let global = member(b'g', "global").data(pax_record(b"path", b"other"));
    let members = [pax(&[("uid", b"5")]), global, file("x", "")];
    let entries = entries(&archive(&members)).unwrap();
    assert_eq!((entries[0].kind, entries[0].name.as_slice()), (Kind::GlobalHeader, &b"other"[..]));
    assert_eq!((entries[1].name.as_slice(), entries[1].uid), (&b"x"[..], 0));
    let damaged = member(b'g', "global").data("99 path=x\n");
    let error = super::tests::entries(&archive(&[damaged])).unwrap_err();
    assert!(matches!(error, TarError::PaxRecord), "{error}");
    assert_eq!(error.to_string(), "the PAX extended header has a malformed record");
}

#[test]
fn damaged_header_blocks_are_refused() {
    let mut flipped = archive(&[file("x", "")]);
    flipped[0] ^= 1;
    let error = entries(&flipped).unwrap_err();
    assert!(matches!(error, TarError::Header), "{error}");
    assert_eq!(error.to_string(), "the archive has a damaged header block");
    for (at, field) in
        [(100, b"8"), (108, b"x"), (116, b"-"), (124, b"9"), (136, b"z"), (329, b"a")]
    {
        let damaged = archive(&[file("x", "").raw(at, field)]);
        let error = entries(&damaged).unwrap_err();
        assert!(matches!(error, TarError::Header), "{at}");
        assert_eq!(error.to_string(), "the archive has a damaged header block");
    }
}

#[test]
fn a_checksum_of_signed_bytes_is_accepted() {
    let mut block = file(b"\xFF\xFF", "").bytes();
    let sum: i64 = block[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i64::from(*byte as i8) })
        .sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(entries(&block).unwrap().len(), 1);
}

#[test]
fn an_archive_may_end_without_zeros_but_not_within_an_entry() {
    let whole = open_archive(&[file("x", "12345")]);
    for (cut, complete) in [(0, true), (511, false), (512, false), (516, false), (517, true)] {
        let mut reader = Reader::new(&whole[..cut]);
        let outcome = reader.next().and_then(|_| reader.next());
        assert_eq!(outcome.is_ok(), complete, "cut at {cut}");
    }
    let zeros = |count| [whole.clone(), vec![0; count]].concat();
    for count in [0, 512, 1024, 2000] {
        assert_eq!(entries(&zeros(count)).unwrap().len(), 1, "{count}");
    }
    for count in [100, 600] {
        let error = entries(&zeros(count)).unwrap_err();
        assert!(matches!(error, TarError::Truncated), "{count}");
        assert_eq!(error.to_string(), "the archive ends in the middle of an entry");
    }
    let more = [zeros(512), open_archive(&[file("y", "")])].concat();
    let error = entries(&more).unwrap_err();
    assert!(matches!(error, TarError::DataAfterZeroBlock), "{error}");
    assert_eq!(error.to_string(), "the archive has data after a block of zeros");
    let after_the_end = [zeros(1024), b"anything".to_vec()].concat();
    assert_eq!(entries(&after_the_end).unwrap().len(), 1);
}

#[test]
fn an_extended_header_or_a_long_name_may_not_be_cut_off() {
    for before in [pax(&[("path", b"long")]), gnu_long(b'L', "long"), gnu_long(b'K', "long")] {
        let whole = open_archive(&[before, symlink("x", "y")]);
        for cut in [513, 514] {
            let error = entries(&whole[..cut]).unwrap_err();
            assert!(matches!(error, TarError::Truncated), "{cut}: {error}");
            assert_eq!(error.to_string(), "the archive ends in the middle of an entry");
        }
    }
}

/// A stream that cannot be read.
struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

#[test]
fn nothing_is_read_beyond_what_an_entry_needs() {
    let entry = open_archive(&[file("x", "")]);
    let stream = io::Read::chain(&*entry, io::BufReader::new(Broken));
    let mut reader = Reader::new(stream);
    assert_eq!(reader.next().unwrap().unwrap().name, b"x");
    let error = reader.next().unwrap_err();
    assert!(matches!(error, TarError::Read(_)), "{error}");
    assert_eq!(error.to_string(), "cannot read the archive");
}

#[test]
fn data_that_is_skipped_may_end_with_the_archive_but_not_beyond_it() {
    let whole = open_archive(&[file("x", "12345")]);
    let skipped = |size: usize| {
        let mut reader = Reader::new(io::Cursor::new(&whole[..size]));
        reader.next().unwrap().unwrap();
        reader.seek_over_body(size as u64)
    };
    assert_eq!(skipped(517).unwrap(), (512, 5));
    let error = skipped(516).unwrap_err();
    assert!(matches!(error, TarError::Truncated), "{error}");
    assert_eq!(error.to_string(), "the archive ends in the middle of an entry");
}

#[test]
fn extended_headers_larger_than_a_megabyte_are_refused_before_they_are_read() {
    for typeflag in [b'x', b'g', b'L', b'K'] {
        let huge = member(typeflag, "x").size(8_000_000_000).bytes();
        let error = entries(&huge).unwrap_err();
        assert!(matches!(error, TarError::SpecialTooLong { size: 8_000_000_000 }), "{error}");
        assert_eq!(
            error.to_string(),
            "the extended header has 8000000000 bytes, more than the 1048576 that are \
             allowed"
        );
    }
}

#[test]
fn invalid_values_name_their_key() {
    for (key, value) in [
        ("size", "1x"),
        ("uid", "a"),
        ("gid", "1.5"),
        ("mtime", "x"),
        ("atime", ""),
        ("ctime", "-"),
    ] {
        let outcome = entries(&archive(&[pax(&[(key, value.as_bytes())]), file("x", "")]));
        match outcome {
            Err(error) => {
                assert!(matches!(&error, TarError::PaxValue { key: k } if k == key), "{error:?}");
                let message = "the PAX extended header has a malformed value for";
                assert_eq!(error.to_string(), format!("{message} {key:?}"));
            }
            Ok(_) => assert_eq!(value, "", "an empty value is no value"),
        }
    }
}

const SPARSE: &[u8] = b"\0\0AB\0\0\0CDE\0\0";

#[test]
fn sparse_files_of_all_pax_versions_have_the_same_content() {
    let v00 = [
        [pax_record(b"GNU.sparse.size", b"12"), pax_record(b"GNU.sparse.numblocks", b"2")].concat(),
        [pax_record(b"GNU.sparse.offset", b"2"), pax_record(b"GNU.sparse.numbytes", b"2")].concat(),
        [pax_record(b"GNU.sparse.offset", b"7"), pax_record(b"GNU.sparse.numbytes", b"3")].concat(),
    ];
    let v00 = member(b'x', "x").data(v00.concat());
    assert_eq!(content(&archive(&[v00, file("x", "ABCDE")])).unwrap(), SPARSE);
    let v01 = pax(&[
        ("GNU.sparse.size", b"12"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"2,2,7,3"),
        ("GNU.sparse.name", b"real"),
    ]);
    let v01 = archive(&[v01, file("x", "ABCDE")]);
    assert_eq!(content(&v01).unwrap(), SPARSE);
    assert_eq!(entries(&v01).unwrap()[0].name, b"real");
    assert_eq!(
        content(&archive(&[sparse_1_0("12"), sparse_body("2\n2\n2\n7\n3\n", "ABCDE")])).unwrap(),
        SPARSE
    );
}

// GNU tar ends the map of a file that ends with a hole like this.
#[test]
fn fragments_without_data_are_left_out() {
    let members = [sparse_1_0("12"), sparse_body("3\n0\n0\n2\n2\n12\n0\n", "AB")];
    let fragments = one(&members).fragments.unwrap();
    assert_eq!(fragments, [Fragment { offset: 2, length: 2 }]);
}

fn sparse_1_0(size: &str) -> Member {
    pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ])
}

fn sparse_body(map: &str, data: &str) -> Member {
    let mut body = map.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data.as_bytes());
    file("GNUSparseFile.0/x", body)
}

#[test]
fn the_map_of_a_sparse_file_may_have_a_mebibyte() {
    let padded = |length: usize| format!("{}\n", "0".repeat(length - 1));
    let read = |map: &str| content(&archive(&[sparse_1_0("0"), sparse_body(map, "")]));
    let started = Instant::now();
    assert!(read(&padded(1 << 20)).unwrap().is_empty());
    // To search the whole line again for each block takes longer.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let error = read(&padded((1 << 20) + 1)).unwrap_err();
    assert!(matches!(error, TarError::SparseMap), "{error}");
    assert_eq!(error.to_string(), "the map of the sparse file is impossible");
}

#[test]
fn impossible_sparse_maps_are_refused() {
    for (what, map) in [
        ("beyond the end", "1\n10\n3\n"),
        ("overlap", "2\n0\n4\n3\n1\n"),
        ("out of order", "2\n7\n3\n2\n2\n"),
        ("negative offset", "1\n-1\n5\n"),
        ("negative length", "1\n1\n-5\n"),
        ("sum overflows", "1\n9223372036854775807\n9223372036854775807\n"),
        ("number overflows", "1\n0\n9223372036854775808\n"),
        ("more entries than there can be", "9223372036854775807\n"),
        ("negative count", "-1\n"),
        ("no number", "x\n"),
    ] {
        let archive = archive(&[sparse_1_0("12"), sparse_body(map, "ABCDE")]);
        let error = entries(&archive).unwrap_err();
        assert!(matches!(error, TarError::SparseMap), "{what}");
        assert_eq!(error.to_string(), "the map of the sparse file is impossible");
    }
    for (what, records) in [
        ("fewer numbers than blocks", [("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,5")]),
        ("half a pair", [("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,5,7")]),
        ("no count", [("GNU.sparse.size", "12"), ("GNU.sparse.map", "0,5")]),
        ("no numbers", [("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "a,b")]),
    ] {
        let records = records.map(|(key, value)| (key, value.as_bytes()));
        let archive = archive(&[pax(&records), file("x", "ABCDE")]);
        let error = entries(&archive).unwrap_err();
        assert!(matches!(error, TarError::SparseMap), "{what}");
        assert_eq!(error.to_string(), "the map of the sparse file is impossible");
    }
    let directory =
        archive(&[pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,0")]), dir("x")]);
    let error = entries(&directory).unwrap_err();
    assert!(matches!(error, TarError::SparseMap), "{error}");
    assert_eq!(error.to_string(), "the map of the sparse file is impossible");
}

#[test]
fn a_sparse_map_without_end_is_refused_after_a_megabyte() {
    // CVE-2025-58183.
    let map = "1000000\n".to_owned() + &"0\n0\n".repeat(600_000);
    let archive = archive(&[sparse_1_0("12"), sparse_body(&map, "")]);
    let error = entries(&archive).unwrap_err();
    assert!(matches!(error, TarError::SparseMap), "{error}");
    assert_eq!(error.to_string(), "the map of the sparse file is impossible");
}

#[test]
fn sparse_data_must_be_as_long_as_the_map_says() {
    for data in ["ABC", "ABCDEF"] {
        let archive = archive(&[sparse_1_0("12"), sparse_body("2\n2\n2\n7\n3\n", data)]);
        let error = content(&archive).unwrap_err();
        assert!(matches!(error, TarError::SparseData), "{data}");
        assert_eq!(error.to_string(), "the data of the sparse file does not match its map");
    }
}

#[test]
fn unknown_sparse_versions_are_ordinary_files() {
    let records = [("GNU.sparse.major", &b"2"[..]), ("GNU.sparse.map", b"0,1")];
    assert_eq!(content(&archive(&[pax(&records), file("x", "abc")])).unwrap(), b"abc");
}

#[test]
fn old_gnu_sparse_files_are_told_apart() {
    assert_eq!(one(&[member(b'S', "x").gnu()]).kind, Kind::OldSparse);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_fail_other_than_with_an_error(
        members in proptest::collection::vec(
            (proptest::prelude::any::<u8>(), proptest::collection::vec(0..512_usize, 0..4)),
            1..6,
        ),
        noise in proptest::prelude::any::<[u8; 16]>(),
    ) {
        let mut bytes = Vec::new();
        for (typeflag, places) in members {
            let mut member = member(typeflag, "name").data(noise);
            for (index, place) in places.into_iter().enumerate() {
                member = member.raw(place, &noise[index..=index]);
            }
            bytes.extend_from_slice(&member.bytes());
        }
        let mut reader = Reader::new(&bytes[..]);
        while let Ok(Some(entry)) = reader.next() {
            let _ = reader.copy_body(&entry, |_, _| Ok::<_, TarError>(()));
        }
    }
}

//! The result of each type of entry.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use crate::archives::*;

use super::*;

#[test]
fn a_plain_layer_becomes_its_tree() {
    require_root!();
    let snapshot = Snapshot::new();
    let tar = archive(&[
        dir("./"),
        dir("etc/").mode(0o750).owner(3, 4).mtime(1000),
        file("etc/passwd", "root:x:0:0\n").mode(0o640).owner(1, 2).mtime(2000),
        symlink("etc/link", "../nowhere").owner(5, 6).mtime(3000),
        hard_link("etc/same", "etc/passwd").mode(0o640).owner(1, 2).mtime(2000),
        member(b'3', "null").device(1, 3).mode(0o666),
        member(b'4', "loop").device(7, 300).mode(0o660),
        member(b'6', "pipe").mode(0o622),
    ]);
    let unpacked = snapshot.base(&tar);
    // First, because listing the directory changes its access time.
    let root = std::fs::metadata(snapshot.root()).unwrap();
    assert_eq!((root.mtime(), root.atime()), (0, 0));
    assert_eq!(unpacked.entries, 8);
    assert_eq!(unpacked.stream.bytes, tar.len() as u64);
    assert!(unpacked.implied.is_empty());
    assert_eq!(
        snapshot.tree(),
        ["etc", "etc/link", "etc/passwd", "etc/same", "loop", "null", "pipe"]
    );
    let etc = snapshot.stat("etc");
    assert_eq!((etc.mode(), etc.uid(), etc.gid()), (0o40750, 3, 4));
    assert_eq!((etc.mtime(), etc.mtime_nsec()), (1000, 0));
    let passwd = snapshot.stat("etc/passwd");
    assert_eq!((passwd.mode(), passwd.uid(), passwd.gid()), (0o100_640, 1, 2));
    assert_eq!((passwd.mtime(), passwd.nlink()), (2000, 2));
    assert_eq!(passwd.ino(), snapshot.stat("etc/same").ino());
    assert_eq!(snapshot.read("etc/passwd"), "root:x:0:0\n");
    let link = snapshot.stat("etc/link");
    assert_eq!((link.uid(), link.gid(), link.mtime()), (5, 6, 3000));
    assert_eq!(snapshot.path("etc/link").read_link().unwrap().to_str(), Some("../nowhere"));
    let null = snapshot.stat("null");
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    let disk = snapshot.stat("loop");
    assert!(disk.file_type().is_block_device());
    assert_eq!((disk.rdev(), disk.mtime()), (rustix::fs::makedev(7, 300), MTIME));
    let pipe = snapshot.stat("pipe");
    assert!(pipe.file_type().is_fifo());
    assert_eq!(pipe.mode() & 0o7777, 0o622);
}

#[test]
fn special_mode_bits_and_file_capabilities_survive_the_change_of_owner() {
    require_root!();
    let snapshot = Snapshot::new();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    snapshot.base(&archive(&[
        dir("tmp").mode(0o1777),
        dir("mail").mode(0o2775).owner(0, 8),
        file("su", "").mode(0o4755).owner(1, 1),
        file("group", "").mode(0o2711).owner(1, 1),
        pax(&[("SCHILY.xattr.security.capability", capability)]),
        file("ping", "").mode(0o755).owner(1000, 1000),
    ]));
    for (name, mode) in [("tmp", 0o1777), ("mail", 0o2775), ("su", 0o4755), ("group", 0o2711)] {
        assert_eq!(snapshot.stat(name).mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(snapshot.xattr("ping", "security.capability").unwrap(), capability);
}

#[test]
fn attributes_are_exact_whatever_the_directory_gives_to_new_files() {
    require_root!();
    let snapshot = Snapshot::new();
    // Default ACL: owner rwx, others nothing (Linux `posix_acl_xattr.h`).
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\0\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let two = |name: &str| {
        [1, 2].map(|number| file(format!("{name}/{number}"), "").mode(0o666).owner(0, 0))
    };
    let link = |name: &str| symlink(format!("{name}/link"), "1").owner(0, 0);
    // Attributes cached from a directory before it got its own are invalid then.
    let seen_before = |name: &str| {
        let file = file(format!("{name}/before"), "").mode(0o666).owner(0, 0);
        [file, symlink(format!("{name}/early"), "1").owner(0, 0)]
    };
    let setgid = |name: &str| dir(name).mode(0o2775).owner(0, 50);
    let [file_of_later, link_of_later] = seen_before("later");
    let [file_of_implied, link_of_implied] = seen_before("implied");
    let directories = [
        ("plain", vec![dir("plain")]),
        ("setgid", vec![setgid("setgid")]),
        ("acl", vec![pax(&[("SCHILY.xattr.system.posix_acl_default", acl)]), dir("acl")]),
        ("later", vec![dir("later"), file_of_later, link_of_later, setgid("later")]),
        ("implied", vec![file_of_implied, link_of_implied, setgid("implied")]),
    ];
    let mut members = Vec::new();
    for (name, before) in directories {
        members.extend(before);
        members.extend(two(name));
        members.push(link(name));
        members.push(file(format!("{name}/owned"), "").mode(0o666).owner(7, 8));
        members.push(dir(format!("{name}/dir")).mode(0o755).owner(0, 0));
    }
    snapshot.base(&archive(&members));
    for name in ["plain", "setgid", "acl", "later", "implied"] {
        for (file, mode, owner) in [
            ("1", 0o666, (0, 0)),
            ("2", 0o666, (0, 0)),
            ("owned", 0o666, (7, 8)),
            ("dir", 0o755, (0, 0)),
            ("link", 0o777, (0, 0)),
        ] {
            let stat = snapshot.stat(&format!("{name}/{file}"));
            let found = (stat.mode() & 0o7777, (stat.uid(), stat.gid()));
            assert_eq!(found, (mode, owner), "{name}/{file}");
        }
    }
}

#[test]
fn a_directory_is_looked_up_again_when_what_leads_to_it_has_changed() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        dir("one"),
        dir("two"),
        dir("becomes-link"),
        symlink("becomes-link", "one"),
        file("becomes-link/a", ""),
        symlink("link", "one"),
        dir("link/below"),
        symlink("link", "two"),
        file("link/below/b", ""),
    ]));
    assert_eq!(
        snapshot.tree(),
        ["becomes-link", "link", "one", "one/a", "one/below", "two", "two/below", "two/below/b"]
    );
}

#[test]
fn times_keep_their_nanoseconds_and_directories_get_theirs_last() {
    let snapshot = Snapshot::new();
    let uid = i64::from(rustix::process::geteuid().as_raw());
    let gid = i64::from(rustix::process::getegid().as_raw());
    let owned = |member: Member| member.owner(uid, gid);
    snapshot.base(&archive(&[
        pax(&[("mtime", b"100.000000001"), ("atime", b"200.5")]),
        owned(dir("d")),
        pax(&[("mtime", b"1234567890.123456789")]),
        owned(file("d/f", "x")),
        pax(&[("mtime", b"7.25")]),
        owned(symlink("d/l", "f")),
    ]));
    let d = snapshot.stat("d");
    assert_eq!((d.mtime(), d.mtime_nsec()), (100, 1));
    assert_eq!((d.atime(), d.atime_nsec()), (200, 500_000_000));
    let f = snapshot.stat("d/f");
    assert_eq!((f.mtime(), f.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!((f.atime(), f.atime_nsec()), (1_234_567_890, 123_456_789));
    let l = snapshot.stat("d/l");
    assert_eq!((l.mtime(), l.mtime_nsec()), (7, 250_000_000));
}

#[test]
fn times_out_of_range_become_the_epoch() {
    require_root!();
    for (mtime, atime, seen) in [
        ("-1", "", (0, 0)),
        ("-1", "5", (0, 5)),
        ("9223372036", "", (9_223_372_036, 9_223_372_036)),
        ("9223372037", "", (0, 0)),
        ("9223372036854775807", "6", (0, 6)),
        ("10", "9", (10, 10)),
    ] {
        let snapshot = Snapshot::new();
        let records = [("mtime", mtime.as_bytes()), ("atime", atime.as_bytes())];
        snapshot.base(&archive(&[pax(&records), file("x", "")]));
        let stat = snapshot.stat("x");
        assert_eq!((stat.mtime(), stat.atime()), seen, "{mtime} {atime}");
    }
}

#[test]
fn directories_are_merged_and_anything_else_is_replaced() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        dir("kept").mode(0o700),
        file("kept/inside", "1"),
        dir("kept").mode(0o755).owner(4, 5).mtime(77),
        dir("to-file"),
        file("to-file/deep/f", "old"),
        file("to-file", "new"),
        file("to-dir", "old"),
        dir("to-dir"),
        file("to-dir/f", "new"),
        symlink("link-to-dir", "kept"),
        dir("link-to-dir"),
        file("link-to-dir/own", "2"),
        symlink("link-to-file", "kept/inside"),
        file("link-to-file", "not through the link"),
        file("twice", "longer content"),
        file("twice", "short"),
        dir("back"),
        file("back", ""),
        dir("back"),
    ]));
    assert_eq!(
        snapshot.tree(),
        [
            "back",
            "kept",
            "kept/inside",
            "link-to-dir",
            "link-to-dir/own",
            "link-to-file",
            "to-dir",
            "to-dir/f",
            "to-file",
            "twice"
        ]
    );
    let kept = snapshot.stat("kept");
    assert_eq!((kept.mode() & 0o7777, kept.uid(), kept.mtime()), (0o755, 4, 77));
    assert_eq!(snapshot.read("kept/inside"), "1");
    assert_eq!(snapshot.read("to-file"), "new");
    assert_eq!(snapshot.read("twice"), "short");
    assert!(snapshot.stat("link-to-dir").is_dir());
    assert!(snapshot.stat("back").is_dir());
}

#[test]
fn a_hard_link_to_a_symlink_links_the_symlink() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        file("target", "x").mode(0o600),
        symlink("link", "target").owner(7, 7),
        hard_link("other", "link").mode(0o777).owner(8, 9).mtime(5),
    ]));
    let other = snapshot.stat("other");
    assert!(other.is_symlink());
    assert_eq!(other.ino(), snapshot.stat("link").ino());
    assert_eq!((other.uid(), other.gid(), other.mtime()), (8, 9, 5));
    let target = snapshot.stat("target");
    assert_eq!((target.uid(), target.mode() & 0o7777), (0, 0o600), "not followed");
}

#[test]
fn hard_links_take_the_attributes_of_the_last_header() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        dir("d"),
        file("d/a", "x").mode(0o600),
        hard_link("b", "./d/../d/a").mode(0o4711).owner(3, 3).mtime(9),
        hard_link("b", "/d/a").mode(0o4755).owner(2, 2).mtime(8),
    ]));
    let a = snapshot.stat("d/a");
    assert_eq!((a.mode() & 0o7777, a.uid(), a.mtime(), a.nlink()), (0o4755, 2, 8, 2));
}

#[test]
fn xattrs_are_set_except_trusted_ones() {
    require_root!();
    let snapshot = Snapshot::new();
    let xattrs = || {
        pax(&[
            ("SCHILY.xattr.user.name", b"value"),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.other", b"x"),
        ])
    };
    snapshot.overlay(&archive(&[
        xattrs(),
        file("file", ""),
        xattrs(),
        dir("dir"),
        xattrs(),
        symlink("link", "file"),
        xattrs(),
        member(b'6', "pipe"),
        pax(&[("SCHILY.xattr.security.note", b"n")]),
        symlink("labelled", "file"),
    ]));
    for name in ["file", "dir"] {
        assert_eq!(snapshot.xattr(name, "user.name").as_deref(), Some(&b"value"[..]), "{name}");
        assert_eq!(snapshot.xattr(name, "user.empty").as_deref(), Some(&b""[..]), "{name}");
    }
    for name in ["file", "dir", "link", "pipe"] {
        for key in ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.other"] {
            assert_eq!(snapshot.xattr(name, key), None, "{name} {key}");
        }
    }
    assert_eq!(snapshot.xattr("link", "user.name"), None);
    assert_eq!(snapshot.xattr("labelled", "security.note").as_deref(), Some(&b"n"[..]));
    assert_eq!(snapshot.xattr("file", "security.note"), None, "not through the link");
}

#[test]
fn xattrs_that_the_system_refuses_are_errors() {
    require_root!();
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(300));
    let huge = vec![b'v'; 100_000];
    for (key, value) in [(long.as_str(), &b"v"[..]), ("SCHILY.xattr.user.huge", &huge)] {
        let snapshot = Snapshot::new();
        let tar = archive(&[pax(&[(key, value)]), file("x", "")]);
        let error = snapshot.apply(&tar, Placement::Base).unwrap_err();
        let error = refusal(error);
        assert!(matches!(error, Refusal::Xattr { .. }), "{error}");
        assert!(
            error.to_string().starts_with("cannot set the extended attribute \"user."),
            "{error}"
        );
    }
}

#[test]
fn owners_wrap_round_at_32_bits_and_all_ones_leave_the_owner() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        pax(&[("uid", b"4294967298"), ("gid", b"4294967294")]),
        file("wraps", ""),
        pax(&[("uid", b"-1"), ("gid", b"4294967295")]),
        file("left", ""),
    ]));
    let wraps = snapshot.stat("wraps");
    assert_eq!((wraps.uid(), wraps.gid()), (2, 4_294_967_294));
    let left = snapshot.stat("left");
    assert_eq!((left.uid(), left.gid()), (0, 0));
}

#[test]
fn device_numbers_wrap_round_at_what_the_kernel_keeps() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        member(b'4', "max").device(4095, 0xF_FFFF),
        member(b'3', "wraps").device(4096 + 1, 0x10_0000 + 3),
    ]));
    assert_eq!(snapshot.stat("max").rdev(), rustix::fs::makedev(4095, 0xF_FFFF));
    assert_eq!(snapshot.stat("wraps").rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn sparse_files_have_holes_instead_of_zeros() {
    require_root!();
    let snapshot = Snapshot::new();
    let size = 1_u64 << 39;
    let map = format!("1\n{}\n3\n", 1 << 30);
    let mut body = map.into_bytes();
    body.resize(512, 0);
    body.extend_from_slice(b"end");
    snapshot.base(&archive(&[
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", size.to_string().as_bytes()),
        ]),
        file("GNUSparseFile.1/sparse", body),
    ]));
    assert_eq!(snapshot.tree(), ["sparse"]);
    let stat = snapshot.stat("sparse");
    assert_eq!(stat.len(), size);
    assert!(stat.blocks() < 1024, "{} blocks", stat.blocks());
    let mut data = [1; 5];
    let file = File::open(snapshot.path("sparse")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut data, (1 << 30) - 1).unwrap();
    assert_eq!(&data, b"\0end\0");
}

#[test]
fn long_and_non_ascii_names_are_kept_byte_by_byte() {
    require_root!();
    let snapshot = Snapshot::new();
    let deep = "0123456789abcdef/".repeat(40) + "leaf";
    snapshot.base(&archive(&[
        pax(&[("path", deep.as_bytes())]),
        file("x", "deep"),
        gnu_long(b'L', "n".repeat(255)),
        file("x", "wide").gnu(),
        file(b"not\xFFutf8", "bytes"),
        file("gr\u{fc}n", "utf8"),
    ]));
    assert_eq!(snapshot.read(&deep), "deep");
    assert_eq!(snapshot.read(&"n".repeat(255)), "wide");
    assert_eq!(snapshot.read("gr\u{fc}n"), "utf8");
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes;
    let names: Vec<_> =
        snapshot.root().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| bytes(name.as_os_str()) == b"not\xFFutf8"));
}

#[test]
fn usage_counts_whole_blocks_and_each_inode_once() {
    require_root!();
    let snapshot = Snapshot::new();
    snapshot.base(&archive(&[
        file("a", "x".repeat(10_000)),
        hard_link("b", "a"),
        dir("d"),
        file("d/c", ""),
        symlink("d/l", "../a"),
        symlink("d/long", "x".repeat(60)),
    ]));
    let blocks = [("", 1), ("a", 3), ("d", 1), ("d/c", 0), ("d/l", 0), ("d/long", 1)];
    let size = 4096 * blocks.iter().map(|(_, blocks)| blocks).sum::<i64>();
    assert_eq!(usage(snapshot.open().as_fd()).unwrap(), Usage { size, inodes: 6 });
}

#[test]
fn usage_counts_the_names_in_large_directories() {
    require_root!();
    let snapshot = Snapshot::new();
    let names = (0..1000).map(|number| file(format!("a-name-of-24-bytes-{number:05}"), ""));
    snapshot.base(&archive(&names.collect::<Vec<_>>()));
    let usage = usage(snapshot.open().as_fd()).unwrap();
    assert_eq!(usage, Usage { size: 8 * 4096, inodes: 1001 });
}

#[test]
fn the_same_layer_gives_the_same_tree_twice() {
    require_root!();
    let tar = archive(&[
        file("implied/deep/f", "x"),
        file(".wh.gone", ""),
        dir("d"),
        file("d/.wh..wh..opq", ""),
    ]);
    let trees = [(), ()].map(|()| {
        let snapshot = Snapshot::new();
        snapshot.overlay(&tar);
        ["", "implied", "implied/deep", "implied/deep/f", "gone", "d"].map(|name| {
            let stat = snapshot.stat(name);
            (stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec(), stat.atime())
        })
    });
    assert_eq!(trees[0], trees[1]);
}

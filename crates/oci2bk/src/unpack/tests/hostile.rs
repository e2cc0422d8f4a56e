//! Archives that try to leave the snapshot, to change other files or to be read in two ways.

use std::os::unix::fs::MetadataExt as _;

use crate::archives::*;

use super::*;

/// Unpacks as a base layer and checks that nothing beside the snapshot changed.
fn contained(members: &[Member]) -> (Snapshot, Result<Unpacked, UnpackError>) {
    let snapshot = Snapshot::new();
    let outcome = snapshot.apply(&archive(members), Placement::Base);
    snapshot.assert_contained();
    (snapshot, outcome)
}

/// Returns a snapshot into which `members` unpack.
fn unpacked(members: &[Member]) -> Snapshot {
    let (snapshot, outcome) = contained(members);
    outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
    snapshot
}

fn refused(members: &[Member]) -> Refusal {
    refusal(contained(members).1.unwrap_err())
}

fn same_file(snapshot: &Snapshot, one: &str, other: &str) -> bool {
    snapshot.stat(one).ino() == snapshot.stat(other).ino()
}

#[test]
fn names_that_are_the_root_are_ignored() {
    // CVE-2021-29136.
    let names = ["", ".", "/", "./", "..", "../..", "/..", "a/..", "./a/../..", "//"];
    for name in names {
        for member in [file(name, "x"), symlink(name, "/etc"), dir(name).mode(0o000)] {
            let snapshot = unpacked(&[pax(&[("path", name.as_bytes())]), member]);
            assert_eq!(snapshot.tree(), [""; 0], "{name:?}");
            assert_eq!(std::fs::metadata(snapshot.root()).unwrap().mode() & 0o7777, 0o755);
        }
    }
}

#[test]
fn names_with_parent_directories_stay_inside() {
    require_root!();
    for name in ["../outside/f", "/../outside/f", "a/../../outside/f", "../../../../outside/f"] {
        assert_eq!(unpacked(&[file(name, "x")]).tree(), ["outside", "outside/f"], "{name}");
    }
    assert_eq!(unpacked(&[file("/etc/passwd", "x")]).tree(), ["etc", "etc/passwd"]);
}

#[test]
fn links_to_the_outside_lead_inside() {
    require_root!();
    for target in ["/outside", "../outside", "../../../../../outside", "x/../../../outside"] {
        let snapshot = unpacked(&[symlink("link", target), file("link/secret", "mine")]);
        assert_eq!(snapshot.tree(), ["link", "outside", "outside/secret"], "{target}");
        assert_eq!(snapshot.read("outside/secret"), "mine");
    }
    let absolute = Snapshot::new();
    let target = absolute.directory.path().join("outside");
    let target = target.to_str().unwrap();
    let tar = archive(&[symlink("link", target), file("link/secret", "mine")]);
    absolute.base(&tar);
    absolute.assert_contained();
    assert_eq!(absolute.read(&format!("{}/secret", &target[1..])), "mine");
}

#[test]
fn links_to_links_are_followed_inside() {
    require_root!();
    for (first, second) in
        [("/etc", "/dummy/etc"), ("/etc", "./dummy/etc"), ("../etc", "dummy/etc")]
    {
        let snapshot = unpacked(&[
            dir("etc"),
            dir("dummy"),
            symlink("dummy/etc", first),
            symlink("local", second),
            file("local/f", "x"),
        ]);
        assert_eq!(snapshot.read("etc/f"), "x", "{first} {second}");
    }
}

#[test]
fn a_link_as_the_last_component_is_replaced_and_not_written_through() {
    require_root!();
    for target in ["../outside/secret", "/etc/shadow", "kept"] {
        for last in
            [file("link", "mine"), dir("link").mode(0o777).owner(9, 9), member(b'6', "link")]
        {
            let snapshot =
                unpacked(&[file("kept", "kept").mode(0o600), symlink("link", target), last]);
            assert!(!snapshot.stat("link").is_symlink(), "{target}");
            assert_eq!(snapshot.read("kept"), "kept");
            assert_eq!(snapshot.stat("kept").mode() & 0o7777, 0o600);
        }
    }
}

#[test]
fn owner_mode_xattrs_and_times_are_not_set_through_a_link() {
    // RUSTSEC-2026-0067 and -2026-0113.
    require_root!();
    let snapshot = unpacked(&[
        file("target", "").mode(0o600).mtime(50),
        pax(&[("SCHILY.xattr.security.note", b"n")]),
        symlink("link", "target").mode(0o4777).owner(4, 4),
        pax(&[("SCHILY.xattr.security.note", b"n")]),
        hard_link("hard", "link").mode(0o4777).owner(5, 5),
    ]);
    let target = snapshot.stat("target");
    assert_eq!((target.mode() & 0o7777, target.uid(), target.mtime()), (0o600, 0, 50));
    assert_eq!(snapshot.xattr("target", "security.note"), None);
}

#[test]
fn a_directory_replaced_by_a_link_is_not_remembered_as_a_directory() {
    // GHSA-3wgq-wrwc-vqmv: a checked path that became invalid.
    require_root!();
    let snapshot = unpacked(&[
        dir("d"),
        file("d/one", "1"),
        symlink("d", "../outside"),
        file("d/secret", "2"),
    ]);
    assert_eq!(snapshot.tree(), ["d", "outside", "outside/secret"]);
    let snapshot = unpacked(&[
        dir("a"),
        dir("a/b"),
        file("a/b/one", "1"),
        symlink("a", "/other"),
        file("a/b/two", "2"),
    ]);
    assert_eq!(snapshot.tree(), ["a", "other", "other/b", "other/b/two"]);
}

#[test]
fn a_link_replaced_by_another_is_not_remembered() {
    require_root!();
    let snapshot = unpacked(&[
        dir("x"),
        dir("y"),
        symlink("l", "x"),
        file("l/one", "1"),
        symlink("l", "y"),
        file("l/two", "2"),
        // Also by a hard link to a link.
        symlink("to-x", "x"),
        hard_link("l", "to-x"),
        file("l/three", "3"),
    ]);
    assert_eq!(snapshot.tree(), ["l", "to-x", "x", "x/one", "x/three", "y", "y/two"]);
}

#[test]
fn a_link_made_where_a_missing_component_was_skipped_is_seen() {
    require_root!();
    let snapshot = unpacked(&[
        symlink("l", "/missing/../y"),
        file("l/one", "1"),
        dir("z"),
        dir("z/deep"),
        symlink("missing", "z/deep"),
        file("l/two", "2"),
    ]);
    assert_eq!(snapshot.read("y/one"), "1");
    assert_eq!(snapshot.read("z/y/two"), "2");
}

#[test]
fn a_removed_hard_link_target_directory_is_not_remembered() {
    require_root!();
    let members = [
        dir("d"),
        file("d/f", "old"),
        hard_link("one", "d/f"),
        file("d", "no directory any more"),
        hard_link("two", "d/f"),
    ];
    let error = refused(&members);
    assert!(matches!(error, Refusal::HardLinkTargetMissing { .. }), "{error}");
    assert_eq!(error.to_string(), "the hard link's target \"d/f\" is not in the same layer");
    let through = [
        dir("d"),
        file("d/secret", "inside"),
        hard_link("one", "d/secret"),
        symlink("d", "../outside"),
        hard_link("two", "d/secret"),
    ];
    let error = refused(&through);
    assert!(matches!(error, Refusal::HardLinkTargetMissing { .. }), "{error}");
    assert_eq!(error.to_string(), "the hard link's target \"d/secret\" is not in the same layer");
}

#[test]
fn the_same_path_as_directory_and_link_in_turn_stays_inside() {
    require_root!();
    let snapshot = unpacked(&[
        dir("foo"),
        dir("foo/tmp"),
        file("foo/tmp/f", "1"),
        symlink("foo", "/"),
        file("foo/tmp/f", "2"),
        dir("foo"),
        dir("foo/tmp"),
        file("foo/tmp/f", "3"),
    ]);
    assert_eq!(snapshot.tree(), ["foo", "foo/tmp", "foo/tmp/f", "tmp", "tmp/f"]);
    assert_eq!((snapshot.read("tmp/f"), snapshot.read("foo/tmp/f")), ("2".into(), "3".into()));
}

#[test]
fn hard_links_lead_to_the_inside() {
    require_root!();
    for (link, target) in [
        ("up/etc", "/up/etc/passwd"),
        ("up/etc", "up/etc/passwd"),
        ("x", "../../../../etc/passwd"),
        ("x", "/etc/passwd"),
        ("x", "x/../etc/passwd"),
    ] {
        let snapshot = unpacked(&[
            dir("etc"),
            file("etc/passwd", "inside"),
            dir("up"),
            symlink(link, "../../../etc"),
            hard_link("hard", target),
        ]);
        assert!(same_file(&snapshot, "hard", "etc/passwd"), "{link} {target}");
    }
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    require_root!();
    let snapshot = Snapshot::new();
    let secret = snapshot.directory.path().join("outside/secret");
    let secret = secret.to_str().unwrap();
    for members in [
        vec![hard_link("x", "../outside/secret")],
        vec![pax(&[("linkpath", secret.as_bytes())]), hard_link("x", "y")],
        vec![symlink("out", "../outside"), hard_link("x", "out/secret")],
    ] {
        let error = refused(&members);
        assert!(matches!(error, Refusal::HardLinkTargetMissing { .. }), "{error}");
        assert!(error.to_string().ends_with("\" is not in the same layer"), "{error}");
    }
}

#[test]
fn a_hard_link_to_a_link_to_the_outside_links_only_the_link() {
    // CVE-2026-50163: the target is checked in one form and used in another.
    require_root!();
    let snapshot = unpacked(&[
        symlink("link", "../outside/secret"),
        hard_link("hard", "link").mode(0o777),
        file("hard", "mine"),
    ]);
    assert_eq!(snapshot.tree(), ["hard", "link"]);
    assert_eq!(snapshot.read("hard"), "mine");
}

#[test]
fn hard_links_to_what_is_missing_later_or_removed_are_refused() {
    require_root!();
    for members in [
        vec![hard_link("x", "only-in-a-lower-layer")],
        vec![hard_link("x", "later"), file("later", "")],
        vec![file("f", ""), file(".wh.f", ""), hard_link("x", "f")],
        vec![file("f", ""), hard_link("f", "f")],
        vec![hard_link("x", "no/directory/f")],
    ] {
        let refusal = refused(&members);
        assert!(matches!(refusal, Refusal::HardLinkTargetMissing { .. }), "{refusal:?}");
        assert!(refusal.to_string().ends_with("\" is not in the same layer"), "{refusal}");
    }
}

#[test]
fn hard_links_to_directories_are_refused() {
    require_root!();
    for target in ["d", "d/", "d/.", "d/..", "/", "", ".", ".."] {
        let refusal = refused(&[dir("d"), hard_link("x", target)]);
        assert!(matches!(refusal, Refusal::HardLinkToDirectory { .. }), "{target}: {refusal:?}");
        assert!(refusal.to_string().ends_with("\" is a directory"), "{refusal}");
    }
}

#[test]
fn link_circles_are_refused() {
    for members in [
        vec![symlink("a", "a"), file("a/f", "")],
        vec![symlink("a", "b"), symlink("b", "a"), file("a/f", "")],
        vec![symlink("a", "a/a"), file("a/f", "")],
        vec![symlink("a", "b/b/b/b"), symlink("b", "a/a/a/a"), hard_link("x", "a/f")],
    ] {
        let refusal = refusal(contained(&unowned(members)).1.unwrap_err());
        assert!(matches!(refusal, Refusal::TooManySymlinks), "{refusal:?}");
        assert_eq!(refusal.to_string(), "the path leads through too many symbolic links");
    }
}

/// Returns the members with the owner of the process, which may not set another.
fn unowned(members: Vec<Member>) -> Vec<Member> {
    let uid = i64::from(rustix::process::geteuid().as_raw());
    let gid = i64::from(rustix::process::getegid().as_raw());
    members.into_iter().map(|member| member.owner(uid, gid)).collect()
}

#[test]
fn many_links_in_a_deep_directory_do_not_take_minutes() {
    require_root!();
    let deep = vec!["d"; 1500].join("/");
    let mut members = vec![pax(&[("path", deep.as_bytes())]), dir("x")];
    for index in 0..200 {
        let target = format!("/{deep}/l{}", index + 1);
        let path = format!("{deep}/l{index}");
        members.push(pax(&[("path", path.as_bytes()), ("linkpath", target.as_bytes())]));
        members.push(symlink("x", "y"));
    }
    let path = format!("{deep}/l0/f");
    members.extend([pax(&[("path", path.as_bytes())]), file("x", "")]);
    // Fewer links than the limit; the lookups are limited.
    let error = refused(&members);
    assert!(matches!(error, Refusal::TooManySymlinks), "{error}");
    assert_eq!(error.to_string(), "the path leads through too many symbolic links");
}

#[test]
fn names_and_paths_that_are_too_long_are_refused() {
    require_root!();
    let name = "n".repeat(256);
    let error = refused(&[pax(&[("path", name.as_bytes())]), file("x", "")]);
    assert!(matches!(error, Refusal::PathTooLong), "{error:?}");
    assert_eq!(error.to_string(), "the path is longer than 4095 bytes, or a name in it than 255");
    let path = "d/".repeat(5000) + "f";
    let error = refused(&[pax(&[("path", path.as_bytes())]), file("x", "")]);
    assert!(matches!(error, Refusal::NameTooLong { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("the name or the link's target has 10001 bytes, more than 4095"),
        "{error}"
    );
    // Links make a long path from a short name.
    let half = "d/".repeat(1500);
    let half = half.as_bytes();
    let link = [pax(&[("linkpath", half)]), symlink("l", "x")];
    let path = [b"l/", half, b"f"].concat();
    let error = refused(&[&link[..], &[pax(&[("path", &path)]), file("x", "")]].concat());
    assert!(matches!(error, Refusal::PathTooLong), "{error:?}");
    assert_eq!(error.to_string(), "the path is longer than 4095 bytes, or a name in it than 255");
    let path = "d/".repeat(500_000) + "f";
    let error = refused(&[pax(&[("path", path.as_bytes())]), file("x", "")]);
    assert!(matches!(error, Refusal::NameTooLong { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("the name or the link's target has 1000001 bytes, more than 4095"),
        "{error}"
    );
}

#[test]
fn very_deep_trees_are_removed_and_measured_without_recursion() {
    require_root!();
    let deep = vec!["d"; 2000].join("/") + "/f";
    let snapshot = unpacked(&[pax(&[("path", deep.as_bytes())]), file("x", "")]);
    assert_eq!(usage(snapshot.open().as_fd()).unwrap().inodes, 2002);
    let snapshot =
        unpacked(&[pax(&[("path", deep.as_bytes())]), file("x", ""), file("d", "replaced")]);
    assert_eq!(snapshot.read("d"), "replaced");
}

#[test]
fn parents_that_are_no_directories_are_refused() {
    require_root!();
    for parent in [file("p", ""), member(b'6', "p"), member(b'3', "p")] {
        for name in ["p/f", "p/q/f"] {
            let error = refused(&[parent.clone(), file(name, "")]);
            assert!(matches!(error, Refusal::ParentNotDirectory), "{error:?}");
            assert_eq!(error.to_string(), "a parent of the path is not a directory");
        }
    }
    // containerd looks directories up again for their times, and fails like this.
    let error = refused(&[dir("p/q"), file("p", "")]);
    assert!(matches!(error, Refusal::ParentNotDirectory), "{error:?}");
    assert_eq!(error.to_string(), "a parent of the path is not a directory");
}

#[test]
fn unknown_types_are_refused() {
    require_root!();
    for typeflag in [b'7', b'S', b'D', b'V', b'M', b'N', b'A', 200] {
        let error = refused(&[member(typeflag, "x")]);
        assert!(
            matches!(error, Refusal::UnsupportedType { typeflag: t } if t == typeflag),
            "{error}"
        );
        assert!(error.to_string().starts_with("cannot unpack an entry of tar type "), "{error}");
    }
}

#[test]
fn a_global_header_creates_nothing_but_makes_room() {
    require_root!();
    let global = |name: &str| member(b'g', name).data(pax_record(b"comment", b"x"));
    let snapshot = unpacked(&[file("a", ""), global("a"), global("tmp/pax_global_header")]);
    assert_eq!(snapshot.tree(), ["tmp"]);
}

#[test]
fn fifos_and_devices_are_replaced_without_being_opened() {
    require_root!();
    // Opening the FIFO for writing would wait for a reader forever.
    let snapshot =
        unpacked(&[member(b'6', "p"), file("p", "x"), member(b'4', "b"), file("b", "y")]);
    assert_eq!((snapshot.read("p"), snapshot.read("b")), ("x".into(), "y".into()));
}

#[test]
fn messages_shorten_long_names_and_escape_control_characters() {
    let long = "\u{1b}[31m".to_owned() + &"x".repeat(5000);
    let tar = archive(&unowned(vec![
        pax(&[("path", format!("{long}/.wh.").as_bytes())]).clone(),
        file("x", ""),
    ]));
    let error = Snapshot::new().apply(&tar, Placement::Base).unwrap_err();
    let text = chain(&error);
    assert!(text.len() < 1000 && !text.contains('\u{1b}'), "{text}");
}

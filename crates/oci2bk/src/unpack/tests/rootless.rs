//! Layers for rootless daemons, in their user namespace and from outside of it.

use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::archives::*;
use bkstate::worker::{OwnerMap, Worker};
use rustix::fs::{XattrFlags, fsetxattr};

use super::*;

/// `cap_net_raw=ep`.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Returns the worker of a daemon of user 1000 that this process writes for from outside.
fn mapped() -> Worker {
    Worker::default().mapped(OwnerMap::of_both("0:1000:1,1:100000:65536".parse().unwrap()))
}

/// Returns the worker of a daemon in a namespace with these owners, as if this process were in it.
fn within(map: &str) -> Worker {
    Worker::default().in_namespace(OwnerMap::of_both(map.parse().unwrap()))
}

fn apply(
    snapshot: &Snapshot,
    worker: &Worker,
    placement: Placement,
    members: &[Member],
) -> Result<Unpacked, UnpackError> {
    let tar = archive(members);
    let file = blob_file(&tar);
    let (digest, size) = (Digest::of(&tar), tar.len() as u64);
    let layer = Layer { blob: &file, digest, size, media_type: PLAIN, diff_id: digest };
    unpack(&layer, snapshot.open().as_fd(), placement, worker, &Limits::default(), &|_| ())
}

fn owner(snapshot: &Snapshot, name: &str) -> (u32, u32) {
    let stat = snapshot.stat(name);
    (stat.uid(), stat.gid())
}

#[test]
fn opaque_directories_have_the_attribute_for_users() {
    let snapshot = Snapshot::new();
    let user = rustix::process::geteuid().as_raw().to_string();
    let worker = within(&format!("0:{user}:1"));
    // What a user can do who is root in the namespace; owners are left to the kernel.
    let [owner, opaque] = of_kernel(dir("opaque"));
    let members = [owner, opaque, file("opaque/.wh..wh..opq", "")];
    match apply(&snapshot, &worker, Placement::Overlay, &members) {
        Ok(_) => {
            let mark = snapshot.xattr("opaque", "user.overlay.opaque");
            assert_eq!(mark.as_deref(), Some(&b"y"[..]));
            assert_eq!(snapshot.xattr("opaque", "trusted.overlay.opaque"), None);
        }
        // The directory for temporary files may have none.
        Err(error) => assert!(chain(&error).contains("not supported"), "{}", chain(&error)),
    }
}

#[test]
fn everything_gets_the_owner_that_it_has_outside() {
    require_root!();
    let snapshot = Snapshot::new();
    let mut members = vec![
        dir("d").owner(0, 0),
        file("d/f", "").owner(1000, 1).mode(0o4755),
        symlink_member("d/link", 5, 6),
        member(b'6', "d/fifo").owner(65_536, 0),
        file("implied/dir/f", "").owner(33, 33),
        hard_link("d/hard", "d/f").owner(2, 2).mode(0o4711),
        file("d/.wh.gone", "").owner(2_000_000, 2_000_000),
        dir("shared").owner(7, 8).mode(0o2775),
    ];
    let of_kernel = ["shared/kernel", "kernel"].map(|name| of_kernel(file(name, "")));
    members.extend(of_kernel.into_iter().flatten());
    members.extend(self::of_kernel(member(b'6', "pipe")));
    apply(&snapshot, &mapped(), Placement::Overlay, &members).unwrap();
    for (name, expected) in [
        ("d", (1000, 1000)),
        ("d/f", (100_001, 100_001)),
        ("d/hard", (100_001, 100_001)),
        ("d/link", (100_004, 100_005)),
        ("d/fifo", (165_535, 1000)),
        ("d/gone", (1000, 1000)),
        ("implied", (1000, 1000)),
        ("implied/dir", (1000, 1000)),
        ("implied/dir/f", (100_032, 100_032)),
        ("shared/kernel", (1000, 100_007)),
        ("kernel", (1000, 1000)),
        ("pipe", (1000, 1000)),
    ] {
        assert_eq!(owner(&snapshot, name), expected, "{name}");
    }
    assert_eq!(snapshot.stat("d/f").mode() & 0o7777, 0o4711);
}

/// Returns the entry with its header that leaves its owner to the kernel.
fn of_kernel(entry: Member) -> [Member; 2] {
    [pax(&[("uid", b"4294967295"), ("gid", b"4294967295")]), entry]
}

fn symlink_member(name: &str, user: i64, group: i64) -> Member {
    crate::archives::symlink(name, "f").owner(user, group)
}

#[test]
fn an_owner_outside_the_map_is_named() {
    require_root!();
    let map = "0:1000:1,1:100000:65536";
    for (worker, user, group) in [(mapped(), 65_537, 0), (within(map), 0, 65_537)] {
        let snapshot = Snapshot::new();
        let members = [file("fine", ""), file("d/f", "").owner(user, group)];
        let error = apply(&snapshot, &worker, Placement::Base, &members).unwrap_err();
        assert!(error.can_stay_packed() && !error.is_input() && !error.is_denied());
        let missing = error.missing_owner().unwrap();
        assert_eq!((i64::from(missing.user), i64::from(missing.group)), (user, group));
        let message = chain(&error);
        let expected = format!(
            "the owner {user}:{group} is not in the user namespace of the daemon, whose map is {map}"
        );
        assert!(message.contains("entry \"d/f\"") && message.ends_with(&expected), "{message}");
    }
}

#[test]
fn devices_are_left_out_and_whiteouts_are_made() {
    require_root!();
    for worker in [mapped(), within("0:0:65537")] {
        let snapshot = Snapshot::new();
        let members = [
            member(b'3', "dev/null").device(1, 3),
            member(b'4', "block").device(8, 0),
            // The name does not matter.
            member(b'3', ".wh.x"),
            file("d/.wh.gone", ""),
        ];
        let unpacked = apply(&snapshot, &worker, Placement::Overlay, &members).unwrap();
        assert_eq!((unpacked.entries, unpacked.left_out), (4, 3));
        assert_eq!(snapshot.tree(), ["d", "d/gone"]);
        // A link to one has no target.
        let members = [member(b'3', "null").device(1, 3), hard_link("link", "null")];
        let error = apply(&Snapshot::new(), &worker, Placement::Base, &members).unwrap_err();
        assert!(matches!(refusal(error), Refusal::HardLinkTargetMissing { .. }));
    }
    let snapshot = Snapshot::new();
    let unpacked = snapshot.overlay(&archive(&[member(b'3', "null").device(1, 3)]));
    assert_eq!((unpacked.left_out, snapshot.tree()), (0, vec!["null".to_owned()]));
}

#[test]
fn a_layer_does_not_bring_the_attributes_of_overlayfs() {
    require_root!();
    let members = || {
        [
            pax(&[
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.own", b"value"),
            ]),
            dir("d"),
        ]
    };
    let names = ["user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.opaque"];
    for worker in [mapped(), within("0:0:65537")] {
        let snapshot = Snapshot::new();
        apply(&snapshot, &worker, Placement::Overlay, &members()).unwrap();
        assert!(names.iter().all(|name| snapshot.xattr("d", name).is_none()));
        assert_eq!(snapshot.xattr("d", "user.own").as_deref(), Some(&b"value"[..]));
    }
    // To a daemon that runs as root, those of users are any attributes.
    let snapshot = Snapshot::new();
    snapshot.overlay(&archive(&members()));
    assert!(snapshot.xattr("d", "user.overlay.opaque").is_some());
    assert!(snapshot.xattr("d", "trusted.overlay.opaque").is_none());
}

#[test]
fn an_implied_directory_does_not_inherit_the_attributes_of_overlayfs() {
    require_root!();
    let worker = mapped();
    let (lower, upper) = (Snapshot::new(), Snapshot::new());
    apply(&lower, &worker, Placement::Base, &[dir("d").owner(3, 4), dir("e").owner(3, 4)]).unwrap();
    for name in ["d", "e"] {
        let directory = File::open(lower.path(name)).unwrap();
        for (name, value) in [("user.overlay.opaque", "y"), ("user.own", "value")] {
            fsetxattr(&directory, name, value.as_bytes(), XattrFlags::empty()).unwrap();
        }
    }
    // `e` has an entry after it was implied.
    let members = [file("d/f", ""), file("e/f", ""), dir("e")];
    let unpacked = apply(&upper, &worker, Placement::Overlay, &members).unwrap();
    unpacked.implied.settle(upper.open().as_fd(), [lower.open()]).unwrap();
    for name in ["d", "e"] {
        assert_eq!(upper.xattr(name, "user.own").as_deref(), Some(&b"value"[..]), "{name}");
        assert_eq!(upper.xattr(name, "user.overlay.opaque"), None, "{name}");
    }
    assert_eq!((owner(&upper, "d"), owner(&upper, "e")), ((100_002, 100_003), (1000, 1000)));
}

#[test]
fn a_directory_that_replaces_a_whiteout_hides_what_is_below() {
    require_root!();
    let members = [file(".wh.d", ""), dir("d"), file("d/new", "")];
    let snapshot = Snapshot::new();
    apply(&snapshot, &mapped(), Placement::Overlay, &members).unwrap();
    let mark = snapshot.xattr("d", "user.overlay.opaque");
    assert_eq!(mark.as_deref(), Some(&b"y"[..]));
    // Not one that replaces something else, and not in a layer with nothing below.
    for (placement, members) in [
        (Placement::Overlay, [file("d", ""), dir("d"), file("d/new", "")]),
        (Placement::Base, members),
    ] {
        let snapshot = Snapshot::new();
        apply(&snapshot, &mapped(), placement, &members).unwrap();
        assert_eq!(snapshot.xattr("d", "user.overlay.opaque"), None);
    }
}

#[test]
fn capabilities_count_in_the_namespace_only() {
    require_root!();
    let with = |value: &[u8]| {
        [pax(&[("SCHILY.xattr.security.capability", value)]), file("f", "").owner(7, 7)]
    };
    let snapshot = Snapshot::new();
    apply(&snapshot, &mapped(), Placement::Base, &with(&NET_RAW)).unwrap();
    let found = snapshot.xattr("f", "security.capability").unwrap();
    let expected = [&[1, 0, 0, 3], &NET_RAW[4..], &1000_u32.to_le_bytes()].concat();
    assert_eq!(found, expected);

    let error = apply(&Snapshot::new(), &mapped(), Placement::Base, &with(&found)).unwrap_err();
    let error = refusal(error);
    assert!(matches!(error, Refusal::CapabilityOfNamespace), "{error}");
    // In the namespace, the kernel converts them.
    let snapshot = Snapshot::new();
    apply(&snapshot, &within("0:0:65537"), Placement::Base, &with(&NET_RAW)).unwrap();
    assert_eq!(snapshot.xattr("f", "security.capability").as_deref(), Some(&NET_RAW[..]));
}

#[test]
fn a_link_is_not_followed_to_set_an_owner() {
    require_root!();
    let snapshot = Snapshot::new();
    symlink("../outside", snapshot.path("out")).unwrap();
    let members = [symlink_member("out", 5, 6), file("out/f", "")];
    let _ = apply(&snapshot, &mapped(), Placement::Base, &members);
    snapshot.assert_contained();
    assert_eq!(snapshot.directory.path().join("outside/secret").metadata().unwrap().uid(), 0);
}

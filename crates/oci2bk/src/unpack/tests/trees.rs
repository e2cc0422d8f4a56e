//! Archives of trees, such as the files of cache mounts.

use bkstate::worker::{OwnerMap, Worker};

use super::*;
use crate::archives::{Member, archive, dir, file, hard_link, member, pax, symlink};
use crate::unpack::Allowance;
use crate::unpack::tree::{Tree, unpack_tree};

fn apply(snapshot: &Snapshot, members: &[Member]) -> Result<Tree, UnpackError> {
    apply_for(&Worker::default(), snapshot, members)
}

fn apply_for(
    worker: &Worker,
    snapshot: &Snapshot,
    members: &[Member],
) -> Result<Tree, UnpackError> {
    let tar = archive(members);
    let blob = snapshot.directory.path().join("outside/blob");
    std::fs::write(&blob, &tar).unwrap();
    let file = File::open(&blob).unwrap();
    std::fs::remove_file(&blob).unwrap();
    let (digest, size) = (Digest::of(&tar), tar.len() as u64);
    let layer = Layer { blob: &file, digest, size, media_type: "", diff_id: digest };
    let allowance = Allowance::of_run(&Limits::default(), size);
    unpack_tree(&layer, snapshot.open().as_fd(), worker, &allowance, &|_| {})
}

fn refused(members: &[Member]) -> Refusal {
    refused_for(&Worker::default(), members)
}

fn refused_for(worker: &Worker, members: &[Member]) -> Refusal {
    let snapshot = Snapshot::new();
    let error = apply_for(worker, &snapshot, members).unwrap_err();
    snapshot.assert_contained();
    assert!(error.is_input(), "{error}");
    let UnpackError::Entry { reason, .. } = error else { panic!("{error}") };
    reason
}

#[test]
fn names_of_whiteouts_are_names() {
    let snapshot = Snapshot::new();
    let members = [dir("./"), file("./.wh.a", "x"), file("./.wh..wh..opq", ""), file("./a", "y")];
    let tree = apply(&snapshot, &members.map(owned)).unwrap();
    assert_eq!(tree.entries, 4);
    assert_eq!(snapshot.tree(), [".wh..wh..opq", ".wh.a", "a"]);
}

/// Gives a member the owner of this process, so that the test needs no privileges.
fn owned(member: Member) -> Member {
    let user = rustix::process::getuid().as_raw().into();
    let group = rustix::process::getgid().as_raw().into();
    member.owner(user, group)
}

#[test]
fn the_tree_has_the_attributes_of_its_entry() {
    let snapshot = Snapshot::new();
    let members = [owned(dir("./").mode(0o1711).mtime(77)), owned(file("./sub/a", ""))];
    apply(&snapshot, &members).unwrap();
    let top = snapshot.root().metadata().unwrap();
    assert_eq!((top.permissions().mode() & 0o7777, top.mtime()), (0o1711, 77));
    // Without an entry of its own.
    assert_eq!(snapshot.stat("sub").permissions().mode() & 0o7777, 0o755);
    assert_eq!(snapshot.stat("sub").mtime(), 0);
}

#[test]
fn what_could_lead_out_is_refused() {
    for name in ["/a", "../a", "a/../../b", "a/..", "./../a"] {
        let reason = refused(&[owned(file(name, ""))]);
        assert!(matches!(reason, Refusal::LeavesTree { .. }), "{name}: {reason}");
        let expected =
            format!("the name {name:?} is absolute, or leads upwards out of the cache mount");
        assert_eq!(reason.to_string(), expected);
        let link = owned(hard_link("a", name));
        assert!(matches!(refused(&[link]), Refusal::LeavesTree { .. }), "{name}");
    }
    let through = "the path leads through a symbolic link";
    for target in ["../outside", "sub", "/outside"] {
        let link = || owned(symlink("link", target));
        let reason = refused(&[owned(dir("sub")), link(), owned(file("link/a", ""))]);
        assert!(matches!(reason, Refusal::ThroughLink), "{target}: {reason}");
        assert_eq!(reason.to_string(), through);
        let members = [owned(file("sub/a", "")), link(), owned(hard_link("b", "link/a"))];
        assert!(matches!(refused(&members), Refusal::ThroughLink), "{target}");
    }
}

#[test]
fn devices_are_refused() {
    // A rootless daemon leaves those of layers out.
    let rootless = Worker::default().mapped(OwnerMap::of_both("0:0:4294967295".parse().unwrap()));
    for (worker, typeflag) in
        [(Worker::default(), b'3'), (Worker::default(), b'4'), (rootless, b'3')]
    {
        for (major, minor) in [(0, 0), (1, 3)] {
            let reason = refused_for(&worker, &[owned(member(typeflag, "a")).device(major, minor)]);
            assert!(matches!(reason, Refusal::Device), "{reason}");
            assert_eq!(reason.to_string(), "it is a device, and a cache mount may not have any");
        }
    }
}

#[test]
fn the_tree_itself_is_a_directory() {
    for entry in [file("./", "x"), symlink(".", "a"), member(b'6', "./")] {
        let reason = refused(&[owned(entry)]);
        assert!(matches!(reason, Refusal::TopNotDirectory), "{reason}");
        let expected = "it names the cache mount itself, and is not a directory";
        assert_eq!(reason.to_string(), expected);
    }
}

#[test]
fn links_that_lead_out_stay_links() {
    let snapshot = Snapshot::new();
    let members = [
        owned(symlink("./up", "../outside/secret")),
        owned(symlink("./root", "/etc/passwd")),
        owned(hard_link("./again", "./up")),
    ];
    apply(&snapshot, &members).unwrap();
    assert_eq!(snapshot.tree(), ["again", "root", "up"]);
    let target = std::fs::read_link(snapshot.path("again")).unwrap();
    assert_eq!(target, Path::new("../outside/secret"));
}

#[test]
fn attributes_of_overlays_are_left_out() {
    let snapshot = Snapshot::new();
    let records: [(&str, &[u8]); 6] = [
        ("SCHILY.xattr.user.kept", b"1"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.fuseoverlayfs.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.other", b"y"),
        ("SCHILY.xattr.system.posix_acl_access", b"y"),
    ];
    apply(&snapshot, &[pax(&records), owned(dir("./a"))]).unwrap();
    assert_eq!(snapshot.xattr("a", "user.kept").as_deref(), Some(&b"1"[..]));
    for name in ["user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque"] {
        assert_eq!(snapshot.xattr("a", name), None, "{name}");
    }
}

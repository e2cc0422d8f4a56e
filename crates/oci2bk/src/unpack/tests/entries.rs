//! What each type of entry becomes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use super::archive::*;
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
    // First of all: listing the directory changes its access time.
    let root = std::fs::metadata(snapshot.root()).unwrap();
    assert_eq!((root.mtime(), root.atime()), (0, 0));
    assert_eq!(unpacked.entries, 8);
    assert_eq!(unpacked.bytes, tar.len() as u64);
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

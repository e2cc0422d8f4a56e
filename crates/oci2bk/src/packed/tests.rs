use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bkstate::dir::Dir;
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr};

use super::content::{Content, difference};
use super::copy::copy_tree;
use super::*;

/// A tree of a snapshot, and its copy.
struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { temp: tempfile::tempdir().unwrap() };
        let fs = bench.path("tree/fs");
        std::fs::create_dir_all(fs.join("inner/deep")).unwrap();
        std::fs::create_dir(bench.path("tree/work")).unwrap();
        std::fs::write(fs.join("file"), "content").unwrap();
        std::fs::hard_link(fs.join("file"), fs.join("inner/link")).unwrap();
        let hole = File::create(fs.join("hole")).unwrap();
        hole.set_len(10 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&hole, b"end", 9 << 20).unwrap();
        symlink("/nowhere", fs.join("inner/soft")).unwrap();
        std::fs::write(fs.join(format!("inner/deep/{}", "n".repeat(255))), "").unwrap();
        set_permissions(&fs.join("inner"), 0o2750);
        set_permissions(&fs.join("hole"), 0o4711);
        set_time(&fs.join("inner"), -315_619_200, 123_456_789);
        set_time(&fs.join("file"), 5_680_281_600, 1);
        if is_root() {
            mknodat(CWD, fs.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            mknodat(CWD, fs.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
            set_xattr(&fs.join("inner"), "trusted.overlay.opaque", b"y");
            std::os::unix::fs::lchown(fs.join("inner/soft"), Some(8), Some(3_000_000_000)).unwrap();
            // cap_net_bind_service+ep, revision 2 (linux/capability.h: vfs_cap_data).
            let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            set_xattr(&fs.join("hole"), "security.capability", &capability);
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn dir(&self, name: &str) -> Dir {
        Dir::open(&self.path(name)).unwrap()
    }

    fn copy(&self, name: &str) -> Dir {
        fs::create_dir(self.path(name)).unwrap();
        let copy = self.dir(name);
        copy_tree(7, &self.dir("tree"), &copy, &Cancel::new()).unwrap();
        copy
    }

    fn digest(&self, name: &str) -> Digest {
        Content::of(7, &self.dir(name), &Cancel::new()).unwrap().digest
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn set_permissions(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn a_copy_has_everything_and_keeps_holes() {
    let bench = Bench::new();
    let copy = bench.copy("copy");
    assert_eq!(bench.digest("tree"), bench.digest("copy"));
    let same = difference(7, &bench.dir("tree"), &copy, &Cancel::new()).unwrap();
    assert!(same.is_none(), "{same:?}");
    let hole = fs::metadata(bench.path("copy/fs/hole")).unwrap();
    assert!(hole.blocks() * 512 < 1 << 20, "{} blocks", hole.blocks());
    let [file, link] = ["file", "inner/link"]
        .map(|name| fs::metadata(bench.path("copy/fs").join(name)).unwrap().ino());
    assert_eq!(file, link);
}

/// The entry that a change is about, and the change, of the directory `fs` of the snapshot.
type Change = (&'static str, fn(&Path));

#[test]
fn every_difference_is_found_and_named() {
    let bench = Bench::new();
    let changes: &[Change] = &[
        ("fs/file", |fs| std::fs::write(fs.join("file"), "kontent").unwrap()),
        ("fs/hole", |fs| set_permissions(&fs.join("hole"), 0o711)),
        ("fs/hole", |fs| {
            File::options().write(true).open(fs.join("hole")).unwrap().set_len(9).unwrap()
        }),
        ("fs/inner", |fs| set_time(&fs.join("inner"), -315_619_200, 0)),
        ("fs/inner/soft", |fs| {
            std::fs::remove_file(fs.join("inner/soft")).unwrap();
            symlink("/elsewhere", fs.join("inner/soft")).unwrap();
            set_time(&fs.join("inner"), -315_619_200, 123_456_789);
        }),
        ("fs/more", |fs| {
            let time = std::fs::metadata(fs).unwrap();
            std::fs::write(fs.join("more"), "").unwrap();
            set_time(fs, time.mtime(), time.mtime_nsec());
        }),
        ("fs/inner/link", |fs| {
            // The same content, but another file.
            let link = fs.join("inner/link");
            std::fs::remove_file(&link).unwrap();
            std::fs::copy(fs.join("file"), &link).unwrap();
            set_time(&link, 5_680_281_600, 1);
            set_time(&fs.join("inner"), -315_619_200, 123_456_789);
        }),
        ("work", |fs| std::fs::remove_dir(fs.parent().unwrap().join("work")).unwrap()),
    ];
    let of_root: &[Change] = &[
        ("fs/inner", |fs| set_xattr(&fs.join("inner"), "trusted.overlay.opaque", b"n")),
        ("fs/inner", |fs| set_xattr(&fs.join("inner"), "user.more", b"")),
        ("fs/inner/soft", |fs| {
            std::os::unix::fs::lchown(fs.join("inner/soft"), Some(9), None).unwrap();
        }),
        ("fs/gone", |fs| {
            let time = std::fs::metadata(fs).unwrap();
            let [gone, made] = ["gone", "made"].map(|name| fs.join(name));
            mknodat(CWD, &made, FileType::CharacterDevice, Mode::empty(), 1).unwrap();
            let of_gone = std::fs::symlink_metadata(&gone).unwrap();
            set_time(&made, of_gone.mtime(), of_gone.mtime_nsec());
            std::fs::rename(&made, &gone).unwrap();
            set_time(fs, time.mtime(), time.mtime_nsec());
        }),
    ];
    let all = changes.iter().chain(of_root.iter().filter(|_| is_root()));
    for (number, (path, change)) in all.enumerate() {
        let name = format!("copy{number}");
        let copy = bench.copy(&name);
        change(&bench.path(&name).join("fs"));
        assert_ne!(bench.digest("tree"), bench.digest(&name), "{path}");
        let found = difference(7, &bench.dir("tree"), &copy, &Cancel::new()).unwrap();
        let found = found.map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned());
        // The directory above may have another time.
        let expected = [
            Some((*path).to_owned()),
            Path::new(path).parent().map(|p| p.to_string_lossy().into_owned()),
        ];
        assert!(expected.contains(&found), "{found:?} is not {path}");
    }
    // What newer releases of mkfs.erofs add does not count.
    if is_root() {
        bench.copy("marked");
        set_xattr(&bench.path("marked/fs/inner"), "trusted.overlay.origin", b"");
        assert_eq!(bench.digest("tree"), bench.digest("marked"));
        set_xattr(&bench.path("marked/fs/inner"), "trusted.overlay.origin", b"x");
        assert_ne!(bench.digest("tree"), bench.digest("marked"));
    }
}

#[test]
fn the_work_can_be_cancelled() {
    let bench = Bench::new();
    let cancel = Cancel::new();
    cancel.cancel();
    let read = Content::of(7, &bench.dir("tree"), &cancel);
    assert!(matches!(read, Err(PackedError::Cancelled)));
    fs::create_dir(bench.path("copy")).unwrap();
    let copied = copy_tree(7, &bench.dir("tree"), &bench.dir("copy"), &cancel);
    assert!(matches!(copied, Err(PackedError::Cancelled)));
}

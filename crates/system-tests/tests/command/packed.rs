//! `oci2bk pack`, and the other commands on what it leaves. These tests mount images, and need root, mkfs.erofs and
//! a kernel with EROFS.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use testkit::erofs::{self, Mounted};

use super::*;

const TREES: &str = "runc-overlayfs/snapshots/snapshots";

/// Returns a root with trees; `None` if this machine cannot pack them.
pub(crate) fn unpacked() -> Option<Place> {
    if let Err(reason) = erofs::works() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let place = Place::new();
    Printed::of(command().args(["convert", "--progress=quiet"]).args(index()).arg(place.root()), 0);
    Some(place)
}

/// Returns the same, packed and not mounted.
fn packed() -> Option<Place> {
    let place = unpacked()?;
    let json = Printed::of(pack(&place).arg("--format=json"), 0).json();
    assert_eq!((&json["snapshot_count"], &json["kept_snapshot_count"]), (&13.into(), &0.into()));
    Some(place)
}

fn pack(place: &Place) -> Command {
    let mut command = command();
    command.args(["pack", "--progress=quiet"]).arg(place.root());
    command
}

fn verify(place: &Place) -> Command {
    let mut command = command();
    command.args(["verify", "--progress=quiet"]).arg(place.root());
    command
}

fn mount(place: &Place) -> Mounted {
    Mounted::new(&image(place), &place.root().join("packed/1")).unwrap()
}

fn image(place: &Place) -> PathBuf {
    place.root().join("packed/1.erofs")
}

/// Asserts that each snapshot is a directory, and that nothing is left of an image.
fn is_as_before(place: &Place) {
    for entry in fs::read_dir(place.root().join(TREES)).unwrap() {
        assert!(entry.unwrap().file_type().unwrap().is_dir());
    }
    let packed = fs::read_dir(place.root().join("packed"));
    let names: Vec<_> = packed.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(names.is_empty(), "{names:?}");
    let printed = Printed::of(verify(place).arg("--trees"), 0);
    assert!(printed.stdout.contains("  13 trees compared"), "{}", printed.stdout);
}

/// Asserts that verification finds exactly these kinds of damage.
fn is_damaged(place: &Place, kinds: &[&str]) {
    let json = Printed::of(verify(place).arg("--format=json"), 5).json();
    let damage = json["damage"].as_array().unwrap();
    let found: Vec<_> = damage.iter().map(|damage| damage["kind"].as_str().unwrap()).collect();
    assert_eq!(found, kinds, "{json:#}");
    // And then nothing is packed or copied back.
    Printed::of(&mut pack(place), 5).says(&["is damaged, so its trees are left as they are"]);
    Printed::of(pack(place).arg("--undo"), 5).says(&["is damaged"]);
}

/// Puts a program of this name before all others.
fn with_program(command: &mut Command, place: &Place, name: &str, script: &str) {
    let programs = place.temp.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let path = programs.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let others = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{others}", programs.display()));
}

#[test]
fn trees_are_packed_read_through_the_mount_and_copied_back() {
    let Some(place) = unpacked() else { return };
    let printed = Printed::of(&mut pack(&place), 0);
    let root = place.root();
    let root = root.display();
    for part in [
        format!("{root}/packed/1.erofs has the trees of 13 snapshots\n  347 entries, 1.98 MB in "),
        format!(
            "  {root}/packed/1.erofs {root}/packed/1 erofs ro,loop,x-systemd.required-by=buildkit.service"
        ),
        "  Type=erofs\n  Options=ro,loop\n".to_owned(),
        format!("  RequiresMountsFor={root}/packed/1\n"),
        "    reservedSpace = \"4MB\"".to_owned(),
    ] {
        assert!(printed.stdout.contains(&part), "{part:?} is not in\n{}", printed.stdout);
    }
    // Not mounted: a note with the line to run.
    let printed = Printed::of(verify(&place).arg("--trees"), 0);
    let line =
        format!("not mounted: mount -t erofs -o ro,loop {root}/packed/1.erofs {root}/packed/1\n");
    assert!(printed.stdout.contains(&line), "{}", printed.stdout);
    assert!(printed.stdout.contains("  0 trees compared"), "{}", printed.stdout);
    assert!(printed.stdout.contains("  1 image of packed trees with 1."), "{}", printed.stdout);

    let mounted = mount(&place);
    let printed = Printed::of(verify(&place).arg("--trees"), 0);
    assert!(printed.stdout.contains("  13 trees compared"), "{}", printed.stdout);
    assert!(!printed.stdout.contains("packed-not-mounted"), "{}", printed.stdout);
    let json =
        Printed::of(command().args(["inspect", "--format=json"]).arg(place.root()), 0).json();
    let snapshots = json["snapshots"].as_array().unwrap();
    assert!(snapshots.iter().all(|snapshot| snapshot["packed_image"] == "1"), "{snapshots:#?}");
    assert!(json["records"].as_array().unwrap().iter().all(|record| record["unpacked"] == true));
    let printed = Printed::of(command().args(["inspect", "--format=table"]).arg(place.root()), 0);
    assert!(printed.stdout.contains("  image 1  "), "{}", printed.stdout);
    let printed = Printed::of(command().arg("du").arg(place.root()), 0);
    assert!(printed.stdout.contains("\nPacked:\t\t3.29MB\n"), "{}", printed.stdout);
    let records = Printed::of(command().args(["du", "--format=json"]).arg(place.root()), 0);
    assert_eq!(records.stdout.matches(r#""Packed":true"#).count(), 13, "{}", records.stdout);

    // There is nothing more to pack. While it is mounted, it is not removed.
    let printed = Printed::of(&mut pack(&place), 0);
    assert!(printed.stdout.contains("has nothing more to pack"), "{}", printed.stdout);
    let printed = Printed::of(pack(&place).arg("--undo"), 0);
    let still = format!("mounted on {root}/packed/1: unmount it and run this again");
    assert!(printed.stdout.contains(&still), "{}", printed.stdout);
    drop(mounted);
    let json = Printed::of(pack(&place).args(["--undo", "--format=json"]), 0).json();
    assert_eq!(json["removed_images"].as_array().unwrap().len(), 1, "{json:#}");
    is_as_before(&place);
}

#[test]
fn the_same_trees_give_the_same_image() {
    let Some(place) = packed() else { return };
    let first = fs::read(image(&place)).unwrap();
    let description = fs::read_to_string(place.root().join("packed/1.json")).unwrap();
    Printed::of(pack(&place).arg("--undo"), 0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    Printed::of(pack(&place).env("SOURCE_DATE_EPOCH", "1"), 0);
    assert!(first == fs::read(image(&place)).unwrap(), "the image has other bytes");
    assert_eq!(description, fs::read_to_string(place.root().join("packed/1.json")).unwrap());
}

#[test]
fn an_image_elsewhere_is_mounted_to_be_read() {
    let Some(place) = unpacked() else { return };
    let file = place.temp.path().join("trees.erofs");
    let json = Printed::of(pack(&place).args(["--format=json", "-o"]).arg(&file), 0).json();
    assert_eq!(json["image"]["path"], file.to_str().unwrap());
    assert!(!image(&place).exists());
    let printed = Printed::of(&mut verify(&place), 0);
    assert!(
        printed.stdout.contains(&*format!("ro,loop {} ", file.display())),
        "{}",
        printed.stdout
    );
    let undo = || pack(&place).arg("--undo").output().unwrap();
    let refused = undo();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("hint: mount it: mount -t erofs"), "{said}");
    let mounted = Mounted::new(&file, &place.root().join("packed/1")).unwrap();
    assert!(undo().status.success());
    drop(mounted);
    assert!(undo().status.success());
    is_as_before(&place);
    assert!(file.exists(), "it is not ours to remove");

    // A place that is taken, and one in the root.
    let refused = |path: &Path, says: &str| {
        Printed::of(pack(&place).arg("-o").arg(path), 1).says(&[says]);
        is_as_before(&place);
    };
    refused(&file, "exists already");
    refused(&place.root().join("trees.erofs"), "is in the root");
    refused(&place.temp.path().join("missing/trees"), "cannot use the image");
}

#[test]
fn bad_images_and_links_are_named() {
    let damaged = |change: fn(&Place), kinds: &[&str]| {
        let Some(place) = packed() else { return };
        change(&place);
        is_damaged(&place, kinds);
    };
    damaged(
        |place| {
            let file = fs::File::options().write(true).open(image(place)).unwrap();
            file.set_len(100_000).unwrap();
        },
        &["packed-image-size"],
    );
    damaged(|place| fs::remove_file(image(place)).unwrap(), &["packed-image-missing"]);
    damaged(
        |place| {
            let link = place.root().join(TREES).join("7");
            fs::remove_file(&link).unwrap();
            symlink("/etc", link).unwrap();
        },
        &["foreign-link"],
    );
    damaged(
        |place| {
            let link = place.root().join(TREES).join("7");
            fs::remove_file(&link).unwrap();
            symlink("../../../packed/1/8", link).unwrap();
        },
        &["foreign-link"],
    );
}

#[test]
fn a_changed_byte_is_found_by_the_digest() {
    let Some(place) = packed() else { return };
    let file = fs::File::options().read(true).write(true).open(image(&place)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 500_000).unwrap();
    let json = Printed::of(verify(&place).arg("--format=json"), 5).json();
    assert_eq!(json["damage"][0]["kind"], "packed-image-digest", "{json:#}");
}

#[test]
fn the_image_of_another_root_is_named() {
    let (Some(place), Some(other)) = (packed(), unpacked()) else { return };
    let tree = other.root().join(TREES).join("3/fs/another");
    fs::write(tree, "another").unwrap();
    Printed::of(&mut pack(&other), 0);
    {
        let _mounted = Mounted::new(&image(&other), &place.root().join("packed/1")).unwrap();
        is_damaged(&place, &["packed-mount-other"]);
    }
    // As a file of the same size.
    let size = fs::metadata(image(&place)).unwrap().len();
    fs::copy(image(&other), image(&place)).unwrap();
    fs::File::options().write(true).open(image(&place)).unwrap().set_len(size).unwrap();
    is_damaged(&place, &["packed-image-other"]);
}

#[test]
fn mkfs_has_to_be_there_new_enough_and_right() {
    let Some(place) = unpacked() else { return };
    let nowhere = place.temp.path().join("nowhere");
    Printed::of(pack(&place).env("PATH", &nowhere), 1)
        .says(&["the program mkfs.erofs is not there; it is in the package erofs-utils"]);
    let refused = |script: &str, options: &[&str], code, says: &[&str]| {
        let mut command = pack(&place);
        with_program(&mut command, &place, "mkfs.erofs", script);
        Printed::of(command.args(options), code).says(says);
        is_as_before(&place);
    };
    refused("echo mkfs.erofs 1.4", &[], 1, &["mkfs.erofs 1.4 is too old: 1.5 or later"]);
    refused("echo something", &[], 1, &["mkfs.erofs of an unknown release is too old"]);
    let old = "echo mkfs.erofs 1.5; echo Available compressors are: lz4hc, lz4";
    let hint = "hint: compress with lz4, or install a newer erofs-utils";
    refused(old, &["--compress=zstd"], 1, &["mkfs.erofs 1.5 cannot compress with zstd", hint]);
    let fails = "case $1 in --version) echo mkfs.erofs 1.5;; --help) echo lz4;; *) echo no room >&2; exit 1;; esac";
    refused(fails, &[], 1, &["mkfs.erofs cannot make the image", "1.erofs: no room"]);
    // It leaves a file out, and changes another.
    let real = testkit::tools::on_path("mkfs.erofs", "erofs-utils").unwrap();
    let wrong = |change: &str| {
        format!(
            "case $1 in --*n|--help) exec {0} \"$@\";; esac\n\
             for last; do :; done; copy=$(mktemp -d); cp -a \"$last/.\" \"$copy\"; {change}\n\
             n=$#; i=1; for word; do [ $i -eq $n ] && set -- \"$@\" \"$copy\" || set -- \"$@\" \"$word\"; \
             shift; i=$((i+1)); done; {0} \"$@\"; code=$?; rm -r \"$copy\"; exit $code",
            real.display()
        )
    };
    let file = "$(find \"$copy\" -name app.conf | head -n 1)";
    for change in [
        format!("rm {file}"),
        format!("echo >> {file}"),
        format!("touch {file}"),
        format!("chown 7 {file}"),
    ] {
        refused(&wrong(&change), &[], 5, &["srv/app", "which was kept"]);
    }
}

#[test]
fn without_room_nothing_is_lost() {
    let Some(place) = unpacked() else { return };
    let disk = place.temp.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let none = c"size=100k";
    rustix::mount::mount("none", &disk, "tmpfs", rustix::mount::MountFlags::empty(), none).unwrap();
    let printed =
        Printed::of(pack(&place).args(["--compress=none", "-o"]).arg(disk.join("image")), 1);
    let left = fs::read_dir(&disk).unwrap().count();
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    printed.says(&["mkfs.erofs cannot make the image", "hint: give a file on a larger disk"]);
    assert_eq!(left, 0, "the image is still there");
    is_as_before(&place);
}

#[test]
fn only_trees_of_a_rootful_oci_worker_on_overlayfs_are_packed() {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    let refused = |command: &mut Command, worker: &str| {
        Printed::of(command, 1).says(&[&format!("the trees of {worker} cannot be packed")]);
    };
    place.hand_over();
    let mut native = pack(&place);
    refused(native.args(["--snapshotter", "native"]), "the OCI worker on native");
    let containerd = place.temp.path().join("containerd");
    fs::create_dir(&containerd).unwrap();
    let mut on_containerd = pack(&place);
    refused(
        on_containerd.arg("--containerd-root").arg(containerd),
        "the containerd worker on overlayfs",
    );
    // No state at all, and no directory.
    let empty = Place::new();
    Printed::of(&mut pack(&empty), 1).says(&["holds no state"]);
    assert!(!empty.root().exists());
}

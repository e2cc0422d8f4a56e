//! `oci2bk verify`.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::*;

fn verify(root: &Path) -> Command {
    let mut command = command();
    command.arg("verify").arg(root);
    command
}

fn converted() -> Place {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    place
}

/// Damages two parts of a root.
fn damage(place: &Place) {
    let blobs = place.root().join("runc-overlayfs/content/blobs/sha256");
    let blob = fs::read_dir(blobs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    // Only root may write to the file, which is read-only.
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    fs::create_dir(place.root().join("runc-overlayfs/snapshots/snapshots/99")).unwrap();
}

#[test]
fn exit_0_the_root_is_sound() {
    let place = converted();
    let before = place.names();
    let printed = Printed::of(&mut verify(&place.root()), 0);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert_eq!(lines[0], format!("{} is sound", place.root().display()));
    assert!(lines.contains(&"  20 keys, 13 with a result"), "{lines:#?}");
    assert!(lines.contains(&"  12 blobs with 1.07 MB hashed"), "{lines:#?}");
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(place.names(), before);
    let json = Printed::of(verify(&place.root()).arg("--format=json"), 0).json();
    assert_eq!((&json["sound"], &json["record_count"]), (&true.into(), &13.into()));
    assert_eq!((&json["damage"], &json["tree_count"]), (&Value::Array(vec![]), &Value::Null));
}

#[test]
fn exit_5_each_damage_is_named_with_what_a_daemon_would_do() {
    let place = converted();
    damage(&place);
    let printed = Printed::of(&mut verify(&place.root()), 5);
    printed.says(&["error: ", "is damaged"]);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert_eq!(lines[0], format!("{} is damaged in 2 places", place.root().display()));
    for start in ["stray-directory: trees: the directory 99", "blob-digest: content: "] {
        let at = lines.iter().position(|line| line.starts_with(start)).unwrap();
        assert!(lines[at + 1].starts_with("  the daemon "), "{}", lines[at + 1]);
    }
    let json = Printed::of(verify(&place.root()).arg("--format=json"), 5).json();
    assert_eq!(json["sound"], false);
    let damage = json["damage"].as_array().unwrap();
    assert_eq!(damage.len(), 2);
    for damage in damage {
        for member in ["kind", "message", "consequence"] {
            assert!(!damage[member].as_str().unwrap().is_empty(), "{damage}");
        }
    }
}

#[test]
fn exit_5_a_database_cannot_be_read() {
    let place = converted();
    fs::write(place.root().join("cache.db"), "\u{1b}[2J").unwrap();
    let printed = Printed::of(&mut verify(&place.root()), 5);
    assert!(printed.stdout.contains("no-database: "), "{}", printed.stdout);
    assert!(!printed.stdout.contains('\u{1b}'));
}

#[test]
fn exit_1_there_is_no_state() {
    let place = Place::new();
    Printed::of(&mut verify(&place.root()), 1).says(&["because: ", "No such file"]);
    fs::create_dir(place.root()).unwrap();
    Printed::of(&mut verify(&place.root()), 1).says(&["holds no state"]);
    assert_eq!(place.names(), ["root"]);
    // Leftovers of a killed run.
    fs::create_dir_all(place.root().join(".oci2bk-staging/runc-overlayfs")).unwrap();
    fs::write(place.root().join("buildkitd.lock"), "").unwrap();
    Printed::of(&mut verify(&place.root()), 1).says(&["holds no state"]);
    let place = converted();
    let staging = place.root().join(".oci2bk-staging");
    fs::create_dir(&staging).unwrap();
    fs::rename(place.root().join("cache.db"), staging.join("cache.db")).unwrap();
    Printed::of(&mut verify(&place.root()), 1).says(&["holds no state yet", "run it again"]);
}

#[test]
fn exit_6_a_daemon_runs_on_the_root() {
    let place = converted();
    let lock: OwnedFd = File::open(place.root().join("buildkitd.lock")).unwrap().into();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let printed = Printed::of(&mut verify(&place.root()), 6);
    printed.says(&["in use", "buildkitd"]);
    assert_eq!(printed.stdout, "");
}

#[test]
fn the_stages_show_and_can_be_silenced() {
    let place = converted();
    let printed = Printed::of(verify(&place.root()).args(["--progress=plain", "-j1"]), 0);
    let stages: Vec<_> = printed.stderr.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(stages, ["verify", "blobs"]);
    assert_eq!(printed.stderr.lines().count(), 2 + 12);
    let quiet = Printed::of(verify(&place.root()).arg("--progress=quiet"), 0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_root_that_is_mounted_read_only_is_verified() {
    use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = converted();
    let mounted = place.temp.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let bound = mount_bind(place.root(), &mounted)
        .and_then(|()| mount_remount(&mounted, MountFlags::BIND | MountFlags::RDONLY, c""));
    // Containers may not be allowed to mount.
    if bound.is_ok() {
        let error = fs::write(mounted.join("x"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
        Printed::of(&mut verify(&mounted), 0);
        fs::remove_file(place.root().join("buildkitd.lock")).unwrap();
        Printed::of(&mut verify(&mounted), 0);
    }
    let _ = unmount(&mounted, UnmountFlags::DETACH);
}

#[test]
fn a_root_is_compared_with_its_cache() {
    let place = converted();
    let [cache, keys, file] = index();
    let against = ["--against", &cache, &keys, &file];
    let printed = Printed::of(verify(&place.root()).args(against), 0);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert!(lines[4].starts_with("  of the caches: 20 of 20 steps, "), "{lines:#?}");
    assert!(lines[4].ends_with(", 13 of 13 results"), "{lines:#?}");
    let json = Printed::of(verify(&place.root()).args(against).arg("--format=json"), 0).json();
    let against = &json["against"];
    assert_eq!((&against["step_count"], &against["missing_step_count"]), (&20.into(), &0.into()));
    assert_eq!((&against["other_step_count"], &against["lost_count"]), (&0.into(), &0.into()));
    let json = Printed::of(verify(&place.root()).arg("--format=json"), 0).json();
    assert_eq!(json["against"], Value::Null);

    // Without keys there are no steps to compare.
    let json = Printed::of(
        verify(&place.root()).args(["--format=json", "--against", &fixture("manifest/cache")]),
        0,
    );
    assert!(json.json()["against"]["lost_count"].as_u64().unwrap() > 0);
    // Options about the names of steps are of no use without a cache.
    Printed::of(verify(&place.root()).args(["--keys", &file]), 2).says(&["--against"]);
}

#[test]
fn what_others_can_write_to_is_damage_and_nothing_is_added_to_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = converted();
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // If the argument is the root itself, the command gives advice before it looks further.
    let database = place.root().join("cache.db");
    for (path, code, message) in
        [(place.root(), 1, "chmod go-w"), (database, 5, "has the mode 0777")]
    {
        set(&place.root(), 0o755);
        set(&path, 0o777);
        let printed = Printed::of(&mut verify(&place.root()), 5);
        assert!(printed.stdout.contains("writable-by-others: "), "{}", printed.stdout);
        Printed::of(&mut convert(index(), &place), code).says(&[message]);
        set(&path, 0o755);
        Printed::of(&mut convert(index(), &place), 0);
    }
}

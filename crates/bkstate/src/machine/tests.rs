use std::fs;
use std::os::unix::fs::{lchown, symlink};

use super::*;

/// A directory with an image in it, and a secret beside the image.
fn image() -> (tempfile::TempDir, Machine) {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path().join("image");
    fs::create_dir_all(top.join("var/lib/docker")).unwrap();
    fs::create_dir_all(top.join("data/deep")).unwrap();
    fs::create_dir(temp.path().join("outside")).unwrap();
    let machine = Machine::with(&top.join("etc/x"), Path::new("/etc/x")).unwrap();
    (temp, machine)
}

#[test]
fn links_of_an_image_lead_into_the_image() {
    let (temp, machine) = image();
    let top = temp.path().join("image");
    let outside = temp.path().join("outside");
    for (name, target) in [
        ("absolute", Path::new("/data")),
        ("relative", Path::new("data/deep/..")),
        ("twice", Path::new("/absolute")),
        ("out", &outside),
        ("up", Path::new("../outside")),
        ("var/lib/far-up", Path::new("../../../../../outside")),
        ("dangling", Path::new("/absent/../absent/data")),
    ] {
        symlink(target, top.join(name)).unwrap();
    }
    let found = |path: &str| machine.find(Path::new(path)).unwrap();
    for (path, place) in [
        ("/", ""),
        ("/data", "data"),
        ("/absolute", "data"),
        ("/relative", "data"),
        ("/twice/deep", "data/deep"),
        ("/twice/deep/../absent/below", "data/absent/below"),
        // As in a chroot: the parent of the top is the top.
        ("/../../outside", "outside"),
        ("/up", "outside"),
        ("/var/lib/far-up", "outside"),
        ("/dangling", "absent/data"),
        ("/absent/../../../outside", "outside"),
    ] {
        assert_eq!(found(path), top.join(place), "{path}");
    }
    // The path of the host, on the image.
    assert_eq!(found("/out"), top.join(outside.strip_prefix("/").unwrap()));
}

#[test]
fn a_file_is_found_as_well() {
    let (temp, machine) = image();
    let top = temp.path().join("image");
    fs::write(top.join("data/daemon.json"), "{}").unwrap();
    symlink("/data/daemon.json", top.join("daemon.json")).unwrap();
    let found = machine.find(Path::new("/daemon.json")).unwrap();
    assert_eq!(found, top.join("data/daemon.json"));
    assert_eq!(machine.path_of(&found).unwrap(), Path::new("/data/daemon.json"));
    assert_eq!(machine.path_of(temp.path()), None);
}

#[test]
fn circles_and_links_of_other_users_are_refused() {
    let (temp, machine) = image();
    let top = temp.path().join("image");
    symlink("/loop", top.join("loop")).unwrap();
    let error = machine.find(Path::new("/loop")).unwrap_err();
    let PlaceError::Dir(error) = error else { panic!("{error}") };
    assert_eq!(error.source.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));

    if rustix::process::geteuid().is_root() {
        symlink("/data", top.join("foreign")).unwrap();
        lchown(top.join("foreign"), Some(1), Some(1)).unwrap();
        let error = machine.find(Path::new("/foreign")).unwrap_err();
        assert!(matches!(&error, PlaceError::Link(ForeignLink { owner: 1, .. })), "{error}");
        let link = top.join("foreign");
        assert!(error.to_string().starts_with(&format!("{} is a symbolic", link.display())));
    }
}

#[test]
fn only_a_path_that_ends_so_tells_the_machine() {
    let place = Path::new("/etc/containerd/config.toml");
    let with = |path: &str| Machine::with(Path::new(path), place);
    assert!(with("/etc/containerd/config.toml").unwrap().is_this());
    assert_eq!(with("/mnt/etc/containerd/config.toml").unwrap().top, Path::new("/mnt"));
    for other in ["/mnt/config.toml", "/mnt/my-etc/containerd/config.toml", "config.toml"] {
        assert_eq!(with(other), None, "{other}");
    }
    assert!(Machine::default().is_this());
}

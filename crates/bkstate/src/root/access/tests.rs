use std::fs::{self, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};

use super::super::{Location, OpenRootError, Root, bases, open_to_write};
use super::*;
use crate::machine::ForeignLink;
use crate::worker::OwnerMap;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn to_write(path: &Path) -> Result<Option<Dir>, RootError> {
    open_to_write(path, &Worker::default())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_root_that_others_can_write_to_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    for shared in [0o777, 0o1777, 0o720, 0o702] {
        mode(temp.path(), shared);
        let error = to_write(temp.path()).unwrap_err();
        assert!(matches!(error, RootError::Writable { mode, .. } if mode == shared), "{error}");
        assert!(error.to_string().contains(&format!("chmod go-w {}", temp.path().display())));
    }
    for fine in [0o700, 0o755, 0o711] {
        mode(temp.path(), fine);
        assert!(to_write(temp.path()).unwrap().is_some());
    }
}

#[test]
fn a_root_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    chown(temp.path(), Some(1), Some(1)).unwrap();
    let error = to_write(temp.path()).unwrap_err();
    assert!(matches!(error, RootError::Owner { owner: 1, user: 0, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{} belongs to user 1, who can change all in it, and what is written would belong to user 0: \
             no daemon can use it safely",
            temp.path().display()
        )
    );
    // Of a volume, the mode of the directory with the files counts.
    let volume = tempfile::tempdir().unwrap();
    fs::create_dir(volume.path().join("_data")).unwrap();
    assert!(to_write(volume.path()).unwrap().is_some());
    chown(volume.path().join("_data"), Some(1), Some(1)).unwrap();
    let error = to_write(volume.path()).unwrap_err();
    assert!(matches!(error, RootError::Owner { owner: 1, .. }), "{error}");
    assert!(error.to_string().contains("_data belongs to user 1, who can change"), "{error}");
}

#[test]
fn root_makes_no_root_below_a_directory_of_another_user() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    chown(temp.path(), Some(1), Some(1)).unwrap();
    let path = temp.path().join("share/buildkit");
    for location in [Location::from(&path), Location::from(temp.path().join("buildkit"))] {
        let error = bases::check_to_write(&location).unwrap_err();
        let RootError::InForeign { directory, owner: 1, .. } = &error else { panic!("{error}") };
        assert_eq!(directory, temp.path());
        let expected = format!(
            "would be made in {}, which belongs to user 1, and a daemon of that user cannot use it",
            temp.path().display()
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
        let made = Root::open_to_write(location).unwrap_err();
        assert!(matches!(made, OpenRootError::Root(RootError::InForeign { .. })), "{made}");
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    // A directory of root in it was made for a daemon that runs as root.
    fs::create_dir(temp.path().join("own")).unwrap();
    Root::open_to_write(temp.path().join("own")).unwrap();
    Root::open_to_write(temp.path().join("own/below")).unwrap();
}

#[test]
fn a_root_with_a_map_belongs_to_its_user() {
    if !is_root() {
        return;
    }
    let map = || OwnerMap::of_both("0:7:1,1:100000:65536".parse().unwrap());
    let temp = tempfile::tempdir().unwrap();
    mode(temp.path(), 0o755);
    let home = temp.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(7), Some(7)).unwrap();
    let path = home.join("share/buildkit");
    drop(Root::open_to_write(Location::from(&path).mapped(map())).unwrap());
    for made in [path.parent().unwrap(), &path, &path.join("buildkitd.lock")] {
        let found = made.metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (7, 7), "{}", made.display());
    }
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(strangers(&path, &Worker::default().mapped(map())).unwrap().is_empty());
    assert_eq!(strangers(&path, &Worker::default()).unwrap().len(), 2);

    // Not of root, nor of another user.
    for (owner, name) in [(0, "of-root"), (1, "of-other")] {
        let path = home.join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        let error = Root::open_to_write(Location::from(&path).mapped(map())).unwrap_err();
        let OpenRootError::Root(RootError::Owner { owner: found, user: 7, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(*found, owner);
    }
    chown(&home, Some(1), Some(1)).unwrap();
    let location = Location::from(home.join("new")).mapped(map());
    let error = Root::open_to_write(location).unwrap_err();
    assert!(matches!(error, OpenRootError::Root(RootError::InForeign { .. })), "{error}");
}

#[test]
fn links_are_followed_unless_they_are_another_users() {
    let temp = tempfile::tempdir().unwrap();
    let real = temp.path().join("data/buildkit");
    fs::create_dir_all(&real).unwrap();
    symlink("data/../data", temp.path().join("relative")).unwrap();
    symlink(&real, temp.path().join("absolute")).unwrap();
    symlink("absolute", temp.path().join("twice")).unwrap();
    symlink("loop", temp.path().join("loop")).unwrap();
    let dev_ino = |stat: Stat| (stat.st_dev, stat.st_ino);
    let expected = dev_ino(rustix::fs::stat(&real).unwrap());
    for way in ["relative/buildkit", "absolute", "twice", "data/./buildkit/../buildkit/"] {
        let path = temp.path().join(way);
        let dir = to_write(&path).unwrap().unwrap();
        assert_eq!(dev_ino(fstat(dir.as_fd()).unwrap()), expected, "{way}");
        assert_eq!(dir.path(), path);
    }
    assert!(to_write(&temp.path().join("absent")).unwrap().is_none());
    assert!(to_write(&temp.path().join("twice/absent")).unwrap().is_none());
    let error = to_write(&temp.path().join("loop")).unwrap_err();
    assert!(matches!(error, RootError::Dir(_)), "{error}");
    assert_eq!(error.to_string(), "cannot open the root");
    // As for a container, or for ourselves: the text of such a link is not where it leads.
    let open = fs::File::open(&real).unwrap();
    let own = format!("/proc/self/fd/{}", open.as_raw_fd());
    let dir = to_write(Path::new(&own)).unwrap().unwrap();
    assert_eq!(dev_ino(fstat(dir.as_fd()).unwrap()), expected);

    if is_root() {
        for (link, way) in [("twice", "twice"), ("relative", "relative/buildkit")] {
            lchown(temp.path().join(link), Some(1), Some(1)).unwrap();
            let error = to_write(&temp.path().join(way)).unwrap_err();
            let RootError::Link(ForeignLink { link: found, owner: 1, .. }) = &error else {
                panic!("{error}")
            };
            assert_eq!(found, &temp.path().join(link));
        }
    }
}

#[test]
fn who_can_replace_the_root_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/root");
    let named = || -> Vec<_> {
        let found = strangers(&path, &Worker::default()).unwrap().into_iter();
        found
            .filter(|found| found.directory.starts_with(temp.path()))
            .map(|s| s.directory)
            .collect()
    };
    assert!(named().is_empty());
    fs::create_dir_all(temp.path().join("a/b")).unwrap();
    mode(&temp.path().join("a"), 0o777);
    mode(&temp.path().join("a/b"), 0o1777);
    assert_eq!(named(), [temp.path().join("a")]);
    // The root itself is an error.
    fs::create_dir(&path).unwrap();
    mode(&path, 0o777);
    assert_eq!(named(), [temp.path().join("a")]);
    if is_root() {
        chown(temp.path().join("a/b"), Some(1), Some(1)).unwrap();
        assert_eq!(named(), [temp.path().join("a"), temp.path().join("a/b")]);
        let last = strangers(&path, &Worker::default()).unwrap().pop().unwrap();
        assert_eq!(
            last.to_string(),
            format!("{} belongs to user 1", temp.path().join("a/b").display())
        );
    }
}

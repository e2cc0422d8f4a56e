use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// Creates a directory with these files, and these directories, whose names end in a slash.
fn directory(names: &[&str]) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    add(temp.path(), names);
    temp
}

fn add(path: &Path, names: &[&str]) {
    for name in names {
        let path = path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, "").unwrap();
        }
    }
}

/// Returns the error of `open` for a directory with these names.
fn error(names: &[&str]) -> String {
    let temp = directory(names);
    let before = fs::read_dir(temp.path()).unwrap().count();
    let error = open(temp.path()).unwrap_err().to_string();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), before);
    assert!(error.starts_with(temp.path().to_str().unwrap()), "{error}");
    error.replace(temp.path().to_str().unwrap(), "DIR")
}

#[test]
fn what_daemons_and_file_systems_make_is_a_root() {
    for names in [
        &[][..],
        &["lost+found/"],
        &["buildkitd.lock"],
        &["lost+found/", "buildkitd.lock", ".oci2bk-staging/"],
        &["cache.db", "history.db", "cache-debug.db", "cache.db.3f2k.bak", "net/cni/", "policy/"],
        &["runc-native/"],
        &["containerd-overlayfs/workerid", "history_c8d.db", "executor/"],
        // A root in use stays a root, whatever people put beside it.
        &["cache.db", "runc-overlayfs/metadata_v2.db", "buildkitd.toml", "certs/"],
    ] {
        let temp = directory(names);
        assert_eq!(open(temp.path()).unwrap().path(), temp.path(), "{names:?}");
        let (_, kind) = find(Dir::open(temp.path()).unwrap()).unwrap();
        let is_new = names.iter().all(|name| *name == "lost+found/");
        assert_eq!(kind, if is_new { Kind::Empty } else { Kind::Root }, "{names:?}");
    }
}

#[test]
fn a_volume_is_followed_to_its_files() {
    for names in [
        &["_data/"][..],
        &["_data/cache.db", "opts.json"],
        &["_data/runc-overlayfs/workerid", "_data/notes"],
    ] {
        let temp = directory(names);
        assert_eq!(open(temp.path()).unwrap().path(), temp.path().join("_data"), "{names:?}");
    }
    let temp = directory(&["_data/notes"]);
    let message = open(temp.path()).unwrap_err().to_string();
    assert!(message.contains("_data is neither empty nor"), "{message}");
    assert!(error(&["_data/_data/"]).contains("a volume within a volume"));
    // A directory that a conversion of 0.1.0 left in the wrong place.
    let message = error(&["_data/", "cache.db", "buildkitd.lock", "runc-overlayfs/workerid"]);
    assert!(message.contains("move it into _data"), "{message}");
}

#[test]
fn directories_of_something_else_are_refused_with_what_helps() {
    for (names, said) in [
        (&["index.json"][..], "is an OCI layout"),
        (&["oci-layout", "index.json", "blobs/"], "is an OCI layout"),
        (
            &["oci-layout", "blobs/", "cache.db", "runc-overlayfs/workerid"],
            "one of them to a directory",
        ),
        (&["index.json", "buildkitd.lock"], "one of them to a directory"),
        (&["workerid", "metadata_v2.db", "content/", "snapshots/"], "the directory above"),
        (&["cache.db", "metadata_v2.db", "snapshots.db"], "Docker Engine"),
        (&["volumes/", "containers/", "image/"], "DIR/volumes/buildx_buildkit_NAME0_state"),
        (&["volumes/buildx_buildkit_ci0_state/_data/"], "DIR/volumes/buildx_buildkit_ci0_state"),
        // With the result of a conversion of 0.1.0 in it.
        (
            &["volumes/buildx_buildkit_ci0_state/_data/", "cache.db", "runc-overlayfs/workerid"],
            "DIR/volumes/buildx_buildkit_ci0_state",
        ),
        (
            &["buildx_buildkit_ci0_state/_data/", "metadata.db"],
            "such as DIR/buildx_buildkit_ci0_state",
        ),
        (&[".bashrc", ".cache/", "src/"], "it has \".bashrc\", \".cache\", \"src\"; give"),
        (&["a", "b", "c", "d", "e"], "it has \"a\", \"b\", \"c\", \"d\", …; give"),
        (&["cache.db", "src/"], "it has \"src\""),
        (&["buildkitd.lock", "etc/", "usr/"], "it has \"etc\", \"usr\""),
        // The sources of a program, not a worker.
        (&["runc-1.3.0/Makefile", "notes"], "it has \"notes\""),
        (&["_data/", "_config.yml"], "it has \"_config.yml\", \"_data\""),
    ] {
        let message = error(names);
        assert!(message.contains(said), "{names:?}: {message}");
    }
    let message = open_if_there(Path::new("/")).unwrap_err().to_string();
    assert!(message.starts_with("/ is neither empty nor"), "{message}");
}

#[test]
fn a_link_to_nothing_is_named_and_others_are_followed() {
    let temp = directory(&["root/"]);
    symlink("root", temp.path().join("link")).unwrap();
    assert!(open(&temp.path().join("link")).is_ok());
    symlink("/nowhere/root", temp.path().join("dangling")).unwrap();
    for path in ["dangling", "dangling/below"] {
        let error = open_if_there(&temp.path().join(path)).unwrap_err();
        let RootError::DanglingLink { link, target } = &error else { panic!("{error}") };
        assert_eq!(
            (link, target),
            (&temp.path().join("dangling"), &PathBuf::from("/nowhere/root"))
        );
        assert!(error.to_string().contains("make that directory"), "{error}");
    }
    assert!(open_if_there(&temp.path().join("nothing")).unwrap().is_none());
    fs::write(temp.path().join("file"), "").unwrap();
    let error = open(&temp.path().join("file")).unwrap_err();
    assert!(matches!(error, RootError::Dir(_)), "{error}");
    assert_eq!(error.to_string(), "cannot open the root");
}

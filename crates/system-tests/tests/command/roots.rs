//! Invalid ROOT arguments.

use super::*;

/// Returns every command that takes a root, with `root` as the argument.
fn commands(root: &Path) -> Vec<Command> {
    let [cache, _, provenance] = index();
    let words: [&[&str]; 7] = [
        &["convert", "--no-extract", &cache, "--keys", &provenance],
        &["convert", "--dry-run", &cache, "--keys", &provenance],
        &["verify"],
        &["du"],
        &["inspect"],
        &["explain", "--llb", &provenance],
        &["keys", "--output", "-"],
    ];
    let command = |words: &[&str]| {
        let mut command = command();
        command.args(words).arg(root);
        command
    };
    words.into_iter().map(command).collect()
}

fn make(place: &Place, names: &[&str]) {
    for name in names {
        std::fs::create_dir_all(place.temp.path().join(name)).unwrap();
    }
}

#[test]
fn a_volume_is_followed_to_its_files_by_every_command() {
    let place = Place::new();
    make(&place, &["volumes/buildx_buildkit_ci0_state/_data"]);
    let volume = place.temp.path().join("volumes/buildx_buildkit_ci0_state");
    let data = volume.join("_data");
    for mut command in commands(&volume) {
        let printed = Printed::of(&mut command, 0);
        if command.get_args().any(|word| word == "convert" || word == "verify")
            && !command.get_args().any(|word| word == "--dry-run")
        {
            assert!(printed.stdout.starts_with(data.to_str().unwrap()), "{}", printed.stdout);
        }
    }
    let entries = std::fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(entries.collect::<Vec<_>>(), ["_data"]);
    assert!(data.join("cache.db").is_file());
}

#[test]
fn what_is_no_root_is_refused_by_every_command_before_anything_is_written() {
    let data_root: &[&str] = &["root/volumes/buildx_buildkit_ci0_state/_data", "root/containers"];
    for (names, said) in [
        (data_root, "root/volumes/buildx_buildkit_ci0_state"),
        (&["root/buildx_buildkit_ci0_state/_data"], "root/buildx_buildkit_ci0_state"),
        (&["root/.cache", "root/Documents"], "\"Documents\""),
        (&["root/runc-overlayfs/workerid", "root/_data"], "move it into _data"),
        (&["root/workerid", "root/snapshots"], "the directory above"),
    ] {
        let place = Place::new();
        make(&place, names);
        let before = place.names();
        for mut command in commands(&place.root()) {
            let output = command.output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let is_keys = command.get_args().next().unwrap() == "keys";
            assert_eq!(
                output.status.code(),
                Some(if is_keys { 3 } else { 1 }),
                "{command:?}\n{stderr}"
            );
            let names_it = stderr.contains(place.root().to_str().unwrap());
            // If the argument may be a root or a layout, a directory that is neither is described by what it
            // lacks.
            let is_known = stderr.contains(said) || stderr.contains("neither");
            assert!(names_it && is_known, "{command:?}\n{stderr}");
            assert_eq!(place.names(), before, "{command:?}");
        }
    }
}

#[test]
fn a_layout_is_not_made_a_root() {
    let place = Place::new();
    std::fs::create_dir(place.root()).unwrap();
    std::fs::copy(fixture("index/cache/index.json"), place.root().join("index.json")).unwrap();
    let before = place.names();
    for mut command in commands(&place.root()).drain(..4) {
        Printed::of(&mut command, 1).says(&["is an OCI layout, not the root", "root directory of"]);
        assert_eq!(place.names(), before, "{command:?}");
    }
    // A directory that an earlier release made into a root.
    make(&place, &["root/runc-overlayfs/content"]);
    for mut command in commands(&place.root()).drain(..6) {
        Printed::of(&mut command, 1).says(&["what", "layout has", "root"]);
    }
}

#[test]
fn a_link_to_nothing_is_named_as_such() {
    let place = Place::new();
    std::os::unix::fs::symlink("/nowhere/root", place.root()).unwrap();
    for mut command in commands(&place.root()).drain(..4) {
        let printed = Printed::of(&mut command, 1);
        printed.says(&["is a symbolic link to /nowhere/root, which is not there"]);
    }
    let below = place.root().join("buildkit");
    Printed::of(&mut commands(&below)[0], 1).says(&["is a symbolic link to /nowhere/root"]);
    assert_eq!(place.names(), ["root"]);
}

#[test]
fn what_a_new_file_system_has_is_not_in_the_way() {
    let place = Place::new();
    make(&place, &["root/lost+found"]);
    Printed::of(&mut convert(index(), &place), 0);
    Printed::of(command().arg("verify").arg(place.root()), 0);
}

//! The privileges for unpacking, and the messages if they are missing.

use super::*;

/// Returns `oci2bk convert` into a place, started by `words`.
fn convert_by(words: &[&str], place: &Place) -> Command {
    let (program, rest) = words.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(rest).arg(env!("CARGO_BIN_EXE_oci2bk-under-test")).stdin(Stdio::null());
    command.args(["convert", "--progress=quiet"]).args(index()).arg(place.root());
    command
}

#[test]
fn exit_1_missing_rights_are_found_before_anything_is_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let without = |capability| ["setpriv", capability];
    for (words, owner) in [
        // As in a container, and in a step of a Dockerfile.
        (&without("--bounding-set=-sys_admin")[..], 0),
        (&without("--bounding-set=-chown"), 0),
        (&without("--reuid=1"), 1),
    ] {
        let place = Place::new();
        std::fs::create_dir(place.root()).unwrap();
        std::os::unix::fs::chown(place.root(), Some(owner), Some(owner)).unwrap();
        std::os::unix::fs::chown(place.temp.path(), Some(owner), Some(owner)).unwrap();
        let printed = Printed::of(&mut convert_by(words, &place), 1);
        printed.says(&["cannot unpack layers into", "root", "CAP_SYS_ADMIN", "--no-extract"]);
        assert_eq!(place.names(), ["root", "root/buildkitd.lock"], "{words:?}");
        // The suggested way out works.
        Printed::of(convert_by(words, &place).arg("--no-extract"), 0);
        // Nothing is left to unpack, but some layers are packed.
        Printed::of(&mut convert_by(words, &place), 1).says(&["--no-extract"]);
    }
}

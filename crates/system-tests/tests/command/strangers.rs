//! Mounts in user namespaces: the owner of the namespace determines whether they count.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::process::Child;

use super::*;

/// A user who is neither root nor the owner of any file of the tests.
const STRANGER: u32 = 65533;

/// A process in its own mount namespace, in which a mount looks like a part of a root.
struct Pretender(Child);

impl Drop for Pretender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes an overlay in namespaces of `user`. Its option names a directory of `root`, which the user need not
/// be able to see: it is created in a file system that hides the real one and is then removed.
fn pretend(user: u32, root: &Path) -> Result<Pretender, String> {
    let top: PathBuf = root.components().take(2).collect();
    let script = format!(
        "set -e; mount -t tmpfs t '{top}'; mkdir -p '{layer}'; mount -t tmpfs t /mnt
         mkdir /mnt/u /mnt/w /mnt/m
         mount -t overlay o -o lowerdir='{layer}',upperdir=/mnt/u,workdir=/mnt/w,userxattr /mnt/m
         umount -l '{top}'; echo ready; exec sleep 60",
        top = top.display(),
        layer = root.join("runc-overlayfs/snapshots/snapshots/1/fs").display(),
    );
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let mut command = Command::new("setpriv");
    command.args(ids).args(["--clear-groups", "unshare", "-Urm", "sh", "-c", &script]);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "ready\n" {
        return Ok(Pretender(child));
    }
    Err(String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned())
}

#[test]
fn mounts_of_strangers_are_in_nobodys_way_and_those_of_owners_are() {
    let place = Place::new();
    let root = place.root();
    Printed::of(&mut convert(index(), &place), 0);
    let refused = if rustix::process::geteuid().is_root() {
        pretend(STRANGER, &root)
    } else {
        Err("it takes root".to_owned())
    };
    let stranger = match refused {
        Ok(stranger) => stranger,
        Err(why) => {
            let required = std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_some();
            assert!(!required, "no user namespaces for users: {why}");
            eprintln!("skipped: no user namespaces for users: {why}");
            return;
        }
    };
    let words: [&[&str]; 5] =
        [&["verify"], &["du"], &["inspect"], &["convert"], &["convert", "--dry-run"]];
    let all = |code| {
        for words in words {
            let mut command = command();
            command.args(words);
            if words[0] == "convert" {
                command.arg("--no-extract").args(index());
            }
            let printed = Printed::of(command.arg(&root), code);
            if code != 0 {
                printed.says(&["in use by the mount at /mnt/m of process", "runc-overlayfs"]);
            }
        }
    };
    all(0);
    // With another process that looks at the same time.
    let owner = pretend(0, &root).unwrap();
    all(6);
    drop(owner);
    all(0);
    // If they own the root, they may run its daemon.
    chown(&root, Some(STRANGER), None).unwrap();
    let said = Printed::of(command().arg("verify").arg(&root), 6);
    said.says(&["in use by the mount at /mnt/m of process"]);
    drop(stranger);
    Printed::of(command().arg("du").arg(&root), 0);
}

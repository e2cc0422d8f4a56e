//! Other users of the root: daemons, conversions, containers that outlived their daemon.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::bench::{Bench, Start, Subject, layout, said};
use crate::daemon::Daemon;
use crate::mounts::{below, unmount_all_of};
use crate::process::{run, wait_until};
use crate::strace::Profile;
use crate::volume::wait_until_gone;
use crate::warm::REGISTRY;

const LOCK: &str = "buildkitd.lock";

/// Fails unless a conversion into `root` is rejected because the root is in use, with all of `parts` in the
/// message.
fn ensure_in_use(bench: &Bench, root: &Path, parts: &[&str]) -> Result<()> {
    for dry in [&[][..], &["--dry-run"]] {
        let output = bench.convert(root, 1).args(dry).output()?;
        let text = said(&output);
        ensure!(output.status.code() == Some(6), "{text}");
        for part in parts {
            ensure!(text.contains(part), "{part:?} is not in: {text}");
        }
    }
    Ok(())
}

/// A daemon in the middle of a step; the same without its lock file; and the leftovers of the step after the
/// daemon was killed.
pub(crate) fn daemon(bench: &Bench) -> Result<()> {
    let dir = bench.disk()?;
    let context = dir.path().join("context");
    fs::create_dir(&context)?;
    fs::copy(&bench.tools.busybox, context.join("busybox"))?;
    let step = "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sleep\", \"1000\"]\n";
    fs::write(context.join("Dockerfile"), step)?;
    let root = dir.path().join("root");
    let daemon = Daemon::start(&bench.tools, &root, &[REGISTRY])?;
    let mut build = daemon.buildctl();
    build.args(["build", "--progress=plain", "--frontend", "dockerfile.v0"]);
    build.arg(format!("--local=context={}", context.display()));
    build.arg(format!("--local=dockerfile={}", context.display()));
    let build = Reaped(build.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let mounted = || is_mounted(&root);
    ensure!(wait_until(Duration::from_secs(30), mounted), "the step does not start");

    ensure_in_use(bench, &root, &["a running buildkitd", "(buildkitd)"])?;
    fs::remove_file(root.join(LOCK))?;
    ensure_in_use(bench, &root, &["cache.db", "(buildkitd)"])?;

    kill_process(daemon_on(&root).context("the daemon")?, Signal::KILL)?;
    drop(build);
    drop(daemon);
    ensure!(is_mounted(&root), "nothing of the step is left");
    ensure_in_use(bench, &root, &["in use by the mount at", "runc-overlayfs"])?;
    unmount_all_of(&root)
}

/// Finds the process of the daemon on `root`.
fn daemon_on(root: &Path) -> Option<Pid> {
    let root = root.as_os_str().as_encoded_bytes();
    let has_root = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|&byte| byte == 0);
        words.next().is_some_and(|word| word.ends_with(b"buildkitd"))
            && words.any(|word| word == root)
    };
    let processes = fs::read_dir("/proc").ok()?.map_while(Result::ok);
    let mut pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.find(has_root).and_then(Pid::from_raw)
}

fn is_mounted(root: &Path) -> bool {
    below(root).is_ok_and(|points| !points.is_empty())
}

/// Mounts of parts of a root, in our own mount namespace and in another.
pub(crate) fn mounts(bench: &Bench) -> Result<()> {
    let dir = bench.disk()?;
    let subject = Subject::new(bench, Start::Absent, dir.path())?;
    let root = &subject.root;
    let layers = root.join("runc-overlayfs/snapshots/snapshots");
    // A link on the path to the root, as in a daemon's configuration.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(root, &link)?;
    let point = dir.path().join("point");
    fs::create_dir(&point)?;
    let [first, second] = ["1", "2"].map(|id| layers.join(id).join("fs").display().to_string());
    let linked = link.join("runc-overlayfs/snapshots/snapshots/1/fs").display().to_string();
    let point = point.display().to_string();
    let overlay = |lower: String| format!("mount -t overlay overlay -o lowerdir={lower} {point}");
    let layers = layers.display();
    for (mount, part) in [
        (overlay(format!("{second}:{first}")), "snapshots/2/fs"),
        (overlay(format!("{point}:{first}")), "snapshots/1/fs"),
        (overlay(format!("{linked}:{point}")), "snapshots/1/fs"),
        (format!("cd {layers} && {}", overlay("2/fs:1/fs".to_owned())), "snapshots/2/fs"),
        (format!("mount --bind {first} {point}"), "snapshots/1/fs"),
        (format!("mount -t tmpfs tmpfs {first}"), "snapshots/1/fs"),
    ] {
        let check = || -> Result<()> {
            run(Command::new("sh").args(["-ec", &mount]))?;
            let refused = ensure_in_use(bench, root, &["in use by the mount at", part]);
            let point = mount.split(' ').next_back().unwrap_or_default();
            run(Command::new("umount").arg(point))?;
            wait_until_gone(Path::new(point))?;
            refused
        };
        check().with_context(|| mount.clone())?;
        // Links are only followed in our own namespace, and relative paths are not found.
        if mount.contains("link") || mount.contains("cd ") {
            continue;
        }
        let script = format!("{mount}; echo ready; exec sleep 1000");
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "sh", "-ec", &script]).stdout(Stdio::piped());
        let mut holder = Reaped(holder.spawn()?);
        let mut ready = [0; 6];
        let stdout = holder.0.stdout.as_mut().context("stdout")?;
        std::io::Read::read_exact(stdout, &mut ready).with_context(|| script.clone())?;
        let pid = format!("process {}", holder.0.id());
        ensure_in_use(bench, root, &["in use by the mount at", part, &pid])
            .with_context(|| format!("in another namespace: {mount}"))?;
    }
    // All of it is gone, and a root that is itself mounted elsewhere is not in use.
    run(Command::new("mount").arg("--bind").arg(root).arg(&point))?;
    let output = subject.convert().arg("--dry-run").output()?;
    run(Command::new("umount").arg(&point))?;
    ensure!(output.status.code() != Some(6), "{}", said(&output));
    Ok(())
}

/// While a conversion is stopped in the middle, neither another one nor a daemon can start; and it completes
/// when it continues.
pub(crate) fn conversion(bench: &Bench) -> Result<()> {
    let dir = bench.disk()?;
    let subject = Subject::new(bench, Start::Absent, dir.path())?;
    let log = dir.path().join("log");
    subject.reset()?;
    let profile = Profile::record(&subject.convert(), &log, &layout())?;
    let changes = profile.changes();
    let rename = changes.iter().rfind(|call| call.name.starts_with("rename"));
    let middle = changes.iter().filter(|call| call.name == "mkdirat").nth(20);
    for call in [middle, rename] {
        let call = call.context("the calls to stop at")?;
        subject.reset()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &format!("trace={}", call.name)]);
        strace.arg("-e").arg(format!("inject={}:signal=SIGSTOP:when={}", call.name, call.nth));
        let convert = subject.convert();
        strace.arg(convert.get_program()).args(convert.get_args());
        strace.stdout(Stdio::null()).process_group(0);
        fs::write(&log, "")?;
        let mut stopped = Reaped(strace.spawn()?);
        let mut process = None;
        let stops = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("stopped by SIGSTOP"));
            process = line.and_then(|line| Pid::from_raw(line.split(' ').next()?.parse().ok()?));
            process.is_some()
        };
        ensure!(wait_until(Duration::from_secs(30), stops), "it does not stop at {call:?}");

        // The kernel reports 15 bytes of the name of the program under test.
        ensure_in_use(bench, &subject.root, &["another conversion", "(oci2bk-under-te)"])?;
        match Daemon::start(&bench.tools, &subject.root, &[REGISTRY]) {
            Ok(_) => bail!("a daemon starts during a conversion"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains("could not lock"), "the daemon says {text}");
            }
        }
        kill_process(process.context("the stopped process")?, Signal::CONT)?;
        ensure!(stopped.0.wait()?.success(), "the conversion that was stopped failed");
        // The daemon that did not start has left the files that it writes before it locks the root.
        subject.ensure_complete()?;
    }
    Ok(())
}

/// A process that ends with the test.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Its own process group, if it was given one.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

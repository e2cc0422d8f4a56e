//! The first build after an edit on a cold disk: with the trees as directories, and in an EROFS image.
//!
//! The root is on ext4 in a file, on this machine's disk, and behind a file system that reads no more than 50 MB/s
//! (bindfs). An image lies in the root, so the bytes of all ways are those of one loop device.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::cache::{Cache, FILE_PREFIX, Shape};
use crate::daemon::Daemon;
use crate::mounts::manifest;
use crate::process::run;
use crate::report::Spread;

/// The steps after the edit: one that looks at every file, and one that reads every twentieth.
const STEPS: [&str; 2] = ["ls", "some"];

/// The limit of the slow disk, in bytes for each second.
const LIMIT: u64 = 50_000_000;

const SECTOR: u64 = 512;

/// How the trees lie on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Form {
    Directories,
    Plain,
    Lz4,
}

impl Form {
    const ALL: [Self; 3] = [Self::Directories, Self::Plain, Self::Lz4];

    const fn name(self) -> &'static str {
        match self {
            Self::Directories => "directories",
            Self::Plain => "EROFS, plain",
            Self::Lz4 => "EROFS, lz4",
        }
    }

    const fn compression(self) -> Option<&'static str> {
        match self {
            Self::Directories => None,
            Self::Plain => Some("none"),
            Self::Lz4 => Some("lz4"),
        }
    }
}

/// The disk below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Disk {
    Own,
    Limited,
}

impl Disk {
    const ALL: [Self; 2] = [Self::Own, Self::Limited];

    const fn name(self) -> &'static str {
        match self {
            Self::Own => "this machine's disk",
            Self::Limited => "50 MB/s",
        }
    }
}

/// A build.
#[derive(Debug, Clone, Serialize)]
struct Run {
    disk: Disk,
    form: Form,
    step: &'static str,
    /// Of the whole build.
    seconds: f64,
    /// Read from the loop device.
    bytes: u64,
    requests: u64,
}

/// All builds on the trees of one cache.
#[derive(Debug, Serialize)]
pub(crate) struct PackedTrees {
    shape: Shape,
    /// The size of the image of each form; zero for directories.
    images: Vec<u64>,
    runs: Vec<Run>,
}

/// Builds `rounds` times on each form and each disk, with an empty page cache.
pub(crate) fn measure(
    work: &Path,
    (oci2bk, buildkit): (&Path, &Path),
    cache: &Cache,
    rounds: usize,
) -> Result<PackedTrees> {
    let bench = Bench { work: work.join("packed"), oci2bk, buildkit, cache };
    bench.prepare()?;
    let mut images = Vec::new();
    for form in Form::ALL {
        images.push(bench.make(form).with_context(|| form.name())?);
    }
    let mut runs = Vec::new();
    let mut forms = Form::ALL;
    for round in 1..=rounds {
        for disk in Disk::ALL {
            for form in forms {
                for run in bench.build(disk, form)? {
                    let Run { step, seconds, bytes, .. } = &run;
                    eprintln!(
                        "{}, {}, round {round}: {step} {seconds:.2} s, {} MB",
                        disk.name(),
                        form.name(),
                        bytes / 1_000_000
                    );
                    runs.push(run);
                }
            }
        }
        forms.rotate_left(1);
    }
    fs::remove_dir_all(&bench.work)?;
    Ok(PackedTrees { shape: cache.shape, images, runs })
}

struct Bench<'b> {
    work: PathBuf,
    oci2bk: &'b Path,
    buildkit: &'b Path,
    cache: &'b Cache,
}

/// Something mounted, which is unmounted on drop.
struct Mounted(PathBuf);

impl Mounted {
    fn new(command: &mut Command, point: &Path) -> Result<Self> {
        fs::create_dir_all(point)?;
        run(command.arg(point))?;
        Ok(Self(point.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.0)) {
            eprintln!("warning: {error:#}");
        }
    }
}

impl Bench<'_> {
    fn prepare(&self) -> Result<()> {
        if self.work.exists() {
            fs::remove_dir_all(&self.work)?;
        }
        let [tools, dockerfile] = ["tools", "dockerfile"].map(|name| self.work.join(name));
        for dir in [&tools, &dockerfile] {
            fs::create_dir_all(dir)?;
        }
        fs::create_dir(self.work.join("files"))?;
        fs::copy("/bin/busybox", tools.join("busybox")).context("busybox")?;
        let find = format!("find / -name \"{FILE_PREFIX}*\" -type f");
        let run = |step: &str, script: &str| {
            format!(
                "FROM image AS {step}\nARG EDIT\nRUN --mount=type=bind,from=tools,target=/tools \
                 [\"/tools/busybox\", \"sh\", \"-c\", \"export PATH=/tools; b=/tools/busybox; {}\"]\n",
                script.replace('"', "\\\"")
            )
        };
        let text = run("ls", "$b ls -lR / > /dev/null")
            + &run(
                "some",
                &format!("$b {find} | $b sort | $b awk NR%20==0 | $b xargs $b cat > /dev/null"),
            );
        Ok(fs::write(dockerfile.join("Dockerfile"), text)?)
    }

    fn disk(&self, form: Form) -> PathBuf {
        self.work.join(format!("{form:?}.ext4"))
    }

    /// Converts the cache to a root on a new disk, and packs it. Returns the size of the image.
    fn make(&self, form: Form) -> Result<u64> {
        let (disk, point) = (self.disk(form), self.work.join("point"));
        let room = self.cache.shape.bytes * 2 + self.cache.blob_bytes();
        let room = room + self.cache.shape.files * (8 << 10) + (256 << 20);
        fs::File::create(&disk)?.set_len(room)?;
        run(Command::new("mkfs.ext4").args(["-q", "-E", "nodiscard"]).arg(&disk))?;
        let _mounted = Mounted::new(Command::new("mount").args(["-o", "loop"]).arg(&disk), &point)?;
        let root = point.join("root");
        let oci2bk = || {
            let mut command = Command::new(self.oci2bk);
            command.env("TMPDIR", &self.work);
            command
        };
        run(oci2bk().args(["convert", "--progress=quiet"]).arg(&self.cache.layout).arg(&root))?;
        let Some(compression) = form.compression() else { return Ok(0) };
        let compress = format!("--compress={compression}");
        run(oci2bk().args(["pack", "--progress=quiet", &compress]).arg(&root))?;
        Ok(fs::metadata(root.join("packed/1.erofs"))?.len())
    }

    /// Runs each step once on a daemon that was just started.
    fn build(&self, disk: Disk, form: Form) -> Result<Vec<Run>> {
        let mut file = self.disk(form);
        let mut mounts = Vec::new();
        if disk == Disk::Limited {
            let slow = self.work.join("slow");
            let rate = format!("--read-rate={LIMIT}");
            let mut bindfs = Command::new("bindfs");
            bindfs.args([&rate, "-o", "direct_io"]).arg(&self.work);
            mounts.push(Mounted::new(&mut bindfs, &slow)?);
            file = slow.join(file.file_name().context("the name of the disk")?);
        }
        let point = self.work.join("point");
        mounts.push(Mounted::new(Command::new("mount").args(["-o", "loop"]).arg(&file), &point)?);
        let root = point.join("root");
        if form != Form::Directories {
            let mut mount = Command::new("mount");
            mount.args(["-t", "erofs", "-o", "ro,loop"]).arg(root.join("packed/1.erofs"));
            mounts.push(Mounted::new(&mut mount, &root.join("packed/1"))?);
        }
        let device = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&point))?;
        let device = Path::new(device.trim()).file_name().context("the device")?.to_owned();
        let daemon = Daemon::start(self.buildkit, &point)?;
        let mut runs = Vec::new();
        for step in STEPS {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3")?;
            let before = reads(&device)?;
            let start = Instant::now();
            let said = run(&mut self.step(&daemon, step)?)?;
            let seconds = start.elapsed().as_secs_f64();
            let after = reads(&device)?;
            ensure!(!said.contains(" extracting "), "layers were not there:\n{said}");
            let (requests, bytes) = (after.0 - before.0, after.1 - before.1);
            runs.push(Run { disk, form, step, seconds, bytes, requests });
        }
        drop(daemon);
        // What was mounted last goes first.
        while mounts.pop().is_some() {}
        Ok(runs)
    }

    fn step(&self, daemon: &Daemon, step: &str) -> Result<Command> {
        let digest = manifest(&self.cache.image)?;
        let mut build = daemon.buildctl();
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0", "--no-cache"]);
        build.args(["--local=context=files", "--local=dockerfile=dockerfile"]);
        build.args(["--local=tools=tools", "--opt=context:tools=local:tools"]);
        build.arg(format!("--opt=target={step}")).current_dir(&self.work);
        build.arg(format!("--oci-layout=image={}", self.cache.image.display()));
        build.arg(format!("--opt=context:image=oci-layout://image@{digest}"));
        Ok(build)
    }
}

/// Returns the number of read requests and the bytes read of a block device (Linux `Documentation/block/stat.rst`).
fn reads(device: &std::ffi::OsStr) -> Result<(u64, u64)> {
    let path = Path::new("/sys/block").join(device).join("stat");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut number = |at| -> Result<u64> { Ok(numbers.nth(at).context("a number")??) };
    let (requests, sectors) = (number(0)?, number(1)?);
    Ok((requests, sectors * SECTOR))
}

impl PackedTrees {
    /// Appends the table.
    pub(crate) fn write(&self, text: &mut String) {
        let Shape { bytes, files, .. } = self.shape;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n## Packed trees\n\n{:.1} GB in {files} files: a build whose last step, on top of all layers, lists every file \
             (`ls`) or reads every twentieth (`some`), with an empty page cache. Medians; bytes and requests are those of the \
             disk.\n\n| disk | trees | image, GB | {} |\n|---|---|---|{}",
            bytes as f64 / 1e9,
            STEPS
                .map(|step| format!("{step}: seconds | of directories | MB | requests"))
                .join(" | "),
            "---|---|---|---|".repeat(STEPS.len()),
        );
        let median = |disk, form, step, of: fn(&Run) -> f64| {
            let is_it = |run: &&Run| (run.disk, run.form, run.step) == (disk, form, step);
            let values = self.runs.iter().filter(is_it).map(of).collect();
            Spread::of(values).map_or(f64::NAN, |spread| spread.median)
        };
        for disk in Disk::ALL {
            for (form, image) in Form::ALL.into_iter().zip(&self.images) {
                let cells = STEPS.map(|step| {
                    let seconds = median(disk, form, step, |run| run.seconds);
                    let usual = median(disk, Form::Directories, step, |run| run.seconds);
                    let bytes = median(disk, form, step, |run| run.bytes as f64) / 1e6;
                    let requests = median(disk, form, step, |run| run.requests as f64);
                    format!("{seconds:.2} | {:.2} | {bytes:.0} | {requests:.0}", seconds / usual)
                });
                let image =
                    if *image > 0 { format!("{:.2}", *image as f64 / 1e9) } else { String::new() };
                let (disk, form) = (disk.name(), form.name());
                let _ = writeln!(text, "| {disk} | {form} | {image} | {} |", cells.join(" | "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_compared_with_directories() {
        let run = |form, seconds| {
            let (disk, step) = (Disk::Own, "ls");
            Run { disk, form, step, seconds, bytes: 3_000_000, requests: 7 }
        };
        let runs = vec![run(Form::Directories, 4.0), run(Form::Plain, 6.0), run(Form::Lz4, 1.0)];
        let shape = Shape { bytes: 2_000_000_000, files: 5, layers: 1 };
        let mut text = String::new();
        PackedTrees { shape, images: vec![0, 2_000_000_000, 1_200_000_000], runs }.write(&mut text);
        let rows: Vec<_> = text.lines().skip(8).take(2).collect();
        assert!(
            rows[0]
                .starts_with("| this machine's disk | EROFS, plain | 2.00 | 6.00 | 1.50 | 3 | 7 |"),
            "{rows:?}"
        );
        assert!(
            rows[1]
                .starts_with("| this machine's disk | EROFS, lz4 | 1.20 | 1.00 | 0.25 | 3 | 7 |"),
            "{rows:?}"
        );
    }
}

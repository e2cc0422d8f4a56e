//! The workload: a generated project, always the same, or a user's project.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use testkit::Tools;
use testkit::process::run;

/// The size of the generated project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// A shell and some hundred kilobytes, to check that the lab works.
    Tiny,
    /// A minimal Debian and 45 MB in 4,000 files.
    Small,
    /// A minimal Debian and 230 MB in 18,500 files.
    Full,
    /// As small, with 200 MB in 5,000 files that a step keeps in a cache mount.
    Mounts,
}

/// The measured project.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A project of this size on a base image of the lab.
    Generated(Size),
    /// A user's project.
    Project {
        /// The build context.
        context: PathBuf,
        /// The Dockerfile, relative to the context.
        dockerfile: PathBuf,
        /// The source file to edit, relative to the context.
        edit: PathBuf,
    },
}

/// A context on disk, before and after the edit.
#[derive(Debug)]
pub(crate) struct Sources {
    original: PathBuf,
    edited: PathBuf,
    /// The Dockerfile, relative to both.
    pub(crate) dockerfile: PathBuf,
}

impl Sources {
    pub(crate) fn context(&self, edited: bool) -> &Path {
        if edited { &self.edited } else { &self.original }
    }
}

/// The base image of tiny projects: a shell.
const SHELL: &str = "FROM scratch\nCOPY base /bin/busybox\nCOPY etc /etc\n\
                     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\n";

/// The beginning of the step that reads the sources, and the same with a cache mount, which the step fills if it is
/// empty, like the downloads of a package manager. While the daemon measures it, the step waits.
const PROGRAM: &str = "RUN mkdir /out && find /src ";
const PROGRAM_WITH_MOUNT: &str = "RUN --mount=type=cache,sharing=locked,target=/downloads \
    if [ ! -e /downloads/done ]; then sh /lab/make-files.sh /downloads/files 5000 10 4 && touch -d @0 /downloads/done; fi && \
    mkdir /out && find /src /downloads ";

/// The base image of all others.
const DEBIAN: &str = "FROM scratch\nADD base /\n";

/// Source files of the generated project, and the size of each in bytes.
const SOURCES: (u32, usize) = (40, 2000);

impl Size {
    /// Returns the arguments of make-files.sh, the numbers of files and their blocks: for tools, and for
    /// build and runtime dependencies.
    fn files(self) -> [&'static str; 3] {
        match self {
            Self::Tiny => ["20 2", "50 1", "20 1"],
            Self::Small | Self::Mounts => ["500 8", "3000 2", "500 2"],
            Self::Full => ["2500 10", "12000 2", "4000 2"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Full => "full",
            Self::Mounts => "mounts",
        }
    }
}

impl Workload {
    /// Returns the size, or the directory.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Generated(size) => size.name().to_owned(),
            Self::Project { context, .. } => context.display().to_string(),
        }
    }

    /// Returns values of `--opt`. They make image digests of a generated project reproducible; a user's
    /// project handles that itself.
    pub(crate) fn options(&self) -> &'static [&'static str] {
        match self {
            Self::Generated(_) => &["build-arg:SOURCE_DATE_EPOCH=0"],
            Self::Project { .. } => &[],
        }
    }

    /// Writes the context of the base image to `dir`; a user's project has its own base images. A `mark`
    /// makes a different image.
    pub(crate) fn write_base(&self, tools: &Tools, dir: &Path, mark: &str) -> Result<bool> {
        let Self::Generated(size) = self else { return Ok(false) };
        let (dockerfile, content) = match size {
            Size::Tiny => (SHELL, &tools.busybox),
            Size::Small | Size::Full | Size::Mounts => (DEBIAN, &tools.debian),
        };
        fs::create_dir_all(dir.join("etc"))?;
        fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
        let comment = if mark.is_empty() { String::new() } else { format!("LABEL mark={mark}\n") };
        fs::write(dir.join("Dockerfile"), format!("{dockerfile}{comment}"))?;
        fs::copy(content, dir.join("base")).with_context(|| content.display().to_string())?;
        fs::set_permissions(dir.join("base"), fs::Permissions::from_mode(0o755))?;
        settle(dir)?;
        Ok(true)
    }

    /// Writes both contexts to `dir`.
    pub(crate) fn write_sources(&self, registry: &str, dir: &Path) -> Result<Sources> {
        let (original, edited) = (dir.join("original"), dir.join("edited"));
        for context in [&original, &edited] {
            match self {
                Self::Generated(size) => generate(*size, registry, context)?,
                Self::Project { context: project, .. } => copy(project, context)?,
            }
        }
        let (dockerfile, edit) = match self {
            Self::Generated(_) => (Path::new("Dockerfile"), Path::new("src/0")),
            Self::Project { dockerfile, edit, .. } => (dockerfile.as_path(), edit.as_path()),
        };
        let path = edited.join(edit);
        ensure!(path.is_file(), "{} is not a file of the context", edit.display());
        let mut text = fs::read(&path)?;
        text.push(b'\n');
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH)?;
        Ok(Sources { original, edited, dockerfile: dockerfile.to_owned() })
    }
}

fn generate(size: Size, registry: &str, context: &Path) -> Result<()> {
    fs::create_dir_all(context.join("src"))?;
    let [tools, build, runtime] = size.files();
    let dockerfile = match size {
        Size::Mounts => include_str!("Dockerfile").replace(PROGRAM, PROGRAM_WITH_MOUNT),
        Size::Tiny | Size::Small | Size::Full => include_str!("Dockerfile").to_owned(),
    };
    let dockerfile = dockerfile
        .replace("{registry}", registry)
        .replace("{tools}", tools)
        .replace("{build}", build)
        .replace("{runtime}", runtime);
    fs::write(context.join("Dockerfile"), dockerfile)?;
    fs::write(context.join("make-files.sh"), include_str!("make-files.sh"))?;
    fs::write(context.join("dependencies.lock"), "dependencies 1\n")?;
    let (files, bytes) = SOURCES;
    for file in 0..files {
        let line = format!("source file {file}\n");
        let text = line.repeat(bytes / line.len());
        fs::write(context.join("src").join(file.to_string()), text)?;
    }
    settle(context)
}

/// Gives everything below `dir` the same time, because it becomes part of layers.
fn settle(dir: &Path) -> Result<()> {
    run(Command::new("find").arg(dir).args(["-exec", "touch", "-d", "@0", "{}", "+"])).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to)).map(drop)
}

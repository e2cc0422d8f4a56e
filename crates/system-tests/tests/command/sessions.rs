//! The terminal sessions in README.md and the pages below `docs` must match the command's output.
//!
//! A block of `console` after the comment `<!-- session: NAME -->` is run in a directory that [`Setup`] makes
//! for it; one with a command of ours that cannot be run follows `<!-- not run -->`. `…` matches any text, a
//! line that begins with `...` any lines. With `OCI2BK_UPDATE`, differences are written into the page.

use std::fmt::Write as _;
use std::fs;

use super::*;

/// Pages whose sessions depend on each other or need daemons: the suites `recipes` and `e2e` run them.
const OTHERS: [&str; 4] =
    ["docs/baking.md", "docs/copying.md", "docs/troubleshooting.md", "docs/what-is-where.md"];

/// The lines of a session on a page.
struct Session {
    name: String,
    /// The number of its first line.
    start: usize,
    lines: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns README.md and all pages below `docs` whose sessions are run here, relative to the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut pending = vec![PathBuf::from("docs")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(repository().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| !OTHERS.iter().any(|other| page == Path::new(other)));
    pages.sort();
    pages
}

fn sessions(page: &Path, text: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (number, _) in lines.iter().enumerate().filter(|(_, line)| **line == "```console") {
        let block = lines[number + 1..].iter().take_while(|line| **line != "```");
        let block: Vec<String> = block.map(|line| (*line).to_owned()).collect();
        let comment = lines[..number].last().copied().unwrap_or_default();
        let ours = |line: &String| line.starts_with("$ oci2bk") || line.contains("-p oci2bk-cli");
        let name =
            comment.strip_prefix("<!-- session: ").and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(name) = name {
            sessions.push(Session { name: name.to_owned(), start: number + 1, lines: block });
        } else if block.iter().any(ours) {
            assert_eq!(comment, "<!-- not run -->", "{}:{number} has no session", page.display());
        }
    }
    sessions
}

impl Session {
    /// Returns the correct lines, and the differences from those on the page.
    fn run(&self) -> (Vec<String>, String) {
        let setup = Setup::of(&self.name);
        let (mut written, mut differs) = (Vec::new(), String::new());
        for block in self.lines.chunk_by(|_, next| !next.starts_with("$ ")) {
            let (typed, shown) = block.split_first().unwrap();
            let printed = setup.run(typed.strip_prefix("$ ").unwrap());
            written.push(typed.clone());
            if are_shown(shown, &printed) {
                written.extend_from_slice(shown);
            } else {
                let printed = printed.join("\n");
                writeln!(differs, "{typed}\n{printed}").unwrap();
                written.push(printed);
            }
        }
        (written, differs)
    }
}

/// The directory in which a session runs.
struct Setup {
    temp: TempDir,
}

impl Setup {
    fn of(name: &str) -> Self {
        let setup = Self { temp: tempfile::tempdir().unwrap() };
        let dir = setup.temp.path();
        let fixtures = fixture("");
        std::os::unix::fs::symlink(&fixtures, dir.join("fixtures")).unwrap();
        fs::copy(fixture("index/keys/provenance.json"), dir.join("provenance.json")).unwrap();
        let copied = Command::new("cp").arg("-r").arg(fixture("index/cache")).arg(dir).status();
        assert!(copied.unwrap().success());
        match name {
            "fixtures" | "cache" => {}
            // A file beside a cache is found.
            "alone" => fs::remove_file(dir.join("provenance.json")).unwrap(),
            "bake" => setup.attach(),
            "small-limits" => {
                setup.attach();
                let limits = "[worker.oci]\n  maxUsedSpace = \"1MB\"\n";
                fs::write(dir.join("buildkitd.toml"), limits).unwrap();
            }
            "converted" => setup.convert(),
            "edited" => setup.edit(),
            "damaged" => {
                setup.convert();
                let worker = setup.root().join("runc-overlayfs");
                fs::remove_dir_all(worker.join("snapshots/snapshots/3")).unwrap();
                let blobs = worker.join("content/blobs/sha256");
                let mut blobs: Vec<_> =
                    fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
                blobs.sort();
                let mut blob = fs::read(&blobs[0]).unwrap();
                *blob.last_mut().unwrap() ^= 1;
                fs::write(&blobs[0], blob).unwrap();
            }
            other => panic!("there is a session {other}, which nothing is set up for"),
        }
        setup
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    fn convert(&self) {
        let words = "convert cache root --keys provenance.json --progress=quiet";
        Printed::of(command().args(words.split(' ')).current_dir(&self.temp), 0);
    }

    /// Attaches the keys to the cache, as before a cache is pushed.
    fn attach(&self) {
        let words = "keys attach cache --keys provenance.json";
        Printed::of(command().args(words.split(' ')).current_dir(&self.temp), 0);
        fs::remove_file(self.temp.path().join("provenance.json")).unwrap();
    }

    /// Writes provenance of the build that made the cache, and of one with a changed variable.
    fn edit(&self) {
        let old = fs::read_to_string(fixture("index/keys/provenance.json")).unwrap();
        let new = old.replace("LEVEL=3", "LEVEL=4");
        assert_ne!(old, new);
        for (name, text) in [("old", old), ("new", new)] {
            let dir = self.temp.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("provenance.json"), text).unwrap();
        }
    }

    /// Returns the page's names of places, and their paths in the test.
    fn places(&self) -> [(&'static str, String); 3] {
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        [
            ("/var/lib/buildkit", text(self.root())),
            ("/tmp/warm", text(self.temp.path().join("warm"))),
            (
                "cargo run --release -p oci2bk-cli --",
                env!("CARGO_BIN_EXE_oci2bk-under-test").to_owned(),
            ),
        ]
    }

    /// Runs a command and returns its output, from both streams.
    fn run(&self, line: &str) -> Vec<String> {
        let mut line =
            line.replacen("oci2bk ", concat!(env!("CARGO_BIN_EXE_oci2bk-under-test"), " "), {
                usize::from(line.starts_with("oci2bk "))
            });
        for (shown, real) in self.places() {
            line = line.replace(shown, &real);
        }
        let mut shell = Command::new("sh");
        for variable in ["BUILDKIT_PROGRESS", "NO_COLOR", "SOURCE_DATE_EPOCH"] {
            shell.env_remove(variable);
        }
        let output = shell
            .args(["-c", &format!("exec 2>&1; {line}")])
            .current_dir(&self.temp)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        for (shown, real) in self.places() {
            text = text.replace(&real, shown);
        }
        text.lines().map(str::to_owned).collect()
    }
}

/// Returns whether `line` matches `shown`, with any time.
fn is_shown(shown: &str, line: &str) -> bool {
    let shown = without_time(shown);
    let line = without_time(line);
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        let Some(at) = (if part.is_empty() { Some(rest.len()) } else { rest.find(part) }) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Removes the number from `after 0.4 s`.
fn without_time(line: &str) -> String {
    match line.split_once(" after ").filter(|(_, rest)| rest.ends_with(" s")) {
        Some((before, _)) => format!("{before} after a while"),
        None => line.to_owned(),
    }
}

/// Returns whether `lines` match `shown`.
fn are_shown(shown: &[String], lines: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim_start().starts_with("...") => {
            (0..=lines.len()).any(|skipped| are_shown(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| is_shown(first, line) && are_shown(rest, others)),
    }
}

#[test]
fn sessions_show_what_the_command_prints() {
    if !rustix::process::geteuid().is_root() {
        return; // Layers have owners.
    }
    let mut differences = String::new();
    let mut found = 0;
    for page in pages() {
        let path = repository().join(&page);
        let text = fs::read_to_string(&path).unwrap();
        let sessions = sessions(&page, &text);
        found += sessions.len();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // From the last to the first, so that the line numbers stay valid.
        for session in sessions.iter().rev() {
            let (written, differs) = session.run();
            if !differs.is_empty() {
                write!(differences, "{}, session {}: {differs}", page.display(), session.name)
                    .unwrap();
            }
            lines.splice(session.start..session.start + session.lines.len(), written);
        }
        if std::env::var_os("OCI2BK_UPDATE").is_some() {
            let updated = lines.join("\n") + "\n";
            if updated != text {
                fs::write(path, updated).unwrap();
            }
            differences.clear();
        }
    }
    assert!(found > 10, "the pages have {found} sessions");
    assert!(differences.is_empty(), "pages show something else than is printed:\n{differences}");
}

#[test]
fn lines_are_compared_but_for_what_is_left_out() {
    assert!(is_shown("a sha256:12… b", "a sha256:1234 b"));
    assert!(is_shown("a sha256:12…", "a sha256:1234"));
    assert!(is_shown("r is warm after 0.4 s", "r is warm after 12.0 s"));
    for line in ["a sha256:1334 b", "a sha256:1234 c", "a sha256:1234 b more", ""] {
        assert!(!is_shown("a sha256:12… b", line), "{line}");
    }
    let lines = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    assert!(are_shown(&lines("a/  ... some/d"), &lines("a/b/c/d")));
    assert!(!are_shown(&lines("a/  ... some/d"), &lines("a/b/c")));
    assert!(!are_shown(&lines("a"), &lines("a/b")));
}

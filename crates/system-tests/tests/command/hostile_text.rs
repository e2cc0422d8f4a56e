//! Text from outside, in every command and form of output.

use std::ffi::OsString;
use std::fs;

use super::forged::{copy, put, read};
use super::*;

/// All characters that must be escaped: C0, DEL, C1, direction changes, invisible characters, line ends.
const HOSTILE: &str = "A\u{1b}]0;pwn\u{7}\u{1b}[2J\u{8}\u{7f}\u{85}\u{9b}31m\u{9f}\u{61c}\u{200b}\u{200c}\
    \u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\
    \u{2068}\u{2069}\u{feff}\r\nFORGED <b>\"'&]]>\\N\t\u{1f600}";
/// The same with the length of `dockerfile.v0`, the name of frontends in a history.
const SHORT: &str = "\u{1b}\u{9b}\u{202e}\u{200b}\n\u{7f}mm";

fn is_hostile(c: char) -> bool {
    matches!(
        u32::from(c),
        0..=8 | 0xb..=0x1f | 0x7f..=0x9f | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2069 | 0xfeff
    )
}

/// Asserts that `text` has nothing hostile, and no line that is not ours.
fn is_clean(text: &[u8], what: &str) {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let raw: Vec<_> = text.chars().filter(|&c| is_hostile(c)).collect();
    assert!(raw.is_empty(), "{what}: {raw:?} in {text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{what}: {text}");
}

fn has_escapes(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    // On terminals, in pictures, and in JSON.
    text.contains(r"\u{1b}") || text.contains(r"\\u{1b}") || text.contains(r"\u001b")
}

/// Hostile files below a temporary directory.
struct World {
    temp: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { temp: tempfile::tempdir().unwrap() };
        let cache = world.path("cache");
        copy(Path::new(&fixture("manifest/cache")), &cache);
        let mut index = read(cache.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        let mut manifest = read(cache.join("blobs/sha256").join(digest));
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["annotations"]["buildkit/description"] = HOSTILE.into();
            layer["annotations"][HOSTILE] = HOSTILE.into();
        }
        manifest["annotations"] = serde_json::json!({HOSTILE: HOSTILE});
        let entry = &mut index["manifests"][0];
        (entry["digest"], entry["size"]) = put(&cache, &manifest);
        entry["annotations"]["org.opencontainers.image.ref.name"] = HOSTILE.into();
        entry["annotations"]["io.containerd.image.name"] = format!("docker.io/{HOSTILE}").into();
        fs::write(cache.join("index.json"), index.to_string()).unwrap();

        // The same cache under two names, neither of which is selected.
        let two = world.path("two");
        copy(&cache, &two);
        let mut other = index["manifests"][0].clone();
        manifest["other"] = 1.into();
        (other["digest"], other["size"]) = put(&two, &manifest);
        other["annotations"]["org.opencontainers.image.ref.name"] = format!("{HOSTILE}2").into();
        index["manifests"].as_array_mut().unwrap().push(other);
        fs::write(two.join("index.json"), index.to_string()).unwrap();

        // Provenance of the build, and of one with hostile arguments, environment and sources.
        let image = PathBuf::from(fixture("manifest/keys/image/blobs/sha256"));
        let statements =
            fs::read_dir(image).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()));
        let statement = statements.flatten().find(|text| text.contains("\"predicate\"")).unwrap();
        let quoted = Value::from(HOSTILE).to_string();
        let quoted = &quoted[1..quoted.len() - 1];
        let other = statement.replace("/gone/inner", &format!("/gone/inner{quoted}"));
        assert!(other.len() > statement.len());
        fs::write(world.path("keys"), statement).unwrap();
        fs::write(world.path("other"), other).unwrap();
        fs::write(world.path("toml"), format!("root = {HOSTILE}")).unwrap();
        fs::write(world.path("nothing"), HOSTILE).unwrap();

        // A root with the state, and with builds.
        let done = world.run(&[
            "convert",
            "--no-extract",
            "CACHE",
            "ROOT",
            "--keys",
            "KEYS",
            "--last-used",
            "@1",
        ]);
        assert!(done.status.success(), "{done:?}");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oci2bk/tests/data/history/root");
        let history = fs::read(data.join("history.db")).unwrap();
        assert_eq!(SHORT.len(), "dockerfile.v0".len());
        let history = replaced(&history, b"dockerfile.v0", SHORT.as_bytes());
        fs::write(world.path("root").join("history.db"), history).unwrap();
        let damaged = world.path("damaged");
        copy(&world.path("root"), &damaged);
        let blobs = damaged.join("runc-overlayfs/content/blobs/sha256");
        fs::remove_file(fs::read_dir(blobs).unwrap().next().unwrap().unwrap().path()).unwrap();
        world
    }

    /// Returns a path with a hostile name.
    fn path(&self, name: &str) -> PathBuf {
        // A file name has no slash, and a colon starts a tag.
        self.temp.path().join(format!("{}{name}", HOSTILE.replace(['/', ':'], "")))
    }

    /// Returns the word that one of the tests' placeholders means.
    fn word(&self, word: &str) -> OsString {
        match word {
            "HOSTILE" => HOSTILE.into(),
            "--HOSTILE" => format!("--{HOSTILE}").into(),
            "OCI:TAG" => format!("oci:{}:{HOSTILE}", self.path("cache").display()).into(),
            word if word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase()) => {
                self.path(&word.to_lowercase()).into()
            }
            word => word.into(),
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = command();
        command.args(words.iter().map(|word| self.word(word)));
        command.output().unwrap()
    }
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for start in 0..bytes.len() - old.len() {
        if bytes[start..].starts_with(old) {
            bytes[start..start + old.len()].copy_from_slice(new);
            found += 1;
        }
    }
    assert!(found > 0);
    bytes
}

/// Arguments, and whether the hostile text must appear, escaped.
const RUNS: &[(&[&str], bool)] = &[
    (&["convert", "--no-extract", "CACHE", "NEWA", "--keys", "KEYS", "--progress=plain"], true),
    (&["convert", "--no-extract", "CACHE", "NEWB", "--keys", "KEYS", "--progress=rawjson"], true),
    (&["convert", "--no-extract", "CACHE", "NEWC", "--keys", "KEYS", "--progress=quiet"], true),
    (&["convert", "--no-extract", "CACHE", "NEWD", "--keys", "KEYS", "--progress=tty"], true),
    (&["convert", "--no-extract", "CACHE", "NEWE", "--keys", "KEYS", "--format=json"], true),
    (
        &["convert", "--no-extract", "CACHE", "NEWF", "--keys", "KEYS", "--metadata-file", "META"],
        true,
    ),
    (
        &[
            "convert",
            "--no-extract",
            "CACHE",
            "NEWG",
            "--keys",
            "KEYS",
            "--metadata-file",
            "/dev/stdout",
        ],
        true,
    ),
    (
        &["convert", "--no-extract", "CACHE", "NEWH", "--keys", "KEYS", "--metadata-file", "CACHE"],
        true,
    ),
    (&["convert", "--no-extract", "CACHE", "NEWI", "--keys", "OTHER"], true),
    (&["convert", "--no-extract", "CACHE", "NEWJ", "--keys", "OTHER", "--allow-unkeyed"], true),
    (
        &["convert", "--no-extract", "CACHE", "NEWK", "--keys", "KEYS", "--buildkit", "v0.12.5"],
        true,
    ),
    (&["convert", "--dry-run", "CACHE", "ROOT", "--keys", "OTHER"], true),
    (&["convert", "--dry-run", "CACHE", "ROOT", "--keys", "OTHER", "--format=json"], true),
    (&["convert", "--no-extract", "CACHE", "DAMAGED", "--keys", "KEYS"], true),
    (&["convert", "--no-extract", "TWO", "NEWL", "--keys", "KEYS"], true),
    (&["convert", "--no-extract", "OCI:TAG", "NEWM", "--keys", "KEYS"], true),
    (&["convert", "--no-extract", "ABSENT", "NEWN"], true),
    (&["convert", "--no-extract", "NOTHING", "NEWO"], true),
    (&["convert", "--no-extract", "CACHE", "NOTHING", "--keys", "KEYS"], true),
    (&["convert", "--no-extract", "CACHE", "CACHE", "--keys", "KEYS"], true),
    (&["convert", "--no-extract", "CACHE", "NEWP", "--keys", "ABSENT"], true),
    (&["convert", "--no-extract", "CACHE", "NEWQ", "--keys", "NOTHING"], true),
    (&["convert", "--no-extract", "CACHE", "NEWR", "--config", "ABSENT"], true),
    (&["convert", "--no-extract", "CACHE", "NEWS", "--config", "TOML"], true),
    (&["convert", "--no-extract", "CACHE", "NEWT", "--keys", "KEYS", "--image", "HOSTILE"], true),
    (&["convert", "--no-extract", "CACHE", "NEWU", "--builder", "HOSTILE"], true),
    (&["convert", "--no-extract", "CACHE", "--builder", "HOSTILE"], true),
    (&["convert", "--no-extract", "CACHE", "--builder", "ci", "--docker-root", "ABSENT"], true),
    (&["convert", "CACHE", "NEWV", "--buildkit", "HOSTILE"], true),
    (&["convert", "CACHE", "NEWV", "--limit", "HOSTILE"], true),
    (&["convert", "CACHE", "NEWV", "--last-used", "HOSTILE"], true),
    (&["convert", "CACHE", "NEWV", "--format", "HOSTILE"], true),
    (&["convert", "--HOSTILE"], true),
    (&["HOSTILE"], true),
    (&["inspect", "CACHE", "--keys", "OTHER"], true),
    (&["inspect", "CACHE", "--keys", "KEYS", "--format=json"], true),
    (&["inspect", "CACHE", "--keys", "KEYS", "--format=svg"], true),
    (&["inspect", "CACHE", "--keys", "KEYS", "--format=dot"], true),
    (&["inspect", "CACHE", "HOSTILE"], true),
    (&["inspect", "ABSENT"], true),
    (&["inspect", "TWO"], true),
    (&["inspect", "ROOT"], true),
    (&["inspect", "ROOT", "--format=json"], true),
    (&["inspect", "ROOT", "--format=svg"], true),
    (&["inspect", "ROOT", "--format=dot"], true),
    (&["inspect", "ROOT", "--buildkit", "v0.16.0"], true),
    (&["inspect", "DAMAGED"], true),
    (&["explain", "--llb", "OTHER", "CACHE", "--keys", "KEYS"], true),
    (&["explain", "--llb", "OTHER", "CACHE", "--keys", "KEYS", "--format=json"], true),
    (&["explain", "--llb", "OTHER", "ROOT"], true),
    (&["explain", "--llb", "NOTHING", "ROOT"], true),
    (&["explain", "--llb", "ABSENT", "ROOT"], true),
    (&["du", "ROOT"], false),
    (&["du", "--verbose", "ROOT"], true),
    (&["du", "--format=json", "ROOT"], true),
    (&["du", "--filter", "HOSTILE", "ROOT"], true),
    (&["du", "DAMAGED"], false),
    (&["verify", "ROOT", "--progress=plain"], true),
    (&["verify", "ROOT", "--progress=rawjson", "--format=json"], true),
    (&["verify", "DAMAGED"], true),
    (&["verify", "DAMAGED", "--format=json"], true),
    (&["verify", "CACHE"], true),
    (&["keys", "KEYS", "--output", "OUT"], true),
    (&["keys", "KEYS", "--output", "-"], false),
    (&["keys", "KEYS", "--output", "CACHE"], true),
    (&["keys", "OTHER", "--output", "-"], false),
    (&["keys", "ABSENT", "--output", "-"], true),
    (&["keys", "NOTHING", "--output", "-"], true),
    (&["keys", "attach", "CACHE", "--keys", "KEYS"], true),
    (&["keys", "attach", "CACHE", "--keys", "OTHER"], true),
    (&["keys", "attach", "CACHE", "--keys", "KEYS", "--tag", "HOSTILE"], true),
    (&["keys", "attach", "TWO", "--keys", "KEYS"], true),
    (&["man", "ABSENT"], true),
    (&["completions", "HOSTILE"], true),
];

#[test]
fn what_is_hostile_comes_out_of_no_command_as_it_is() {
    let world = World::new();
    let mut odd = Vec::new();
    for (words, shows) in RUNS {
        let Output { status, stdout, stderr } = world.run(words);
        let what = words.join(" ");
        // A panic has its own exit code.
        assert!(status.code().is_some_and(|code| code < 100), "{what}: {status}");
        is_clean(&stdout, &format!("stdout of {what}"));
        is_clean(&stderr, &format!("stderr of {what}"));
        if (has_escapes(&stdout) || has_escapes(&stderr)) != *shows {
            let [stdout, stderr] = [&stdout, &stderr].map(|text| String::from_utf8_lossy(text));
            odd.push(format!("{what}: {shows} is wrong\n{stdout}\n{stderr}"));
        }
        // JSON has the content in its usual form.
        schema::ensure_output(words.iter().map(OsStr::new), &stdout, &stderr).unwrap();
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
    let metadata = fs::read(world.path("meta")).unwrap();
    is_clean(&metadata, "the metadata file");
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    schema::ensure_valid("convert.json", &metadata).unwrap();
    assert_eq!(metadata["root"], world.path("newf").to_str().unwrap());
}

#[test]
fn one_thing_of_a_root_and_of_an_export_is_as_clean() {
    let world = World::new();
    for place in ["CACHE", "ROOT"] {
        let all = world.run(&["inspect", place, "--format=json"]);
        let all: Value = serde_json::from_slice(&all.stdout).unwrap();
        let things = if place == "ROOT" { &all["records"] } else { &all["steps"] };
        for thing in things.as_array().unwrap() {
            let id = thing["id"].as_str().or(thing["digest"].as_str()).unwrap();
            let output = world.run(&["inspect", place, id]);
            is_clean(&output.stdout, id);
            assert!(has_escapes(&output.stdout) && output.status.success(), "{output:?}");
        }
    }
}

#[test]
fn variables_are_as_clean() {
    let world = World::new();
    for variable in ["SOURCE_DATE_EPOCH", "BUILDKIT_PROGRESS"] {
        let mut command = command();
        command.args(["convert", "--no-extract"]).args([world.path("cache"), world.path("new")]);
        let output = command.env(variable, HOSTILE).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        is_clean(&output.stderr, variable);
        assert!(has_escapes(&output.stderr), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn bars_have_nothing_but_what_draws_them() {
    let world = World::new();
    let mut command = command();
    command.args(["convert", "--no-extract"]).args([world.path("cache"), world.path("new")]);
    let shown = super::output::on_a_terminal(command.arg("--keys").arg(world.path("keys")));
    // Bars move the cursor, which requires escapes and line feeds.
    let raw: Vec<_> = shown.chars().filter(|&c| is_hostile(c) && !"\u{1b}\r".contains(c)).collect();
    assert!(raw.is_empty() && !shown.contains("\u{1b}]"), "{raw:?} in {shown:?}");
    assert!(shown.contains("\\u{1b}]0;pwn"), "{shown:?}");
}

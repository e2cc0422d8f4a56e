//! Tests the bolt module against Go's bbolt: each reads, checks and continues the other's files.
//!
//! Databases are described by scripts of operations, which `bolt-interop/main.go` runs with bbolt and
//! [`model`] runs on a [`Tree`]. Without Go these tests are skipped, except for the one that reads the
//! databases in `bolt-data/`; with `OCI2BK_REQUIRE_ORACLE` they fail instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may panic, and says why it was skipped"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use bkstate::bolt::{Db, MAX_KEY_BYTES, Node, Tree, WriteError, check, write};
use bkstate::digest::Hasher;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// The Go program, built once; `None` without Go.
fn go_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        if let Err(error) = Command::new("go").arg("version").output() {
            let reason = format!("Go cannot be run ({error}), so nothing was compared with bbolt");
            assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bolt-interop");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).arg(".").current_dir(format!("{HERE}/bolt-interop"));
        assert!(go.status().unwrap().success(), "the Go program does not build");
        Some(program)
    };
    PROGRAM.get_or_init(build).as_deref()
}

/// Runs the Go program and returns its output.
fn go(args: &[&str], file: &Path, input: &str) -> String {
    let mut child = Command::new(go_program().unwrap())
        .args(args)
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs `script` on the databases in `tree`.
fn run_script(tree: &mut Tree, script: &str) {
    let mut path: Vec<Vec<u8>> = Vec::new();
    for line in script.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let bucket = path.iter().fold(&mut *tree, |bucket, key| {
            let Some(Node::Bucket(inner)) = bucket.entries.get_mut(key) else {
                panic!("{line}: not a bucket")
            };
            inner
        });
        match *words {
            ["enter", key] => {
                bucket.entries.entry(unhex(key)).or_insert(Node::Bucket(Tree::default()));
                path.push(unhex(key));
            }
            ["leave"] => drop(path.pop()),
            ["sequence", number] => bucket.sequence = number.parse().unwrap(),
            ["put", key, byte, length] => {
                let value = vec![byte.parse().unwrap(); length.parse().unwrap()];
                bucket.entries.insert(unhex(key), Node::Value(value));
            }
            ["delete" | "drop", key] => {
                bucket.entries.remove(&unhex(key)).expect(line);
            }
            ["commit"] => path.clear(),
            _ => panic!("{line}: unknown operation"),
        }
    }
}

fn model(script: &str) -> Tree {
    let mut tree = Tree::default();
    run_script(&mut tree, script);
    tree
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(key: impl AsRef<[u8]>) -> String {
    key.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Returns the output of `bolt-interop hash` for a database with this content.
fn hash(tree: &Tree) -> String {
    fn add(tree: &Tree, hasher: &mut Hasher) {
        hasher.update(&tree.sequence.to_le_bytes());
        let sized = |tag: &[u8], bytes: &[u8], hasher: &mut Hasher| {
            hasher.update(tag);
            hasher.update(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            hasher.update(bytes);
        };
        for (key, node) in &tree.entries {
            match node {
                Node::Value(value) => {
                    sized(b"v", key, hasher);
                    sized(b"", value, hasher);
                }
                Node::Bucket(inner) => {
                    sized(b"b", key, hasher);
                    add(inner, hasher);
                }
            }
        }
        hasher.update(b"e");
    }
    let mut hasher = Hasher::new();
    add(tree, &mut hasher);
    hasher.finish().hex()
}

fn read(path: &Path) -> Tree {
    let db = Db::open(File::open(path).unwrap()).unwrap();
    let problems = check(&db);
    assert!(problems.is_empty(), "{problems:?}");
    Tree::read(&db.root()).unwrap()
}

fn write_file(path: &Path, tree: &Tree) {
    let file = File::create_new(path).unwrap();
    write(&file, |root| tree.write(root)).unwrap();
}

/// Asserts that bbolt finds `path` sound and sees `tree` in it.
#[track_caller]
fn assert_go_sees(path: &Path, tree: &Tree) {
    go(&["check"], path, "");
    assert_eq!(go(&["hash"], path, ""), hash(tree));
}

/// Everything in the format: small and large values, long keys, two thousand buckets with sequences, inline
/// and not, an empty bucket, and nested buckets.
fn mix() -> String {
    let mut script = String::new();
    let s = &mut script;
    writeln!(s, "enter {}\nleave\nenter {}", hex("empty"), hex("large")).unwrap();
    for n in 0..50 {
        writeln!(s, "put {} {n} {}", hex(format!("{n:02}")), 1 + n * 5000).unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("many")).unwrap();
    for n in 0..20_000 {
        writeln!(s, "put {} {} {}", hex(format!("key {n:06}")), n % 256, n % 50).unwrap();
    }
    writeln!(s, "leave\nenter {}\nsequence 2000", hex("buckets")).unwrap();
    for n in 0..2000 {
        writeln!(s, "enter {}\nsequence {}", hex(format!("bucket {n:05}")), n * n).unwrap();
        for key in 0..n % 60 {
            writeln!(s, "put {} {key} {key}", hex([key as u8])).unwrap();
        }
        writeln!(s, "leave").unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("long")).unwrap();
    for n in 0..20_u8 {
        writeln!(s, "put {} {n} {n}", hex(vec![n; MAX_KEY_BYTES])).unwrap();
    }
    writeln!(s, "sequence {}\nleave", u64::MAX).unwrap();
    for n in 0..20 {
        writeln!(s, "enter {}\nsequence {n}", hex([n as u8])).unwrap();
    }
    writeln!(s, "commit").unwrap();
    script
}

/// Three transactions on [`mix`]: insertions into full pages, deletions that empty pages and merge
/// others, buckets that grow out of their element and that shrink into it.
fn edits() -> String {
    let mut script = String::new();
    let s = &mut script;
    writeln!(s, "enter {}", hex("many")).unwrap();
    for n in (0..20_000).step_by(7) {
        writeln!(s, "put {} 1 30", hex(format!("key {n:06}+"))).unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("buckets")).unwrap();
    for n in (0..2000).step_by(5) {
        writeln!(s, "enter {}\nput ff 1 900\nleave", hex(format!("bucket {n:05}"))).unwrap();
    }
    writeln!(s, "commit\nenter {}", hex("many")).unwrap();
    for n in (0..20_000).filter(|n| n % 7 != 0 && (n / 1000 % 2 == 0 || n % 3 == 0)) {
        writeln!(s, "delete {}", hex(format!("key {n:06}"))).unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("buckets")).unwrap();
    for n in (0..2000).step_by(6) {
        writeln!(s, "drop {}", hex(format!("bucket {n:05}"))).unwrap();
    }
    for n in (25..2000).step_by(30) {
        writeln!(s, "enter {}\ndelete ff\nleave", hex(format!("bucket {n:05}"))).unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("large")).unwrap();
    for n in (0..50).step_by(2) {
        writeln!(s, "delete {}", hex(format!("{n:02}"))).unwrap();
    }
    writeln!(s, "commit\nenter {}\nsequence 7", hex("new")).unwrap();
    for n in 0..3000 {
        writeln!(s, "put {} 9 100", hex(format!("{n}"))).unwrap();
    }
    writeln!(s, "leave\nenter {}", hex("large")).unwrap();
    writeln!(s, "put {} 3 246000\ncommit", hex("50")).unwrap();
    script
}

#[test]
fn bbolt_reads_checks_and_edits_what_we_write() {
    if go_program().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.db");
    let mut tree = model(&mix());
    write_file(&path, &tree);
    assert_go_sees(&path, &tree);

    go(&["apply"], &path, &edits());
    run_script(&mut tree, &edits());
    assert_go_sees(&path, &tree);
    assert!(read(&path) == tree);
}

#[test]
fn we_read_what_bbolt_writes() {
    if go_program().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = mix() + &edits();
    let tree = model(&script);
    for (page_size, no_freelist_sync) in
        [("4096", false), ("4096", true), ("1024", false), ("16384", false), ("65536", false)]
    {
        let path = dir.path().join(format!("{page_size}-{no_freelist_sync}.db"));
        let mut args = vec!["apply", "-page-size", page_size];
        args.extend(no_freelist_sync.then_some("-no-freelist-sync"));
        go(&args, &path, &script);
        let db = Db::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(db.page_size().to_string(), page_size);
        assert!(read(&path) == tree, "{args:?}");
        assert_eq!(go(&["hash"], &path, ""), hash(&tree), "{args:?}");

        // The first meta page is invalid: the second is found at any page size.
        let mut bytes = fs::read(&path).unwrap();
        bytes[..80].fill(0);
        fs::write(&path, bytes).unwrap();
        let db = Db::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(db.page_size().to_string(), page_size);
    }
}

#[test]
fn an_empty_database_is_the_same_to_the_byte() {
    if go_program().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours.db"), dir.path().join("theirs.db"));
    write_file(&ours, &Tree::default());
    go(&["apply"], &theirs, "");
    assert!(fs::read(ours).unwrap() == fs::read(theirs).unwrap());
}

#[test]
fn bbolt_can_empty_trees_of_ours_key_by_key() {
    if go_program().is_none() {
        return;
    }
    // bbolt panics when it merges a page whose parent has no other child, so every shape of branch page that
    // the end of a level can produce must survive this.
    let dir = tempfile::tempdir().unwrap();
    for count in [1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 17] {
        let path = dir.path().join(format!("{count}.db"));
        // Two or three of these fill a branch page, so few keys make a high tree.
        let keys: Vec<_> =
            (0..count).map(|n| [[n as u8].as_slice(), &[0; 2000]].concat()).collect();
        let puts =
            keys.iter().fold(String::new(), |s, key| s + &format!("put {} 1 3000\n", hex(key)));
        write_file(&path, &model(&format!("enter 62\n{puts}")));
        for backwards in [false, true] {
            let copy = dir.path().join(format!("{count}-{backwards}.db"));
            fs::copy(&path, &copy).unwrap();
            let mut order: Vec<_> = keys.iter().collect();
            if backwards {
                order.reverse();
            }
            let deletions = order.iter().fold(String::new(), |s, key| {
                s + &format!("enter 62\ndelete {}\ncommit\n", hex(key))
            });
            go(&["apply"], &copy, &deletions);
            assert_go_sees(&copy, &model("enter 62"));
            assert!(read(&copy) == model("enter 62"));
        }
    }
}

#[test]
fn freelists_of_more_than_65534_pages_are_read() {
    if go_program().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("freelist.db");
    let script = "enter 62\nput 6b 1 70000000\ncommit\nenter 62\ndelete 6b\ncommit\n";
    go(&["apply", "-page-size", "1024"], &path, script);
    assert!(read(&path) == model("enter 62"));
}

#[test]
fn databases_that_bbolt_wrote_are_read_without_go() {
    // `bolt-data/make.sh` made each of them from a script.
    for (name, script, page_size) in [
        ("mixed.db", "mixed.ops", 4096),
        ("no-freelist.db", "mixed.ops", 4096),
        ("small-pages.db", "small-pages.ops", 1024),
    ] {
        let path = PathBuf::from(format!("{HERE}/bolt-data/{name}"));
        let script = fs::read_to_string(format!("{HERE}/bolt-data/{script}")).unwrap();
        let db = Db::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(db.page_size(), page_size, "{name}");
        assert!(read(&path) == model(&script), "{name}");
    }
}

#[test]
fn errors_of_callers_pass_through() {
    #[derive(Debug, thiserror::Error)]
    enum Mine {
        #[error(transparent)]
        Write(#[from] WriteError),
        #[error("not a bolt error")]
        Other,
    }
    let dir = tempfile::tempdir().unwrap();
    let file = File::create_new(dir.path().join("db")).unwrap();
    let result = write(&file, |root| root.bucket(b"b", |_| Err(Mine::Other)));
    let error = result.unwrap_err();
    assert!(matches!(error, Mine::Other), "{error}");
    assert_eq!(error.to_string(), "not a bolt error");
}

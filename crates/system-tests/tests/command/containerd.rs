//! States in the roots of a buildkitd and of a containerd.

use std::collections::BTreeMap;
use std::fs::{self, File};

use bkstate::bolt::{self, Db, Node, Tree};
use bkstate::varint::encode_unsigned;
use rustix::fs::{FlockOperation, flock};

use super::*;

const METADATA: &str = "containerd/io.containerd.metadata.v1.bolt/meta.db";

/// A place with the directories of both daemons in it, which do not exist yet.
struct Pair(Place);

impl Pair {
    fn new() -> Self {
        Self(Place::new())
    }

    fn containerd(&self) -> PathBuf {
        self.0.temp.path().join("containerd")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.temp.path().join(name)
    }

    /// Returns a command on the pair.
    fn run(&self, words: &[&str]) -> Command {
        let mut command = command();
        command.args(words).arg(self.0.root()).arg("--containerd-root").arg(self.containerd());
        command
    }

    fn convert(&self, words: &[&str]) -> Command {
        let mut command = self.run(&["convert", "--no-extract"]);
        command.args(index()).args(words);
        // The last word is the root.
        let root = self.0.root();
        let mut ordered = super::command();
        let words = command.get_args().filter(|word| *word != root.as_os_str());
        ordered.args(words).arg(&root);
        ordered
    }

    fn metadata(&self) -> Tree {
        read(&self.path(METADATA))
    }

    /// Changes the metadata of the stopped containerd.
    fn change(&self, change: impl FnOnce(&mut Tree)) {
        let mut tree = if self.path(METADATA).exists() { self.metadata() } else { Tree::default() };
        change(below(&mut tree, &["v1"]));
        fs::create_dir_all(self.path(METADATA).parent().unwrap()).unwrap();
        let file = File::create(self.path(METADATA)).unwrap();
        bolt::write(&file, |root| tree.write(root)).unwrap();
    }
}

/// Makes the image of a machine that has a dockerd with this BuildKit, and returns the options for its engine.
pub(crate) fn machine(root: &Path, buildkit: &str) -> Vec<String> {
    let string = |text: &[u8]| [encode_unsigned(text.len() as u64), text.to_vec()].concat();
    let mut program = b"\xff Go buildinf:\x08\x02".to_vec();
    program.resize(32, 0);
    program.extend(string(b"go1.26.1"));
    let modules = format!("dep\tgithub.com/moby/buildkit\t{buildkit}\th1:x=\n");
    program.extend(string(&[&[0xff; 16], modules.as_bytes(), &[0xff; 16]].concat()));
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/dockerd"), program).unwrap();
    let data = root.join("var/lib");
    fs::create_dir_all(&data).unwrap();
    ["--engine".to_owned()]
        .into_iter()
        .chain(
            [("docker-root", "docker"), ("containerd-root", "containerd")]
                .map(|(option, name)| format!("--{option}={}", data.join(name).display())),
        )
        .collect()
}

fn read(path: &Path) -> Tree {
    Tree::read(&Db::open(File::open(path).unwrap()).unwrap().root()).unwrap()
}

/// Returns the bucket at `path`, which is created if it is missing.
fn below<'t>(tree: &'t mut Tree, path: &[&str]) -> &'t mut Tree {
    path.iter().fold(tree, |tree, name| {
        let entry = tree.entries.entry((*name).into());
        match entry.or_insert_with(|| Node::Bucket(Tree::default())) {
            Node::Bucket(bucket) => bucket,
            Node::Value(value) => panic!("{name} has the value {value:?}"),
        }
    })
}

fn bucket(entries: &[(&str, Node)]) -> Node {
    let entries = entries.iter().map(|(key, node)| ((*key).into(), node.clone()));
    Node::Bucket(Tree { sequence: 3, entries: entries.collect() })
}

fn value(bytes: &[u8]) -> Node {
    Node::Value(bytes.to_vec())
}

/// What another program, and a later release of it, can have in the file.
fn foreign() -> BTreeMap<Vec<u8>, Node> {
    let blob = bucket(&[("sha512:no digest of ours", bucket(&[("size", value(b"many"))]))]);
    let other = bucket(&[
        ("content", bucket(&[("blob", blob)])),
        ("leases", bucket(&[])),
        ("sandboxes", bucket(&[("s", value(b"\0\xff"))])),
    ]);
    [(b"k8s.io".to_vec(), other)].into()
}

#[test]
fn every_file_is_where_the_daemons_have_it() {
    let pair = Pair::new();
    Printed::of(&mut pair.convert(&[]), 0);
    let names = pair.0.names();
    for name in [
        "root/cache.db",
        "root/containerd-overlayfs/metadata_v2.db",
        "root/containerd-overlayfs/workerid",
        METADATA,
        "containerd/io.containerd.content.v1.content/blobs/sha256",
        "containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} is not in {names:#?}");
    }
    assert!(!names.iter().any(|name| name.contains("runc-") || name.contains("staging")));
    assert!(!format!("{:?}", pair.metadata()).contains("oci2bk"), "a label is left");
    Printed::of(&mut pair.run(&["verify"]), 0);
    let root = pair.0.root();
    let listed = Printed::of(&mut pair.run(&["du"]), 0).stdout;
    assert!(listed.lines().count() > 13, "{listed}");
    let json = Printed::of(pair.run(&["inspect"]).arg("--format=json"), 0).json();
    assert_eq!(json["records"].as_array().unwrap().len(), 13);
    let llb = fixture("index/keys/provenance.json");
    let explained =
        Printed::of(pair.run(&["explain", "--llb", &llb]).arg("--format=json"), 0).json();
    assert!(explained[0]["steps"].as_array().unwrap().len() > 5, "{explained:#}");

    // Without the option it is no state that the command knows.
    let mut alone = command();
    let refused = Printed::of(alone.arg("verify").arg(&root), 1);
    refused.says(&["containerd-overlayfs", "--containerd-root", "--engine"]);
}

#[test]
fn another_namespace_is_another_place() {
    let pair = Pair::new();
    Printed::of(&mut pair.convert(&["--containerd-namespace", "ci"]), 0);
    let mut metadata = pair.metadata();
    let v1 = below(&mut metadata, &["v1"]);
    assert!(
        v1.entries.contains_key(b"ci".as_slice())
            && !v1.entries.contains_key(b"buildkit".as_slice())
    );
    let before = pair.0.names();
    let refused = Printed::of(&mut pair.convert(&[]), 1);
    refused.says(&["namespace \"ci\"", "not in \"buildkit\"", "--containerd-namespace ci"]);
    assert_eq!(pair.0.names(), before);
}

#[test]
fn what_others_have_stays_as_it_is() {
    let pair = Pair::new();
    pair.change(|v1| {
        v1.entries.extend(foreign());
        v1.entries.insert(b"version".to_vec(), value(&[6]));
        // In the namespace of the builder, too.
        let ours = below(v1, &["buildkit"]);
        ours.entries
            .insert(b"images".to_vec(), bucket(&[("a", bucket(&[("later", value(b"x"))]))]));
        let leases = below(ours, &["leases"]);
        let writable = bucket(&[("overlayfs", bucket(&[("container", value(b""))]))]);
        leases.entries.insert(b"container".to_vec(), bucket(&[("snapshots", writable)]));
        leases.sequence = 5;
    });
    let before = pair.metadata();
    Printed::of(&mut pair.convert(&[]), 0);
    let mut after = pair.metadata();
    ensure_kept(&before, &after);
    let v1 = below(&mut after, &["v1"]);
    assert_eq!(v1.entries[b"version".as_slice()], value(&[6]), "an upgrade would be skipped");
    // A second run finds everything, and writes nothing.
    let bytes = fs::read(pair.path(METADATA)).unwrap();
    let again = Printed::of(pair.convert(&[]).arg("--format=json"), 0).json();
    assert_eq!(again["shares"]["records"]["added_count"], 0);
    assert_eq!(fs::read(pair.path(METADATA)).unwrap(), bytes);
}

/// Asserts that `after` has everything in `before`.
fn ensure_kept(before: &Tree, after: &Tree) {
    assert!(after.sequence >= before.sequence);
    for (key, node) in &before.entries {
        let found = &after.entries[key];
        match (node, found) {
            (Node::Bucket(old), Node::Bucket(new)) => ensure_kept(old, new),
            _ => assert_eq!(node, found, "{}", key.escape_ascii()),
        }
    }
}

#[test]
fn what_is_not_the_root_of_a_containerd_is_refused_before_anything_is_written() {
    for (file, said) in [
        ("containerd/containerd.sock", "the state directory of a containerd"),
        ("containerd/notes", "not the root of a containerd"),
    ] {
        let pair = Pair::new();
        fs::create_dir(pair.containerd()).unwrap();
        fs::write(pair.path(file), "").unwrap();
        let before = pair.0.names();
        Printed::of(&mut pair.convert(&[]), 1).says(&[said, "/var/lib/containerd"]);
        Printed::of(&mut pair.convert(&["--dry-run"]), 1).says(&[said]);
        assert_eq!(pair.0.names(), before);
    }
}

#[test]
fn metadata_of_a_later_release_is_refused() {
    let pair = Pair::new();
    pair.change(|v1| drop(v1.entries.insert(b"version".to_vec(), value(&[10]))));
    let bytes = fs::read(pair.path(METADATA)).unwrap();
    Printed::of(&mut pair.convert(&[]), 1)
        .says(&["meta.db has the version 5", "it was not changed"]);
    assert_eq!(fs::read(pair.path(METADATA)).unwrap(), bytes);
    assert!(!pair.path("root/cache.db").exists());
}

#[test]
fn a_running_containerd_is_named() {
    let pair = Pair::new();
    Printed::of(&mut pair.convert(&[]), 0);
    let metadata = File::open(pair.path(METADATA)).unwrap();
    flock(&metadata, FlockOperation::NonBlockingLockExclusive).unwrap();
    let holder = format!("process {} (", std::process::id());
    for words in [&["verify"][..], &["du"], &["inspect"]] {
        Printed::of(&mut pair.run(words), 6).says(&["meta.db is in use by", &holder]);
    }
    Printed::of(&mut pair.convert(&[]), 6).says(&["meta.db is in use by", &holder]);
    // Also for a daemon that has no root yet.
    fs::rename(pair.0.root(), pair.path("other")).unwrap();
    for words in [&[][..], &["--dry-run"]] {
        Printed::of(&mut pair.convert(words), 6).says(&["meta.db is in use by", &holder]);
    }
    assert!(!pair.0.root().exists());
}

#[test]
fn the_plan_of_a_new_daemon_counts_what_its_containerd_has() {
    let pair = Pair::new();
    Printed::of(&mut pair.convert(&[]), 0);
    fs::rename(pair.0.root(), pair.path("other")).unwrap();
    let planned = Printed::of(&mut pair.convert(&["--dry-run", "--format=json"]), 0).json();
    assert!(!pair.0.root().exists());
    let converted = Printed::of(&mut pair.convert(&["--format=json"]), 0).json();
    assert_eq!(planned["shares"], converted["shares"]);
    assert_eq!(planned["shares"]["blobs"]["added_count"], 0, "{:#}", planned["shares"]);
    assert_eq!(planned["shares"]["steps"]["existing_count"], 0, "{:#}", planned["shares"]);
}

#[test]
fn a_root_with_the_oci_worker_alone_is_not_the_other_daemons() {
    let pair = Pair::new();
    Printed::of(&mut convert(index(), &pair.0), 0);
    let refused = Printed::of(&mut pair.convert(&[]), 1);
    refused.says(&[
        "holds the state of another worker (runc-overlayfs)",
        "the containerd worker on overlayfs",
    ]);
    assert!(!pair.path(METADATA).exists());
}

#[test]
fn the_configuration_of_containerd_says_where_it_has_its_data() {
    let pair = Pair::new();
    let config = pair.path("config.toml");
    let text = format!(
        "root = {:?}\n[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = {:?}\n",
        pair.path("data"),
        pair.path("fast"),
    );
    fs::write(&config, text).unwrap();
    let mut convert = command();
    convert.args(["convert", "--no-extract"]).args(index()).arg("--containerd-config").arg(&config);
    Printed::of(convert.arg(pair.0.root()), 0);
    let names = pair.0.names();
    for name in ["data/io.containerd.metadata.v1.bolt/meta.db", "fast/metadata.db"] {
        assert!(names.contains(&name.to_owned()), "{name} is not in {names:#?}");
    }
}

#[test]
fn the_configuration_of_an_image_names_places_in_the_image() {
    let pair = Pair::new();
    let image = pair.path("image");
    fs::create_dir_all(image.join("etc/containerd")).unwrap();
    fs::create_dir_all(image.join("var/lib")).unwrap();
    let config = image.join("etc/containerd/config.toml");
    fs::write(&config, "root = '/var/lib/linked'\n").unwrap();
    std::os::unix::fs::symlink("/data", image.join("var/lib/linked")).unwrap();
    let mut convert = command();
    convert.args(["convert", "--no-extract"]).args(index()).arg("--containerd-config").arg(&config);
    Printed::of(convert.arg(image.join("var/lib/buildkit")), 0);
    assert!(image.join("data/io.containerd.metadata.v1.bolt/meta.db").exists());
}

#[test]
fn an_image_with_a_tag_gets_its_name_in_the_image_store() {
    let pair = Pair::new();
    let name = "docker.io/library/debian:12";
    let image = format!("--image=debian:12={}", fixture("manifest/keys/image"));
    let planned = Printed::of(&mut pair.convert(&[&image, "--dry-run"]), 0).stdout;
    let containerd =
        format!("the namespace buildkit of the containerd in {}", pair.containerd().display());
    let lines = [containerd, format!("the image {name}")];
    assert!(lines.iter().all(|line| planned.contains(line)), "{planned}");
    assert!(!pair.path(METADATA).exists());
    let json = Printed::of(&mut pair.convert(&[&image, "--dry-run", "--format=json"]), 0).json();
    assert_eq!(json["containerd"]["namespace"], "buildkit");
    let report = Printed::of(&mut pair.convert(&[&image]), 0).stdout;
    assert!(lines.iter().all(|line| report.contains(line)), "{report}");
    let mut metadata = pair.metadata();
    let store = below(&mut metadata, &["v1", "buildkit", "images"]);
    assert_eq!(store.entries.keys().collect::<Vec<_>>(), [name.as_bytes()]);
    let bytes = fs::read(pair.path(METADATA)).unwrap();
    Printed::of(&mut pair.convert(&[&image]), 0);
    assert_eq!(fs::read(pair.path(METADATA)).unwrap(), bytes);

    // Nobody's image is taken away.
    pair.change(|v1| {
        let target = below(v1, &["buildkit", "images", name, "target"]);
        target.entries.insert(b"digest".to_vec(), value(b"sha256:another"));
    });
    let bytes = fs::read(pair.path(METADATA)).unwrap();
    for words in [&[&*image][..], &[&image, "--dry-run"]] {
        let refused = Printed::of(&mut pair.convert(words), 1);
        refused.says(&["has another image", name, "sha256:another", "remove it first"]);
    }
    assert_eq!(fs::read(pair.path(METADATA)).unwrap(), bytes);
}

#[test]
fn the_release_in_an_engine_is_recognised() {
    let place = Place::new();
    let root = place.temp.path().join("machine");
    let run = |buildkit: &str, words: &[&str], code| {
        let mut convert = command();
        convert.args(["convert", "--no-extract", "--dry-run"]).args(index()).args(words);
        Printed::of(convert.args(machine(&root, buildkit)), code)
    };
    let program = root.join("usr/bin/dockerd");
    let shown = run("v0.33.1", &[], 0).stdout;
    let lines = [
        format!("for BuildKit v0.33.1, which {} contains", program.display()),
        format!(
            "the namespace moby of the containerd in {}",
            root.join("var/lib/containerd").display()
        ),
    ];
    assert!(lines.iter().all(|line| shown.contains(line)), "{shown}");
    for (version, words, release, is_known) in [
        ("v0.33.1", &[][..], "v0.33.1", true),
        ("v0.32.0-rc1.0.20260901104222-dd6c5499c491", &[], "v0.32.0", true),
        ("v0.33.1", &["--buildkit=v0.31.2"], "v0.31.2", false),
        ("v9.0.0", &["--buildkit=v0.31.2"], "v0.31.2", false),
    ] {
        let json = run(version, &[words, &["--format=json"]].concat(), 0).json();
        assert_eq!(json["buildkit"], release);
        assert_eq!(json["dockerd"].as_str().is_some(), is_known);
        assert_eq!(json["root"], root.join("var/lib/docker/buildkit").to_str().unwrap());
    }
    for version in ["v9.0.0", "(devel)"] {
        // The release does not matter to what is there.
        let mut verify = command();
        Printed::of(verify.arg("verify").args(machine(&root, version)), 1)
            .says(&["cannot open the root"]);
        let refused = run(version, &[], 1);
        refused.says(&["dockerd contains BuildKit", version, "--buildkit"]);
    }
}

#[test]
fn an_engine_in_an_image_of_a_machine_has_its_containerd_there() {
    let place = Place::new();
    let root = place.temp.path();
    let run = |docker_root: &str, code| {
        let mut convert = command();
        convert.args(["convert", "--no-extract", "--dry-run", "--buildkit=v0.33.1"]).args(index());
        convert.arg("--engine").arg("--docker-root").arg(root.join(docker_root));
        Printed::of(&mut convert, code)
    };
    let found = format!("the containerd in {}", root.join("var/lib/containerd").display());
    let shown = run("var/lib/docker", 0).stdout;
    assert!(shown.contains(&found), "{shown}");
    run("docker", 1).says(&["neither that of this machine", "--containerd-root"]);
}

#[test]
fn an_image_with_a_tag_has_to_be_whole() {
    let pair = Pair::new();
    let image = format!("--image=debian:12={}", fixture("manifest/keys/image"));
    let refused = Printed::of(&mut pair.convert(&[&image, "--platform=linux/s390x"]), 3);
    refused.says(&["has no image for linux/s390x"]);
    assert!(pair.0.names().is_empty());
}

#[test]
fn the_oci_worker_has_no_image_store() {
    let place = Place::new();
    let image = format!("--image=debian:12={}", fixture("manifest/keys/image"));
    let mut convert = convert(index(), &place);
    let printed = Printed::of(convert.arg(image), 0);
    printed.says(&["has no image store", "FROM docker.io/library/debian:12 asks the registry"]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let pair = Pair::new();
    for words in [
        &["--engine", "--builder", "ci"][..],
        &["--engine", "--config", "c"],
        &["--engine", "--containerd-namespace", "n", "--containerd-root", "d"],
        &["--containerd-namespace", "n"],
        &["--docker-root", "d"],
        &["--builder", "ci", "--containerd-root", "d"],
    ] {
        let mut convert = command();
        Printed::of(convert.arg("convert").arg(fixture("index/cache")).args(words), 2);
        assert!(pair.0.names().is_empty());
    }
    let mut verify = command();
    let words = ["verify", "--engine", "--trees", "--mend"];
    Printed::of(verify.args(words), 2).says(&["--mend", "--engine"]);
}

//! `examples/kubernetes`: validated by the schemas of Kubernetes and of volume snapshots; its pods run in Podman, with images
//! that have the programs of the real ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::XattrFlags;
use serde_json::{Value, json};
use testkit::process::run;
use testkit::tools::on_path;

use crate::podman::{Podman, pod_of};
use crate::world::{PLACEHOLDER, World, example};

const EXAMPLE: &str = "kubernetes";

/// The name of the state in the recipes.
const STATE: &str = "registry.example.com/team/app-state:latest";

/// The files, and the kinds of objects in each.
const FILES: [(&str, &[&str]); 4] = [
    ("rootful.yaml", &["ConfigMap", "Deployment"]),
    ("rootless.yaml", &["Deployment"]),
    ("state.yaml", &["Deployment"]),
    ("volume.yaml", &["PersistentVolumeClaim", "Job", "VolumeSnapshot", "Service", "StatefulSet"]),
];

/// Validates each object of a file, and prints them. Arguments: the file, the definition of volume snapshots.
const VALIDATE: &str = r#"
import json, sys, jsonschema, kubernetes_validate, yaml
def strict(schema):
    known = {name: strict(of) for name, of in schema.get("properties", {}).items()}
    return {**schema, "properties": known, "additionalProperties": False} if known else schema
snapshots = yaml.safe_load(open(sys.argv[2]))
objects = list(yaml.safe_load_all(open(sys.argv[1])))
for thing in objects:
    group, _, version = thing["apiVersion"].rpartition("/")
    if group == snapshots["spec"]["group"]:
        [schema] = [it["schema"]["openAPIV3Schema"] for it in snapshots["spec"]["versions"] if it["name"] == version]
        assert thing["kind"] == snapshots["spec"]["names"]["kind"]
        jsonschema.validate(thing["spec"], strict(schema["properties"]["spec"]))
    else:
        kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)
json.dump(objects, sys.stdout)
"#;

const PATH: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Capabilities of Linux, by number.
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// The user of the rootless image.
const USER: u32 = 1000;

pub(crate) fn prove(world: &World) -> Result<()> {
    for (program, package) in
        [("podman", "podman"), ("catatonit", "catatonit"), ("newuidmap", "uidmap")]
    {
        on_path(program, package).map_err(anyhow::Error::msg)?;
    }
    let [rootful, rootless, state, volume] = FILES.map(|(file, kinds)| objects(world, file, kinds));
    ensure!(invalid_is_refused(world)?, "an object with an unknown member is valid");
    let dir = tempfile::Builder::new().prefix("kubernetes").tempdir_in(world.scratch())?;
    let podman = Podman::new(dir.path().join("podman"))?;
    make_images(world, &podman, dir.path())?;
    push_state(world, dir.path())?;

    let workers = ["buildctl", "debug", "workers"];
    for (name, objects, socket) in [
        ("rootful", rootful?, "/run/buildkit/buildkitd.sock"),
        ("rootless", rootless?, "/run/user/1000/buildkit/buildkitd.sock"),
        ("state", state?, "/run/buildkit/buildkitd.sock"),
    ] {
        // A pod in place of the deployment: how that is named depends on the release of Podman.
        let is_deployment = |object: &Value| object["kind"] == "Deployment";
        let objects = objects
            .iter()
            .map(|it| if is_deployment(it) { pod_of(it, "builder") } else { it.clone() });
        podman.play(name, &objects.collect::<Vec<_>>())?;
        let container = podman.running("builder-buildkitd", &workers)?;
        world.ensure_cached_at(&container.outside(socket)).context(name)?;
        podman.stop("builder")?;
    }

    let volume = volume?;
    let of_kind =
        |kind: &str| volume.iter().find(|object| object["kind"] == kind).context("an object");
    let claim = of_kind("PersistentVolumeClaim")?;
    let job = pod_of(of_kind("Job")?, "job");
    podman.play("job", &[claim.clone(), job])?;
    let said = podman.ended("job-verify")?;
    ensure!(said.contains("/state/buildkit is sound"), "{said}");
    podman.stop("job")?;
    // The volume itself stands for its clone.
    let set = of_kind("StatefulSet")?;
    ensure!(set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "state", "{set}");
    let mut builder = pod_of(set, "builder");
    builder["spec"]["volumes"] = json!([{"name": "state", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}]);
    podman.play("builder", &[builder])?;
    let container = podman.running("builder-buildkitd", &workers)?;
    world.ensure_cached_at(&container.outside("/run/buildkit/buildkitd.sock"))?;
    podman.stop("builder")
}

/// Returns the name of the state in the registry.
fn state_of(world: &World) -> String {
    format!("{}/team/app-state:latest", world.registry())
}

/// Exports the state of the cache in the registry, and pushes it.
fn push_state(world: &World, dir: &Path) -> Result<()> {
    let regctl = || {
        let mut command = Command::new(world.tools.copier("regctl"));
        command.env("HOME", dir);
        command
    };
    run(regctl().args(["registry", "set", "--skip-check", "--tls", "disabled", world.registry()]))?;
    let place = |name: &str| format!("ocidir://{}:latest", dir.join(name).display());
    let mut fetch = regctl();
    run(fetch.args(["image", "copy", "--referrers", &world.cache(), &place("cache")]))?;
    let root = dir.join("state-root");
    let mut convert = Command::new(&world.tools.oci2bk);
    run(convert.args(["convert", "--progress=plain"]).arg(dir.join("cache")).arg(&root))?;
    let to = format!("oci:{}:latest", dir.join("state").display());
    let mut export = Command::new(&world.tools.oci2bk);
    run(export.args(["state", "export", "--progress=plain", "--to", &to]).arg(&root))?;
    run(regctl().args(["image", "copy", &place("state"), &state_of(world)])).map(drop)
}

/// Returns the objects in a file, with our registry in place of the placeholder. Fails if one is not valid.
fn objects(world: &World, file: &str, kinds: &[&str]) -> Result<Vec<Value>> {
    let path = example(EXAMPLE).join(file);
    let text = fs::read_to_string(&path)?;
    let objects = validated(world, &text).with_context(|| file.to_owned())?;
    let found: Vec<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    ensure!(found == kinds, "{file} has {found:?}");
    let filled = text.replace(PLACEHOLDER, &world.cache()).replace(STATE, &state_of(world));
    ensure!(filled != text, "the cache has another name in {file}");
    validated(world, &filled)
}

fn validated(world: &World, text: &str) -> Result<Vec<Value>> {
    let dir = tempfile::tempdir_in(world.scratch())?;
    let file = dir.path().join("objects.yaml");
    fs::write(&file, text)?;
    let snapshots = world.tool("kubernetes/volumesnapshots.yaml")?;
    let python = world.tool("python/bin/python")?;
    let json = run(Command::new(python).args(["-c", VALIDATE]).arg(file).arg(snapshots))?;
    Ok(serde_json::from_str(&json)?)
}

/// Returns whether the validation finds a word that Kubernetes does not know, of each kind of schema.
fn invalid_is_refused(world: &World) -> Result<bool> {
    let text = fs::read_to_string(example(EXAMPLE).join("volume.yaml"))?;
    let wrong = [
        ("backoffLimit: 2", "backofLimit: 2"),
        ("persistentVolumeClaimName:", "persistentVolumeClaim:"),
    ];
    for (right, wrong) in wrong {
        let changed = text.replace(right, wrong);
        ensure!(changed != text, "there is no {right}");
        if validated(world, &changed).is_ok() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the images that the objects name.
fn make_images(world: &World, podman: &Podman, dir: &Path) -> Result<()> {
    let tools = &world.tools;
    let regctl = Root::new(dir.join("regctl"))?;
    regctl.program(&tools.copier("regctl"), "/regctl")?;
    let hosts = format!(r#"{{"hosts":{{"{}":{{"tls":"disabled"}}}}}}"#, world.registry());
    regctl.file("/.regctl/config.json", &hosts)?;
    podman.image(
        "ghcr.io/regclient/regctl:v0.11.7",
        &regctl.0,
        &[r#"ENTRYPOINT ["/regctl"]"#, "ENV HOME=/"],
    )?;

    let oci2bk = Root::new(dir.join("oci2bk"))?;
    oci2bk.program(&tools.oci2bk, "/oci2bk")?;
    let name = concat!("ghcr.io/oci2bk/oci2bk:", env!("CARGO_PKG_VERSION"));
    podman.image(name, &oci2bk.0, &[r#"ENTRYPOINT ["/oci2bk"]"#])?;

    let buildkit = Root::new(dir.join("buildkit"))?;
    run(Command::new("tar").arg("-x").arg("-C").arg(&buildkit.0).arg("-f").arg(&tools.debian))?;
    buildkit.program(&tools.buildkitd, "/usr/bin/buildkitd")?;
    buildkit.program(&tools.buildctl, "/usr/bin/buildctl")?;
    buildkit.program(&on_path("runc", "runc").map_err(anyhow::Error::msg)?, "/usr/bin/runc")?;
    podman.image(
        "docker.io/moby/buildkit:v0.34.2",
        &buildkit.0,
        &[r#"ENTRYPOINT ["buildkitd"]"#, PATH],
    )?;

    // What the rootless image has besides.
    for (program, capability) in [("newuidmap", CAP_SETUID), ("newgidmap", CAP_SETGID)] {
        let path = on_path(program, "uidmap").map_err(anyhow::Error::msg)?;
        let place = format!("/usr/bin/{program}");
        buildkit.program(&path, &place)?;
        fs::set_permissions(buildkit.at(&place), fs::Permissions::from_mode(0o755))?;
        buildkit.allow(&place, capability)?;
    }
    buildkit.program(&world.tool("rootless/rootlesskit")?, "/usr/bin/rootlesskit")?;
    let passwd = fs::read_to_string(buildkit.at("/etc/passwd"))?;
    buildkit.file("/etc/passwd", &format!("{passwd}user:x:{USER}:{USER}::/home/user:/bin/sh\n"))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        buildkit.file(file, "user:100000:65536\n")?;
    }
    for directory in ["/home/user", "/run/user/1000"] {
        fs::create_dir_all(buildkit.at(directory))?;
        chown(buildkit.at(directory), Some(USER), Some(USER))?;
    }
    podman.image(
        "docker.io/moby/buildkit:v0.34.2-rootless",
        &buildkit.0,
        &[
            r#"ENTRYPOINT ["rootlesskit", "buildkitd"]"#,
            PATH,
            "USER 1000:1000",
            "ENV HOME=/home/user",
            "ENV USER=user",
            "ENV XDG_RUNTIME_DIR=/run/user/1000",
            "ENV BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock",
        ],
    )
}

/// The root of an image.
struct Root(PathBuf);

impl Root {
    fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir(&dir)?;
        fs::create_dir(dir.join("tmp"))?;
        fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        Ok(Self(dir))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, text: &str) -> Result<()> {
        let path = self.at(path);
        fs::create_dir_all(path.parent().context("a file that is the root")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Gives a program a capability, permitted and effective (Linux `uapi/linux/capability.h`, revision 2). With that
    /// the programs of uidmap work without `CAP_SYS_ADMIN`, and as setuid programs they do not.
    fn allow(&self, path: &str, capability: u32) -> Result<()> {
        let words = [0x0200_0001, 1 << capability, 0, 0, 0].map(u32::to_le_bytes);
        let path = self.at(path);
        let set = rustix::fs::setxattr(
            &path,
            "security.capability",
            words.as_flattened(),
            XattrFlags::empty(),
        );
        set.with_context(|| path.display().to_string())
    }

    /// Copies a program of this machine, and the libraries that it links.
    fn program(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.at(to);
        fs::create_dir_all(to.parent().context("a program that is the root")?)?;
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
        // A static program has none, and ldd fails.
        let linked = run(Command::new("ldd").arg(from)).unwrap_or_default();
        for word in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.at(word);
            if !place.exists() {
                fs::create_dir_all(place.parent().context("a library that is the root")?)?;
                fs::copy(word, &place).with_context(|| word.to_owned())?;
            }
        }
        Ok(())
    }
}

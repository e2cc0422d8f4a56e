use std::fs;

use tempfile::TempDir;

use super::*;

/// A directory with the files of a machine.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The files of an engine with the data root `data_root` in this directory.
    fn files(&self, data_root: &str) -> EngineFiles {
        EngineFiles { docker_root: Some(self.path(data_root)), ..EngineFiles::default() }
    }

    /// The root of the containerd that is found, as a path of the machine.
    fn containerd(&self, files: &EngineFiles) -> PathBuf {
        let location = Engine::find(files).unwrap().location;
        let below = location.containerd().unwrap().strip_prefix(self.0.path()).unwrap();
        Path::new("/").join(below)
    }
}

#[test]
fn all_files_are_those_of_the_machine_with_the_data_root() {
    let machine = Machine::new();
    let files = machine.files("var/lib/docker");
    assert_eq!(machine.containerd(&files), Path::new("/var/lib/containerd"));

    machine.write(
        "etc/containerd/config.toml",
        "version = 3\nroot = '/data'\nimports = ['/etc/containerd/conf.d/*.toml']\n\
         [plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = '/fast'\n",
    );
    assert_eq!(machine.containerd(&files), Path::new("/data"));
    let location = Engine::find(&files).unwrap().location;
    assert!(location.directories().any(|path| path == machine.path("fast")));
    machine.write("etc/containerd/conf.d/root.toml", "root = '/imported'\n");
    assert_eq!(machine.containerd(&files), Path::new("/imported"));
    let given = EngineFiles { containerd_root: Some(machine.path("given")), ..files.clone() };
    assert_eq!(machine.containerd(&given), Path::new("/given"));

    machine.write("etc/docker/daemon.json", r#"{"containerd-namespace": "ci"}"#);
    assert_eq!(Engine::find(&files).unwrap().location.worker().namespace(), "ci");
    fs::create_dir_all(machine.path("var/lib/docker/containerd/daemon")).unwrap();
    assert_eq!(machine.containerd(&files), Path::new("/var/lib/docker/containerd/daemon"));
}

#[test]
fn links_of_the_machine_lead_to_its_own_files() {
    use std::os::unix::fs::symlink;

    let machine = Machine::new();
    let files = machine.files("var/lib/docker");
    // As an administrator of that machine made them.
    for (link, target) in [
        ("var/lib/docker", "/data/docker"),
        ("var/lib/containerd", "/data/containerd"),
        ("etc/docker/daemon.json", "/config/daemon.json"),
        ("etc/containerd/config.toml", "/config/containerd.toml"),
        ("etc/containerd/conf.d/linked.toml", "/config/linked.toml"),
    ] {
        let path = machine.path(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    let found = Engine::find(&files).unwrap();
    assert_eq!(found.data_root, machine.path("data/docker"));
    assert_eq!(found.location.root(), machine.path("data/docker/buildkit"));
    assert_eq!(machine.containerd(&files), Path::new("/data/containerd"));

    machine.write("config/daemon.json", r#"{"containerd-namespace": "ci"}"#);
    machine.write(
        "config/containerd.toml",
        "root = '/moved'\nimports = ['/etc/containerd/conf.d/*.toml']\n",
    );
    machine.write("config/linked.toml", "");
    assert_eq!(Engine::find(&files).unwrap().location.worker().namespace(), "ci");
    assert_eq!(machine.containerd(&files), Path::new("/moved"));
    machine.write("config/linked.toml", "root = '/linked'\n");
    assert_eq!(machine.containerd(&files), Path::new("/linked"));

    // What a graph driver left, behind a link.
    machine.write("data/overlay2/l/x", "");
    fs::create_dir_all(machine.path("data/docker")).unwrap();
    symlink("/data/overlay2", machine.path("data/docker/overlay2")).unwrap();
    let refused = Engine::find(&files).unwrap_err();
    assert!(
        matches!(&refused, EngineError::GraphDriver { driver, configured: false, .. } if driver == "overlay2"),
        "{refused}"
    );
}

#[test]
fn the_configured_data_root_is_on_this_machine() {
    let machine = Machine::new();
    // It looks like that of another machine.
    let data_root = machine.path("var/lib/docker");
    machine.write("daemon.json", &serde_json::json!({"data-root": data_root}).to_string());
    let files = EngineFiles {
        daemon_json: Some(machine.path("daemon.json")),
        containerd_toml: Some(machine.path("config.toml")),
        ..machine.files("var/lib/docker")
    };
    machine.write("config.toml", &format!("root = '{}'\n", machine.path("data").display()));
    assert_eq!(machine.containerd(&files), Path::new("/data"));
    assert_eq!(Engine::find(&files).unwrap().data_root, data_root);
}

#[test]
fn an_unknown_data_root_needs_the_root_of_its_containerd() {
    let machine = Machine::new();
    let files = machine.files("srv/docker");
    let refused = Engine::find(&files).unwrap_err();
    assert!(
        matches!(&refused, EngineError::Containerd { data_root } if *data_root == machine.path("srv/docker"))
    );
    let given = EngineFiles { containerd_root: Some(machine.path("given")), ..files.clone() };
    assert_eq!(machine.containerd(&given), Path::new("/given"));
    fs::create_dir_all(machine.path("srv/docker/containerd/daemon")).unwrap();
    assert_eq!(machine.containerd(&files), Path::new("/srv/docker/containerd/daemon"));
}

#[test]
fn a_given_configuration_has_to_be_there() {
    let machine = Machine::new();
    let missing = EngineFiles {
        containerd_toml: Some(machine.path("config.toml")),
        ..machine.files("var/lib/docker")
    };
    let refused = Engine::find(&missing).unwrap_err();
    assert!(matches!(refused, EngineError::Config(ReadConfigError::Read { .. })), "{refused}");
    // Only what is not there counts as no configuration.
    fs::create_dir_all(machine.path("etc/docker/daemon.json")).unwrap();
    let refused = Engine::find(&machine.files("var/lib/docker")).unwrap_err();
    assert!(matches!(refused, EngineError::Config(ReadConfigError::Read { .. })), "{refused}");
}

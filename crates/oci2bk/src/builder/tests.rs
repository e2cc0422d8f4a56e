use std::fs;

use bkstate::{Class, Classified as _};
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Hand-made files of buildx and Docker.
struct Machine {
    temp: TempDir,
}

impl Machine {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("buildx/instances")).unwrap();
        Self { temp }
    }

    fn docker(&self) -> Docker {
        Docker {
            buildx: Some(self.temp.path().join("buildx")),
            contexts: Some(self.temp.path().join("contexts")),
            daemon_json: self.temp.path().join("daemon.json"),
            root: Some(self.temp.path().join("docker")),
        }
    }

    fn root_of(&self, node: &str) -> PathBuf {
        self.temp.path().join(format!("docker/volumes/buildx_buildkit_{node}_state/_data"))
    }

    fn volume(&self, node: &str) -> PathBuf {
        fs::create_dir_all(self.root_of(node)).unwrap();
        self.root_of(node)
    }

    fn instance(&self, name: &str, driver: &str, nodes: serde_json::Value) {
        let instance = json!({"Name": name, "Driver": driver, "Nodes": nodes, "Dynamic": false});
        let path = self.temp.path().join("buildx/instances").join(name);
        fs::write(path, instance.to_string()).unwrap();
    }

    fn builder(&self, name: &str) -> Result<Builder, BuilderError> {
        self.docker().builder(name)
    }

    fn error(&self, name: &str) -> String {
        self.builder(name).unwrap_err().to_string()
    }
}

fn node(name: &str) -> serde_json::Value {
    json!({"Name": name, "Endpoint": "unix:///var/run/docker.sock", "Platforms": null,
           "DriverOpts": null, "Flags": ["--allow-insecure-entitlement=network.host"], "Files": null})
}

#[test]
fn a_builder_with_the_rootless_image_is_refused_by_name() {
    let machine = Machine::new();
    machine.volume("ci0");
    let with_image = |image: &str| {
        let mut node = node("ci0");
        node["DriverOpts"] = json!({"image": image, "network": "host"});
        machine.instance("ci", "docker-container", json!([node]));
    };
    for image in ["moby/buildkit:rootless", "example.com/buildkit:v0.34.2-rootless@sha256:00"] {
        with_image(image);
        let error = machine.builder("ci").unwrap_err();
        assert!(matches!(error, BuilderError::Rootless { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!(
                "the builder ci runs the image {image}, whose buildkitd is rootless and keeps its state \
                 elsewhere than in the volume of the builder"
            )
        );
    }
    for image in ["moby/buildkit:buildx-stable-1", "rootless.example.com/moby/buildkit:latest"] {
        with_image(image);
        assert!(machine.builder("ci").is_ok(), "{image}");
    }
}

#[test]
fn a_builder_is_found_by_the_volume_of_its_node() {
    let machine = Machine::new();
    let root = machine.volume("ci0");
    machine.instance("ci", "docker-container", json!([node("ci0")]));
    let expected = Builder { name: "ci".into(), root, config: None };
    assert_eq!(machine.builder("ci").unwrap(), expected);
    assert_eq!(machine.builder("CI").unwrap(), expected);

    // A node may have any name.
    let root = machine.volume("big");
    machine.instance("ci", "docker-container", json!([node("big")]));
    assert_eq!(machine.builder("ci").unwrap().root, root);
}

#[test]
fn its_configuration_is_what_buildx_noted() {
    let machine = Machine::new();
    machine.volume("ci0");
    let mut with_config = node("ci0");
    with_config["Files"] = json!({"buildkitd.toml": "W3dvcmtlci5vY2ldCmdjID0gZmFsc2UK"});
    machine.instance("ci", "docker-container", json!([with_config]));
    let config = machine.builder("ci").unwrap().config;
    assert_eq!(config.as_deref(), Some("[worker.oci]\ngc = false\n"));
    with_config["Files"] = json!({"buildkitd.toml": "W3dv!"});
    machine.instance("ci", "docker-container", json!([with_config]));
    assert!(machine.error("ci").contains("base64"));
}

#[test]
fn a_builder_of_another_user_is_found_by_its_name() {
    let machine = Machine::new();
    let root = machine.volume("ci0");
    assert_eq!(machine.builder("ci").unwrap().root, root);
    let second = machine.volume("ci1");
    let message = machine.error("ci");
    assert!(message.contains("2 nodes") && message.contains(second.to_str().unwrap()), "{message}");
}

#[test]
fn several_nodes_are_named() {
    let machine = Machine::new();
    machine.volume("ci0");
    machine.instance("ci", "docker-container", json!([node("ci0"), node("arm")]));
    let message = machine.error("ci");
    let other = machine.root_of("arm");
    assert!(message.contains("2 nodes") && message.contains(other.to_str().unwrap()), "{message}");
}

#[test]
fn a_builder_that_never_ran_has_no_volume() {
    let machine = Machine::new();
    for noted in [false, true] {
        if noted {
            machine.instance("ci", "docker-container", json!([node("ci0")]));
        }
        let error = machine.builder("ci").unwrap_err();
        assert!(matches!(&error, BuilderError::NoVolume { builder, .. } if builder == "ci"));
        let message = error.to_string();
        assert!(message.contains(machine.root_of("ci0").to_str().unwrap()), "{message}");
    }
}

#[test]
fn links_in_the_image_of_a_machine_lead_into_it() {
    let machine = Machine::new();
    let image = machine.temp.path().join("image");
    fs::create_dir_all(image.join("var/lib")).unwrap();
    std::os::unix::fs::symlink("/data/docker", image.join("var/lib/docker")).unwrap();
    let root = image.join("data/docker/volumes/buildx_buildkit_ci0_state/_data");
    fs::create_dir_all(&root).unwrap();
    let docker = Docker { root: Some(image.join("var/lib/docker")), ..machine.docker() };
    assert_eq!(docker.builder("ci").unwrap().root, root);
}

#[test]
fn builders_without_a_volume_here_are_refused() {
    let machine = Machine::new();
    machine.volume("ci0");
    machine.instance("ci", "kubernetes", json!([node("ci0")]));
    assert!(machine.error("ci").contains("the driver kubernetes"));
    for endpoint in ["ssh://build@host", "tcp://host:2376"] {
        let mut remote = node("ci0");
        remote["Endpoint"] = endpoint.into();
        machine.instance("ci", "docker-container", json!([remote]));
        assert!(machine.error("ci").contains(endpoint));
    }
}

#[test]
fn names_are_no_paths() {
    let machine = Machine::new();
    for name in ["", "../x", "a/b", "0a", "a\0"] {
        let error = machine.builder(name).unwrap_err();
        assert!(matches!(error, BuilderError::Name(_)), "{error}");
        let form = "a letter, then letters, digits and ._-";
        assert_eq!(error.to_string(), format!("{name:?} cannot be the name of a builder: {form}"));
    }
    machine.instance("ci", "docker-container", json!([node("../../etc")]));
    let error = machine.builder("ci").unwrap_err();
    assert!(matches!(error, BuilderError::Name(_)), "{error}");
    assert!(
        error.to_string().starts_with("\"../../etc\" cannot be the name of a builder: "),
        "{error}"
    );
}

#[test]
fn the_data_root_is_that_of_the_daemon() {
    let machine = Machine::new();
    let docker = Docker { root: None, ..machine.docker() };
    assert_eq!(docker.data_root().unwrap().1, Path::new("/var/lib/docker"));
    fs::write(&docker.daemon_json, r#"{"data-root": "/srv/docker", "debug": true}"#).unwrap();
    assert_eq!(docker.data_root().unwrap().1, Path::new("/srv/docker"));
    fs::write(&docker.daemon_json, "{").unwrap();
    let error = docker.data_root().unwrap_err();
    assert_eq!(error.class(), Class::Input, "{error}");
    assert!(error.to_string().ends_with(" is not what Docker writes"), "{error}");
}

#[test]
fn the_builder_of_docker_engine_is_not_to_be_made() {
    let machine = Machine::new();
    let context = machine.temp.path().join("contexts").join(&*Digest::of("desktop-linux").hex());
    fs::create_dir_all(context).unwrap();
    for name in ["default", "desktop-linux"] {
        let message = machine.error(name);
        assert!(message.contains("that of Docker Engine"), "{message}");
    }
    // Any other name may be that of a future builder.
    let error = machine.builder("desktop").unwrap_err();
    assert!(matches!(error, BuilderError::NoVolume { .. }), "{error}");
    assert!(error.to_string().starts_with("the builder desktop has no state in "), "{error}");
}

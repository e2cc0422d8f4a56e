//! `oci2bk state`, with states that need no rights.

use std::fs;
use std::process::Command;

use bkstate::Digest;
use serde_json::json;

use super::*;

/// Returns a directory with a converted root and the image of its state in `image`.
fn exported() -> (Place, PathBuf, Value) {
    let place = Place::new();
    Printed::of(convert(index(), &place).arg("--progress=quiet"), 0);
    let image = place.temp.path().join("image");
    let printed = Printed::of(&mut export(&place, &format!("oci:{}", image.display())), 0);
    let json = printed.json();
    (place, image, json)
}

pub(crate) fn export(place: &Place, to: &str) -> Command {
    let mut command = command();
    command.args(["state", "export", "--progress=quiet", "--format=json"]);
    command.arg(place.root()).args(["--to", to]);
    command
}

pub(crate) fn import(source: &str, root: &Path) -> Command {
    let mut command = command();
    command.args(["state", "import", "--progress=quiet", "--format=json", source]).arg(root);
    command
}

/// Returns the files of a root and their content.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn oci(path: &Path) -> String {
    format!("oci:{}", path.display())
}

/// Returns the layers in the image, lowest first.
fn layers(image: &Path) -> Vec<PathBuf> {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &Value| {
        image.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
    };
    let index = read(&image.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]["digest"]));
    manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])).collect()
}

/// Puts the files of the image into a directory, as a runtime does, and returns that.
pub(crate) fn unpacked(place: &Place, image: &Path) -> String {
    let unpacked = place.temp.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    for layer in layers(image) {
        let status = Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&unpacked).status();
        assert!(status.unwrap().success());
    }
    unpacked.into_os_string().into_string().unwrap()
}

#[test]
fn a_root_travels_through_a_layout_an_archive_and_a_directory() {
    let (place, image, first) = exported();
    assert_eq!(first["changed"], true);
    let again = Printed::of(&mut export(&place, &oci(&image)), 0).json();
    assert_eq!((&again["manifest"], &again["changed"]), (&first["manifest"], &json!(false)));
    let file = place.temp.path().join("image.tar");
    let archive = format!("oci-archive:{}", file.display());
    let of_archive = Printed::of(&mut export(&place, &archive), 0).json();
    assert_eq!(of_archive["manifest"], first["manifest"]);

    let sources = [oci(&image), archive, unpacked(&place, &image)];
    for (nth, source) in sources.iter().enumerate() {
        let root = place.temp.path().join(format!("root{nth}"));
        let imported = Printed::of(&mut import(source, &root), 0).json();
        assert_eq!(imported["blob_count"], first["blob_count"], "{source}");
        assert_eq!(files(&root), files(&place.root()), "{source}");
        Printed::of(command().args(["verify", "--progress=quiet"]).arg(&root), 0);
        let refused = Printed::of(&mut import(source, &root), 1);
        refused.says(&["has a state already", "import into an empty root"]);
    }
}

#[test]
fn a_root_without_a_state_is_not_exported() {
    let place = Place::new();
    fs::create_dir(place.root()).unwrap();
    let to = oci(&place.temp.path().join("image"));
    Printed::of(&mut export(&place, &to), 1).says(&["holds no state"]);
    assert_eq!(place.names(), ["root"]);
}

#[test]
fn a_damaged_layer_is_refused_and_nothing_is_left() {
    let (place, image, _) = exported();
    let root = place.temp.path().join("other");
    let untouched = |says: &[&str], code| {
        Printed::of(&mut import(&oci(&image), &root), code).says(says);
        let left: Vec<_> = files(&root).into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, [PathBuf::from("buildkitd.lock")]);
    };
    for layer in layers(&image) {
        let content = fs::read(&layer).unwrap();
        let mut changed = content.clone();
        changed[600] ^= 1;
        fs::write(&layer, &changed).unwrap();
        if layers(&image).last() == Some(&layer) {
            Printed::of(&mut import(&oci(&image), &root), 3);
        } else {
            untouched(&["is damaged"], 3);
        }
        fs::write(&layer, &content[..content.len() - 512]).unwrap();
        Printed::of(&mut import(&oci(&image), &root), 3).says(&["bytes"]);
        fs::remove_file(&layer).unwrap();
        Printed::of(&mut import(&oci(&image), &root), 3).says(&["is not in the layout"]);
        fs::write(&layer, content).unwrap();
    }
    Printed::of(&mut import(&oci(&image), &root), 0);
}

#[test]
fn an_image_for_another_architecture_takes_its_digest() {
    let (place, image, _) = exported();
    let blobs = image.join("blobs/sha256");
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let put = |value: &Value| {
        let text = value.to_string();
        let digest = Digest::of(&text);
        fs::write(blobs.join(digest.hex()), &text).unwrap();
        (json!(digest), json!(text.len()))
    };
    let at = |digest: &Value| blobs.join(digest.as_str().unwrap().trim_start_matches("sha256:"));
    let mut index = read(&image.join("index.json"));
    let mut manifest = read(&at(&index["manifests"][0]["digest"]));
    let mut config = read(&at(&manifest["config"]["digest"]));
    config["architecture"] = "riscv64".into();
    (manifest["config"]["digest"], manifest["config"]["size"]) = put(&config);
    let entry = &mut index["manifests"][0];
    (entry["digest"], entry["size"]) = put(&manifest);
    let digest = entry["digest"].as_str().unwrap().to_owned();
    fs::write(image.join("index.json"), index.to_string()).unwrap();

    let root = place.temp.path().join("other");
    let refused = Printed::of(&mut import(&oci(&image), &root), 3);
    refused.says(&["has a state for riscv64 only"]);
    assert!(!root.exists());
    Printed::of(&mut import(&format!("{}@{digest}", oci(&image)), &root), 0);
}

#[test]
fn something_else_is_not_an_image_of_a_state() {
    let place = Place::new();
    let root = place.root();
    for source in [fixture("index/cache"), fixture("manifest/keys/image")] {
        Printed::of(&mut import(&source, &root), 3).says(&["has no image of a state"]);
    }
    assert!(!root.exists());
}

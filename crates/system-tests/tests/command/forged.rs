//! Caches that no daemon exported: changed copies of the fixtures.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Adds a blob to a layout, and returns its descriptor.
pub(crate) fn put(layout: &Path, content: &Value) -> (Value, Value) {
    let content = content.to_string();
    let digest = oci2bk::Digest::of(content.as_bytes());
    fs::write(layout.join("blobs/sha256").join(&*digest.hex()), &content).unwrap();
    (digest.to_string().into(), content.len().into())
}

pub(crate) fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Creates a copy of the cache `fixture` as `cache`, with a changed manifest and config.
pub(crate) fn changed(fixture: &str, cache: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    copy(Path::new(fixture), cache);
    let blob = |entry: &Value| {
        let digest = entry["digest"].as_str().unwrap().replace("sha256:", "");
        read(cache.join("blobs/sha256").join(digest))
    };
    let mut index = read(cache.join("index.json"));
    let mut manifest = blob(&index["manifests"][0]);
    let mut config = blob(&manifest["config"]);
    change(&mut manifest, &mut config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = put(cache, &config);
    let entry = &mut index["manifests"][0];
    (entry["digest"], entry["size"]) = put(cache, &manifest);
    fs::write(cache.join("index.json"), index.to_string()).unwrap();
}

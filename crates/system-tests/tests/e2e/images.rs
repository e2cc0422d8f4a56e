//! Images made by a daemon, changed in ways that no daemon would, and pushed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use bkstate::Digest;
use serde_json::{Value, json};

use crate::case::Context;
use crate::daemon::Daemon;
use crate::process::run;
use crate::world::World;

/// The only image in a layout, named after its directory.
#[derive(Debug)]
pub(crate) struct Image {
    layout: PathBuf,
}

impl Image {
    /// Builds an image without a build context into the directory `layout`.
    pub(crate) fn build(
        world: &World,
        daemon: &Daemon,
        layout: &Path,
        dockerfile: &str,
    ) -> Result<Self> {
        let context = Context::create(&layout.with_extension("context"));
        context.file("Dockerfile", world.fill_in(dockerfile));
        run(daemon
            .buildctl()
            .args(["build", "--progress=plain", "--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", context.dir().display()))
            .arg(format!("--local=dockerfile={}", context.dir().display()))
            .arg(format!("--output=type=oci,tar=false,dest={}", layout.display())))?;
        Ok(Self { layout: layout.to_owned() })
    }

    /// Opens the image in the directory `layout`; a cache in image-manifest style works too.
    pub(crate) fn at(layout: &Path) -> Self {
        Self { layout: layout.to_owned() }
    }

    /// Returns its config.
    pub(crate) fn config(&self) -> Result<Value> {
        self.document(&self.manifest()?["config"])
    }

    /// Changes its manifest and its config.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&mut Value, &mut Value) -> Result<()>,
    ) -> Result<()> {
        let mut manifest = self.manifest()?;
        let mut config = self.document(&manifest["config"])?;
        change(&mut manifest, &mut config)?;
        self.store(&serde_json::to_vec(&config)?, &mut manifest["config"])?;
        let mut index = self.index()?;
        self.store(&serde_json::to_vec(&manifest)?, &mut index["manifests"][0])?;
        Ok(fs::write(self.layout.join("index.json"), serde_json::to_vec(&index)?)?)
    }

    /// Adds a layer on top, unchanged.
    pub(crate) fn add_layer(&self, tar: &[u8]) -> Result<()> {
        let mut layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar" });
        self.store(tar, &mut layer)?;
        self.change(|manifest, config| {
            let list = |list: &mut Value, item| -> Result<()> {
                list.as_array_mut().context("a list is missing")?.push(item);
                Ok(())
            };
            list(&mut config["rootfs"]["diff_ids"], layer["digest"].clone())?;
            list(&mut config["history"], json!({ "created_by": "a layer more" }))?;
            list(&mut manifest["layers"], layer)
        })
    }

    /// Pushes it to the registry of the world, under the name of its directory.
    pub(crate) fn push(&self, world: &World) -> Result<()> {
        let name = self.layout.file_name().and_then(|name| name.to_str()).context("a name")?;
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", self.layout.display()))
            .arg(format!("docker://{}/{name}", world.registry())))?;
        Ok(())
    }

    fn index(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.layout.join("index.json"))?)?)
    }

    pub(crate) fn manifest(&self) -> Result<Value> {
        self.document(&self.index()?["manifests"][0])
    }

    fn document(&self, descriptor: &Value) -> Result<Value> {
        let digest = descriptor["digest"].as_str().context("a descriptor without a digest")?;
        let hex = digest.strip_prefix("sha256:").context(digest.to_owned())?;
        Ok(serde_json::from_slice(&fs::read(self.layout.join("blobs/sha256").join(hex))?)?)
    }

    /// Stores a blob and points its descriptor to it.
    fn store(&self, bytes: &[u8], descriptor: &mut Value) -> Result<()> {
        let digest = Digest::of(bytes);
        fs::write(self.layout.join("blobs/sha256").join(digest.hex()), bytes)?;
        descriptor["size"] = json!(bytes.len());
        descriptor["digest"] = json!(digest.to_string());
        Ok(())
    }
}

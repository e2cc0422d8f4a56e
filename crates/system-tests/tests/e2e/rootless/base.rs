//! A base image with everything that a rootless daemon treats in another way: opaque directories, whiteouts,
//! devices, capabilities, owners, and attributes that must not get into a tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use archives::{Member, archive, dir, file, hard_link, member, pax, symlink};
use bkstate::Digest;
use serde_json::{Value, json};

use crate::process::run;
use crate::world::World;

/// The name of the image in the registry.
pub(crate) const NAME: &str = "rootless-base";
/// The name of the image without an attribute that hides files.
pub(crate) const HARMLESS: &str = "layered-base";

/// `cap_net_raw=ep`, as tools outside of user namespaces write it.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Pushes the image to the registry.
pub(super) fn push(world: &World, layout: &Path) -> Result<()> {
    push_as(world, NAME, true, layout)
}

/// Pushes the image to the registry, by this name. A daemon on overlayfs that runs as root ignores the attribute
/// `user.overlay.opaque`, but has it in the layer of a step that changes the directory, and hides files with it
/// there; so only rootless daemons agree about an image with it.
pub(crate) fn push_as(world: &World, name: &str, is_hostile: bool, layout: &Path) -> Result<()> {
    let busybox = fs::read(&world.tools.busybox)?;
    let layers = [lowest(&busybox), middle(is_hostile), top()];
    write(layout, &layers.map(|members| archive(&members)))?;
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:latest", layout.display()))
        .arg(format!("docker://{}/{name}", world.registry())))
    .map(drop)
}

fn lowest(busybox: &[u8]) -> Vec<Member> {
    let mut members = vec![dir("bin"), file("bin/busybox", busybox).mode(0o755)];
    let tools = [
        "sh", "find", "stat", "sort", "md5sum", "xargs", "rm", "mkdir", "chown", "chmod", "ln",
        "cat",
    ];
    members.extend(tools.map(|tool| symlink(format!("bin/{tool}"), "busybox")));
    members.extend([
        dir("etc"),
        file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        dir("home").owner(1000, 1001).mode(0o2750),
        file("home/setuid", "s").owner(33, 34).mode(0o4755),
        dir("old"),
        file("old/kept", "kept\n").owner(65_535, 65_534),
        file("old/gone", "gone\n"),
        dir("replaced"),
        dir("replaced/dir"),
        file("replaced/dir/x", "x\n"),
        file("replaced/a", "a\n"),
        dir("swap"),
        file("swap/lower", "lower\n"),
        dir("keep"),
        file("keep/lower", "lower\n"),
        dir("implied").owner(7, 8).mode(0o1777),
        dir("implied/dir").owner(9, 10),
        file("implied/dir/x", "x\n"),
        file("null", "a file\n"),
    ]);
    members
}

fn middle(is_hostile: bool) -> Vec<Member> {
    let mut members = vec![
        file("old/.wh.gone", ""),
        // Whiteouts belong to the daemon, whatever their entries say.
        file("old/.wh.nothing", "").owner(100_000, 100_000),
        file("replaced/.wh..wh..opq", ""),
        file("replaced/new", "new\n"),
        dir("dev"),
        member(b'3', "dev/null").device(1, 3).mode(0o666),
        member(b'4', "dev/block").device(8, 0),
        // The file of the layer below stays.
        member(b'3', "null").device(1, 3),
        pax(&[("SCHILY.xattr.security.capability", &NET_RAW)]),
        file("bin/ping", "ping\n").mode(0o755),
        file("implied/dir/y", "y\n"),
        file("new/dir/z", "z\n").owner(5, 6),
        hard_link("new/dir/link", "new/dir/z").owner(5, 6),
    ];
    if is_hostile {
        // It would hide `keep/lower`.
        let opaque: (&str, &[u8]) = ("SCHILY.xattr.user.overlay.opaque", b"y");
        members.push(pax(&[opaque, ("SCHILY.xattr.user.own", b"value")]));
    }
    members.extend([dir("keep"), file("keep/new", "new\n")]);
    members
}

fn top() -> Vec<Member> {
    vec![
        file(".wh.swap", ""),
        dir("swap"),
        file("swap/new", "new\n"),
        member(b'6', "fifo").owner(3, 4).mode(0o640),
        symlink("link", "old/kept").owner(12, 34),
        file("implied/dir/deep/w", "w\n"),
        file("keep/more", "more\n"),
    ]
}

fn write(layout: &Path, layers: &[Vec<u8>]) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let store = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    };
    let diff_ids: Vec<_> = layers.iter().map(Digest::of).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = store("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let layers = layers.iter().map(|tar| store("application/vnd.oci.image.layer.v1.tar", tar));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
    });
    let mut manifest = store(media_type, manifest.to_string().as_bytes())?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string())?;
    Ok(fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?)
}

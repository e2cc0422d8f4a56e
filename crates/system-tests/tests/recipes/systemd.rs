//! `examples/systemd`: verified by systemd, and the commands of the units are run.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{World, example};

/// The daemon's own unit, which the order of the examples refers to.
const BUILDKIT: &str = "[Unit]\nDescription=BuildKit\n[Service]\nExecStart=/usr/local/bin/oci2bk\n";

/// The units for packed trees. What they do is in the recipe for Packer.
const MOUNT: &str = "var-lib-buildkit-packed-1.mount";
const DROP_IN: &str = "packed-trees.conf";

pub(crate) fn prove(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "systemd", true)?;
    let units = sandbox.workspace()?;
    fs::write(units.join("buildkit.service"), BUILDKIT)?;
    let drop_ins = units.join("buildkit.service.d");
    fs::create_dir(&drop_ins)?;
    fs::copy(example("systemd").join(DROP_IN), drop_ins.join(DROP_IN))?;
    let verify = |name: &str| -> Result<String> {
        let text = fs::read_to_string(example("systemd").join(name))?;
        fs::write(units.join(name), &text)?;
        let output = sandbox
            .command("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(units.join(name))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It also reports this machine's own units.
        let is_ours = |line: &&str| [name, DROP_IN].iter().any(|name| line.contains(name));
        let ours: Vec<_> = said.lines().filter(is_ours).collect();
        ensure!(ours.is_empty(), "{ours:#?}");
        ensure!(output.status.success(), "{name}: {said}");
        Ok(text)
    };
    verify(MOUNT)?;
    let mut starts = Vec::new();
    for name in ["oci2bk.service", "read-ahead.service"] {
        let text = verify(name)?;
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
        starts.push(start.with_context(|| format!("{name} starts nothing"))?.to_owned());
    }

    let fetch =
        ["image", "copy", "--referrers", &world.cache(), "ocidir:///srv/build-cache:latest"];
    run(sandbox.command("regctl").args(fetch))?;
    for start in starts {
        run(sandbox.command("sh").args(["-ec", &format!("{start} >/dev/null")]))?;
    }
    world.ensure_warm(&sandbox.state())
}

//! `examples/ansible`: the syntax of each playbook is checked, and it is run on a sandbox with its builder,
//! twice.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::process::run;

use crate::builders::Builder;
use crate::sandbox::Sandbox;
use crate::world::{World, example};

pub(crate) fn prove(world: &World) -> Result<()> {
    prove_on(world, Builder::Buildkitd, "playbook.yml")
}

pub(crate) fn prove_containerd(world: &World) -> Result<()> {
    prove_on(world, Builder::Worker, "containerd.yml")
}

pub(crate) fn prove_engine(world: &World) -> Result<()> {
    prove_on(world, Builder::Engine, "engine.yml")
}

fn prove_on(world: &World, builder: Builder, playbook: &str) -> Result<()> {
    let sandbox = Sandbox::new(world, "ansible", false)?;
    let dir = sandbox.workspace()?;
    world.put_programs(&dir.join("bin"))?;
    for name in [playbook, "warm.yml"] {
        fs::copy(example("ansible").join(name), dir.join(name))?;
    }
    let python = world.tool("python/bin/python")?;
    let inventory = format!(
        "[builders]\nlocalhost ansible_connection=local ansible_python_interpreter={}\n",
        python.display()
    );
    fs::write(dir.join("inventory"), inventory)?;
    let ansible = world.tool("python/bin/ansible-playbook")?;
    let play = |arguments: &[&str]| -> Result<String> {
        let mut command: Command = sandbox.command(&ansible);
        command.args(["--inventory", "inventory", playbook, "--extra-vars"]);
        command.arg(format!("cache={}", world.cache())).args(arguments);
        command
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_HOME", sandbox.home());
        run(command.current_dir(&dir))
    };
    play(&["--syntax-check"])?;

    let unused = builder.start(world, &sandbox)?;
    play(&[])?;
    unused.stop()?;
    ensure_order(builder, &sandbox.calls()?)?;

    let warm = builder.start(world, &sandbox)?;
    world.ensure_cached(&warm)?;
    let again = play(&[])?;
    ensure!(again.contains(" changed=0 "), "the second run changes something:\n{again}");
    warm.stop().map(drop)
}

/// The socket, which starts the daemon again, is stopped before the daemon. The daemon runs only while what is
/// below it does.
fn ensure_order(builder: Builder, calls: &[String]) -> Result<()> {
    let call = |verb: &str, unit: &str| format!("{verb} {unit}");
    let units = ["socket", "service"].map(|kind| format!("{}.{kind}", builder.unit()));
    let mut expected: Vec<_> = units.iter().map(|unit| call("stop", unit)).collect();
    expected.extend(builder.below().iter().map(|unit| call("stop", unit)));
    expected.extend(builder.below().iter().map(|unit| call("start", unit)));
    expected.extend(units.iter().map(|unit| call("start", unit)));
    ensure!(calls == expected, "{calls:?}");
    Ok(())
}

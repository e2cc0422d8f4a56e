//! `examples/ansible`: the syntax is checked, and the playbook run on a sandbox, twice.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{World, example};

pub(crate) fn prove(world: &World) -> Result<()> {
    let sandbox = Sandbox::new(world, "ansible", false)?;
    let dir = sandbox.workspace()?;
    world.put_programs(&dir.join("bin"))?;
    fs::copy(example("ansible").join("playbook.yml"), dir.join("playbook.yml"))?;
    let python = world.tool("python/bin/python")?;
    let inventory = format!(
        "[builders]\nlocalhost ansible_connection=local ansible_python_interpreter={}\n",
        python.display()
    );
    fs::write(dir.join("inventory"), inventory)?;
    let ansible = world.tool("python/bin/ansible-playbook")?;
    let play = |arguments: &[&str]| -> Result<String> {
        let mut command: Command = sandbox.command(&ansible);
        command.args(["--inventory", "inventory", "playbook.yml", "--extra-vars"]);
        command.arg(format!("cache={}", world.cache())).args(arguments);
        command
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_HOME", sandbox.home());
        run(command.current_dir(&dir))
    };
    play(&["--syntax-check"])?;

    // A machine on which systemd starts the daemon when a client connects.
    for unit in ["buildkit.socket", "buildkit.service"] {
        fs::write(sandbox.home().join(format!("active-{unit}")), "")?;
    }
    play(&[])?;
    let calls = fs::read_to_string(sandbox.home().join("systemctl.log"))?;
    let calls: Vec<_> = calls.lines().filter(|call| call.starts_with("st")).collect();
    let expected = ["stop buildkit.socket", "stop buildkit.service", "start buildkit.socket"];
    ensure!(calls == [&expected[..], &["start buildkit.service"]].concat(), "{calls:?}");
    world.ensure_warm(&sandbox.state())?;

    let again = play(&[])?;
    ensure!(again.contains(" changed=0 "), "the second run changes something:\n{again}");
    Ok(())
}

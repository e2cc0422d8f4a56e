//! `examples/ec2-image-builder`: the recipe is validated against Amazon's own schema; the component has a
//! component's form, and its commands are run, phase by phase.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::run;

use crate::sandbox::Sandbox;
use crate::world::{PLACEHOLDER, World, example};

/// The phases that Image Builder runs before it takes the image, and after.
const PHASES: [&str; 3] = ["build", "validate", "test"];

pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = example("ec2-image-builder");
    run(Command::new(world.tool("python/bin/cfn-lint")?).arg(dir.join("recipe.yaml")))?;
    let component = world.yaml(&dir.join("component.yaml"))?;
    let scripts = scripts(&component)?;

    let sandbox = Sandbox::new(world, "ec2", true)?;
    for script in scripts {
        let script = fill_in(&script, &component, &world.cache())?;
        run(sandbox.command("bash").args(["-c", &script]).env("TMPDIR", "/var/tmp"))?;
    }
    world.ensure_warm(&sandbox.state())
}

/// Returns the commands of all steps, in execution order.
fn scripts(component: &Value) -> Result<Vec<String>> {
    for member in ["name", "description"] {
        ensure!(component[member].is_string(), "the component has no {member}");
    }
    // A number in YAML, as in Amazon's own components.
    ensure!(component["schemaVersion"] == 1.0, "the version of the schema");
    let phases = component["phases"].as_array().context("no phases")?;
    let mut scripts = Vec::new();
    for phase in phases {
        let name = phase["name"].as_str().context("a phase without a name")?;
        ensure!(PHASES.contains(&name), "there is no phase {name}");
        for step in phase["steps"].as_array().context("a phase without steps")? {
            ensure!(step["name"].is_string(), "a step without a name");
            ensure!(step["action"] == "ExecuteBash", "{} is not run here", step["action"]);
            let commands =
                step["inputs"]["commands"].as_array().context("a step without commands")?;
            for command in commands {
                scripts.push(command.as_str().context("a command that is no text")?.to_owned());
            }
        }
    }
    Ok(scripts)
}

/// Sets the parameters: the cache, and the defaults of the others.
fn fill_in(script: &str, component: &Value, cache: &str) -> Result<String> {
    let mut script = script.to_owned();
    for parameter in component["parameters"].as_array().into_iter().flatten() {
        for (name, declaration) in parameter.as_object().context("a parameter")? {
            let default = declaration["default"].as_str().context("a parameter without default")?;
            let value = if default == PLACEHOLDER { cache } else { default };
            script = script.replace(&format!("{{{{ {name} }}}}"), value);
        }
    }
    ensure!(!script.contains("{{"), "a parameter is not declared:\n{script}");
    Ok(script)
}

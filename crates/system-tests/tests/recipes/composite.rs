//! The actions in `examples/github-actions`: what GitHub runs for `uses:`, as steps with their environment.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::world::{World, example};

/// The prefix of our actions, as workflows name them.
const OURS: &str = "oci2bk/oci2bk/examples/github-actions/";

/// Values of the expressions in `${{ }}`.
pub(crate) type Expressions = BTreeMap<String, String>;

/// A script of an action, with its environment.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) run: String,
    pub(crate) env: Vec<(String, String)>,
}

/// Returns the scripts of the action that a step of a workflow uses, and none if that is not one of ours. Fails if the step
/// names another release than this one, an input that does not exist, or lacks one that it must give.
pub(crate) fn scripts(world: &World, step: &Value, known: &Expressions) -> Result<Vec<Script>> {
    let Some(used) = step["uses"].as_str().and_then(|uses| uses.strip_prefix(OURS)) else {
        return Ok(Vec::new());
    };
    let name = used
        .strip_suffix(concat!("@v", env!("CARGO_PKG_VERSION")))
        .with_context(|| format!("the workflow uses {used}"))?;
    let action = world.yaml(&example("github-actions").join(name).join("action.yml"))?;
    let inputs = action["inputs"].as_object().context("no inputs")?;
    let given = step["with"].as_object().cloned().unwrap_or_default();
    for key in given.keys() {
        ensure!(inputs.contains_key(key), "{name} has no input {key}");
    }
    let mut expressions = known.clone();
    for (key, input) in inputs {
        let value = given.get(key).or_else(|| input.get("default"));
        let value =
            value.and_then(Value::as_str).with_context(|| format!("{name} is not given {key}"))?;
        expressions.insert(format!("inputs.{key}"), expanded(value, known)?);
    }
    let mut scripts = Vec::new();
    for step in action["runs"]["steps"].as_array().context("no steps")? {
        if let Some(condition) = step["if"].as_str() {
            let input = condition.strip_suffix(" != ''").context("a condition of another form")?;
            if expressions.get(input).context("a condition of another form")?.is_empty() {
                continue;
            }
        }
        ensure!(step["shell"] == "bash", "a step without bash in {name}");
        let run = step["run"].as_str().context("a step without a script")?.to_owned();
        // GitHub would put the value into the script, where a shell would take it for its own words.
        ensure!(!run.contains("${{"), "an expression in a script of {name}");
        let mut env = Vec::new();
        for (variable, value) in step["env"].as_object().into_iter().flatten() {
            let value = value.as_str().context("an environment variable")?;
            env.push((variable.clone(), expanded(value, &expressions)?));
        }
        let name = step["name"].as_str().context("a step without a name")?.to_owned();
        scripts.push(Script { name, run, env });
    }
    Ok(scripts)
}

/// Replaces the expressions in a text.
fn expanded(text: &str, values: &Expressions) -> Result<String> {
    let mut parts = text.split("${{");
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").context("an expression without an end")?;
        match values.get(expression.trim()) {
            Some(value) => expanded.push_str(value),
            None => bail!("nothing is known of {}", expression.trim()),
        }
        expanded.push_str(rest);
    }
    Ok(expanded)
}

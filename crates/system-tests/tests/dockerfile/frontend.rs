//! A real frontend, as a process that answers one build after the other.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci2bk::llb::release::Target;
use oci2bk::llb::{Definition, DefinitionError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::Build;

/// A running frontend.
pub(crate) struct Frontend {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    target: Target,
}

#[derive(Serialize)]
struct Question<'a> {
    dockerfile: String,
    opts: &'a BTreeMap<String, String>,
    images: &'a BTreeMap<String, Value>,
    worker: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    definition: String,
    #[serde(default)]
    error: String,
}

impl Frontend {
    /// Starts the frontend of a release, such as `v0.34.2`.
    pub(crate) fn start(program: &Path, version: &str) -> Result<Self> {
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = process.stdin.take().context("it has an input")?;
        let output = BufReader::new(process.stdout.take().context("it has an output")?);
        Ok(Self { process, input, output, target: version.parse()? })
    }

    /// Returns its release.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the name of its release.
    pub(crate) fn version(&self) -> String {
        self.target.version().to_string()
    }

    /// Returns the operations that it makes, or why it refuses.
    pub(crate) fn convert(&mut self, build: &Build) -> Result<Result<Option<Definition>, String>> {
        let dockerfile = STANDARD.encode(&build.dockerfile);
        let Build { opts, images, worker, .. } = build;
        let mut line = serde_json::to_vec(&Question { dockerfile, opts, images, worker })?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        let answer: Answer = serde_json::from_str(&answer).context("the frontend has ended")?;
        if !answer.error.is_empty() {
            return Ok(Err(answer.error));
        }
        Ok(Ok(match Definition::from_protobuf(&STANDARD.decode(answer.definition)?) {
            Ok(definition) => Some(definition),
            // The result is empty.
            Err(DefinitionError::Empty) => None,
            Err(error) => return Err(error.into()),
        }))
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

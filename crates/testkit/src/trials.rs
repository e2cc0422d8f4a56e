//! Test suites that share something costly, and need the tools.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::Tools;

/// The shared value of a suite. The first test that runs creates it, so that `--list` starts nothing.
type Shared<T> = Arc<OnceLock<Result<T, String>>>;

/// A test binary with a table of tests.
pub struct Suite<T> {
    arguments: Arguments,
    tools: Result<Tools, String>,
    create: fn(&Tools) -> Result<T>,
    shared: Shared<T>,
    trials: Vec<Trial>,
}

impl<T: Send + Sync + 'static> Suite<T> {
    /// Creates an empty suite that is called `name` in messages. Its tests share the value that `create`
    /// makes from the tools; without tools they are shown as ignored, with the reason. If tools are required,
    /// the process ends.
    pub fn new(name: &str, tools: Result<Tools, String>, create: fn(&Tools) -> Result<T>) -> Self {
        let mut arguments = Arguments::from_args();
        // Tests wait for daemons half of the time.
        arguments.test_threads.get_or_insert(4);
        require(name, &tools);
        Self { arguments, tools, create, shared: Arc::default(), trials: Vec::new() }
    }

    /// Adds a test of the shared value.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        prove: impl FnOnce(&T) -> Result<()> + Send + 'static,
    ) {
        let trial = self.trial(name.into(), prove);
        self.trials.push(trial);
    }

    /// Adds a test that runs only on request.
    pub fn add_ignored(
        &mut self,
        name: impl Into<String>,
        prove: impl FnOnce(&T) -> Result<()> + Send + 'static,
    ) {
        let trial = self.trial(name.into(), prove).with_ignored_flag(true);
        self.trials.push(trial);
    }

    /// Adds a test of the shared value that takes more of the machine than tools, which scripts cannot install.
    /// Without it, it is shown as ignored, with the reason.
    pub fn add_if(
        &mut self,
        able: &Result<(), String>,
        name: impl Into<String>,
        prove: impl FnOnce(&T) -> Result<()> + Send + 'static,
    ) {
        let trial = match able {
            Ok(()) => self.trial(name.into(), prove),
            Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
        };
        self.trials.push(trial);
    }

    /// Adds a test that does not use the shared value.
    pub fn push(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    fn trial(&self, name: String, prove: impl FnOnce(&T) -> Result<()> + Send + 'static) -> Trial {
        match &self.tools {
            Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
            Ok(tools) => {
                let (tools, shared, create) =
                    (tools.clone(), Arc::clone(&self.shared), self.create);
                alone(name, move || {
                    let made =
                        shared.get_or_init(|| create(&tools).map_err(|error| format!("{error:#}")));
                    prove(made.as_ref().map_err(|reason| anyhow::anyhow!(reason.clone()))?)
                })
            }
        }
    }

    /// Runs the selected tests, and ends the process.
    pub fn run(self) -> ! {
        let conclusion = libtest_mimic::run(&self.arguments, self.trials);
        // Stops servers, unmounts and removes directories before the process exits.
        drop(self.shared);
        conclusion.exit()
    }
}

/// Creates a test that fails with an error.
pub fn alone(name: String, prove: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || prove().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Ends the process if the suite `name` lacks something although tools are required.
#[allow(clippy::print_stderr, clippy::exit, reason = "it is what a main function would do")]
pub fn require<T>(name: &str, needed: &Result<T, String>) {
    if let (Err(reason), true) = (needed, Tools::required()) {
        eprintln!("{name} cannot run: {reason}");
        std::process::exit(1);
    }
}

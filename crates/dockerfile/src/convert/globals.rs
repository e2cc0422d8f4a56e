//! Global arguments: those before the first `FROM`, and what frontends set themselves.

use std::collections::HashMap;

use crate::error::ParseError;
use crate::expand::{Expander, Variables};
use crate::file::File;
use crate::limits::Budget;
use crate::options::Options;
use crate::value::signed;

const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The global arguments, and the build arguments as they count then.
#[derive(Debug)]
pub(super) struct Globals {
    values: HashMap<String, Option<String>>,
    build_args: HashMap<String, String>,
    /// The time of directories, in seconds.
    pub(super) epoch: Option<i64>,
}

impl Variables for Globals {
    /// An argument without a value is empty in `FROM`; only frontends before 1.11 keep such.
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_deref().unwrap_or_default())
    }
}

impl Globals {
    /// Evaluates the global arguments (`defaultArgs`, `buildMetaArgs` in `dockerfile2llb`). What is wrong goes to
    /// `refuse`.
    pub(super) fn new(
        file: &File,
        options: &Options,
        budget: &mut Budget,
        mut refuse: impl FnMut(ParseError),
    ) -> Result<Self, ParseError> {
        let build_args = options.build_args.clone().into_iter().collect();
        let mut globals = Self { values: HashMap::new(), build_args, epoch: None };
        for (name, value) in platform_arguments(file, options) {
            let value = options.build_args.get(name).cloned().unwrap_or(value);
            globals.values.insert(name.to_owned(), Some(value));
        }
        let expander = Expander::new(options.frontend, file.escape);
        for arguments in &file.globals {
            for (name, default) in &arguments.value {
                let value = match (options.build_args.get(name), default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, None) => None,
                    (None, Some(default)) => match expander.expand(default, &globals, budget) {
                        Ok(value) => Some(value),
                        Err(reason) if reason.is_limit() => {
                            return Err(arguments.place.error(reason));
                        }
                        Err(reason) => {
                            refuse(arguments.place.error(reason));
                            continue;
                        }
                    },
                };
                // Later releases let an argument without a value hide nothing.
                if value.is_some() || !options.frontend.since(11) {
                    globals.values.insert(name.clone(), value);
                }
            }
        }
        globals.take_epoch(options);
        Ok(globals)
    }

    /// Takes the time from `SOURCE_DATE_EPOCH`. Since 1.24 it may be a global argument, is written as the number
    /// it is, and may name what has a time, which nobody knows here.
    fn take_epoch(&mut self, options: &Options) {
        if !options.frontend.since(24) {
            let value = self.build_args.get(EPOCH).filter(|_| options.frontend.since(16));
            self.epoch = value.and_then(|value| signed(value));
            return;
        }
        let given = self.build_args.get(EPOCH).cloned();
        let global = || self.values.get(EPOCH).cloned().flatten().filter(|value| !value.is_empty());
        let Some(value) = given.or_else(global) else { return };
        self.epoch = signed(&value);
        match self.epoch {
            Some(seconds) => {
                let text = seconds.to_string();
                if let Some(value) = self.build_args.get_mut(EPOCH) {
                    value.clone_from(&text);
                }
                if let Some(value) = self.values.get_mut(EPOCH) {
                    *value = Some(text);
                }
            }
            None => {
                self.build_args.remove(EPOCH);
                self.values.remove(EPOCH);
            }
        }
    }

    /// Returns the value of a build argument.
    pub(super) fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).map(String::as_str)
    }

    /// Returns the value that a stage takes over if it declares the argument.
    pub(super) fn inherited(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_deref()
    }
}

/// The arguments that frontends set, with their values.
fn platform_arguments(file: &File, options: &Options) -> Vec<(&'static str, String)> {
    let (build, target) = (&options.build_platform, &options.platform);
    let mut arguments = vec![
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", target.variant.clone()),
    ];
    if options.frontend.since(11) {
        let last = || file.stages.last().and_then(|stage| stage.from.value.name.clone());
        let given = Some(options.target.clone()).filter(|target| !target.is_empty());
        arguments
            .push(("TARGETSTAGE", given.or_else(last).unwrap_or_else(|| "default".to_owned())));
    }
    if options.frontend.since(13) {
        arguments.push(("BUILDOSVERSION", build.os_version.clone()));
        arguments.push(("TARGETOSVERSION", target.os_version.clone()));
    }
    arguments
}

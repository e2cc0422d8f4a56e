//! A whole file: global arguments and stages.

use crate::error::{ParseError, Reason};
use crate::frontend::Frontend;
use crate::instruction::{self, Arguments, Command, From, Instruction};
use crate::limits::Budget;
use crate::lines;
use crate::statement::Statement;

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    pub(crate) fn of(statement: &Statement) -> Self {
        Self { line: statement.line, column: statement.column }
    }

    pub(crate) fn error(self, reason: Reason) -> ParseError {
        ParseError { line: self.line, column: self.column, reason }
    }
}

/// Something in the file, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Located<T> {
    pub(crate) place: Place,
    /// The text of the instruction, without heredocs.
    pub(crate) text: String,
    pub(crate) value: T,
}

/// A stage.
#[derive(Debug)]
pub(crate) struct ParsedStage {
    pub(crate) from: Located<From>,
    pub(crate) commands: Vec<Located<Command>>,
}

/// An instruction that frontends refuse, in a stage or before the first.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) stage: Option<usize>,
    pub(crate) error: ParseError,
}

/// A file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) escape: char,
    pub(crate) globals: Vec<Located<Arguments>>,
    pub(crate) stages: Vec<ParsedStage>,
    pub(crate) refused: Vec<Refused>,
}

/// Parses a file. A wrong instruction is noted and left out.
pub(crate) fn parse(
    content: &[u8],
    frontend: Frontend,
    budget: &mut Budget,
) -> Result<File, ParseError> {
    let lines = lines::statements(content, frontend, budget)?;
    let escape = lines.escape;
    let mut file = File { escape, globals: Vec::new(), stages: Vec::new(), refused: Vec::new() };
    let mut last = Place { line: 1, column: 1 };
    for statement in &lines.statements {
        let place = Place::of(statement);
        last = place;
        let parsed = match instruction::parse(statement, escape, frontend) {
            Ok(parsed) => parsed,
            Err(reason) => {
                file.refuse(place.error(reason));
                // What follows belongs to a stage that is not known.
                if statement.name != "from" {
                    continue;
                }
                Instruction::From(From { base: String::new(), name: None, platform: String::new() })
            }
        };
        let text = statement.text.trim().to_owned();
        match (parsed, file.stages.last_mut()) {
            (Instruction::From(from), _) => {
                let from = Located { place, text, value: from };
                file.stages.push(ParsedStage { from, commands: Vec::new() });
            }
            (Instruction::Command(command), Some(stage)) => {
                stage.commands.push(Located { place, text, value: command });
            }
            (Instruction::Command(Command::Arg(value)), None) => {
                file.globals.push(Located { place, text, value });
            }
            (Instruction::Command(_), None) => file.refuse(place.error(Reason::NoStage)),
        }
    }
    match file.stages.is_empty() {
        true => {
            Err(file.refused.pop().map_or(last.error(Reason::NoStages), |refused| refused.error))
        }
        false => Ok(file),
    }
}

impl File {
    fn refuse(&mut self, error: ParseError) {
        self.refused.push(Refused { stage: self.stages.len().checked_sub(1), error });
    }
}

/// Parses the text behind `ONBUILD`, which is read like a file of its own.
pub(crate) fn parse_trigger(
    text: &str,
    place: Place,
    frontend: Frontend,
    budget: &mut Budget,
) -> Result<Located<Command>, Reason> {
    let lines =
        lines::statements(text.as_bytes(), frontend, budget).map_err(|error| error.reason)?;
    let [statement] = lines.statements.as_slice() else {
        return Err(Reason::arguments("ONBUILD", "trigger should be a single expression"));
    };
    match instruction::parse(statement, lines.escape, frontend)? {
        Instruction::Command(value) => Ok(Located { place, text: statement.text.clone(), value }),
        Instruction::From(_) => {
            Err(Reason::arguments("ONBUILD", "FROM and MAINTAINER aren't allowed as triggers"))
        }
    }
}

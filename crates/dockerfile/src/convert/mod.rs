//! From a file to operations (`dockerfile2llb/convert.go`).

mod copy;
mod globals;
mod graph;
mod owner;
mod run;
mod sources;
mod stage;

use std::collections::{BTreeSet, HashMap};

use llb::Op;

use crate::error::{ParseError, Reason};
use crate::file::{self, Located, Place};
use crate::image::Images;
use crate::limits::{Budget, Limits};
use crate::options::Options;
use globals::Globals;
use graph::{Graph, Inputs, Vertex};
use sources::Slots;

/// What a Dockerfile becomes.
///
/// ```
/// use dockerfile::{Conversion, Images, Input, Limits, Options, Problem, Stage, Step, convert};
///
/// let content = b"FROM alpine AS base\nRUN apk add make\nRNU\nFROM base AS top\nCOPY . /src\n";
/// let Conversion { steps, stages, sources, problems, .. } =
///     convert(content, &Options::default(), &Images::default(), &Limits::default())?;
/// let Step { line, instruction, inputs, .. } = &steps[1];
/// assert_eq!((*line, instruction.as_str()), (5, "COPY . /src"));
/// // It builds on the first step, and copies from the build context.
/// assert_eq!(inputs, &[Input::Step(0), Input::Source(1)]);
/// assert_eq!(inputs[0].step(), Some(0));
/// assert_eq!(sources, ["docker-image://docker.io/library/alpine:latest", "local://context"]);
/// // The config of the base image could change the step, and was not given.
/// assert_eq!(steps[1].unknown_base.as_deref(), Some("docker.io/library/alpine:latest"));
/// let Stage { name, result, needs, .. } = &stages[1];
/// assert_eq!((name.as_deref(), *result, needs.as_slice()), (Some("top"), Some(1), &[0][..]));
/// // A frontend would refuse the whole file.
/// let Problem { stage, error, .. } = &problems[0];
/// assert_eq!(*stage, Some(0));
/// assert_eq!(error.to_string(), "dockerfile parse error on line 3: unknown instruction: RNU");
/// # Ok::<(), dockerfile::ParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Conversion {
    /// The steps of all stages, each after its inputs. Equal steps are one.
    pub steps: Vec<Step>,
    /// The stages, in the order of the file.
    pub stages: Vec<Stage>,
    /// The sources of the steps as builds call them, such as `docker-image://docker.io/library/alpine:latest` and
    /// `local://context`. An image has no digest, unless the file gives one.
    pub sources: Vec<String>,
    /// What frontends refuse. The instructions make no step, others are converted nevertheless.
    pub problems: Vec<Problem>,
    /// How much of [`Limits::growth`] it took.
    pub growth: u64,
}

/// An operation, and where it comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// What it builds on and takes files from.
    pub inputs: Vec<Input>,
    /// The first line of the instruction, from 1; of `FROM` if it is in the config of an image.
    pub line: usize,
    /// The instruction, without heredocs.
    pub instruction: String,
    /// The image whose config would be needed to be sure of the operation, if it was not given.
    pub unknown_base: Option<String>,
}

/// What an input of a step is.
///
/// ```
/// use dockerfile::{Images, Input, Limits, Options, convert};
///
/// let content = b"FROM alpine\nRUN true\n";
/// let conversion = convert(content, &Options::default(), &Images::default(), &Limits::default())?;
/// let input: Input = conversion.steps[0].inputs[0];
/// assert_eq!((input, input.step()), (Input::Source(0), None));
/// # Ok::<(), dockerfile::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Input {
    /// The result of a step, an index of [`Conversion::steps`].
    Step(usize),
    /// A source, an index of [`Conversion::sources`].
    Source(usize),
}

impl Input {
    /// Returns the step; `None` for a source.
    pub const fn step(self) -> Option<usize> {
        match self {
            Self::Step(step) => Some(step),
            Self::Source(_) => None,
        }
    }
}

/// A stage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stage {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// The line of `FROM`, from 1.
    pub line: usize,
    /// The step that makes its result; `None` if that is an image, or empty.
    pub result: Option<usize>,
    /// The stages that it builds on or takes files from.
    pub needs: Vec<usize>,
}

/// An instruction that frontends refuse.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Problem {
    /// The stage in which it is. A builder that does not need this stage may not notice.
    pub stage: Option<usize>,
    /// What is wrong.
    pub error: ParseError,
}

impl Conversion {
    /// Returns the steps that a build of a stage runs, in order.
    ///
    /// ```
    /// use dockerfile::{Images, Limits, Options, convert};
    ///
    /// let content = b"FROM a AS b\nRUN c\nFROM a AS d\nRUN e\nFROM b\nRUN f\n";
    /// let conversion = convert(content, &Options::default(), &Images::default(), &Limits::default())?;
    /// let lines: Vec<_> = conversion.steps_of(2).iter().map(|&step| conversion.steps[step].line).collect();
    /// assert_eq!(lines, [2, 6]);
    /// # Ok::<(), dockerfile::ParseError>(())
    /// ```
    pub fn steps_of(&self, stage: usize) -> BTreeSet<usize> {
        let mut steps = BTreeSet::new();
        let mut next: Vec<usize> =
            self.stages.get(stage).and_then(|stage| stage.result).into_iter().collect();
        while let Some(step) = next.pop() {
            if steps.insert(step) {
                next.extend(self.steps[step].inputs.iter().filter_map(|input| input.step()));
            }
        }
        steps
    }

    /// Returns the stage that a build with this target builds: the last one of that name, or number; without a name the
    /// last of the file.
    ///
    /// ```
    /// use dockerfile::{Images, Limits, Options, convert};
    ///
    /// let content = b"FROM a AS b\nRUN c\nFROM b\nRUN d\n";
    /// let conversion = convert(content, &Options::default(), &Images::default(), &Limits::default())?;
    /// assert_eq!(conversion.stage_named(""), Some(1));
    /// assert_eq!((conversion.stage_named("B"), conversion.stage_named("0")), (Some(0), Some(0)));
    /// assert_eq!(conversion.stage_named("other"), None);
    /// # Ok::<(), dockerfile::ParseError>(())
    /// ```
    pub fn stage_named(&self, target: &str) -> Option<usize> {
        if target.is_empty() {
            return self.stages.len().checked_sub(1);
        }
        let name = target.to_lowercase();
        let named = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&*name));
        named.or_else(|| target.parse().ok().filter(|&stage| stage < self.stages.len()))
    }

    /// Returns the graph of a build of a stage for `platform`, whose steps are called as in the file, with their lines.
    ///
    /// ```
    /// use dockerfile::{Images, Limits, Options, convert};
    ///
    /// let content = b"FROM a AS b\nRUN c\nFROM a\nRUN e\nCOPY --from=b /f /\n";
    /// let options = Options::default();
    /// let conversion = convert(content, &options, &Images::default(), &Limits::default())?;
    /// let graph = conversion.graph(1, &options.platform);
    /// let names: Vec<_> = graph.steps.iter().map(|step| step.name()).collect();
    /// let image = "docker-image://docker.io/library/a:latest";
    /// assert_eq!(names, [image, "line 2: RUN c", "line 4: RUN e", "line 5: COPY --from=b /f /"]);
    /// # Ok::<(), dockerfile::ParseError>(())
    /// ```
    pub fn graph(&self, stage: usize, platform: &llb::Platform) -> llb::Graph {
        let wanted = self.steps_of(stage);
        let mut places = HashMap::new();
        let mut graph = llb::Graph { platforms: vec![platform.clone()], steps: Vec::new() };
        let used = wanted.iter().flat_map(|&step| &self.steps[step].inputs);
        let sources: BTreeSet<_> = used
            .filter_map(|input| match input {
                Input::Source(source) => Some(*source),
                Input::Step(_) => None,
            })
            .collect();
        for source in sources {
            places.insert(Input::Source(source), graph.steps.len());
            let op = Op { inputs: 0, kind: llb::op::Kind::Source, platform: None };
            let (inputs, identifier) = (Vec::new(), self.sources.get(source).cloned());
            let (custom_name, digest, ignores_cache) = (None, None, false);
            graph.steps.push(llb::Step {
                op,
                inputs,
                identifier,
                custom_name,
                digest,
                ignores_cache,
            });
        }
        for index in wanted {
            let Step { op, inputs, line, instruction, .. } = &self.steps[index];
            // All steps of a Dockerfile have one output that others use.
            let output = |input: &Input| Some(llb::Output { step: *places.get(input)?, output: 0 });
            let inputs = inputs.iter().filter_map(output).collect();
            places.insert(Input::Step(index), graph.steps.len());
            let custom_name = Some(format!("line {line}: {instruction}"));
            let (op, identifier, digest, ignores_cache) = (op.clone(), None, None, false);
            graph.steps.push(llb::Step {
                op,
                inputs,
                identifier,
                custom_name,
                digest,
                ignores_cache,
            });
        }
        graph
    }
}

/// Converts a Dockerfile, as a frontend does for a build with `options` on images with these configs. All
/// stages are converted. A base image without a config counts as one whose config has nothing: that is true of
/// many small images, and steps that do not depend on it are right anyway.
///
/// The work grows with the size of the file and of what it becomes, which `limits` bounds.
///
/// # Errors
/// Returns an error if the file cannot be read as a Dockerfile at all, or at a limit.
pub fn convert(
    content: &[u8],
    options: &Options,
    images: &Images,
    limits: &Limits,
) -> Result<Conversion, ParseError> {
    if content.len() > limits.bytes {
        let reason = Reason::TooLarge { limit: limits.bytes };
        return Err(ParseError { line: 1, column: 1, reason });
    }
    let mut budget = Budget::new(limits);
    let file = file::parse(content, options.frontend, &mut budget)?;
    let mut problems = Vec::new();
    for refused in &file.refused {
        problems.push(Problem { stage: refused.stage, error: refused.error.clone() });
    }
    let refuse = |error| problems.push(Problem { stage: None, error });
    let globals = Globals::new(&file, options, &mut budget, refuse)?;
    let mut converter = Converter {
        options,
        images,
        escape: file.escape,
        globals,
        budget,
        graph: Graph::default(),
        slots: Slots::default(),
        result: Conversion {
            steps: Vec::new(),
            stages: Vec::new(),
            sources: Vec::new(),
            problems,
            growth: 0,
        },
    };
    converter.stages(&file)?;
    converter.result.problems.sort_by_key(|problem| (problem.error.line, problem.error.column));
    converter.result.growth = converter.budget.grown();
    converter.result.sources = converter.graph.into_sources();
    Ok(converter.result)
}

/// A conversion at work.
struct Converter<'a> {
    options: &'a Options,
    images: &'a Images,
    escape: char,
    globals: Globals,
    budget: Budget,
    graph: Graph,
    slots: Slots,
    result: Conversion,
}

/// Where an operation comes from.
struct Origin<'a> {
    place: Place,
    text: &'a str,
    unknown_base: Option<&'a str>,
}

impl<'a> Origin<'a> {
    fn of<T>(located: &'a Located<T>, unknown_base: Option<&'a str>) -> Self {
        Self { place: located.place, text: &located.text, unknown_base }
    }
}

impl Converter<'_> {
    /// Notes what frontends refuse, and goes on; or ends at a limit.
    fn refuse(
        &mut self,
        stage: Option<usize>,
        place: Place,
        reason: Reason,
    ) -> Result<(), ParseError> {
        let error = place.error(reason);
        if error.reason.is_limit() {
            return Err(error);
        }
        self.result.problems.push(Problem { stage, error });
        Ok(())
    }

    /// Adds an operation to the graph, and returns its result.
    fn add(
        &mut self,
        kind: llb::op::Kind,
        inputs: Inputs,
        platform: Option<llb::Platform>,
        origin: &Origin<'_>,
    ) -> Result<Vertex, Reason> {
        let op = Op { inputs: inputs.len(), kind, platform };
        self.budget.grow(size(&op) + origin.text.len())?;
        let (vertex, made) = self.graph.op(op, inputs.into_list());
        if let Some(made) = made {
            self.result.steps.push(Step {
                op: made.op,
                inputs: made.inputs,
                line: origin.place.line,
                instruction: origin.text.to_owned(),
                unknown_base: origin.unknown_base.map(str::to_owned),
            });
        }
        Ok(vertex)
    }
}

/// Returns about how much memory an operation takes.
fn size(op: &Op) -> usize {
    use llb::op::{Action, Kind};
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + 32).sum::<usize>();
    256 + match &op.kind {
        Kind::Exec(exec) => {
            texts(&exec.meta.args) + texts(&exec.meta.env) + 256 * exec.mounts.len()
        }
        Kind::File(file) => {
            let action = |action: &llb::op::FileAction| match &action.action {
                Action::Copy(copy) => {
                    texts(&copy.exclude_patterns) + copy.src.len() + copy.dest.len() + 512
                }
                Action::Mkfile(mkfile) => mkfile.data.len(),
                _ => 256,
            };
            file.actions.iter().map(action).sum()
        }
        _ => 0,
    }
}

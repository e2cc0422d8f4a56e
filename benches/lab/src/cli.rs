//! Runs the commands.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use testkit::Tools;

use crate::args::{
    Arguments, Command, Compare, Format, Report as ReportArguments, Run as RunArguments,
};
use crate::compare::Comparison;
use crate::lab::Lab;
use crate::record::{Line, Measurement, Outcome};
use crate::report::{Report, pages};
use crate::results::{Run, Writer};
use crate::units::seconds;

/// Executes the command line. `out` receives the result, `log` the progress.
///
/// # Errors
/// Returns an error if it fails. A failed build is a result, not an error.
pub fn run(arguments: &Arguments, out: &mut dyn Write, log: &mut dyn Write) -> Result<()> {
    let program = std::env::current_exe().context("this program has no path")?;
    // target/release/lab, or debug.
    let target = program.ancestors().nth(2).context("this program is not in target/PROFILE")?;
    let results = arguments.results.clone().unwrap_or_else(|| target.join("lab"));
    match &arguments.command {
        Command::Run(arguments) => measure(arguments, target, &program, &results, log),
        Command::Report(arguments) => report(arguments, &results, out, log),
        Command::Compare(arguments) => compare(arguments, &results, out),
    }
}

fn measure(
    arguments: &RunArguments,
    target: &Path,
    program: &Path,
    results: &Path,
    log: &mut dyn Write,
) -> Result<()> {
    let oci2bk = program.with_file_name("oci2bk");
    if !oci2bk.exists() {
        bail!("{} is not there: build it in the same profile", oci2bk.display());
    }
    let tools = Tools::locate(&oci2bk).map_err(|reason| anyhow!(reason))?;
    let lab = Lab::create(&tools, target, arguments.workload(), arguments.exports())?;
    let mut writer = Writer::create(results, &lab.header(arguments.repeats)?)?;
    writeln!(log, "results: {}", writer.path().display())?;
    let seed = lab.seed()?;
    writeln!(log, "seed: built in {}", seconds(seed.micros))?;
    writer.write(&Line::Seed(seed))?;
    // Effects that change during a run are spread over all scenarios.
    for repeat in 1..=arguments.repeats {
        for scenario in arguments.scenarios() {
            let measurement = lab.measure(scenario, repeat);
            writeln!(
                log,
                "{} {repeat}/{}: {}",
                scenario.name,
                arguments.repeats,
                Told(&measurement)
            )?;
            writer.write(&Line::Measurement(measurement))?;
        }
    }
    if arguments.measures_all() {
        let builds = arguments.short_builds().saturating_mul(arguments.repeats);
        writeln!(log, "first builds")?;
        writer.write(&Line::FirstBuilds(lab.first_builds(builds)?))?;
        writeln!(log, "overhead")?;
        writer.write(&Line::Overhead(lab.overhead(builds)?))?;
    }
    Ok(())
}

/// Formats a measurement as one line.
struct Told<'a>(&'a Measurement);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.outcome {
            Outcome::Failed { reason } => write!(formatter, "failed: {reason}"),
            Outcome::Built(build) => write!(
                formatter,
                "built in {}, {} steps cached, {} ran, {} layers extracted",
                seconds(build.micros),
                build.progress.cached(),
                build.progress.ran(),
                build.progress.extracted.len()
            ),
        }
    }
}

fn report(
    arguments: &ReportArguments,
    results: &Path,
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<()> {
    let run = match &arguments.run {
        Some(path) => Run::read(path)?,
        None => Run::latest(results, 1)?.pop().context("there is no run")?,
    };
    let report = Report::new(&run, arguments.threshold);
    if arguments.write {
        for page in pages(&report, &PathBuf::from("."))? {
            std::fs::write(&page.path, page.text)
                .with_context(|| page.path.display().to_string())?;
            writeln!(log, "written: {}", page.path.display())?;
        }
        return Ok(());
    }
    let text = match arguments.format {
        Format::Markdown => report.markdown(),
        Format::Json => report.json()?,
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn compare(arguments: &Compare, results: &Path, out: &mut dyn Write) -> Result<()> {
    let comparison = Comparison::new(&Run::latest(results, arguments.last.get())?);
    let text = match arguments.format {
        Format::Markdown => comparison.markdown(),
        Format::Json => comparison.json()?,
    };
    Ok(out.write_all(text.as_bytes())?)
}

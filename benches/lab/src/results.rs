//! The directory of results: a file for each run, named after its start time.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::record::{FORMAT, FirstBuilds, Header, Line, Measurement, Overhead, Seed};

/// Extension of results files.
const EXTENSION: &str = "jsonl";

/// A recorded run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of its file without the extension.
    pub name: String,
    /// The machine and the workload.
    pub header: Header,
    /// The build that made the seed for warming the builders; `None` if it failed.
    pub seed: Option<Seed>,
    /// The measurements, in the order in which they were made.
    pub measurements: Vec<Measurement>,
    /// First builds on either kind of warm root, if they were compared.
    pub first_builds: Option<FirstBuilds>,
    /// The overhead of measuring, if it was measured.
    pub overhead: Option<Overhead>,
}

/// The results of a run in progress. Each line is written immediately.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Creates the file of a run in `dir`.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, or another run began at the same time.
    pub fn create(dir: &Path, header: &Header) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let name: String =
            header.started.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        let path = dir.join(format!("{name}.{EXTENSION}"));
        let file = File::create_new(&path).with_context(|| path.display().to_string())?;
        let mut writer = Self { file, path };
        writer.write(&Line::Run(header.clone()))?;
        Ok(writer)
    }

    /// Returns the path of the results.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())
    }
}

impl Run {
    /// Reads the results of a run.
    ///
    /// # Errors
    /// Returns an error if they cannot be read, or are of another format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, &text).with_context(|| path.display().to_string())
    }

    /// Parses the results of a run.
    ///
    /// # Errors
    /// Returns an error if they are of another format.
    pub fn parse(name: String, text: &str) -> Result<Self> {
        let mut run: Option<Self> = None;
        // A killed run may have left an incomplete line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for (number, line) in whole.lines().enumerate() {
            let line: Line =
                serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
            match (line, &mut run) {
                (Line::Run(header), None) => {
                    ensure!(
                        header.format == FORMAT,
                        "the format is {}, and only {FORMAT} is known: measure again",
                        header.format
                    );
                    run = Some(Self {
                        name: name.clone(),
                        header,
                        seed: None,
                        measurements: Vec::new(),
                        first_builds: None,
                        overhead: None,
                    });
                }
                (Line::Seed(seed), Some(run)) => run.seed = Some(seed),
                (Line::Measurement(measurement), Some(run)) => run.measurements.push(measurement),
                (Line::FirstBuilds(builds), Some(run)) => run.first_builds = Some(builds),
                (Line::Overhead(overhead), Some(run)) => run.overhead = Some(overhead),
                (Line::Run(_), Some(_)) | (_, None) => {
                    bail!("line {}: a run begins with one line of kind run", number + 1)
                }
            }
        }
        run.context("there is no run in it")
    }

    /// Reads the latest `count` runs in `dir`, oldest first.
    ///
    /// # Errors
    /// Returns an error if there are fewer, or one of them cannot be read.
    pub fn latest(dir: &Path, count: usize) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        let entries = fs::read_dir(dir)
            .with_context(|| format!("{}: nothing was measured yet", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        ensure!(
            paths.len() >= count,
            "{} has {} of the {count} runs that are needed",
            dir.display(),
            paths.len()
        );
        paths[paths.len() - count..].iter().map(|path| Self::read(path)).collect()
    }

    /// Returns the measurements of a scenario.
    pub fn of<'a>(&'a self, scenario: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.measurements.iter().filter(move |measurement| measurement.scenario == scenario)
    }
}

#[cfg(test)]
mod tests;

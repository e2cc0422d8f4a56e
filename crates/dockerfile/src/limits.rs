//! What a Dockerfile may cost.

use crate::error::Reason;

/// What a Dockerfile and its conversion may cost. Hostile input of a few kilobytes can describe gigabytes:
/// each `ENV A=$A$A` doubles a value, and each `RUN` repeats the whole environment.
///
/// ```
/// use dockerfile::{Images, Limits, Options, Reason, convert};
///
/// let limits = Limits { bytes: 10, ..Limits::default() };
/// let error = convert(b"FROM scratch\n", &Options::default(), &Images::default(), &limits).unwrap_err();
/// assert_eq!(error.reason, Reason::TooLarge { limit: 10 });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of the Dockerfile in bytes.
    pub bytes: usize,
    /// Number of instructions, those that run by `ONBUILD` included.
    pub instructions: usize,
    /// Bytes of all ops, of the environments of all stages, and of all values that are substituted.
    pub growth: u64,
}

impl Default for Limits {
    /// A megabyte, 10,000 instructions, and 64 MiB of what they become. The largest Dockerfiles of public
    /// projects have a few hundred instructions, and their ops a megabyte.
    fn default() -> Self {
        Self { bytes: 1 << 20, instructions: 10_000, growth: 64 << 20 }
    }
}

/// What is left of the limits during a conversion.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    instructions: usize,
    growth: u64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), instructions: limits.instructions, growth: limits.growth }
    }

    /// Takes one instruction from what is left.
    pub(crate) fn instruction(&mut self) -> Result<(), Reason> {
        let limit = self.limits.instructions;
        let left = self.instructions.checked_sub(1);
        self.instructions = left.ok_or(Reason::TooManyInstructions { limit })?;
        Ok(())
    }

    /// Returns how many bytes were taken.
    pub(crate) fn grown(&self) -> u64 {
        self.limits.growth - self.growth
    }

    /// Takes `bytes` from what is left.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        let limit = self.limits.growth;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.growth = self.growth.checked_sub(bytes).ok_or(Reason::TooMuch { limit })?;
        Ok(())
    }
}

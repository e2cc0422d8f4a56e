//! What a caller requires of a state.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{Plan, Shortfall, ShortfallKind};

/// How much of the caches a state has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Everything: [`Plan::is_complete`].
    All,
    /// Every step has a key, except SBOM scans.
    Keys,
    /// No layer is missing.
    Layers,
    /// So many of the steps are found, with all layers of their results.
    Steps {
        /// The least share, in percent of all steps.
        percent: u8,
    },
}

/// The text is not a [`Requirement`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither all, keys, layers nor a number of percent such as 90%")]
#[non_exhaustive]
pub struct ParseRequirementError(pub String);

impl FromStr for Requirement {
    type Err = ParseRequirementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = || {
            let digits = text.strip_suffix('%')?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let percent = digits.parse().ok().filter(|percent| *percent <= 100)?;
            is_number.then_some(Self::Steps { percent })
        };
        match text {
            "all" => Some(Self::All),
            "keys" => Some(Self::Keys),
            "layers" => Some(Self::Layers),
            _ => percent(),
        }
        .ok_or_else(|| ParseRequirementError(text.to_owned()))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Keys => f.write_str("keys"),
            Self::Layers => f.write_str("layers"),
            Self::Steps { percent } => write!(f, "{percent}%"),
        }
    }
}

impl Plan {
    /// Returns the [shortfalls](Self::shortfalls) because of which the state does not meet `requirement`;
    /// empty if it does.
    pub fn unmet(&self, requirement: Requirement) -> Vec<Shortfall> {
        use ShortfallKind::{MissingLayer, NoKey, Unproven, UnusedLayer};
        let shortfalls = self.shortfalls().into_iter();
        match requirement {
            Requirement::All => shortfalls.collect(),
            Requirement::Keys => {
                shortfalls.filter(|it| [NoKey, Unproven].contains(&it.kind)).collect()
            }
            Requirement::Layers => shortfalls.filter(|it| it.kind == MissingLayer).collect(),
            Requirement::Steps { percent } => {
                let short: Vec<_> = shortfalls.filter(|it| it.kind != UnusedLayer).collect();
                let lost: BTreeSet<_> = self.lost.iter().map(|it| (it.source, it.digest)).collect();
                let total = self.steps.len() + lost.len();
                let less: BTreeSet<_> = short.iter().map(|it| (it.source, it.digest)).collect();
                let found = total.saturating_sub(less.len());
                if found * 100 >= total * usize::from(percent) { Vec::new() } else { short }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_written_as_they_are_read() {
        for text in ["all", "keys", "layers", "0%", "90%", "100%"] {
            assert_eq!(text.parse::<Requirement>().unwrap().to_string(), text);
        }
        for text in ["", "%", "90", "101%", "+5%", "-1%", "1.5%", "All"] {
            let refused = text.parse::<Requirement>();
            assert_eq!(refused, Err(ParseRequirementError(text.to_owned())));
        }
    }
}

//! What a build finds.

/// What a build finds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warmth {
    /// Its result exists.
    Warm,
    /// Its result exists, in layers that the daemon has to unpack first.
    Packed,
    /// Its key exists without a result.
    KeyOnly,
    /// It is a source of a build: an image, files of the context.
    Source,
    /// It, or one of its inputs, may have another name in the daemon that will use it.
    MayMiss,
    /// It has another name in the daemon that will use it.
    WillMiss,
    /// Layers of its result are missing.
    NoLayers,
    /// No key source has its op digest.
    NoKey,
    /// One of its inputs will not be found.
    NoInput,
}

impl Warmth {
    /// All of them, best first.
    pub const ALL: [Self; 9] = [
        Self::Warm,
        Self::Packed,
        Self::KeyOnly,
        Self::Source,
        Self::MayMiss,
        Self::WillMiss,
        Self::NoLayers,
        Self::NoKey,
        Self::NoInput,
    ];

    /// Returns its word, which is stable.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Packed => "packed",
            Self::KeyOnly => "key-only",
            Self::Source => "source",
            Self::MayMiss => "may-miss",
            Self::WillMiss => "will-miss",
            Self::NoLayers => "no-layers",
            Self::NoKey => "no-key",
            Self::NoInput => "no-input",
        }
    }

    /// Returns its meaning.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Warm => "cached, with its result",
            Self::Packed => "cached; unpacked when a build needs its files",
            Self::KeyOnly => "known without a result; cached where a step on it is",
            Self::Source => "where a build starts: an image, or contents",
            Self::MayMiss => "may run again, or what it builds on may",
            Self::WillMiss => "runs again: the daemon calls it otherwise",
            Self::NoLayers => "runs again: layers of its result are missing",
            Self::NoKey => "runs again: no key source knows it",
            Self::NoInput => "runs again, as it builds on something that does",
        }
    }

    /// Returns whether a build will, or may, run it again.
    pub fn is_cold(self) -> bool {
        self > Self::Source
    }
}

/// Returns the number of steps with each warmth.
pub fn count(warmths: impl IntoIterator<Item = Warmth>) -> Vec<(Warmth, usize)> {
    let mut counts = Warmth::ALL.map(|warmth| (warmth, 0));
    for warmth in warmths {
        counts.iter_mut().filter(|(known, _)| *known == warmth).for_each(|(_, count)| *count += 1);
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

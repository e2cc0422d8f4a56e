//! What a build finds.

/// What a build finds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warmth {
    /// Its result is there.
    Warm,
    /// Its result is there, in layers that the daemon has to unpack first.
    Packed,
    /// It is known without a result.
    KeyOnly,
    /// It is where a build starts: an image, files of the context.
    Source,
    /// It, or what it builds on, may be called otherwise by the daemon that will use it.
    MayMiss,
    /// It is called otherwise by the daemon that will use it.
    WillMiss,
    /// Layers of its result are missing.
    NoLayers,
    /// No key source has its op digest.
    NoKey,
    /// It builds on something that will not be found.
    NoInput,
}

impl Warmth {
    /// All of them, the best first.
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

    /// The word for it, which stays the same.
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

    /// What it means.
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

    /// Whether a build will, or may, run it again.
    pub fn is_cold(self) -> bool {
        self > Self::Source
    }
}

/// How many steps have each warmth.
pub fn count(warmths: impl IntoIterator<Item = Warmth>) -> Vec<(Warmth, usize)> {
    let mut counts = Warmth::ALL.map(|warmth| (warmth, 0));
    for warmth in warmths {
        counts.iter_mut().filter(|(known, _)| *known == warmth).for_each(|(_, count)| *count += 1);
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

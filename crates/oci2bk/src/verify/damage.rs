//! The kinds of damage to a root.

use bkstate::state::ContentDamage;

use super::{AgainstDamage, LayerDamage, TreeDamage};

/// Something in a root that would break a daemon. The message says what and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// In the databases, or in the files that they require.
    #[error(transparent)]
    State(#[from] bkstate::state::Damage),
    /// In an unpacked tree.
    #[error(transparent)]
    Tree(#[from] TreeDamage),
    /// In a record's statement about its layer.
    #[error(transparent)]
    Layer(#[from] LayerDamage),
    /// A contradiction to the caches from which the root was made.
    #[error(transparent)]
    Against(#[from] AgainstDamage),
}

impl From<ContentDamage> for Damage {
    fn from(damage: ContentDamage) -> Self {
        Self::State(damage.into())
    }
}

impl Damage {
    /// Returns the kind of damage in a word, which is stable while messages can change.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::State(damage) => damage.kind(),
            Self::Tree(damage) => damage.kind(),
            Self::Layer(damage) => damage.kind(),
            Self::Against(damage) => damage.kind(),
        }
    }

    /// Returns what a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::State(damage) => damage.consequence(),
            Self::Tree(damage) => damage.consequence(),
            Self::Layer(damage) => damage.consequence(),
            Self::Against(damage) => damage.consequence(),
        }
    }
}

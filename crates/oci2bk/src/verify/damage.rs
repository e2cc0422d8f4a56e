//! What can be wrong with a root.

use bkstate::state::ContentDamage;

use super::{AgainstDamage, LayerDamage, TreeDamage};

/// Something in a root that a daemon would trip over. The message says what and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// In what the databases say, or in what should be there by them.
    #[error(transparent)]
    State(#[from] bkstate::state::Damage),
    /// In an unpacked tree.
    #[error(transparent)]
    Tree(#[from] TreeDamage),
    /// In what a record says of its layer.
    #[error(transparent)]
    Layer(#[from] LayerDamage),
    /// In what the caches say that the root was made of.
    #[error(transparent)]
    Against(#[from] AgainstDamage),
}

impl From<ContentDamage> for Damage {
    fn from(damage: ContentDamage) -> Self {
        Self::State(damage.into())
    }
}

impl Damage {
    /// The kind of damage in a word, which stays the same whatever the message says.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::State(damage) => damage.kind(),
            Self::Tree(damage) => damage.kind(),
            Self::Layer(damage) => damage.kind(),
            Self::Against(damage) => damage.kind(),
        }
    }

    /// What a daemon would do about it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::State(damage) => damage.consequence(),
            Self::Tree(damage) => damage.consequence(),
            Self::Layer(damage) => damage.consequence(),
            Self::Against(damage) => damage.consequence(),
        }
    }
}

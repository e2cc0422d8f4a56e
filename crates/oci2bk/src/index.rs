//! Typed indexes into lists. Each kind of item has its own index type, so that the index of a layer cannot be
//! used for a snapshot.
//!
//! Callers see plain lists that take these indexes. Tables beside them are `TiVec`s.

use typed_index_collections::TiSlice;

/// An item of a list that is referred to by its index.
pub(crate) trait Listed: Sized {
    /// The type of its index.
    type Index;
}

/// Returns the list with typed indexes.
pub(crate) fn by_index<T: Listed>(list: &[T]) -> &TiSlice<T::Index, T> {
    list.as_ref()
}

/// Defines an index type for a type of item, and makes lists of that type accept it.
macro_rules! index {
    ($(#[$doc:meta])* $vis:vis struct $name:ident of $listed:ty;) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        $vis struct $name($vis usize);

        impl $crate::index::Listed for $listed {
            type Index = $name;
        }

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                Self(index)
            }
        }

        impl From<$name> for usize {
            fn from(index: $name) -> Self {
                index.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::ops::Index<$name> for [$listed] {
            type Output = $listed;

            fn index(&self, index: $name) -> &$listed {
                &self[index.0]
            }
        }

        impl std::ops::Index<$name> for Vec<$listed> {
            type Output = $listed;

            fn index(&self, index: $name) -> &$listed {
                &self[index.0]
            }
        }

        impl std::ops::IndexMut<$name> for [$listed] {
            fn index_mut(&mut self, index: $name) -> &mut $listed {
                &mut self[index.0]
            }
        }

        impl std::ops::IndexMut<$name> for Vec<$listed> {
            fn index_mut(&mut self, index: $name) -> &mut $listed {
                &mut self[index.0]
            }
        }
    };
}
pub(crate) use index;

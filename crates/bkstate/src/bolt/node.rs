//! Branch and leaf pages, parsed and validated as a whole before use.

use std::fmt;
use std::ops::Range;

use super::MAX_KEY_BYTES;
use super::format::{
    BRANCH, BUCKET_ELEMENT, BUCKET_HEADER, ELEMENT, LEAF, PAGE_HEADER, PageHeader, u32_at, u64_at,
};
use super::reader::ReadError;

/// Where a page of a bucket's tree is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// On its own page.
    Page(u64),
    /// In the value of the bucket's element, as bbolt stores small buckets.
    Inline {
        /// The page of the bucket's element.
        page: u64,
        /// The element's position on the page, from 0.
        index: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(page) => write!(f, "page {page}"),
            Self::Inline { page, index } => {
                write!(f, "the inline bucket in element {index} of page {page}")
            }
        }
    }
}

/// A branch or leaf page.
#[derive(Debug)]
pub(super) struct Node {
    place: Place,
    bytes: Vec<u8>,
    elements: Vec<Element>,
}

#[derive(Debug)]
struct Element {
    key: Range<usize>,
    content: Content<Range<usize>>,
}

/// The content of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<B> {
    /// A child page; on branch pages only.
    Child(u64),
    /// A value.
    Value(B),
    /// A bucket's value, to be parsed by [`BucketValue`].
    Bucket(B),
}

/// The value of a bucket's element.
pub(super) struct BucketValue<'a> {
    /// Root page number; 0 if the bucket is inline.
    pub(super) root: u64,
    pub(super) sequence: u64,
    /// The page, if the bucket is inline.
    pub(super) inline: &'a [u8],
}

impl Node {
    /// Parses a whole page with its overflow pages.
    ///
    /// # Errors
    /// Returns an error if the page has anything that bbolt would not write: another page type, an element
    /// outside the page, elements that together are larger than the page (they would overlap), a key of
    /// invalid length, keys out of order, a branch page without children.
    pub(super) fn parse(place: Place, bytes: Vec<u8>) -> Result<Self, ReadError> {
        let header = PageHeader::decode(&bytes).ok_or(ReadError::ShortInline { place })?;
        let is_branch = match (header.flags, place) {
            (BRANCH, Place::Page(_)) => true,
            (LEAF, _) => false,
            (flags, _) => return Err(ReadError::PageType { place, flags }),
        };
        let count = usize::from(header.count);
        if is_branch && count == 0 {
            return Err(ReadError::EmptyBranch { place });
        }
        let mut elements: Vec<Element> = Vec::new();
        // Bytes of the page that are left after the element table and the data so far.
        let mut room = bytes
            .len()
            .checked_sub(PAGE_HEADER + count * ELEMENT)
            .ok_or(ReadError::ElementOutside { place, index: count })?;
        elements.reserve_exact(count);
        for index in 0..count {
            let outside = ReadError::ElementOutside { place, index };
            let element = element(&bytes, is_branch, index)
                .filter(|element| element.end() <= bytes.len())
                .ok_or(outside)?;
            room = room
                .checked_sub(element.end() - element.key.start)
                .ok_or(ReadError::ElementOutside { place, index })?;
            let key = &bytes[element.key.clone()];
            let length = key.len();
            if length == 0 || length > MAX_KEY_BYTES {
                return Err(ReadError::KeyLength { place, index, length });
            }
            if elements.last().is_some_and(|last| bytes[last.key.clone()] >= *key) {
                return Err(ReadError::KeyOrder { place, index });
            }
            elements.push(element);
        }
        Ok(Self { place, bytes, elements })
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn key(&self, index: usize) -> &[u8] {
        &self.bytes[self.elements[index].key.clone()]
    }

    pub(super) fn first_key(&self) -> Option<&[u8]> {
        (!self.elements.is_empty()).then(|| self.key(0))
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        Some(self.key(self.elements.len().checked_sub(1)?))
    }

    pub(super) fn content(&self, index: usize) -> Content<&[u8]> {
        match &self.elements[index].content {
            Content::Child(page) => Content::Child(*page),
            Content::Value(range) => Content::Value(&self.bytes[range.clone()]),
            Content::Bucket(range) => Content::Bucket(&self.bytes[range.clone()]),
        }
    }

    /// Finds the position of `key`, or the position to insert it, as [`slice::binary_search`] does.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.elements.binary_search_by(|element| self.bytes[element.key.clone()].cmp(key))
    }
}

impl Element {
    fn end(&self) -> usize {
        match &self.content {
            Content::Child(_) => self.key.end,
            Content::Value(range) | Content::Bucket(range) => range.end,
        }
    }
}

/// Reads entry `index` of the element table; `None` if it is outside the page or its end overflows. Positions
/// are relative to the entry itself.
fn element(bytes: &[u8], is_branch: bool, index: usize) -> Option<Element> {
    let at = PAGE_HEADER + index * ELEMENT;
    let field = |offset| Some(usize::try_from(u32_at(bytes, at + offset)?).unwrap_or(usize::MAX));
    if is_branch {
        let start = at.checked_add(field(0)?)?;
        let key = start..start.checked_add(field(4)?)?;
        return Some(Element { key, content: Content::Child(u64_at(bytes, at + 8)?) });
    }
    let start = at.checked_add(field(4)?)?;
    let key = start..start.checked_add(field(8)?)?;
    let value = key.end..key.end.checked_add(field(12)?)?;
    let is_bucket = u32_at(bytes, at)? & BUCKET_ELEMENT != 0;
    let content = if is_bucket { Content::Bucket(value) } else { Content::Value(value) };
    Some(Element { key, content })
}

impl<'a> BucketValue<'a> {
    /// Splits the value of a bucket's element; `None` if it is too short.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        Some(Self {
            root: u64_at(value, 0)?,
            sequence: u64_at(value, 8)?,
            inline: value.get(BUCKET_HEADER..)?,
        })
    }
}

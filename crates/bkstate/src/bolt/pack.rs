//! Branch and leaf pages while they are being filled.

use super::format::{BRANCH, BUCKET_ELEMENT, ELEMENT, LEAF, PAGE_HEADER, PageHeader};

/// A page to which elements are added in key order.
#[derive(Debug)]
pub(super) struct Packer {
    flags: u16,
    elements: Vec<Packed>,
    /// Keys and values of all elements, one after the other.
    data: Vec<u8>,
}

#[derive(Debug)]
struct Packed {
    key: usize,
    value: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Value,
    Bucket,
    Child(u64),
}

impl Packer {
    pub(super) fn leaf() -> Self {
        Self { flags: LEAF, elements: Vec::new(), data: Vec::new() }
    }

    pub(super) fn branch() -> Self {
        Self { flags: BRANCH, elements: Vec::new(), data: Vec::new() }
    }

    pub(super) fn value(&mut self, key: &[u8], value: &[u8]) {
        self.push(Kind::Value, key, value);
    }

    pub(super) fn bucket(&mut self, key: &[u8], value: &[u8]) {
        self.push(Kind::Bucket, key, value);
    }

    pub(super) fn child(&mut self, key: &[u8], page: u64) {
        self.push(Kind::Child(page), key, &[]);
    }

    fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.elements.push(Packed { key: key.len(), value: value.len(), kind });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
    }

    /// Size of the page so far, in bytes.
    pub(super) fn size(&self) -> usize {
        PAGE_HEADER + self.elements.len() * ELEMENT + self.data.len()
    }

    /// Size of the page after adding an element with `data` bytes of key and value.
    pub(super) fn size_with(&self, data: usize) -> usize {
        self.size() + ELEMENT + data
    }

    /// Returns the first key; empty if there is none.
    pub(super) fn first_key(&self) -> &[u8] {
        let length = self.elements.first().map_or(0, |element| element.key);
        &self.data[..length]
    }

    /// Removes and returns the last child of a branch page.
    pub(super) fn pop_child(&mut self) -> Option<(Vec<u8>, u64)> {
        let Packed { key, value, kind: Kind::Child(page) } = self.elements.pop()? else {
            return None;
        };
        let key = self.data.split_off(self.data.len() - key - value);
        Some((key, page))
    }

    /// Appends the page to `out`, without padding.
    pub(super) fn encode(&self, id: u64, overflow: u32, out: &mut Vec<u8>) {
        // Neither conversion can fail: a page has at most 240 elements (the writer lets it grow beyond 4 KiB
        // only while it has three or fewer), and is shorter than MAX_NODE_BYTES.
        let count = u16::try_from(self.elements.len()).unwrap_or(u16::MAX);
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&PageHeader { id, flags: self.flags, count, overflow }.encode());
        let mut start = 0;
        for (index, element) in self.elements.iter().enumerate() {
            // The position of the key, relative to this entry of the table.
            let position = number((self.elements.len() - index) * ELEMENT + start);
            match element.kind {
                Kind::Child(page) => {
                    out.extend_from_slice(&position);
                    out.extend_from_slice(&number(element.key));
                    out.extend_from_slice(&page.to_le_bytes());
                }
                Kind::Value | Kind::Bucket => {
                    let is_bucket = matches!(element.kind, Kind::Bucket);
                    let flags = if is_bucket { BUCKET_ELEMENT } else { 0 };
                    out.extend_from_slice(&flags.to_le_bytes());
                    out.extend_from_slice(&position);
                    out.extend_from_slice(&number(element.key));
                    out.extend_from_slice(&number(element.value));
                }
            }
            start += element.key + element.value;
        }
        out.extend_from_slice(&self.data);
    }
}

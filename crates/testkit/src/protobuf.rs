//! Protobuf messages, written field by field: independent of the code under test, and able to write messages
//! that it does not know.

/// A message being built. Zero values are omitted, as usual.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Creates a message without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the encoded message.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds a number.
    #[must_use]
    pub fn int(self, field: u8, value: i64) -> Self {
        if value == 0 { self } else { self.choice(field, value) }
    }

    /// Adds a number even if it is zero, as for the chosen member of a oneof.
    #[must_use]
    pub fn choice(mut self, field: u8, value: i64) -> Self {
        self.tag(field, 0);
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds a boolean.
    #[must_use]
    pub fn flag(self, field: u8, value: bool) -> Self {
        self.int(field, value.into())
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, field: u8, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if value.is_empty() { self } else { self.bytes(field, value) }
    }

    /// Adds a list of texts.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, field: u8, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, |message, value| message.bytes(field, value.as_ref()))
    }

    /// Adds a packed list of numbers.
    #[must_use]
    pub fn ints(self, field: u8, values: &[i64]) -> Self {
        let mut packed = Self::new();
        values.iter().for_each(|value| packed.varint(value.cast_unsigned()));
        if values.is_empty() { self } else { self.bytes(field, packed.0) }
    }

    /// Adds a nested message.
    #[must_use]
    pub fn message(self, field: u8, value: Self) -> Self {
        self.bytes(field, value.0)
    }

    /// Adds a nested message, if there is one.
    #[must_use]
    pub fn optional(self, field: u8, value: Option<Self>) -> Self {
        match value {
            Some(value) => self.message(field, value),
            None => self,
        }
    }

    /// Adds a list of messages.
    #[must_use]
    pub fn messages(self, field: u8, values: impl IntoIterator<Item = Self>) -> Self {
        values.into_iter().fold(self, |message, value| message.message(field, value))
    }

    /// Adds bytes, even if empty.
    #[must_use]
    pub fn bytes(mut self, field: u8, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn tag(&mut self, field: u8, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

//! The bytes that are signed: one text for each message, and one message for each text.
//!
//! A context first, which no two types share; then the fields in the order of the payload's table,
//! numbers big-endian, floats by their bits, and before whatever has a length that length in four
//! bytes. What is read back from the front can be read in one way only.

/// A text that grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// The text of a type's message, with nothing in it.
    #[must_use]
    pub fn new(context: &str) -> Self {
        let mut text = Self(Vec::with_capacity(512));
        text.bytes(context.as_bytes());
        text
    }

    /// What has a fixed length.
    pub fn fixed<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// A number.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(value.to_be_bytes())
    }

    /// A number, or how many follow.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(value.to_be_bytes())
    }

    /// A number.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(value.to_be_bytes())
    }

    /// A number by its bits: zeros of both signs differ.
    pub fn f32(&mut self, value: f32) -> &mut Self {
        self.u32(value.to_bits())
    }

    /// Bytes or a text, length first. No payload has 4 GiB.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
        self
    }

    /// Texts, their number first.
    pub fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.u32(texts.len() as u32);
        for text in texts {
            self.bytes(text.as_bytes());
        }
        self
    }

    /// What is signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A message that can be signed.
pub trait Message {
    /// Names the type.
    const CONTEXT: &'static str;

    /// Writes every field but the signatures and what is reserved.
    fn fields(&self, out: &mut Canonical);
}

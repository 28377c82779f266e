//! Messages of protobuf, as ONNX's `onnx.proto` describes them: written, never read.
//!
//! The wire format has four rules, which are all that is here. Code that is generated from `onnx.proto` would bring
//! three crates and a build step for some hundred messages, of which a network takes ten.

use std::vec::Vec;

/// How a field's content lies: the low bits of its key.
#[derive(Clone, Copy)]
enum Wire {
    /// A number in groups of seven bits, the lowest first.
    Varint = 0,
    /// A length, then so many bytes.
    Bytes = 2,
    /// Four bytes, little-endian.
    Fixed32 = 5,
}

/// A message, field after field.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field) << 3 | wire as u64);
    }

    /// An integer; a negative one as its two's complement in 64 bits.
    pub(super) fn integer(&mut self, field: u32, number: i64) {
        self.key(field, Wire::Varint);
        self.varint(number as u64);
    }

    /// A number of 32 bits.
    pub(super) fn float(&mut self, field: u32, number: f32) {
        self.key(field, Wire::Fixed32);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Bytes.
    pub(super) fn raw(&mut self, field: u32, bytes: &[u8]) {
        self.announce(field, bytes.len() as u64);
        self.append(bytes);
    }

    /// A text.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.raw(field, text.as_bytes());
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, inner: &Message) {
        self.raw(field, &inner.bytes);
    }

    /// The beginning of a field of so many bytes, which follow.
    pub(super) fn announce(&mut self, field: u32, len: u64) {
        self.key(field, Wire::Bytes);
        self.varint(len);
    }

    /// What was announced, or fields that were put together elsewhere: bytes as they are.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf's own description of its encoding, and the ends of the range.
    #[test]
    fn fields_lie_as_protobuf_says() {
        let of = |write: fn(&mut Message)| {
            let mut message = Message::default();
            write(&mut message);
            message.bytes
        };
        assert_eq!(of(|m| m.integer(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(of(|m| m.text(2, "testing")), [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']);
        assert_eq!(of(|m| m.float(2, 1.0)), [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(of(|m| m.integer(1, -2)), [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(of(|m| m.integer(16, 0)), [0x80, 0x01, 0]);
        let inner = Message { bytes: of(|m| m.integer(1, 150)) };
        let mut outer = Message::default();
        outer.message(3, &inner);
        assert_eq!(outer.bytes(), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(outer.len(), 5);
    }
}

//! FNV-1a of 64 bits (Fowler, Noll, Vo; RFC 9923): finds damage and tells things apart that nobody has made to
//! collide. It proves nothing about who made the bytes.

/// A hash in the making.
///
/// ```
/// let mut hash = nunatak_core::fnv::Fnv::new();
/// hash.write(b"foo");
/// hash.write(b"bar");
/// assert_eq!(hash.finish(), 0x85944171f73967e8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(u64);

impl Fnv {
    /// Of no bytes yet.
    pub const fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in bytes, in their order.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    }

    /// The hash of all bytes that were taken in.
    pub const fn finish(self) -> u64 {
        self.0
    }
}

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv::new()
    }
}

/// The hash of these bytes.
pub fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::new();
    hash.write(bytes);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::{Fnv, fnv};

    /// From the authors' table.
    #[test]
    fn known_hashes() {
        for (bytes, hash) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8_u64)] {
            assert_eq!(fnv(bytes.as_bytes()), hash);
        }
        assert_eq!(Fnv::default().finish(), fnv(b""));
    }
}

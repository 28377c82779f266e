//! Changes of a program's words, and the header that fits them.

use nunatak_core::fnv::Fnv;
use nunatak_core::program::checksum;

/// One word, and what is done to it.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) word: u32,
    pub(crate) kind: u8,
    pub(crate) number: u32,
}

impl Change {
    /// From seven bytes of an input.
    pub(crate) fn read(bytes: &[u8; 7]) -> Change {
        let [a, b, kind, number @ ..] = *bytes;
        Change { word: u16::from_le_bytes([a, b]).into(), kind, number: u32::from_le_bytes(number) }
    }

    /// A random one.
    pub(crate) fn draw(draw: &mut Draw) -> Change {
        Change { word: draw.next(), kind: draw.next() as u8, number: draw.next() }
    }

    pub(crate) fn apply(self, program: &mut [u8]) {
        let words = program.len() / 4;
        let at = |word: u32| 4 * (word as usize % words);
        let read = |program: &[u8], at: usize| u32::from_le_bytes(program[at..at + 4].try_into().expect("four"));
        let (place, number) = (at(self.word), self.number);
        let old = read(program, place);
        let new = match self.kind % 12 {
            0 => number,
            1 => old.wrapping_add(number % 256).wrapping_sub(128),
            2 => old ^ 1 << (number % 32),
            3 => old.wrapping_mul(number % 8),
            4 => read(program, at(number)),
            5 => u32::MAX - number % 17,
            6 => 1 << (number % 32),
            7 => number % 64,
            8 => old / 2,
            9 => old.wrapping_add(1),
            10 => old.wrapping_sub(1),
            _ => [f32::NAN, f32::INFINITY, -1.0, 1e-40, f32::MAX][number as usize % 5].to_bits(),
        };
        program[place..place + 4].copy_from_slice(&new.to_le_bytes());
    }
}

/// What the header says of length and checksum, made right.
pub(crate) fn repair(program: &mut [u8]) {
    let words = (program.len() / 4) as u32;
    program[16..20].copy_from_slice(&words.to_le_bytes());
    let hash = checksum(program);
    program[20..28].copy_from_slice(&hash.to_le_bytes());
}

/// Random numbers that the input alone decides (xorshift).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn of(input: &[u8]) -> Draw {
        let mut hash = Fnv::new();
        hash.write(input);
        Draw(hash.finish() | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}

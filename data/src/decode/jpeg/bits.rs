//! The bits of a scan, and Huffman codes read from them.
//!
//! Damaged data is read as libjpeg reads it, since that is what PIL shows: a code that no table has counts as 0, and
//! after a marker that comes too early zeros follow.

/// Codes of up to so many bits are looked up.
const LOOK: u32 = 9;

/// A Huffman table, ready to be read with.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOK`] bits: length of the code and its symbol, or length 0.
    look: Vec<(u8, u8)>,
    /// By length: the largest code, or -1.
    largest: [i32; 17],
    /// By length: what is added to a code for the place of its symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The table with `counts[i]` codes of `i + 1` bits, and their symbols in order. `None` if the codes do not fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Table> {
        let mut table = Table { look: vec![(0, 0); 1 << LOOK], largest: [-1; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0_i32, 0_usize);
        for length in 1..=16_usize {
            let count = usize::from(counts[length - 1]);
            table.offset[length] = place as i32 - code;
            for _ in 0..count {
                let symbol = *symbols.get(place)?;
                if length as u32 <= LOOK {
                    let shift = LOOK - length as u32;
                    let first = (code as usize) << shift;
                    table.look.get_mut(first..first + (1 << shift))?.fill((length as u8, symbol));
                }
                code += 1;
                place += 1;
            }
            if count > 0 {
                table.largest[length] = code - 1;
            }
            // All ones is no code, and what is beyond is none either.
            if code > 1 << length {
                return None;
            }
            code <<= 1;
        }
        Some(table)
    }
}

/// Reads a scan's bits, most significant first.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not yet in `held`.
    at: usize,
    held: u64,
    count: u32,
    /// How many of them, the last ones, are zeros that the data did not have.
    padding: u32,
    /// The marker that ended the data, once it was met.
    pub(super) marker: Option<u8>,
    /// More was asked for than there was.
    pub(super) short: bool,
}

impl<'a> Bits<'a> {
    /// Begins at a byte of the file.
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Bits { data, at, held: 0, count: 0, padding: 0, marker: None, short: false }
    }

    /// Where the file goes on after this scan: at the marker that ended it, if one was met.
    pub(super) fn position(&self) -> usize {
        if self.marker.is_some() { self.at - 2 } else { self.at - self.count as usize / 8 }
    }

    fn fill(&mut self) {
        while self.count <= 48 && self.marker.is_none() {
            let Some(&byte) = self.data.get(self.at) else {
                // As if the end of the picture stood here.
                self.at += 2;
                self.marker = Some(0xD9);
                return;
            };
            self.at += 1;
            if byte == 0xFF {
                let fill = self.data.get(self.at..).map_or(0, |rest| rest.iter().take_while(|b| **b == 0xFF).count());
                self.at += fill + 1;
                match self.data.get(self.at - 1) {
                    Some(0) => {}
                    next => {
                        self.marker = Some(next.copied().unwrap_or(0xD9));
                        return;
                    }
                }
            }
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// At least `n` bits are held then, of zeros where the data has ended.
    fn need(&mut self, n: u32) {
        if self.count >= n {
            return;
        }
        self.fill();
        if self.count < n {
            self.held <<= 32;
            self.count += 32;
            self.padding += 32;
        }
    }

    fn pass(&mut self, n: u32) {
        self.count -= n;
        if self.padding > self.count {
            self.short = true;
            self.padding = self.count;
        }
    }

    /// The next `n` bits, at most 16, as a number.
    pub(super) fn take(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        self.need(n);
        self.pass(n);
        (self.held >> self.count) as i32 & ((1 << n) - 1)
    }

    /// The next bit.
    pub(super) fn bit(&mut self) -> bool {
        self.take(1) != 0
    }

    /// A number of `n` bits whose first bit says its sign.
    pub(super) fn signed(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = self.take(n);
        if value < 1 << (n - 1) { value - (1 << n) + 1 } else { value }
    }

    /// The symbol of the next code.
    pub(super) fn symbol(&mut self, table: &Table) -> u8 {
        if self.count < 16 {
            self.fill();
        }
        if self.count >= LOOK {
            let (length, symbol) = table.look[(self.held >> (self.count - LOOK)) as usize & ((1 << LOOK) - 1)];
            if length > 0 {
                self.pass(u32::from(length));
                return symbol;
            }
        }
        self.need(16);
        let next = (self.held >> (self.count - 16)) as i32 & 0xFFFF;
        let fits = |length: &usize| next >> (16 - length) <= table.largest[*length];
        let Some(length) = (1..=16).find(fits) else {
            let _ = self.take(16) + self.take(1);
            return 0;
        };
        self.pass(length as u32);
        table.symbols.get(((next >> (16 - length)) + table.offset[length]) as usize).copied().unwrap_or(0)
    }

    /// Drops what is left of a byte, and passes the restart marker `number` (0 to 7). Where another marker stands,
    /// libjpeg's guess: whether data or a marker was lost.
    pub(super) fn restart(&mut self, number: u8) {
        (self.held, self.padding) = (0, 0);
        if self.marker.is_none() {
            self.next_marker();
        }
        self.count = 0;
        while let Some(marker) = self.marker {
            let wanted = 0xD0 | number;
            let ahead = marker.wrapping_sub(wanted) & 7;
            match marker {
                _ if marker == wanted => self.marker = None,
                0x00..=0xBF => self.next_marker(),
                0xD0..=0xD7 if ahead == 1 || ahead == 2 => return,
                0xD0..=0xD7 if ahead >= 6 => self.next_marker(),
                0xD0..=0xD7 => self.marker = None,
                _ => return,
            }
        }
        self.short = false;
    }

    /// Sets `marker` to the next one in the data.
    fn next_marker(&mut self) {
        loop {
            let Some(skip) = self.data.get(self.at..).and_then(|rest| rest.iter().position(|b| *b == 0xFF)) else {
                self.at = self.data.len() + 2;
                self.marker = Some(0xD9);
                return;
            };
            self.at += skip;
            self.at += self.data[self.at..].iter().take_while(|b| **b == 0xFF).count() + 1;
            match self.data.get(self.at - 1) {
                Some(0) => {}
                next => {
                    self.marker = Some(next.copied().unwrap_or(0xD9));
                    return;
                }
            }
        }
    }
}

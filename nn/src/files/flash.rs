//! Raw flash, as a board has it, and bytes that are programmed in whole units.

/// Raw flash: erased bytes are 0xff, and programming only turns ones into zeros.
pub trait Flash {
    /// Why it refused.
    type Error;
    /// Bytes in all.
    fn size(&self) -> usize;
    /// Bytes that are erased at once; the size is a multiple of it.
    fn page(&self) -> usize;
    /// Bytes that are programmed at once, 1 to 64, a divisor of the page. Each is programmed only
    /// once between two erasures.
    fn unit(&self) -> usize;
    /// Reads bytes from `at` on.
    ///
    /// # Errors
    /// The flash's own.
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), Self::Error>;
    /// Erases the page that begins at `at`.
    ///
    /// # Errors
    /// The flash's own.
    fn erase(&mut self, at: usize) -> Result<(), Self::Error>;
    /// Programs bytes from `at` on; both `at` and the length are multiples of the unit.
    ///
    /// # Errors
    /// The flash's own.
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// The largest unit: so much is kept on the stack.
pub(super) const MOST_UNIT: usize = 64;

/// Whether pages and units are such as are served.
pub(super) fn check_units(page: usize, unit: usize) -> Result<(), &'static str> {
    if unit == 0 || unit > MOST_UNIT {
        return Err("it must be programmed in units of 1 to 64 bytes");
    }
    if page == 0 || !page.is_multiple_of(unit) {
        return Err("a page must be a multiple of the unit that is programmed");
    }
    Ok(())
}

/// Programs bytes in whole units.
pub(super) struct Units<'f, F> {
    flash: &'f mut F,
    at: usize,
    end: usize,
    buffer: [u8; MOST_UNIT],
    filled: usize,
}

impl<'f, F: Flash> Units<'f, F> {
    /// From `at` on, `len` bytes at most, and what fills the last unit.
    pub(super) fn new(flash: &'f mut F, at: usize, len: usize) -> Units<'f, F> {
        let end = at + len.next_multiple_of(flash.unit());
        Units { flash, at, end, buffer: [0xff; MOST_UNIT], filled: 0 }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), F::Error> {
        let unit = self.flash.unit();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(unit - self.filled));
            self.buffer[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            bytes = rest;
            if self.filled == unit {
                self.program(unit)?;
            }
        }
        Ok(())
    }

    /// Programs what is left, filled with what erased bytes are.
    pub(super) fn finish(mut self) -> Result<(), F::Error> {
        if self.filled > 0 {
            let unit = self.flash.unit();
            self.buffer[self.filled..unit].fill(0xff);
            self.program(unit)?;
        }
        Ok(())
    }

    fn program(&mut self, unit: usize) -> Result<(), F::Error> {
        debug_assert!(self.at + unit <= self.end, "no more than was announced");
        self.flash.program(self.at, &self.buffer[..unit])?;
        self.at += unit;
        self.filled = 0;
        Ok(())
    }
}

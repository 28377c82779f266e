//! JPEG, to the bit what libjpeg makes of it and PIL therefore shows: baseline, extended and progressive, 8 bits,
//! one, three or four components, any whole-number sampling.
//!
//! Decoders of other crates differ from libjpeg: in the transform's rounding, in how chroma is enlarged, and (where
//! chroma is sampled finer than luma) altogether. A network that was trained on PIL's pixels sees the difference.
//!
//! ```text
//! markers      frame, tables, scans                      here
//! bits, scan   codes → coefficients                      bits.rs, scan.rs
//! idct         coefficients → samples of a component     idct.rs
//! upsample     samples at the picture's size             upsample.rs
//! colour       YCbCr, YCCK → RGB, CMYK                   colour.rs
//! ```

mod bits;
mod colour;
mod idct;
mod scan;
mod standard;
mod upsample;

use super::{DecodeError, Limit};
use bits::{Bits, Table};
use scan::{Band, State, ZIGZAG};

/// Samples side by side: grey, RGB, or CMYK with 255 for no ink, as Adobe writes it.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 1, 3 or 4.
    pub(super) channels: usize,
    pub(super) data: Vec<u8>,
}

/// What the components mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    /// What markers and names of components say, as libjpeg guesses.
    Guessed,
    /// Already what is wanted.
    AsTheyAre,
    /// Luma and chroma.
    Luma,
}

fn broken<T>(reason: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("broken JPEG: {reason}")))
}

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Samples, DecodeError> {
    if !is_whole(bytes) {
        return broken(format_args!("cut off after {} bytes, before its end mark", bytes.len()));
    }
    decode_with(bytes, &[], Colours::Guessed)
}

/// Decodes a stream whose tables may stand in a stream of their own.
pub(super) fn decode_with(bytes: &[u8], tables: &[u8], colours: Colours) -> Result<Samples, DecodeError> {
    let mut reader = Reader::default();
    if !tables.is_empty() {
        reader.read(tables)?;
    }
    reader.read(bytes)?;
    reader.finish(colours)
}

/// Whether a JPEG reaches its end mark. Walks the segments; inside a scan only a 0xFF that is followed by neither 0
/// nor a restart mark ends it. PIL refuses what does not.
fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2; // past the start mark, which was seen
    loop {
        match next_marker(bytes, &mut at) {
            None => return false,
            Some(0xD9) => return true,
            // A mark without length (TEM, restarts, start): no segment.
            Some(0x01 | 0xD0..=0xD8) => {}
            Some(_) => match bytes.get(at..at + 2) {
                Some(&[high, low]) => at += usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return false,
            },
        }
    }
}

/// The next marker from `at` on, over fill bytes, stuffed zeros and whatever else; `at` goes behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|b| *b == 0xFF)?;
        *at += bytes[*at..].iter().take_while(|b| **b == 0xFF).count() + 1;
        match *bytes.get(*at - 1)? {
            0 => {}
            marker => return Some(marker),
        }
    }
}

struct Component {
    id: u8,
    /// Samples in a minimum coded unit, across and down.
    h: usize,
    v: usize,
    quant_index: u8,
    /// The table that was there when its first scan began, row by row.
    quant: Option<[u16; 64]>,
    /// True columns and rows.
    width: usize,
    height: usize,
    /// Blocks in whole minimum coded units.
    across: usize,
    down: usize,
    /// Coefficients, where a later scan may bring more.
    coefficients: Vec<[i16; 64]>,
    samples: Vec<u8>,
}

struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    h: usize,
    v: usize,
    components: Vec<Component>,
}

#[derive(Default)]
struct Reader {
    quant: [Option<[u16; 64]>; 4],
    /// For DC and for AC.
    huffman: [[Option<Table>; 4]; 2],
    restart: usize,
    jfif: bool,
    adobe: Option<u8>,
    frame: Option<Frame>,
    scanned: bool,
    limit: Option<Limit>,
}

impl Reader {
    /// Reads segments and scans to the end mark.
    fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut at = 2;
        while let Some(marker) = next_marker(bytes, &mut at) {
            match marker {
                0xD9 => return Ok(()),
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let length = match bytes.get(at..at + 2) {
                Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return broken("a segment is cut off"),
            };
            let Some(segment) = bytes.get(at + 2..at + length) else { return broken("a segment is cut off") };
            at += length;
            match marker {
                0xDB => self.quant_tables(segment)?,
                0xC4 => self.huffman_tables(segment)?,
                0xDD if segment.len() == 2 => self.restart = usize::from(u16::from_be_bytes([segment[0], segment[1]])),
                0xE0 if segment.len() >= 12 && segment.starts_with(b"JFIF\0") => self.jfif = true,
                0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => self.adobe = Some(segment[11]),
                0xC0..=0xC2 => self.frame(segment, marker == 0xC2, bytes.len())?,
                0xC3 | 0xC5..=0xC7 => {
                    return broken("lossless and hierarchical kinds are not read; save it anew as a usual JPEG, or as PNG");
                }
                0xC9..=0xCF => return broken("arithmetic coding is not read; save it anew with Huffman codes, or as PNG"),
                0xDA => at = self.scan(segment, bytes, at)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn quant_tables(&mut self, mut segment: &[u8]) -> Result<(), DecodeError> {
        while let [head, rest @ ..] = segment {
            let wide = head >> 4 != 0;
            let size = if wide { 128 } else { 64 };
            let (Some(values), Some(slot)) = (rest.get(..size), self.quant.get_mut(usize::from(head & 15))) else {
                return broken("a quantisation table is cut off or has a wrong number");
            };
            let mut table = [0; 64];
            for (k, place) in ZIGZAG.iter().enumerate() {
                let value = if wide { u16::from_be_bytes([values[2 * k], values[2 * k + 1]]) } else { u16::from(values[k]) };
                table[usize::from(*place)] = value;
            }
            *slot = Some(table);
            segment = &rest[size..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), DecodeError> {
        while let [head, rest @ ..] = segment {
            let Some(counts) = rest.first_chunk::<16>() else { return broken("a Huffman table is cut off") };
            let number: usize = counts.iter().map(|c| usize::from(*c)).sum();
            let (Some(symbols), true) = (rest.get(16..16 + number), number <= 256) else {
                return broken("a Huffman table is cut off");
            };
            let slot = self.huffman.get_mut(usize::from(head >> 4)).and_then(|class| class.get_mut(usize::from(head & 15)));
            let (Some(slot), Some(table)) = (slot, Table::new(counts, symbols)) else {
                return broken("a Huffman table has codes that do not fit, or a wrong number");
            };
            *slot = Some(table);
            segment = &rest[16 + number..];
        }
        Ok(())
    }

    fn frame(&mut self, segment: &[u8], progressive: bool, file: usize) -> Result<(), DecodeError> {
        let &[bits, h1, h0, w1, w0, count, ref rest @ ..] = segment else { return broken("its frame header is cut off") };
        let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
        if self.frame.is_some() {
            return broken("it has two frames");
        }
        if bits != 8 {
            return broken(format_args!("{bits} bits a sample are not read, only 8; save it anew as PNG"));
        }
        if !matches!(count, 1 | 3 | 4) || rest.len() < 3 * usize::from(count) {
            return broken(format_args!("{count} components; 1, 3 or 4 can be read"));
        }
        self.limit = Some(Limit::new("JPEG", width as u64, height as u64)?);
        let parts: Vec<&[u8; 3]> = rest.as_chunks::<3>().0.iter().take(usize::from(count)).collect();
        let factors = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if parts.iter().any(|p| !matches!(factors(p), (1..=4, 1..=4))) {
            return broken("a sampling factor that is not 1 to 4");
        }
        let h = parts.iter().map(|p| factors(p).0).max().unwrap_or(1);
        let v = parts.iter().map(|p| factors(p).1).max().unwrap_or(1);
        let (units_across, units_down) = (width.div_ceil(8 * h), height.div_ceil(8 * v));
        let components: Vec<Component> = parts
            .iter()
            .map(|part| {
                let (own_h, own_v) = factors(part);
                Component {
                    id: part[0],
                    h: own_h,
                    v: own_v,
                    quant_index: part[2],
                    quant: None,
                    width: (width * own_h).div_ceil(h),
                    height: (height * own_v).div_ceil(v),
                    across: units_across * own_h,
                    down: units_down * own_v,
                    coefficients: Vec::new(),
                    samples: Vec::new(),
                }
            })
            .collect();
        if components.iter().any(|c| h % c.h != 0 || v % c.v != 0) {
            return broken("a component is sampled at a fraction of another that is no whole number; libjpeg does not read it either");
        }
        // Each block takes a bit at least: a small file that claims a huge picture gets no memory.
        let blocks: usize = components.iter().map(|c| c.across * c.down).sum();
        if blocks / 8 > file {
            return broken(format_args!("claims {width} x {height} pixels, for which its {file} bytes are too few"));
        }
        self.frame = Some(Frame { width, height, progressive, h, v, components });
        Ok(())
    }

    /// Reads a scan and returns where the file goes on.
    fn scan(&mut self, segment: &[u8], bytes: &[u8], at: usize) -> Result<usize, DecodeError> {
        let Some(frame) = &mut self.frame else { return broken("a scan without a frame") };
        let header = ScanHeader::parse(segment, frame)?;
        for part in &header.parts {
            let component = &mut frame.components[part.component];
            if component.quant.is_none() {
                let table = self.quant.get(usize::from(component.quant_index)).copied().flatten();
                let Some(table) = table else { return broken("a quantisation table is missing") };
                component.quant = Some(table);
            }
        }
        // A film's pictures leave out the tables that the standard proposes.
        let dc = |i: usize| self.huffman[0][i].as_ref().or_else(|| (!frame.progressive).then(|| standard::dc(i)).flatten());
        let ac = |i: usize| self.huffman[1][i].as_ref().or_else(|| (!frame.progressive).then(|| standard::ac(i)).flatten());
        let tables: Vec<(Option<&Table>, Option<&Table>)> = header.parts.iter().map(|p| (dc(p.dc), ac(p.ac))).collect();
        let needs = |(has_dc, has_ac): &(Option<&Table>, Option<&Table>)| match (frame.progressive, header.band) {
            (false, _) => has_dc.is_some() && has_ac.is_some(),
            (true, Band { first: 0, before, .. }) => before > 0 || has_dc.is_some(),
            (true, _) => has_ac.is_some(),
        };
        if !tables.iter().all(needs) {
            return broken("a Huffman table is missing");
        }
        let limit = self.limit.as_ref().ok_or_else(|| DecodeError::new("broken JPEG: no frame"))?;
        // All components in one sequential scan: samples at once. Else coefficients, until the last scan was read.
        let at_once = !frame.progressive && header.parts.len() == frame.components.len() && !self.scanned;
        if !at_once {
            limit.bytes(frame.components.iter().map(|c| 129 * (c.across * c.down) as u64).sum())?;
        }
        for component in &mut frame.components {
            let blocks = component.across * component.down;
            if !at_once && component.coefficients.is_empty() {
                component.coefficients = vec![[0; 64]; blocks];
            }
            if at_once {
                component.samples = vec![0; 64 * blocks];
            }
        }
        self.scanned = true;
        let mut state = State::new(Bits::new(bytes, at));
        walk(frame, &header, &tables, self.restart, &mut state, at_once);
        Ok(state.bits.position())
    }

    /// From coefficients to samples, to the picture.
    fn finish(mut self, colours: Colours) -> Result<Samples, DecodeError> {
        let (Some(frame), Some(limit)) = (&mut self.frame, &self.limit) else { return broken("no picture in it") };
        for component in &mut frame.components {
            let Some(quant) = component.quant else { return broken("a component was never sent") };
            if !component.samples.is_empty() {
                continue;
            }
            let stride = 8 * component.across;
            component.samples = vec![0; 64 * component.across * component.down];
            let coefficients = std::mem::take(&mut component.coefficients);
            for (i, block) in coefficients.iter().enumerate() {
                let at = i / component.across * 8 * stride + i % component.across * 8;
                idct::block(block, &quant, &mut component.samples[at..], stride);
            }
        }
        let held: usize = frame.components.iter().map(|c| c.samples.len()).sum();
        limit.bytes((held + frame.width * frame.height * frame.components.len()) as u64)?;
        let meaning = colour::Meaning::of(colours, self.jfif, self.adobe, &frame.components);
        Ok(colour::picture(frame, meaning))
    }
}

struct Part {
    /// Its place in the frame.
    component: usize,
    dc: usize,
    ac: usize,
}

struct ScanHeader {
    parts: Vec<Part>,
    band: Band,
}

impl ScanHeader {
    fn parse(segment: &[u8], frame: &Frame) -> Result<Self, DecodeError> {
        let count = usize::from(segment.first().copied().unwrap_or(0));
        if !(1..=4).contains(&count) || segment.len() < 4 + 2 * count {
            return broken("a scan's header is cut off");
        }
        let (parts, tail) = segment[1..].split_at(2 * count);
        let mut found: Vec<Part> = Vec::new();
        for part in parts.as_chunks::<2>().0 {
            let component = frame.components.iter().position(|c| c.id == part[0]);
            let (dc, ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            match component {
                Some(component) if dc < 4 && ac < 4 && found.iter().all(|p| p.component != component) => {
                    found.push(Part { component, dc, ac });
                }
                _ => return broken("a scan names a component or table that there is not"),
            }
        }
        let band = Band { first: usize::from(tail[0]), last: usize::from(tail[1]), before: tail[2] >> 4, bit: tail[2] & 15 };
        let units: usize = found.iter().map(|p| frame.components[p.component].h * frame.components[p.component].v).sum();
        if count > 1 && units > 10 {
            return broken("more than ten blocks in a unit");
        }
        let ordered = if band.first == 0 { band.last == 0 } else { band.first <= band.last && band.last < 64 && count == 1 };
        if frame.progressive && (!ordered || band.bit > 13 || (band.before > 0 && band.before != band.bit + 1)) {
            return broken("a scan's band makes no sense");
        }
        Ok(ScanHeader { parts: found, band })
    }
}

/// Goes over the units of a scan.
fn walk(
    frame: &mut Frame,
    header: &ScanHeader,
    tables: &[(Option<&Table>, Option<&Table>)],
    restart: usize,
    state: &mut State,
    at_once: bool,
) {
    let (units_across, units_down) = match &header.parts[..] {
        // Alone, a component sends its true blocks only, one by one.
        [alone] => {
            let component = &frame.components[alone.component];
            (component.width.div_ceil(8), component.height.div_ceil(8))
        }
        _ => (frame.width.div_ceil(8 * frame.h), frame.height.div_ceil(8 * frame.v)),
    };
    let alone = header.parts.len() == 1;
    let mut scratch = [0_i16; 64];
    for unit in 0..units_across * units_down {
        if restart > 0 && unit > 0 && unit.is_multiple_of(restart) {
            state.restart(((unit / restart - 1) % 8) as u8);
        }
        state.begin_unit();
        let (row, column) = (unit / units_across, unit % units_across);
        for (i, (part, &(dc, ac))) in header.parts.iter().zip(tables).enumerate() {
            let component = &mut frame.components[part.component];
            let (h, v) = if alone { (1, 1) } else { (component.h, component.v) };
            for block in 0..h * v {
                let (x, y) = (column * h + block % h, row * v + block / h);
                let place = y * component.across + x;
                let target = if at_once {
                    scratch.fill(0);
                    &mut scratch
                } else {
                    &mut component.coefficients[place]
                };
                match (frame.progressive, dc, ac) {
                    (true, ..) => state.progressive(header.band, if header.band.first == 0 { dc } else { ac }, i, target),
                    (false, Some(dc), Some(ac)) => state.sequential(dc, ac, i, target),
                    _ => {}
                }
                if let (true, Some(quant)) = (at_once, &component.quant) {
                    let stride = 8 * component.across;
                    idct::block(&scratch, quant, &mut component.samples[y * 8 * stride + 8 * x..], stride);
                }
            }
        }
    }
}

//! Gathers the patches that a convolution reads into panels: implicit im2col.
//!
//! Row m of the product is output pixel m, and its patch is every tap's pixel with all its channels.
//! Nothing of the size of the whole patch matrix ever exists: panels of a few rows are packed into
//! scratch, 16 channels at a time as plain copies, zeros where a tap lies outside the image.
//!
//! Images with few channels (the stem: 3) would leave most of a group of 16 empty. There a tap is a
//! whole *line* of the filter, whose pixels lie side by side in memory: kernel·c "channels" (21 for
//! the stem) and as many taps as the filter has lines.

use super::group::Group;
use super::uniform::Uniform;
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::sixteen;

/// Where the patches of a product lie.
#[derive(Clone, Copy)]
pub(crate) struct Patches<'a> {
    /// The images, channels last.
    pub(crate) x: &'a [f32],
    /// Lines of an image.
    pub(crate) h: usize,
    /// Pixels of a line.
    pub(crate) w: usize,
    /// Channels of a pixel that are read; they begin `first` numbers behind it.
    pub(crate) c: usize,
    pub(crate) first: usize,
    /// Numbers of a pixel.
    pub(crate) pixel: usize,
    /// Lines of the product's rows per image.
    pub(crate) out_h: usize,
    /// Pixels of such a line.
    pub(crate) out_w: usize,
    /// Lines and columns from a row's patch to the next row's.
    pub(crate) step: [usize; 2],
    /// Lines and columns of taps.
    pub(crate) taps: [usize; 2],
    /// Line and column of the first tap of row 0.
    pub(crate) origin: [isize; 2],
    /// Lines and columns from a tap to the next: negative where they go up and left.
    pub(crate) apart: [isize; 2],
    /// Channels of a tap that lie side by side: c, or kernel·c with [thin](Group::thin) images.
    pub(crate) span: usize,
}

/// The numbers of one tap of one row: `x[start..]`, of which `low..high` exist (zeros elsewhere).
#[derive(Clone, Copy, Default)]
struct Segment {
    start: isize,
    low: usize,
    high: usize,
}

impl<'a> Patches<'a> {
    /// The patches that the forward pass reads.
    pub(crate) fn forward(group: &Group, x: &'a [f32]) -> Self {
        let conv = &group.conv;
        let [high, wide] = conv.kernel();
        let (columns, span) = if group.thin() { (1, wide * conv.c()) } else { (wide, conv.c()) };
        Patches {
            x,
            h: conv.h(),
            w: conv.w(),
            c: conv.c(),
            first: group.x.first,
            pixel: group.x.pixel,
            out_h: conv.out_h(),
            out_w: conv.out_w(),
            step: conv.stride(),
            taps: [high, columns],
            origin: conv.pad().map(|pad| -(pad as isize)),
            apart: conv.dilation().map(|distance| distance as isize),
            span,
        }
    }

    /// The same for a convolution whose taps are single pixels, however few channels there are.
    pub(crate) fn uniform(conv: &Uniform, x: &'a [f32]) -> Self {
        Patches {
            x,
            h: conv.h,
            w: conv.w,
            c: conv.c,
            first: 0,
            pixel: conv.c,
            out_h: conv.out_h(),
            out_w: conv.out_w(),
            step: [conv.stride; 2],
            taps: [conv.kernel; 2],
            origin: [-(conv.pad as isize); 2],
            apart: [1; 2],
            span: conv.c,
        }
    }

    /// Number of taps.
    pub(crate) fn tap_count(&self) -> usize {
        self.taps[0] * self.taps[1]
    }

    /// Numbers of the panel per row.
    pub(crate) fn row_len(&self, groups: usize) -> usize {
        groups * self.tap_count() * GROUP
    }

    #[inline(always)]
    fn segment(&self, image: usize, y: isize, x: isize) -> Segment {
        if y < 0 || y >= self.h as isize {
            return Segment::default();
        }
        let pixel = (image * self.h + y as usize) as isize * self.w as isize + x;
        let start = pixel * self.pixel as isize + self.first as isize;
        if self.span == self.c {
            let inside = x >= 0 && x < self.w as isize;
            return Segment { start, low: 0, high: if inside { self.c } else { 0 } };
        }
        let pixels = (self.span / self.c) as isize;
        let low = (-x).clamp(0, pixels) as usize;
        let high = (self.w as isize - x).clamp(0, pixels) as usize;
        Segment { start, low: low * self.c, high: high * self.c }
    }
}

/// Packs one panel: rows `first` … of the product, channel groups from `group`.
pub(crate) struct PackPanel<'a, 'p> {
    pub(crate) patches: Patches<'a>,
    /// First row.
    pub(crate) first: usize,
    /// Rows: at most 16.
    pub(crate) rows: usize,
    /// First group of 16 channels.
    pub(crate) group: usize,
    /// Groups.
    pub(crate) groups: usize,
    /// The panel, `[groups][taps][rows][16]`. Places beyond the last channel stay as they are:
    /// nothing reads them.
    pub(crate) panel: &'p mut [f32],
}

impl Task for PackPanel<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if I::LANES == 1 && self.patches.span == self.patches.c {
            return self.pixels();
        }
        let p = &self.patches;
        let mut at = [(0, 0, 0); 16];
        for (r, at) in at[..self.rows].iter_mut().enumerate() {
            let m = self.first + r;
            let (line, ox) = (m / p.out_w, m % p.out_w);
            let (image, oy) = (line / p.out_h, line % p.out_h);
            *at = (image, (oy * p.step[0]) as isize + p.origin[0], (ox * p.step[1]) as isize + p.origin[1]);
        }
        let taps = p.tap_count();
        let tap_len = self.rows * GROUP;
        for t in 0..taps {
            let dy = p.apart[0] * (t / p.taps[1]) as isize;
            let dx = p.apart[1] * (t % p.taps[1]) as isize;
            for (r, &(image, y, x)) in at[..self.rows].iter().enumerate() {
                let segment = p.segment(image, y + dy, x + dx);
                for g in 0..self.groups {
                    let to = &mut self.panel[(g * taps + t) * tap_len + r * GROUP..][..GROUP];
                    let channel = (self.group + g) * GROUP;
                    let from = segment.start + channel as isize;
                    // All that is read later is there, and so are 16 numbers: the surplus is not read.
                    let whole = segment.low <= channel && (channel + GROUP).min(p.span) <= segment.high;
                    if whole && from >= 0 && from as usize + GROUP <= p.x.len() {
                        let from = &p.x[from as usize..][..GROUP];
                        for i in (0..GROUP).step_by(I::LANES) {
                            isa.store(isa.load(&from[i..]), &mut to[i..]);
                        }
                    } else {
                        let low = segment.low.clamp(channel, channel + GROUP);
                        let high = segment.high.clamp(low, channel + GROUP);
                        to.fill(0.0);
                        if low < high {
                            let from = (segment.start + low as isize) as usize;
                            to[low - channel..high - channel].copy_from_slice(&p.x[from..from + high - low]);
                        }
                    }
                }
            }
        }
    }
}

impl PackPanel<'_, '_> {
    /// Taps that are whole pixels, where a vector is one number: what is packed is the same, but the places of the rows' first
    /// taps are found once, and 16 numbers are one copy.
    #[inline(always)]
    fn pixels(self) {
        let (p, rows) = (&self.patches, self.rows);
        let across = p.apart[1] * p.pixel as isize;
        let down = p.apart[0] * (p.w * p.pixel) as isize;
        let taps = p.taps[0] * p.taps[1];
        for (panel, group) in self.panel.chunks_exact_mut(taps * rows * GROUP).zip(self.group..self.group + self.groups) {
            let panel = panel.as_chunks_mut::<GROUP>().0;
            let channel = group * GROUP;
            for r in 0..rows {
                let m = self.first + r;
                let (line, ox) = (m / p.out_w, m % p.out_w);
                let (image, oy) = (line / p.out_h, line % p.out_h);
                let mut y = (oy * p.step[0]) as isize + p.origin[0];
                let left = (ox * p.step[1]) as isize + p.origin[1];
                let mut start = (((image * p.h) as isize + y) * p.w as isize + left) * p.pixel as isize + (p.first + channel) as isize;
                let mut tap = r;
                for _ in 0..p.taps[0] {
                    let line = (y as usize) < p.h;
                    let (mut x, mut from) = (left, start);
                    for _ in 0..p.taps[1] {
                        let to = &mut panel[tap];
                        if line && (x as usize) < p.w {
                            pixel(p.x, from as usize, p.c - channel, to)
                        } else {
                            sixteen::clear(to)
                        }
                        x += p.apart[1];
                        from += across;
                        tap += rows;
                    }
                    y += p.apart[0];
                    start += down;
                }
            }
        }
    }
}

/// Copies the numbers of a pixel from `from` on, of which `left` are its own: all 16 where they are there, since nobody reads
/// the surplus.
#[inline(always)]
fn pixel(x: &[f32], from: usize, left: usize, to: &mut [f32; GROUP]) {
    match x.get(from..).and_then(|x| x.first_chunk()) {
        Some(x) => sixteen::copy(x, to),
        None => to[..left].copy_from_slice(&x[from..from + left]),
    }
}

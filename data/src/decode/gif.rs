//! GIF: the first picture, on its screen, as PIL shows it.
//!
//! What the picture leaves free of the screen has its transparent colour, or else the first of the palette. A picture
//! that hangs over the screen's edge enlarges it.

use super::{DecodeError, Limit, Rgb8, of_palette};
use gif::{ColorOutput, DecodeOptions, MemoryLimit};

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, DecodeError> {
    let broken = |e: gif::DecodingError| DecodeError::new(format!("broken GIF: {e}"));
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(std::num::NonZeroU64::new(super::MAX_ALLOC).unwrap_or(std::num::NonZeroU64::MIN)));
    options.allow_unknown_blocks(true);
    let greys;
    let bytes = match with_greys(bytes) {
        Some(more) => {
            greys = more;
            &greys[..]
        }
        None => bytes,
    };
    let mut decoder = options.read_info(bytes).map_err(broken)?;
    let screen = (usize::from(decoder.width()), usize::from(decoder.height()));
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let Some(frame) = decoder.next_frame_info().map_err(broken)? else {
        return Err(DecodeError::new("broken GIF: no picture in it"));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (w, h) = (usize::from(frame.width), usize::from(frame.height));
    let (transparent, local) = (frame.transparent, frame.palette.clone());
    let (width, height) = (screen.0.max(left + w), screen.1.max(top + h));
    let limit = Limit::new("GIF", width as u64, height as u64)?;
    if w == 0 || h == 0 {
        return Err(DecodeError::new("broken GIF: its first picture has no pixels"));
    }
    limit.bytes((w * h + 4 * width * height) as u64)?;
    let mut indices = vec![0; w * h];
    decoder.read_into_buffer(&mut indices).map_err(broken)?;
    let mut canvas = vec![transparent.unwrap_or(0); width * height];
    for (to, from) in canvas[top * width..].chunks_exact_mut(width).zip(indices.chunks_exact(w)) {
        to[left..left + w].copy_from_slice(from);
    }
    let palette = local.or(global);
    let colour = |i: u8| match &palette {
        // A palette of greys in order is dropped by PIL, and all 256 greys are there then.
        Some(p) if !p.as_chunks::<3>().0.iter().enumerate().all(|(i, c)| *c == [i as u8; 3]) => of_palette(p, i),
        _ => [i; 3],
    };
    let table: Vec<[u8; 3]> = (0..=255).map(colour).collect();
    let pixels = canvas.iter().flat_map(|i| table[usize::from(*i)]).collect();
    Ok(Rgb8 { width, height, pixels })
}

/// The file with a palette of greys, where it has none for all pictures: PIL shows a picture without any palette in
/// greys, the decoder refuses it.
fn with_greys(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_first_chunk::<13>()?;
    if head[10] & 0x80 != 0 {
        return None;
    }
    let mut more = head.to_vec();
    more[10] |= 0x87;
    more.extend((0..=255).flat_map(|grey| [grey; 3]));
    more.extend_from_slice(rest);
    Some(more)
}

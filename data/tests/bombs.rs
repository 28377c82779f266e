//! Small files that would take much memory or time: in every kind of chunk of every format. Each is read or refused
//! within the bytes that bad input may take: twice the file, four times the picture, and 2 MiB (the LZW and inflate
//! tables of decoders).
//!
//! A program of its own: its allocator counts.

use nunatak_data::decode::decode;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator, and counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(HELD.fetch_add(layout.size(), Ordering::SeqCst) + layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as above; `at` came from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by a test while it counts.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a chunk of the bomb unpacks to.
const HUGE: usize = 64 << 20;

/// Decodes within the limits. Whether there was a picture.
fn bounded(what: &str, file: &[u8]) -> bool {
    let before = HELD.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    let begun = Instant::now();
    let result = decode(file);
    let (time, most) = (begun.elapsed(), MOST.load(Ordering::SeqCst) - before);
    let pixels = result.as_ref().map_or(0, |p| p.pixels.len());
    let allowed = 2 * file.len() + 4 * pixels + (2 << 20);
    assert!(most <= allowed, "{what}: {most} bytes held, {allowed} allowed; {:?}", result.err());
    assert!(time < Duration::from_secs(10), "{what}: {time:?}");
    let said = result.as_ref().err().map_or(String::new(), ToString::to_string);
    assert!(said.len() < 400 && !said.contains(char::is_control), "{what}: a message of {} bytes: {said:.1000}", said.len());
    result.is_ok()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(kind);
    sum.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &sum.finalize().to_be_bytes()].concat()
}

/// A PNG of 8 x 8 pixels of RGB, with chunks before and after its data.
fn png(before: &[u8], data: &[u8], after: &[u8]) -> Vec<u8> {
    let header = chunk(b"IHDR", &[0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n", &header[..], before, &chunk(b"IDAT", data), after, &chunk(b"IEND", &[])].concat()
}

#[test]
fn every_chunk_of_a_png() {
    let _alone = alone();
    let pixels = deflated(&[0; 8 * 25]);
    let bomb = deflated(&vec![0; HUGE]);
    let with = |head: &[u8]| [head, &bomb[..]].concat();
    let cases: [(&[u8; 4], Vec<u8>); 20] = [
        (b"iCCP", with(b"name\0\0")),
        (b"zTXt", with(b"key\0\0")),
        (b"iTXt", with(b"key\0\x01\0\0\0")),
        (b"tEXt", with(b"key\0")),
        (b"eXIf", with(b"II*\0\x08\0\0\0\xFF\xFF")),
        (b"PLTE", vec![0; 768]),
        (b"tRNS", vec![0; 1 << 16]),
        (b"bKGD", vec![0; 1 << 16]),
        (b"cHRM", vec![255; 32]),
        (b"gAMA", vec![0; 4]),
        (b"hIST", vec![0; 1 << 16]),
        (b"pHYs", vec![255; 9]),
        (b"sBIT", vec![255; 1 << 12]),
        (b"sPLT", with(b"name\0\x08")),
        (b"sRGB", vec![255]),
        (b"tIME", vec![255; 7]),
        (b"acTL", [[255; 4], [0; 4]].concat()),
        (b"fcTL", vec![255; 26]),
        (b"fdAT", with(&[0, 0, 0, 1])),
        (b"zzZz", with(&[])),
    ];
    for (kind, data) in &cases {
        let piece = chunk(kind, data);
        let name = kind.escape_ascii().to_string();
        assert!(bounded(&name, &png(&piece, &pixels, &[])), "{name} before the data");
        assert!(bounded(&name, &png(&[], &pixels, &piece)), "{name} after the data");
        // A thousand of them.
        if data.len() < 1 << 13 {
            bounded(&name, &png(&piece.repeat(1000), &pixels, &[]));
        }
    }
    // The data itself goes on where the picture is complete.
    bounded("IDAT", &png(&[], &bomb, &[]));
    bounded("IDAT in pieces", &[png(&[], &[], &[]), chunk(b"IDAT", &[]).repeat(100_000)].concat());
    let mut claim = png(&[], &pixels, &[]);
    let header = chunk(b"IHDR", &[0, 0, 0x32, 0xC8, 0, 0, 0x32, 0xC8, 16, 6, 0, 0, 0]);
    claim.splice(8..33, header);
    assert!(!bounded("a large IHDR", &claim));
    // A chunk that claims four gigabytes.
    let mut file = png(&[], &pixels, &[]);
    file[33..37].fill(0xFF);
    bounded("a long IDAT", &file);
    file[8..12].fill(0xFF);
    assert!(!bounded("a long IHDR", &file));
}

/// A JPEG of 8 x 8 grey pixels with segments before its frame.
fn jpeg(segments: &[u8]) -> Vec<u8> {
    let mut file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/grey.jpg")).expect("the golden file");
    file.splice(2..2, segments.iter().copied());
    file
}

#[test]
fn every_segment_of_a_jpeg() {
    let _alone = alone();
    let segment = |marker: u8, data: &[u8]| [&[0xFF, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat();
    let full = |head: &[u8]| [head, &vec![b'x'; 65_000][..]].concat();
    for marker in 0xE0..=0xEF_u8 {
        for head in [&b""[..], b"JFIF\0\x01\x02", b"Exif\0\0II*\0\x08\0\0\0\xFF\xFF", b"ICC_PROFILE\0\x01\xFF", b"Adobe\0\x64", b"MPF\0"] {
            let data = if head.starts_with(b"Adobe") || head.starts_with(b"JFIF") { [head, &[0; 8]].concat() } else { full(head) };
            assert!(bounded("APP", &jpeg(&segment(marker, &data).repeat(20))), "{marker:x} {}", head.escape_ascii());
        }
    }
    assert!(bounded("COM", &jpeg(&segment(0xFE, &full(b"")).repeat(20))));
    assert!(bounded("DQT", &jpeg(&segment(0xDB, &[&[3][..], &[1; 64]].concat()).repeat(10_000))));
    // Restart markers after every block, scans without end, tables without end.
    bounded("DRI", &jpeg(&segment(0xDD, &[0, 1])));
    bounded("DHT", &jpeg(&segment(0xC4, &[&[0x13][..], &[0; 16]].concat()).repeat(10_000)));
    let mut many = jpeg(&[]);
    let scan = many.windows(2).position(|w| w == [0xFF, 0xDA]).expect("a scan");
    let again = many[scan..many.len() - 2].to_vec();
    many.truncate(many.len() - 2);
    many.extend(again.repeat(300));
    many.extend([0xFF, 0xD9]);
    bounded("scans", &many);
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", chunks].concat()
}

#[test]
fn every_chunk_of_a_webp() {
    let _alone = alone();
    let part = |kind: &[u8; 4], data: &[u8]| [&kind[..], &(data.len() as u32).to_le_bytes(), data, &vec![0; data.len() & 1]].concat();
    let golden = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lossless.webp")).expect("the golden file");
    let picture = golden[12..].to_vec();
    // The canvas of the golden picture: 37 x 29 pixels.
    let extended = |flags: u8| part(b"VP8X", &[flags, 0, 0, 0, 36, 0, 0, 28, 0, 0]);
    for (kind, flags) in [(b"ICCP", 0x20), (b"EXIF", 0x08), (b"XMP ", 0x04), (b"zzzz", 0), (b"ALPH", 0)] {
        let bytes = vec![0x5A; 1 << 20];
        bounded("a WebP's chunk", &riff(&[extended(flags), part(kind, &bytes), picture.clone()].concat()));
        bounded("a WebP's chunk", &riff(&[extended(flags), picture.clone(), part(kind, &bytes)].concat()));
        bounded("a WebP's chunks", &riff(&[extended(flags), part(kind, &[1, 2]).repeat(50_000), picture.clone()].concat()));
        let mut long = riff(&[extended(flags), part(kind, &[0; 8]), picture.clone()].concat());
        long[34..38].fill(0xFF);
        bounded("a WebP's long chunk", &long);
    }
    let frames = part(b"ANMF", &[0; 16]).repeat(50_000);
    bounded("a WebP's frames", &riff(&[extended(2), part(b"ANIM", &[0; 6]), frames].concat()));
    // A canvas of a gigapixel and more, and one just below the limit, for nothing.
    for side in [0xFF_u8, 0x33] {
        bounded("a WebP's canvas", &riff(&[part(b"VP8X", &[0x10, 0, 0, 0, 0xFF, side, 0, 0xFF, side, 0]), part(b"ALPH", &[0])].concat()));
    }
}

#[test]
fn every_block_of_a_gif() {
    let _alone = alone();
    let head = b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xFF\xFF\xFF";
    let blocks = |label: u8, n: usize| [&[0x21, label][..], &[&[255][..], &[b'x'; 255]].concat().repeat(n), &[0]].concat();
    // Codes of three bits: clear, 0, 0 …, each group anew.
    let frame = |data: &[u8]| [&[0x2C, 0, 0, 0, 0, 8, 0, 8, 0, 0, 2][..], data, &[0, 0x3B]].concat();
    let pixels = [&[22][..], &[0x84, 0x84].repeat(11)].concat();
    for label in [0xFE, 0xFF, 0x01, 0xF9, 0x77] {
        bounded("a GIF's extension", &[&head[..], &blocks(label, 4000), &frame(&pixels)].concat());
        bounded("a GIF's extensions", &[&head[..], &blocks(label, 1).repeat(4000), &frame(&pixels)].concat());
    }
    bounded("a GIF's data", &[&head[..], &frame(&[&[255][..], &[0x84; 255]].concat().repeat(4000))].concat());
    let mut screen = [&head[..], &frame(&pixels)].concat();
    screen[6..10].fill(0xFF);
    assert!(!bounded("a GIF's screen", &screen));
}

/// A TIFF of 8 x 8 grey pixels whose directory has more entries: tag, type, count, value.
fn tiff(more: &[(u16, u16, u32, u32)], compression: u32, data: &[u8]) -> Vec<u8> {
    let mut entries = vec![
        (256, 3, 1, 8),
        (257, 3, 1, 8),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 0),
        (279, 4, 1, data.len() as u32),
    ];
    entries.retain(|e: &(u16, u16, u32, u32)| more.iter().all(|m| m.0 != e.0));
    entries.extend_from_slice(more);
    entries.sort_unstable();
    let start = 8 + 2 + 12 * entries.len() as u32 + 4;
    let mut file = [b"II*\0\x08\0\0\0", &(entries.len() as u16).to_le_bytes()[..]].concat();
    for (tag, kind, count, value) in entries {
        let value = if tag == 273 { start } else { value };
        file.extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat());
    }
    // The next directory is this one: a ring.
    file.extend([8, 0, 0, 0]);
    file.extend_from_slice(data);
    file
}

#[test]
fn every_part_of_a_tiff() {
    let _alone = alone();
    assert!(bounded("a ring", &tiff(&[], 1, &[0; 64])));
    let bomb = deflated(&vec![0; HUGE]);
    bounded("Deflate", &tiff(&[], 8, &bomb));
    bounded("Deflate", &tiff(&[], 32_946, &bomb));
    bounded("PackBits", &tiff(&[], 32_773, &[0x81, 0].repeat(100_000)));
    bounded("LZW", &tiff(&[], 5, &[0x80; 100_000]));
    bounded("fax", &tiff(&[(258, 3, 1, 1)], 3, &[0; 100_000]));
    bounded("fax", &tiff(&[(258, 3, 1, 1)], 4, &[0xFF; 100_000]));
    bounded("JPEG", &tiff(&[], 7, &jpeg(&[])));
    bounded("samples of many sizes", &tiff(&[(258, 3, 1000, 10)], 1, &[0; 4000]));
    bounded("chroma of many numbers", &tiff(&[(258, 3, 1, 8), (262, 3, 1, 6), (277, 3, 1, 3), (530, 3, 1000, 8)], 1, &[0; 4000]));
    bounded("samples of no known meaning", &tiff(&[(262, 3, 1, 2), (277, 3, 1, 4), (338, 3, 1000, 8)], 1, &[0; 4000]));
    // Every tag that is read, with four thousand million numbers, or with those that lie anywhere.
    for tag in [
        256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 317, 320, 322, 323, 324, 325, 338, 339, 347, 529, 530, 532, 700,
        34_675,
    ] {
        for kind in [1, 2, 3, 4, 5, 7, 12, 13, 16] {
            for (count, value) in [(u32::MAX, 8), (1, u32::MAX), (1 << 20, 8), (0, 0), (3, u32::MAX), (1, 0)] {
                bounded("a tag", &tiff(&[(tag, kind, count, value)], 1, &[0; 64]));
            }
        }
    }
    assert!(!bounded("a claim", &tiff(&[(256, 4, 1, 13_000), (257, 4, 1, 13_000)], 8, &bomb[..100])));
    // Millions of strips of one row, tiles of one pixel, tiles far larger than the picture.
    let one = |tag, value| (tag, 4, 1, value);
    bounded("strips", &tiff(&[one(257, 1 << 24), one(278, 1)], 1, &[0; 64]));
    bounded("tiles", &tiff(&[one(322, 1), one(323, 1), one(324, 0), one(325, 64), one(256, 1 << 13), one(257, 1 << 13)], 1, &[0; 64]));
    bounded("a tile", &tiff(&[one(322, 1 << 24), one(323, 1 << 24), one(324, 0), one(325, 64)], 8, &bomb));
    bounded("a tile", &tiff(&[one(322, 1 << 14), one(323, 1 << 14), one(324, 0), one(325, 64)], 8, &bomb));
}

#[test]
fn every_part_of_a_bmp_or_ppm() {
    let _alone = alone();
    let bmp = |bits: u16, compression: u32, colours: u32, side: u32, data: &[u8]| {
        let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        file.extend(side.to_le_bytes().repeat(2));
        file.extend(
            [&1_u16.to_le_bytes()[..], &bits.to_le_bytes(), &compression.to_le_bytes(), &[0; 12], &colours.to_le_bytes(), &[0; 4]].concat(),
        );
        file.extend_from_slice(data);
        file
    };
    for bits in [1, 4, 8, 16, 24, 32] {
        for compression in 0..6 {
            for colours in [0, 1, 65_536, u32::MAX] {
                for side in [8, 13_000, u32::MAX, 0x8000_0000] {
                    bounded("a BMP", &bmp(bits, compression, colours, side, &[0; 2000]));
                    // Runs that skip, lines that end at once.
                    bounded("a BMP's runs", &bmp(bits, compression, colours, side, &[0, 2, 255, 255].repeat(500)));
                    bounded("a BMP's lines", &bmp(bits, compression, colours, side, &[0, 0].repeat(1000)));
                }
            }
        }
    }
    for kind in b'1'..=b'6' {
        for rest in [&b" 13000 13000 255\n"[..], b" 4294967295 4294967295 255\n", b" 8 8 65535\n", b"\n#"] {
            let head = [&[b'P', kind], rest].concat();
            bounded("a PPM", &head);
            bounded("a PPM's comment", &[&head[..], &b"#x".repeat(100_000)].concat());
            bounded("a PPM's number", &[&head[..], &b"0".repeat(100_000)].concat());
        }
    }
    bounded("a PFM", b"Pf 13000 13000 -1\n");
}

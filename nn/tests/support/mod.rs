//! Builders of good and hostile checkpoint files, shared by the `checkpoint_*` tests.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

use nunatak_nn::files::{Checkpoint, ReadError};
use std::path::PathBuf;

/// A file that `tests/golden/checkpoint/make.py` made.
pub fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/checkpoint").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The error of parsing, as text; panics when it parses.
#[track_caller]
pub fn refused(bytes: &[u8]) -> String {
    match Checkpoint::parse(bytes) {
        Ok(_) => panic!("parsed, expected an error"),
        Err(e) => e.to_string(),
    }
}

/// Asserts that the bytes are refused with a message that holds all of `parts`.
#[track_caller]
pub fn refused_with(bytes: &[u8], parts: &[&str]) {
    let message = refused(bytes);
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

/// Parses and reads every entry in every way; what fuzz targets do.
pub fn read_all(bytes: &[u8]) -> Result<usize, ReadError> {
    let checkpoint = Checkpoint::parse(bytes)?;
    let mut out = Vec::new();
    for entry in checkpoint.entries() {
        entry.read_f32(&mut out)?;
        assert_eq!(out.len(), entry.len());
        if let Some(view) = entry.as_f32() {
            assert!(view.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        let _ = entry.read_i64();
        assert_eq!(checkpoint.get(entry.name()).map(|e| e.offset()), Some(entry.offset()));
    }
    Ok(checkpoint.entries().len())
}

/// One member of a zip file, with every number open to lies.
#[derive(Clone, Default)]
pub struct Member {
    pub name: Vec<u8>,
    pub local_name: Option<Vec<u8>>,
    pub data: Vec<u8>,
    pub before: Vec<u8>,
    pub after: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub crc: Option<u32>,
    pub sizes: Option<[u32; 2]>,
    pub local_sizes: Option<[u32; 2]>,
    pub offset: Option<u32>,
    pub extra: Vec<u8>,
    pub local_extra: Vec<u8>,
    /// Sizes after the payload, as torch writes them.
    pub streamed: bool,
}

pub fn member(name: &str, data: &[u8]) -> Member {
    Member { name: name.into(), data: data.to_vec(), ..Member::default() }
}

/// A zip file; `end` may change the end record's numbers.
#[derive(Clone, Default)]
pub struct Zip {
    pub members: Vec<Member>,
    pub before_directory: Vec<u8>,
    pub after_directory: Vec<u8>,
    pub entries: Option<u16>,
    pub directory_offset: Option<u32>,
    pub directory_size: Option<u32>,
    pub comment: Vec<u8>,
    /// Write the zip64 records, with these entries, size, offset where given.
    pub zip64: Option<[Option<u64>; 3]>,
}

impl Zip {
    pub fn build(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut directory = Vec::new();
        for m in &self.members {
            out.extend(&m.before);
            let offset = m.offset.unwrap_or(out.len() as u32);
            let crc = m.crc.unwrap_or_else(|| crc32(&m.data));
            let flags = m.flags | if m.streamed { 8 } else { 0 };
            let sizes = m.sizes.unwrap_or([m.data.len() as u32; 2]);
            let local_name = m.local_name.as_ref().unwrap_or(&m.name);
            let common = |out: &mut Vec<u8>, crc: u32, sizes: [u32; 2], name: usize, extra: usize| {
                out.extend([0, 0]);
                out.extend(flags.to_le_bytes());
                out.extend(m.method.to_le_bytes());
                out.extend([0; 4]);
                out.extend(crc.to_le_bytes());
                out.extend(sizes[0].to_le_bytes());
                out.extend(sizes[1].to_le_bytes());
                out.extend((name as u16).to_le_bytes());
                out.extend((extra as u16).to_le_bytes());
            };
            out.extend(b"PK\x03\x04");
            let (local_crc, local_sizes) = if m.streamed { (0, [0; 2]) } else { (crc, m.local_sizes.unwrap_or(sizes)) };
            common(&mut out, local_crc, local_sizes, local_name.len(), m.local_extra.len());
            out.extend(local_name);
            out.extend(&m.local_extra);
            out.extend(&m.data);
            if m.streamed {
                out.extend(b"PK\x07\x08");
                out.extend(crc.to_le_bytes());
                out.extend(sizes[0].to_le_bytes());
                out.extend(sizes[1].to_le_bytes());
            }
            out.extend(&m.after);
            directory.extend(b"PK\x01\x02\0\0");
            common(&mut directory, crc, sizes, m.name.len(), m.extra.len());
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(&m.name);
            directory.extend(&m.extra);
        }
        out.extend(&self.before_directory);
        let at = out.len();
        out.extend(&directory);
        out.extend(&self.after_directory);
        if let Some([entries, size, offset]) = self.zip64 {
            let record = out.len() as u64;
            let entries = entries.unwrap_or(self.members.len() as u64);
            out.extend(b"PK\x06\x06");
            out.extend(44u64.to_le_bytes());
            out.extend([0; 12]);
            for n in [entries, entries, size.unwrap_or(directory.len() as u64), offset.unwrap_or(at as u64)] {
                out.extend(n.to_le_bytes());
            }
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend(record.to_le_bytes());
            out.extend(1u32.to_le_bytes());
        }
        let entries = self.entries.unwrap_or(self.members.len() as u16);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend(entries.to_le_bytes());
        out.extend(entries.to_le_bytes());
        out.extend(self.directory_size.unwrap_or(directory.len() as u32).to_le_bytes());
        out.extend(self.directory_offset.unwrap_or(at as u32).to_le_bytes());
        out.extend((self.comment.len() as u16).to_le_bytes());
        out.extend(&self.comment);
        out
    }
}

/// Bit by bit: slow, and by another hand than the reader's.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |mut crc, &b| {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    })
}

/// A `.pth` of one pickle and storages "0", "1", ….
pub fn pth(pickle: &[u8], storages: &[&[u8]]) -> Zip {
    let mut members = vec![member("a/data.pkl", pickle), member("a/byteorder", b"little")];
    for (i, data) in storages.iter().enumerate() {
        members.push(member(&format!("a/data/{i}"), data));
    }
    members.push(member("a/version", b"3\n"));
    Zip { members, ..Zip::default() }
}

/// `.pth` bytes of a raw pickle (with protocol and STOP) and one storage of `floats` floats 0, 1, ….
pub fn pth_of(pickle: &[u8], floats: usize) -> Vec<u8> {
    pth(pickle, &[&floats_of(floats)]).build()
}

pub fn floats_of(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

/// Protocol 2, the body, STOP.
pub fn pickled(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

pub fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

/// LONG1 of eight bytes.
pub fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

pub fn ints(list: &[i64]) -> Vec<u8> {
    let body: Vec<u8> = list.iter().flat_map(|&n| int(n)).collect();
    [b"(", &body[..], b"t"].concat()
}

pub fn storage(class: &str, key: &str, numel: i64) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n");
    [b"(", &text("storage")[..], class.as_bytes(), &text(key), &text("cpu"), &int(numel), b"tQ"].concat()
}

pub fn rebuild(storage: &[u8], offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, &int(offset), &ints(shape), &ints(strides), b"\x89ccollections\nOrderedDict\n)RtR"]
        .concat()
}

/// `{"w": <value>}`
pub fn dict_of(value: &[u8]) -> Vec<u8> {
    pickled(&[b"}", &text("w")[..], value, b"s"].concat())
}

/// A file of one tensor "w" over a storage of `floats` floats that says it has `numel`.
pub fn one_tensor(floats: usize, numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    pth_of(&dict_of(&rebuild(&storage("FloatStorage", "0", numel), offset, shape, strides)), floats)
}

/// A good file of one tensor, as a builder.
pub fn good() -> Zip {
    pth(&dict_of(&rebuild(&storage("FloatStorage", "0", 6), 0, &[2, 3], &[3, 1])), &[&floats_of(6)])
}

/// A `.safetensors` of this header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

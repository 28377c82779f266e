//! `.pth` files. The input is tried as a whole file and, since a random change never gets past the
//! zip's checksums, as a pickle in a good zip. Where the crate `zip` opens the file too, a plain zip of what it finds there
//! has the same tensors, if it is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_nn::files::Checkpoint;
use std::io::{Cursor, Read};

#[path = "read_all.rs"]
mod read_all;

const FLOATS: [u8; 24] = [0; 24];

fuzz_target!(|bytes: &[u8]| {
    read_all::read_all(bytes);
    compare(bytes);
    read_all::read_all(&zip(&[("a/data.pkl", bytes), ("a/data/0", &FLOATS)]));
    // A legacy file is not protected by checksums: its first pickles are put in front.
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    read_all::read_all(&[head, bytes].concat());
});

fn compare(bytes: &[u8]) {
    let Ok(ours) = Checkpoint::parse(bytes) else { return };
    let Some(members) = members(bytes) else { return };
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    let plain = zip(&members);
    let Ok(theirs) = Checkpoint::parse(&plain) else { return };
    assert_eq!(ours.entries().len(), theirs.entries().len());
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    for (a, b) in ours.entries().iter().zip(theirs.entries()) {
        assert_eq!((a.name(), a.shape(), a.dtype()), (b.name(), b.shape(), b.dtype()));
        // What is packed may be damaged.
        if a.read_f32(&mut numbers).is_ok() && b.read_f32(&mut others).is_ok() {
            assert!(numbers.iter().map(|number| number.to_bits()).eq(others.iter().map(|number| number.to_bits())), "{}", a.name());
        }
    }
}

/// The members of a zip as the crate finds them, if they are small.
fn members(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut all = Vec::new();
    for i in 0..archive.len() {
        let member = archive.by_index(i).ok()?;
        let (name, mut data) = (member.name().ok()?.to_string(), Vec::new());
        member.take(1 << 16).read_to_end(&mut data).ok()?;
        all.push((name, data));
    }
    Some(all)
}

/// A good zip, as small as it gets.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let at = out.len() as u32;
        let size = data.len() as u32;
        let mut common = vec![0; 10];
        for word in [crc32fast::hash(data), size, size, name.len() as u32] {
            common.extend(word.to_le_bytes());
        }
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (at, size, count) = (out.len() as u32, directory.len() as u32, members.len() as u16);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend([size.to_le_bytes(), at.to_le_bytes()].concat());
    out.extend([0, 0]);
    out
}

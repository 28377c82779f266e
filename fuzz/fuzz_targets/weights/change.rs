//! Good files with changed bytes, and the lengths and hashes that they should have.

use nunatak_nn::Native;
use sha2::{Digest, Sha256};

/// Changes of four bytes each: a place (two bytes), what is done, a number.
fn edit(bytes: &mut [u8], edits: &[u8]) {
    for &[low, high, kind, number] in edits.as_chunks::<4>().0.iter().take(64) {
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
        let Some(byte) = bytes.get_mut(at) else { return };
        *byte = match kind % 4 {
            0 => number,
            1 => byte.wrapping_add(number),
            2 => *byte ^ 1 << (number % 8),
            _ => b"0123456789,:[]{}\"\\.-"[usize::from(number) % 20],
        };
    }
}

/// A `.safetensors` with another header: the last byte says how many bytes of it are taken out, or doubled.
pub fn text(file: &[u8], edits: &[u8]) -> Vec<u8> {
    let len = u64::from_le_bytes(file[..8].try_into().expect("eight")) as usize;
    let mut header = file[8..8 + len].to_vec();
    edit(&mut header, edits);
    if let [.., low, high, cut] = *edits {
        let at = usize::from(u16::from_le_bytes([low, high])) % header.len();
        let piece = at..(at + usize::from(cut % 64)).min(header.len());
        match cut & 64 == 0 {
            true => drop(header.drain(piece)),
            false => drop(header.splice(at..at, header[piece].to_vec())),
        }
    }
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &file[8 + len..]].concat()
}

/// A native file with changes, and the checksums of its tensors and its head made right.
pub fn native(file: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    edit(&mut bytes, edits);
    hash(&mut bytes);
    let digests = |file: Native| file.tensors().map(|tensor| Sha256::digest(tensor.bytes())).collect::<Vec<_>>();
    for (i, digest) in Native::parse(&bytes).map(digests).unwrap_or_default().into_iter().enumerate() {
        bytes[192 + 40 * i + 24..192 + 40 * i + 40].copy_from_slice(&digest[..16]);
    }
    hash(&mut bytes);
    bytes
}

/// Gives a head its hash.
fn hash(bytes: &mut [u8]) {
    let head = u32::from_le_bytes(bytes[24..28].try_into().expect("four")) as usize;
    if let Some(rest) = bytes.get(160..head) {
        let hash: [u8; 32] = Sha256::new().chain_update(&bytes[..128]).chain_update(rest).finalize().into();
        bytes[128..160].copy_from_slice(&hash);
    }
}

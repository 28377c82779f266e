//! Native files: the input as it is, and with the hash that its head asks for, since a random change
//! never gets past that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_nn::files::native::{Layout, Native};
use sha2::{Digest, Sha256};

#[path = "read_all.rs"]
mod read_all;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut forged = bytes.to_vec();
    let head = forged.get(24..28).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
    if let Some(rest) = forged.get(160..head) {
        let hash: [u8; 32] = Sha256::new().chain_update(&forged[..128]).chain_update(rest).finalize().into();
        forged[128..160].copy_from_slice(&hash);
        read(&forged);
    }
});

fn read(bytes: &[u8]) {
    read_all::read_all(bytes);
    let _ = Native::at_front(bytes).map(|file| (file.verify(), file.in_place()));
    let Ok(file) = Native::parse(bytes) else { return };
    let _ = file.verify();
    let mut room = Vec::new();
    for tensor in file.tensors() {
        assert_eq!(file.tensor(tensor.name()).map(|t| t.offset()), Some(tensor.offset()));
        if tensor.layout() != Layout::Count {
            room.resize(tensor.numbers(), 0.0);
            tensor.read(&mut room);
        }
    }
}

//! `.safetensors`: the input as a whole file, and as a header of the right length before 24 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "read_all.rs"]
mod read_all;

fuzz_target!(|bytes: &[u8]| {
    read_all::read_all(bytes);
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend(bytes);
    file.extend([0; 24]);
    read_all::read_all(&file);
});

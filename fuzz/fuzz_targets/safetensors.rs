//! `.safetensors`: the input as a whole file, and as a header of the right length before 24 bytes. What the crate
//! `safetensors` accepts too has the same tensors there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_nn::files::{Checkpoint, Format};
use safetensors::SafeTensors;

#[path = "read_all.rs"]
mod read_all;

fuzz_target!(|bytes: &[u8]| {
    read_all::read_all(bytes);
    compare(bytes);
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend(bytes);
    file.extend([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
    read_all::read_all(&file);
    compare(&file);
});

fn compare(bytes: &[u8]) {
    let (Ok(ours), Ok(theirs)) = (Checkpoint::parse(bytes), SafeTensors::deserialize(bytes)) else { return };
    if ours.format() != Format::Safetensors {
        return;
    }
    assert_eq!(ours.entries().len(), theirs.len());
    for entry in ours.entries() {
        let other = theirs.tensor(entry.name_in_file()).expect("a tensor that the crate has too");
        assert_eq!(entry.shape(), other.shape());
        let mut numbers = Vec::new();
        if other.dtype() == safetensors::Dtype::F32 && entry.read_f32(&mut numbers).is_ok() {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_bits().to_le_bytes()).collect();
            assert_eq!(bytes, other.data());
        }
        if other.dtype() == safetensors::Dtype::I64 && entry.is_read() {
            let bytes: Vec<u8> = entry.read_i64().expect("integers").iter().flat_map(|number| number.to_le_bytes()).collect();
            assert_eq!(bytes, other.data());
        }
    }
}

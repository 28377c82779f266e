//! What features depend on, in 32 bytes: so that features that were kept are not used with another network.

use super::Trainer;
use nunatak_core::program::EntryKind;
use sha2::{Digest, Sha256};

/// Takes in a text, or other bytes, and how many they are.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

impl Trainer<'_> {
    /// A key of the features that this network makes of images: SHA-256 of the names, shapes and numbers of all parameters
    /// and running statistics below the head, of the images' size, and of `view`: whatever says how images become numbers
    /// (resizing, means, deviations), of any length. Equal keys: the same features, but for rounding where programs take
    /// other algorithms (another batch, another processor); one program for all features gives the same bits.
    ///
    /// What is read in place is not read for it: the file has checksums of its tensors, which are believed.
    pub fn trunk_key(&self, view: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"nunatak features 1");
        part(&mut hash, view);
        for name in ["data", "features"] {
            if let Some(value) = self.program.values().find(|value| value.name() == name) {
                part(&mut hash, name.as_bytes());
                value.shape()[1..].iter().for_each(|size| hash.update((*size as u64).to_le_bytes()));
            }
        }
        for id in self.program.entries().filter(|id| !self.is_head(*id)) {
            let entry = self.program.entry(id);
            if entry.kind() == EntryKind::Count {
                continue;
            }
            part(&mut hash, entry.name().as_bytes());
            let (shape, rank) = entry.shape();
            shape[..rank].iter().for_each(|size| hash.update((*size as u64).to_le_bytes()));
            // The checksum of a native file's tensor.
            let of_file = self.weights.as_ref().filter(|_| entry.is_borrowed()).and_then(|file| file.tensor(entry.name()));
            match of_file {
                Some(tensor) => hash.update(tensor.checksum()),
                None => hash.update(&checksum(self.entry_lying(id))[..16]),
            }
        }
        hash.finalize().into()
    }
}

/// SHA-256 of numbers as a native file has them.
fn checksum(numbers: &[f32]) -> [u8; 32] {
    match cfg!(target_endian = "little") {
        true => Sha256::digest(bytemuck::cast_slice::<f32, u8>(numbers)).into(),
        false => {
            let mut hash = Sha256::new();
            numbers.iter().for_each(|v| hash.update(v.to_le_bytes()));
            hash.finalize().into()
        }
    }
}

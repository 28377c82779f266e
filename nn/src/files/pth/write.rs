//! Writes `.pth` in torch's zip form: what `torch.save(model.state_dict(), …)` would write, with
//! sizes and checksums in the local headers, since here they are known beforehand.

#![forbid(unsafe_code)]

use crate::files::atomic;
use crate::files::dtype::Dtype;
use crate::files::error::WriteError;
use crate::files::safetensors::write_object;
use crate::files::tensor_out::{Data, TensorOut, check};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Payloads begin at multiples of this, as torch puts them, so that they can be mapped.
const ALIGN: usize = 64;
const ROOT: &str = "archive";
/// The member of the metadata: an object of strings in JSON.
pub(super) const METADATA: &str = "nunatak.json";

/// Writes the tensors to `path` as a state_dict that `torch.load(weights_only=True)` reads,
/// atomically. The data are streamed: nothing is copied whole. `metadata`, if there are any, become a
/// member of the archive that PyTorch passes over.
///
/// # Errors
/// When a shape does not fit its data, a name comes twice, the file would pass 4 GiB or 65,000
/// tensors (zip64 is not written: take [`write_safetensors`](crate::files::write_safetensors())), or the
/// system refuses. The file that stood there before is then untouched.
pub fn write_pth(path: &Path, tensors: &[TensorOut<'_>], metadata: &BTreeMap<String, String>) -> Result<(), WriteError> {
    check(tensors)?;
    let pickle = pickle(tensors);
    // Writing to a String can't fail.
    let about = if metadata.is_empty() { String::new() } else { write_object(metadata).unwrap_or_default() };
    let payload: u64 = tensors.iter().map(|t| t.data.byte_len() + 512).sum();
    let bytes = payload + (pickle.len() + about.len()) as u64 + 4096;
    let limits = [("tensors", tensors.len() as u64, 65_000), ("bytes of .pth", bytes, u64::from(u32::MAX))];
    for (what, given, limit) in limits {
        if given > limit {
            return Err(WriteError::TooBig { what, given, limit });
        }
    }
    atomic::replace(path, |out| {
        let mut zip = Zip { out, at: 0, directory: Vec::new(), count: 0 };
        zip.bytes("data.pkl", &pickle)?;
        zip.bytes("byteorder", b"little")?;
        for (i, tensor) in tensors.iter().enumerate() {
            zip.data(&format!("data/{i}"), &tensor.data)?;
        }
        zip.bytes("version", b"3\n")?;
        if !about.is_empty() {
            zip.bytes(METADATA, about.as_bytes())?;
        }
        zip.finish()
    })
}

struct Zip<W> {
    out: W,
    /// Bytes written so far; below 4 GiB.
    at: u32,
    directory: Vec<u8>,
    count: u16,
}

impl<W: Write> Zip<W> {
    fn bytes(&mut self, name: &str, payload: &[u8]) -> io::Result<()> {
        self.header(name, payload.len() as u32, crc32fast::hash(payload))?;
        self.out.write_all(payload)
    }

    fn data(&mut self, name: &str, data: &Data<'_>) -> io::Result<()> {
        let mut crc = crc32fast::Hasher::new();
        data.each_chunk(|bytes| {
            crc.update(bytes);
            Ok(())
        })?;
        self.header(name, data.byte_len() as u32, crc.finalize())?;
        data.write_to(&mut self.out)
    }

    /// The local header, padded as torch does it with an extra field "FB", and the directory's line.
    fn header(&mut self, name: &str, size: u32, crc: u32) -> io::Result<()> {
        let name = format!("{ROOT}/{name}");
        // The field's own head takes four bytes.
        let unpadded = self.at as usize + 30 + name.len() + 4;
        let padding = unpadded.next_multiple_of(ALIGN) - unpadded;
        // Flags: names are UTF-8. Method 0, stored. No time of day: equal tensors, equal files.
        let mut common = Vec::with_capacity(26);
        for half in [0, 1 << 11, 0, 0, 0] {
            common.extend(u16::to_le_bytes(half));
        }
        for word in [crc, size, size] {
            common.extend(word.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());

        let mut local = b"PK\x03\x04".to_vec();
        local.extend(&common);
        local.extend((padding as u16 + 4).to_le_bytes());
        local.extend(name.as_bytes());
        local.extend(b"FB");
        local.extend((padding as u16).to_le_bytes());
        local.resize(local.len() + padding, b'Z');
        self.out.write_all(&local)?;

        self.directory.extend(b"PK\x01\x02\0\0");
        self.directory.extend(&common);
        // No extra field, no comment, disk 0, no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(self.at.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.at += local.len() as u32 + size;
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.directory)?;
        self.out.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.out.write_all(&self.count.to_le_bytes())?;
        self.out.write_all(&self.count.to_le_bytes())?;
        self.out.write_all(&(self.directory.len() as u32).to_le_bytes())?;
        self.out.write_all(&self.at.to_le_bytes())?;
        self.out.write_all(&[0, 0])
    }
}

/// `OrderedDict` of `_rebuild_tensor_v2` calls, protocol 2, as torch pickles it.
fn pickle(tensors: &[TensorOut<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\nq\0)R(".to_vec();
    for (i, tensor) in tensors.iter().enumerate() {
        let class = match tensor.data.dtype() {
            Dtype::I64 => "Long",
            Dtype::I32 => "Int",
            _ => "Float",
        };
        string(&mut out, tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        string(&mut out, "storage");
        out.extend(format!("ctorch\n{class}Storage\n").bytes());
        string(&mut out, &i.to_string());
        string(&mut out, "cpu");
        int(&mut out, tensor.data.len());
        out.extend(b"tQ");
        int(&mut out, 0);
        out.push(b'(');
        tensor.shape.iter().for_each(|&d| int(&mut out, d));
        out.extend(b"t(");
        for d in 0..tensor.shape.len() {
            // PyTorch counts an empty dimension as 1 here.
            let below = tensor.shape[d + 1..].iter();
            int(&mut out, below.fold(1usize, |n, &d| n.saturating_mul(d.max(1))));
        }
        // No gradient; no hooks: an empty OrderedDict.
        out.extend(b"t\x89h\0)RtR");
    }
    out.extend(b"u.");
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// LONG1 of eight bytes, which holds any size.
fn int(out: &mut Vec<u8>, n: usize) {
    match u8::try_from(n) {
        Ok(small) => out.extend([b'K', small]),
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(i64::try_from(n).unwrap_or(i64::MAX).to_le_bytes());
        }
    }
}

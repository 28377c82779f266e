//! Writes a native file, piece by piece and without a heap: to a file, a buffer, a slot of flash.
//!
//! The head comes first and holds the hash of everything, so the tensors are asked for their data
//! three times: for their checksums in the hash, for their checksums in the table, and for the file.

use super::tensor::checksum;
use super::{ALIGN, BYTE_ORDER, ENTRY, HASH, Hash, Layout, MAGIC, MAX_TENSORS, TABLE, VERSION};
use crate::models::{MAX_LAYERS, Recipe};
use crate::name::Name;
use core::convert::Infallible;
use nunatak_kernels::WeightLayout;
use sha2::{Digest, Sha256};

/// What is to be written of a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) name: Name,
    /// The shape in PyTorch; 1 beyond the last dimension.
    pub(crate) shape: [usize; 4],
    pub(crate) rank: usize,
    pub(crate) layout: Layout,
}

impl Spec {
    /// Bytes of the data.
    fn len(&self) -> usize {
        match self.layout {
            Layout::Count => 8,
            Layout::Plain | Layout::Words => 4 * self.shape.iter().product::<usize>(),
            Layout::Blocks(layout) => 4 * layout.len(),
        }
    }
}

/// Takes the bytes of a file, one piece after the other.
pub(crate) type Sink<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

/// Tensors to be written. Each is asked for more than once, and must give the same each time.
pub(crate) trait Source {
    /// The tensors, in order.
    fn specs(&self) -> impl Iterator<Item = Spec>;
    /// Hands the data of tensor `i` to `sink`, in its layout, little-endian.
    fn emit<E>(&self, i: usize, sink: Sink<E>) -> Result<(), E>;
}

/// What a head says besides the tensors.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Where it is a residual network of basic blocks.
    pub(crate) recipe: Option<Recipe>,
    pub(crate) base: Option<Hash>,
    pub(crate) metadata: &'a [(&'a str, &'a str)],
}

/// Hands floats to a sink.
pub(crate) fn emit_floats<E>(numbers: &[f32], sink: Sink<E>) -> Result<(), E> {
    if cfg!(target_endian = "little") {
        return sink(bytemuck::cast_slice(numbers));
    }
    numbers.iter().try_for_each(|v| sink(&v.to_le_bytes()))
}

/// Hands the floats of a weight in the kernels' order to a sink in PyTorch's.
pub(crate) fn emit_unpacked<E>(layout: WeightLayout, packed: &[f32], sink: Sink<E>) -> Result<(), E> {
    let count = layout.numbers();
    let mut piece = [0.0; 64];
    for start in (0..count).step_by(piece.len()) {
        let piece = &mut piece[..(count - start).min(64)];
        piece.iter_mut().enumerate().for_each(|(i, v)| *v = packed[layout.index_of(start + i)]);
        emit_floats(piece, sink)?;
    }
    Ok(())
}

/// Where the parts of a file lie.
struct Places {
    tensors: usize,
    counts: usize,
    /// Where metadata begin, and how long they are.
    metadata: [usize; 2],
    head: usize,
    file: usize,
}

impl Places {
    fn of(head: &Head, source: &impl Source) -> Places {
        let (mut tensors, mut counts, mut names, mut floats) = (0, 0, 0, 0);
        for spec in source.specs() {
            tensors += 1;
            names += spec.name.as_str().len();
            match spec.layout {
                Layout::Count => counts += 1,
                _ => floats += spec.len().next_multiple_of(ALIGN),
            }
        }
        assert!(tensors <= MAX_TENSORS, "{tensors} tensors, a file holds {MAX_TENSORS}");
        let start = TABLE + tensors * ENTRY + names;
        let len: usize = head.metadata.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
        let end = (start + len).next_multiple_of(ALIGN);
        let file = (end + 8 * counts).next_multiple_of(ALIGN) + floats;
        Places { tensors, counts, metadata: [start, len], head: end, file }
    }
}

/// Bytes of the file that [`write`] writes.
pub(crate) fn length(head: &Head, source: &impl Source) -> usize {
    Places::of(head, source).file
}

/// Writes the file; returns its hash.
///
/// # Errors
/// The sink's.
pub(crate) fn write<E>(head: &Head, source: &impl Source, sink: Sink<E>) -> Result<Hash, E> {
    let places = Places::of(head, source);
    let mut hash = Sha256::new();
    let Ok(()) = write_head::<Infallible>(head, source, &places, None, &mut |bytes| {
        hash.update(bytes);
        Ok(())
    });
    let hash = Hash(hash.finalize().into());
    write_head(head, source, &places, Some(hash), sink)?;

    let counts = |layout: Layout| layout == Layout::Count;
    for (i, _) in source.specs().enumerate().filter(|(_, spec)| counts(spec.layout)) {
        source.emit(i, sink)?;
    }
    zeros(gap(places.head + 8 * places.counts), sink)?;
    for (i, spec) in source.specs().enumerate().filter(|(_, spec)| !counts(spec.layout)) {
        source.emit(i, sink)?;
        zeros(gap(spec.len()), sink)?;
    }
    Ok(hash)
}

/// Bytes to the next multiple of the alignment.
const fn gap(len: usize) -> usize {
    len.next_multiple_of(ALIGN) - len
}

fn zeros<E>(count: usize, sink: Sink<E>) -> Result<(), E> {
    if count == 0 { Ok(()) } else { sink(&[0; ALIGN][..count]) }
}

/// The head with its hash, or for hashing without the place for it.
fn write_head<E>(head: &Head, source: &impl Source, places: &Places, hash: Option<Hash>, sink: Sink<E>) -> Result<(), E> {
    let mut first = [0; TABLE];
    let mut put = |at: usize, bytes: &[u8]| first[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &BYTE_ORDER.to_le_bytes());
    put(16, &(places.file as u64).to_le_bytes());
    for (at, n) in [(24, places.head), (28, places.tensors), (32, places.metadata[0]), (36, places.metadata[1])] {
        put(at, &(n as u32).to_le_bytes());
    }
    put(45, &[head.base.is_some().into()]);
    if let Some(recipe) = &head.recipe {
        let (stem, layers) = (recipe.stem, recipe.layers());
        put(40, &[layers as u8, stem.kernel as u8, stem.stride as u8, stem.pad as u8, stem.pool.into()]);
        for i in 0..layers.min(MAX_LAYERS) {
            put(48 + i, &[recipe.blocks(i) as u8]);
            put(56 + 2 * i, &(recipe.width(i) as u16).to_le_bytes());
        }
        put(72, &(recipe.in_channels as u32).to_le_bytes());
        put(76, &(recipe.classes as u32).to_le_bytes());
    }
    if let Some(base) = head.base {
        put(96, &base.0);
    }
    sink(&first[..HASH.start])?;
    if let Some(hash) = hash {
        sink(&hash.0)?;
    }
    sink(&first[HASH.end..])?;

    let (mut counts, mut floats) = (places.head, (places.head + 8 * places.counts).next_multiple_of(ALIGN));
    for (i, spec) in source.specs().enumerate() {
        let mut entry = [0; ENTRY];
        for (size, to) in spec.shape.iter().zip(entry.chunks_exact_mut(4)) {
            to.copy_from_slice(&(*size as u32).to_le_bytes());
        }
        let next = if spec.layout == Layout::Count { &mut counts } else { &mut floats };
        entry[16..20].copy_from_slice(&((*next / 8) as u32).to_le_bytes());
        *next += if spec.layout == Layout::Count { 8 } else { spec.len().next_multiple_of(ALIGN) };
        entry[20..22].copy_from_slice(&(spec.name.as_str().len() as u16).to_le_bytes());
        (entry[22], entry[23]) = (spec.rank as u8, spec.layout.code());
        let mut hash = Sha256::new();
        let Ok(()) = source.emit::<Infallible>(i, &mut |bytes| {
            hash.update(bytes);
            Ok(())
        });
        entry[24..].copy_from_slice(&checksum(hash));
        sink(&entry)?;
    }
    source.specs().try_for_each(|spec| sink(spec.name.as_str().as_bytes()))?;
    for (key, value) in head.metadata {
        sink(&(key.len() as u32).to_le_bytes())?;
        sink(&(value.len() as u32).to_le_bytes())?;
        sink(key.as_bytes())?;
        sink(value.as_bytes())?;
    }
    zeros(places.head - places.metadata[0] - places.metadata[1], sink)
}

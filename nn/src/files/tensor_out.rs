//! Tensors on their way into a file.

#![forbid(unsafe_code)]

use super::dtype::Dtype;
use super::error::WriteError;
use std::io::{self, Write};

/// A tensor to be written: contiguous, row-major.
#[derive(Debug, Clone, Copy)]
pub struct TensorOut<'a> {
    /// The name, as in PyTorch's state_dict.
    pub name: &'a str,
    /// The shape; empty for a scalar, which has one element.
    pub shape: &'a [usize],
    /// The elements.
    pub data: Data<'a>,
}

/// The elements of a [`TensorOut`].
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// Parameters and running statistics.
    F32(&'a [f32]),
    /// Counters, as batchnorm's `num_batches_tracked`.
    I64(&'a [i64]),
    /// Words that are no floating-point numbers, as a layer's of 8 bits.
    I32(&'a [i32]),
}

impl Data<'_> {
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I64(_) => Dtype::I64,
            Self::I32(_) => Dtype::I32,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::I64(data) => data.len(),
            Self::I32(data) => data.len(),
        }
    }

    pub(crate) fn byte_len(&self) -> u64 {
        self.len() as u64 * self.dtype().size() as u64
    }

    /// Hands the little-endian bytes to `sink`, in pieces: files are little-endian on any machine.
    pub(crate) fn each_chunk(&self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if cfg!(target_endian = "little") {
            return sink(match self {
                Self::F32(data) => bytemuck::cast_slice(data),
                Self::I64(data) => bytemuck::cast_slice(data),
                Self::I32(data) => bytemuck::cast_slice(data),
            });
        }
        let mut buffer = [0; 4096];
        match self {
            Self::F32(data) => {
                for chunk in data.chunks(buffer.len() / 4) {
                    for (to, value) in buffer.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
                        *to = value.to_le_bytes();
                    }
                    sink(&buffer[..chunk.len() * 4])?;
                }
            }
            Self::I32(data) => {
                for chunk in data.chunks(buffer.len() / 4) {
                    for (to, value) in buffer.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
                        *to = value.to_le_bytes();
                    }
                    sink(&buffer[..chunk.len() * 4])?;
                }
            }
            Self::I64(data) => {
                for chunk in data.chunks(buffer.len() / 8) {
                    for (to, value) in buffer.as_chunks_mut::<8>().0.iter_mut().zip(chunk) {
                        *to = value.to_le_bytes();
                    }
                    sink(&buffer[..chunk.len() * 8])?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.each_chunk(|bytes| out.write_all(bytes))
    }
}

/// Refuses, before a file is touched, what could not be read back.
pub(crate) fn check(tensors: &[TensorOut<'_>]) -> Result<(), WriteError> {
    let mut names: Vec<&str> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let wanted = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if wanted != Some(tensor.data.len()) {
            return Err(WriteError::Shape { name: tensor.name.into(), shape: tensor.shape.to_vec(), given: tensor.data.len() });
        }
        let why = if tensor.name.is_empty() {
            "a tensor needs a name"
        } else if tensor.name.len() > 1024 {
            "the name is longer than 1024 bytes"
        } else if tensor.name == "__metadata__" {
            "this name is safetensors' own"
        } else if tensor.shape.len() > super::entry::MAX_RANK {
            "the tensor has more than 8 dimensions"
        } else {
            names.push(tensor.name);
            continue;
        };
        return Err(WriteError::Name { name: tensor.name.into(), why });
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(WriteError::Duplicate { name: pair[0].into() }),
        None => Ok(()),
    }
}

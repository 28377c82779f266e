//! Why a network was not written as ONNX.

use crate::Error;
use crate::files::error::{WriteError, quote};
use std::fmt;
use std::string::String;

/// Why a network was not written as ONNX. What stood at the path before is untouched.
#[derive(Debug)]
#[non_exhaustive]
pub enum OnnxError {
    /// The recording has an error, or has no such value.
    Recording(Error),
    /// An operation that the value needs is not for inference.
    Operation {
        /// The operation.
        operation: &'static str,
        /// The name of its result.
        value: String,
        /// Why it has no nodes, and what to do.
        why: &'static str,
    },
    /// More bytes than a file of ONNX can have.
    TooBig {
        /// The bytes that it would have.
        bytes: u64,
        /// The most that there can be.
        limit: u64,
    },
    /// A tensor is missing or has another shape, or the system refuses.
    Write(WriteError),
}

impl From<Error> for OnnxError {
    fn from(e: Error) -> Self {
        OnnxError::Recording(e)
    }
}

impl From<WriteError> for OnnxError {
    fn from(e: WriteError) -> Self {
        OnnxError::Write(e)
    }
}

impl fmt::Display for OnnxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnnxError::Recording(e) => e.fmt(f),
            OnnxError::Operation { operation, value, why } => {
                write!(f, "{operation} ({}) can't be written as ONNX: {why}", quote(value))
            }
            OnnxError::TooBig { bytes, limit } => write!(
                f,
                "the network takes {bytes} bytes as ONNX, one file holds at most {limit}, and weights in files beside it are not \
                 written; export a smaller network"
            ),
            OnnxError::Write(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for OnnxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OnnxError::Recording(e) => Some(e),
            OnnxError::Write(e) => Some(e),
            OnnxError::Operation { .. } | OnnxError::TooBig { .. } => None,
        }
    }
}

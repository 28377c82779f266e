//! What is not computed: tensors and class indices from outside, and steps that another absorbed.

#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Facts, Lengths, Misfit, no_memory, no_product, nothing_attached, nothing_to_choose, nothing_to_train};
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;

/// A tensor from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input;

/// Stands where another step does the work too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing;

/// Class indices from outside: n numbers of 64 bits, in the room of 2·n.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels;

macro_rules! not_computed {
    ($kind:ident, $name:literal, onnx: $onnx:expr) => {
        impl Facts for $kind {
            fn name(&self) -> &'static str {
                $name
            }
            fn backward_input_reads(&self) -> Reads {
                Reads::default()
            }
            fn differentiable(&self, _: usize) -> bool {
                false
            }
            fn overwrites(&self, _: usize) -> bool {
                false
            }
            fn gradient_overwrites(&self, _: usize) -> bool {
                false
            }
            fn accumulates(&self, _: usize) -> bool {
                false
            }
            fn write(&self, _: &mut Writer) -> Result<(), nunatak_core::Error> {
                Ok(())
            }
            fn read(_: &Call) -> Result<Self, Misfit> {
                Err("what comes from outside is not computed")
            }
            fn lengths(&self) -> Lengths<'_> {
                Lengths::default()
            }
            #[cfg(feature = "std")]
            fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
                let written: fn(&mut Nodes) -> Result<(), OnnxError> = $onnx;
                written(nodes)
            }
            nothing_to_choose!();
            nothing_to_train!();
            nothing_attached!();
            no_memory!();
            no_product!();
        }
    };
}

not_computed!(Input, "input", onnx: |nodes| {
    nodes.comes_from_outside();
    Ok(())
});
not_computed!(Labels, "labels", onnx: |nodes| Err(nodes.refused("class indices serve a loss; ask for the prediction")));
not_computed!(Nothing, "nothing", onnx: |nodes| Err(nodes.refused("another step does its work, and no recording has it")));

//! A forward that begins in the middle: features that were computed once are put in their place.
//!
//! What a frozen network makes of an image never changes while only its head is trained. So it is computed one time
//! and kept by the caller; the steps after that cost what the head costs.

use super::Trainer;
use super::trainer::Phase;
use crate::Error;
use nunatak_core::program::{Place, Program, Value, ValueRecord};
use nunatak_core::tape::ValueId;
use nunatak_core::{Shape, Tensor};

/// Whether everything after a value follows from it and from inputs, and nothing goes back beyond it.
fn is_a_beginning(program: &Program, value: &Value) -> bool {
    let later = || program.forward().filter(|call| call.node() > value.node());
    let is_input = |v: &Value| v.flags() & (ValueRecord::INPUT | ValueRecord::LABELS) != 0;
    // What was computed before the value may lie where an input lay, and be as long.
    let reused = |place: Place| program.forward().take_while(|call| call.node() <= value.node()).any(|call| call.y().meets(place));
    let outside = |place: Place| program.values().any(|v| is_input(&v) && v.place() == place) && !reused(place);
    let computed = |place: Place, before: u32| later().take_while(|call| call.node() < before).any(|call| call.y() == place);
    let given = |place: Place, node: u32| place.is_empty() || place == value.place() || outside(place) || computed(place, node);
    later().all(|call| (0..call.inputs()).all(|i| given(call.x(i), call.node())))
        && program.backward().all(|call| call.node() > value.node())
}

impl Trainer<'_> {
    /// Puts numbers, in PyTorch's order n, c, h, w, in the place of a value that is kept: the next forward begins behind
    /// it. What comes before the value is not computed: its inputs need not be set, its normalisations and dropouts see
    /// no batch, and its other values can't be read. With the numbers that an earlier forward gave (see
    /// [`Trainer::value`]) the results have the same bits.
    ///
    /// Setting an input that only comes before the value takes it back, as does another program.
    ///
    /// # Errors
    /// [`Error::NotKept`], [`Error::Length`]; [`Error::NoBeginning`] where something later also reads what comes before
    /// the value, or a gradient goes back beyond it.
    pub fn set_value(&mut self, value: impl Into<ValueId>, numbers: &[f32]) -> Result<(), Error> {
        let value = self.door(value.into())?;
        if value.flags() & ValueRecord::KEPT == 0 {
            return Err(Error::NotKept);
        }
        let [n, c, h, w] = value.shape();
        let shape = Shape::new(n, c, h, w)?;
        if numbers.len() != shape.len() {
            return Err(Error::Length { what: "a value", expected: shape.len(), got: numbers.len() });
        }
        if !is_a_beginning(&self.program, &value) {
            return Err(Error::NoBeginning);
        }
        let (node, to) = (value.node(), value.place().range());
        Tensor::new(shape, numbers)?.to_channels_last(&mut self.block[to]);
        self.begin = Some(node);
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Whether an input that was set just now comes before the value that a forward would begin behind: then it does not.
    pub(super) fn begin_anew(&mut self, number: usize) {
        if !self.is_read(&self.program.value(number)) {
            self.begin = None;
        }
    }

    /// Whether the next forward reads an input.
    pub(super) fn is_read(&self, input: &Value) -> bool {
        let Some(begin) = self.begin else { return true };
        let mut later = self.program.forward().filter(|call| call.node() > begin);
        later.any(|call| (0..call.inputs()).any(|i| call.x(i) == input.place()))
    }
}

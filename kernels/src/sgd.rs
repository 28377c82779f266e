//! SGD.

/// An optimizer's numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Factor of the buffer; 0 is without.
    pub momentum: f32,
    /// How much less of the gradient goes into the buffer.
    pub dampening: f32,
    /// Factor of the parameter, added to the gradient.
    pub weight_decay: f32,
    /// Look ahead.
    pub nesterov: bool,
    /// Climb instead of descend.
    pub maximize: bool,
}

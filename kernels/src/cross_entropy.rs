//! Cross entropy.

/// How rows become one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// Divided by the weight of the targets that count.
    Mean,
    /// Added up.
    Sum,
}

/// What the network should have said.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Targets<'a> {
    /// One class per row: `[n]`.
    Indices(&'a [i64]),
    /// A probability per class: `[n][classes]`.
    Probabilities(&'a [f32]),
}

/// A cross entropy's numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CrossEntropy {
    /// Rows.
    pub n: usize,
    /// Classes.
    pub classes: usize,
    /// How much of the target is spread over all classes: 0 to 1.
    pub label_smoothing: f32,
    /// Rows with this target count nothing: −100 in PyTorch.
    pub ignore_index: i64,
    /// How rows become one number.
    pub reduction: Reduction,
}

/// A target that is no class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetOutOfRange {
    /// The row, from 0.
    pub row: usize,
    /// Its target.
    pub target: i64,
    /// The number of classes.
    pub classes: usize,
}

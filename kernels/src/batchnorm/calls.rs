//! What batchnorm's functions are handed: their tensors by name.

/// Running statistics: one number for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Means: read.
    pub mean: &'a [f32],
    /// Variances: read.
    pub var: &'a [f32],
}

/// Running statistics that are moved: one number for each channel.
#[derive(Debug)]
pub struct Moving<'a, T = f32> {
    /// Means: read and overwritten.
    pub mean: &'a mut [T],
    /// Variances: read and overwritten.
    pub var: &'a mut [T],
    /// How far they are moved: 0.1 in PyTorch, or 1/num_batches_tracked for a cumulative mean.
    pub factor: T,
}

/// The tensors of [`forward_batch`](super::forward_batch) and of
/// [`fused::forward_batch`](super::fused::forward_batch).
#[derive(Debug)]
pub struct ForwardBatch<'a> {
    /// rows x channels: read. `None`: `y` holds it on entry.
    pub x: Option<&'a [f32]>,
    /// 2·channels: means, then sums of squared deviations. Read instead of x where they are known.
    pub moments: Option<&'a [f64]>,
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels: read.
    pub beta: &'a [f32],
    /// Moved towards the batch's statistics.
    pub running: Moving<'a>,
    /// rows x channels: overwritten.
    pub y: &'a mut [f32],
    /// 2·channels: overwritten by means, then inverse standard deviations. For backward behind a relu 4·channels: then by
    /// forward's scales and shifts too.
    pub saved: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`forward_running`](super::forward_running) and of
/// [`fused::forward_running`](super::fused::forward_running).
#[derive(Debug)]
pub struct ForwardRunning<'a> {
    /// rows x channels: read. `None`: `y` holds it on entry.
    pub x: Option<&'a [f32]>,
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels: read.
    pub beta: &'a [f32],
    /// What is normalised with.
    pub running: Running<'a>,
    /// rows x channels: overwritten.
    pub y: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`fused::forward_again`](super::fused::forward_again).
#[derive(Debug)]
pub struct ForwardAgain<'a> {
    /// rows x channels: read. `None`: `y` holds it on entry.
    pub x: Option<&'a [f32]>,
    /// 4·channels that the forward with the batch's statistics has saved: read.
    pub saved: &'a [f32],
    /// rows x channels: overwritten.
    pub y: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`backward_sums`](super::backward_sums) and of
/// [`fused::backward_sums_gated`](super::fused::backward_sums_gated).
#[derive(Debug)]
pub struct BackwardSums<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels: read.
    pub dy: &'a [f32],
    /// 2·channels, behind a relu 4·channels, as forward left it: read.
    pub saved: &'a [f32],
    /// 2·channels: overwritten by dgamma, then dbeta.
    pub sums: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`backward_sums_running`](super::backward_sums_running).
#[derive(Debug)]
pub struct BackwardSumsRunning<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels: read.
    pub dy: &'a [f32],
    /// As forward read them.
    pub running: Running<'a>,
    /// 2·channels: overwritten by dgamma, then dbeta.
    pub sums: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`fused::backward_sums_masking`](super::fused::backward_sums_masking).
#[derive(Debug)]
pub struct BackwardSumsMasking<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels, relu's result: read.
    pub y: &'a [f32],
    /// rows x channels: read, and zero where relu let nothing through.
    pub dy: &'a mut [f32],
    /// 2·channels, as forward left it: read.
    pub saved: &'a [f32],
    /// 2·channels: overwritten by dgamma, then dbeta.
    pub sums: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`fused::backward_sums_running_masking`](super::fused::backward_sums_running_masking).
#[derive(Debug)]
pub struct BackwardSumsRunningMasking<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels, relu's result: read.
    pub y: &'a [f32],
    /// rows x channels: read, and zero where relu let nothing through.
    pub dy: &'a mut [f32],
    /// As forward read them.
    pub running: Running<'a>,
    /// 2·channels: overwritten by dgamma, then dbeta.
    pub sums: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`backward_input`](super::backward_input) and of
/// [`fused::backward_input_gated`](super::fused::backward_input_gated).
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels: read. `None`: `dx` holds it on entry.
    pub dy: Option<&'a [f32]>,
    /// channels: read.
    pub gamma: &'a [f32],
    /// 2·channels, behind a relu 4·channels, as forward left it: read.
    pub saved: &'a [f32],
    /// 2·channels, as the sums' function wrote it: read.
    pub sums: &'a [f32],
    /// rows x channels: overwritten.
    pub dx: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`backward_input_running`](super::backward_input_running).
#[derive(Debug)]
pub struct BackwardInputRunning<'a> {
    /// rows x channels: read. `None`: `dx` holds it on entry.
    pub dy: Option<&'a [f32]>,
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels, variances as forward read them: read.
    pub running_var: &'a [f32],
    /// rows x channels: overwritten.
    pub dx: &'a mut [f32],
    /// [`BatchNorm::scratch_len`](super::BatchNorm::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

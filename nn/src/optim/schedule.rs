//! Learning-rate schedules: pure functions from the step's number to a factor of the base rate.

/// How the learning rate moves. Steps count from 0; a unit is whatever the caller counts (steps or
/// epochs).
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Schedule<'a> {
    /// Always the base rate.
    Constant,
    /// Times `gamma` every `size` units: PyTorch's StepLR.
    Step {
        /// Units between changes; 0 means never.
        size: u64,
        /// The factor of each change.
        gamma: f32,
    },
    /// Times `gamma` at each milestone: PyTorch's MultiStepLR.
    MultiStep {
        /// The units at which it changes, in any order.
        milestones: &'a [u64],
        /// The factor of each change.
        gamma: f32,
    },
    /// Linear from 0 over `warmup` units, then half a cosine down to `floor` at `total`.
    Cosine {
        /// Units of the warm-up: unit i < warmup has the factor (i + 1) / warmup.
        warmup: u64,
        /// Units in all.
        total: u64,
        /// The factor at the end.
        floor: f32,
    },
    /// PyTorch's OneCycleLR with cosine annealing, as a factor of its `max_lr`: up from 1/`div` over
    /// the first `rise` of the units, then down to 1/(`div`·`final_div`).
    OneCycle {
        /// Units in all.
        total: u64,
        /// The rising part: 0.3 in PyTorch.
        rise: f32,
        /// 25 in PyTorch.
        div: f32,
        /// 10000 in PyTorch.
        final_div: f32,
    },
}

impl Schedule<'_> {
    /// The factor at a unit.
    pub fn factor(&self, unit: u64) -> f32 {
        match *self {
            Schedule::Constant => 1.0,
            Schedule::Step { size: 0, .. } => 1.0,
            Schedule::Step { size, gamma } => libm::pow(f64::from(gamma), (unit / size) as f64) as f32,
            Schedule::MultiStep { milestones, gamma } => {
                libm::pow(f64::from(gamma), milestones.iter().filter(|&&m| unit >= m).count() as f64) as f32
            }
            Schedule::Cosine { warmup, .. } if unit < warmup => (unit + 1) as f32 / warmup as f32,
            Schedule::Cosine { warmup, total, floor } => {
                let done = (unit - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                anneal(1.0, f64::from(floor), done.min(1.0)) as f32
            }
            Schedule::OneCycle { total, rise, div, final_div } => {
                let low = 1.0 / f64::from(div);
                let bottom = low / f64::from(final_div);
                let top = f64::from(rise) * total as f64 - 1.0;
                let last = total as f64 - 1.0;
                let unit = (unit as f64).min(last);
                let factor = if unit <= top {
                    anneal(low, 1.0, unit / top.max(1.0))
                } else {
                    anneal(1.0, bottom, (unit - top) / (last - top).max(1.0))
                };
                factor as f32
            }
        }
    }
}

/// Half a cosine from `start` (at 0) to `end` (at 1).
fn anneal(start: f64, end: f64, done: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + libm::cos(core::f64::consts::PI * done))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch: `s = OneCycleLR(SGD([p], lr=1), max_lr=1, total_steps=10); [s.get_last_lr()[0], s.step()]…`
    #[test]
    fn one_cycle_is_pytorchs() {
        let s = Schedule::OneCycle { total: 10, rise: 0.3, div: 25.0, final_div: 1e4 };
        let torch = [0.04, 0.52, 1.0, 0.950_484_63, 0.811_745_1, 0.611_261_04, 0.388_742_96, 0.188_258_89, 0.049_519_4, 4e-6];
        for (i, expected) in torch.iter().enumerate() {
            assert!((s.factor(i as u64) - expected).abs() < 1e-6, "{i}: {} {expected}", s.factor(i as u64));
        }
    }

    #[test]
    fn steps_and_cosine() {
        let s = Schedule::Step { size: 3, gamma: 0.5 };
        assert_eq!([0, 2, 3, 6].map(|i| s.factor(i)), [1.0, 1.0, 0.5, 0.25]);
        let s = Schedule::MultiStep { milestones: &[5, 2], gamma: 0.1 };
        for (unit, expected) in [(1, 1.0), (2, 0.1), (5, 0.01)] {
            assert!((s.factor(unit) / expected - 1.0).abs() < 1e-6);
        }
        let s = Schedule::Cosine { warmup: 2, total: 12, floor: 0.0 };
        assert_eq!([0, 1, 2].map(|i| s.factor(i)), [0.5, 1.0, 1.0]);
        assert!((s.factor(7) - 0.5).abs() < 1e-7 && s.factor(12).abs() < 1e-7 && s.factor(99).abs() < 1e-7);
    }
}

//! PyTorch's initialisation: the same seed gives the same network as `torchvision.models.resnet18()`.
//!
//! Torch draws a uniform for every weight when a layer is made (`reset_parameters`); torchvision's
//! ResNet then draws every convolution again, from a normal distribution. So the numbers of the first
//! round count, though they are thrown away.

use crate::params::{Network, ParamKind};
use crate::trainer::Trainer;
use nunatak_core::ParamId;
use nunatak_core::rng::Generator;

impl Trainer<'_> {
    /// Initialises every parameter and statistic as torchvision does, from `manual_seed(seed)`;
    /// forgets momentum and gradients. What is read in place stays as it is; the others get the numbers
    /// that they would have without it.
    pub fn init(&mut self, seed: u64) {
        self.init_from(&mut Generator::manual_seed(seed));
    }

    /// The same from a generator that goes on afterwards, as PyTorch's global one does.
    pub fn init_from(&mut self, generator: &mut Generator) {
        let network = self.blueprint.network.clone();
        construction_order(&network, |id| {
            if let ParamKind::Conv { .. } = network.param_at(id).kind {
                generator.skip(network.param_at(id).numbers() as u64);
            }
        });
        self.init_head(generator);
        for id in network.param_ids() {
            match network.param_at(id).kind {
                ParamKind::Conv { layout, kernel } => {
                    // Kaiming: the variance of what flows back stays (fan_out, relu).
                    let fan_out = (layout.k * kernel * kernel) as f64;
                    let std = (core::f64::consts::SQRT_2 / libm::sqrt(fan_out)) as f32;
                    let weight = self.param_mut(id);
                    weight.fill(0.0);
                    let write = !weight.is_empty();
                    generator.normal_fill(network.param_at(id).numbers(), 0.0, std, |i, v| {
                        if write {
                            weight[layout.index_of(i)] = v;
                        }
                    });
                }
                ParamKind::Gamma(_) => self.param_mut(id).fill(1.0),
                ParamKind::Beta(_) => self.param_mut(id).fill(0.0),
                ParamKind::Linear(_) | ParamKind::Bias(_) => {}
            }
        }
        for i in 0..network.norms().len() {
            let id = crate::params::NormId(i as u16);
            self.running_mean_mut(id).fill(0.0);
            self.running_var_mut(id).fill(1.0);
            if !self.running_var_mut(id).is_empty() {
                self.set_num_batches_tracked(id, 0);
            }
        }
        self.momenta = Default::default();
        self.zero_grad();
    }

    /// Initialises `fc` alone, as `Linear(features, classes)` does: U(±1/√features), first the
    /// weight, then the bias.
    pub fn init_head(&mut self, generator: &mut Generator) {
        let network = self.blueprint.network.clone();
        let bound = (1.0 / libm::sqrt(network.recipe().features() as f64)) as f32;
        for id in network.head().iter() {
            let param = *network.param_at(id);
            let numbers = self.param_mut(id);
            match param.layout() {
                _ if numbers.is_empty() => (0..param.numbers()).for_each(|_| {
                    generator.uniform(-bound, bound);
                }),
                Some(layout) => {
                    numbers.fill(0.0);
                    (0..param.numbers()).for_each(|i| numbers[layout.index_of(i)] = generator.uniform(-bound, bound));
                }
                None => numbers.iter_mut().for_each(|v| *v = generator.uniform(-bound, bound)),
            }
            self.momenta.remove(id);
        }
    }
}

/// Calls with every parameter in the order in which torchvision makes the layers: a block's
/// downsample comes before its convolutions.
fn construction_order(network: &Network, mut each: impl FnMut(ParamId)) {
    // The stem's weight, gamma and beta.
    let mut ids = network.param_ids();
    ids.by_ref().take(3).for_each(&mut each);
    for block in network.recipe().each_block() {
        let (own, around) = (ids.clone().take(6), ids.clone().skip(6).take(if block.downsample() { 3 } else { 0 }));
        let count = 6 + around.clone().count();
        around.for_each(&mut each);
        own.for_each(&mut each);
        ids.by_ref().take(count).for_each(drop);
    }
}

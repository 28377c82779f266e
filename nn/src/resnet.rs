//! ResNet18 and its kin, recorded.

use crate::Error;
use crate::graph::Var;
use crate::op::{ConvThen, NormThen, Op};
use crate::params::{Network, NormId};
use crate::recipe::Recipe;
use nunatak_core::shape::windows;
use nunatak_core::{ParamId, ParamSet, Shape};
use nunatak_kernels::avgpool::AdaptiveAvgPool;
use nunatak_kernels::batchnorm::BatchNorm;
use nunatak_kernels::maxpool::MaxPool;
use nunatak_kernels::{Algorithm, Conv2d, Linear, Memory, Pass};

/// PyTorch's `train()` and `eval()`: whether normalisations use the batch's statistics (and move
/// their running ones) or the running ones. Independent of what is trainable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Statistics of the batch.
    #[default]
    Train,
    /// Running statistics.
    Eval,
}

/// What normalisations do whose parameters are frozen, in train mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NormPolicy {
    /// As PyTorch: freezing gamma and beta changes nothing, statistics come from the batch and the
    /// running ones move.
    #[default]
    Updating,
    /// A frozen normalisation uses its running statistics, which stay as they are.
    Fixed,
}

/// A residual network that can be recorded.
#[derive(Clone)]
pub struct ResNet {
    network: Network,
    mode: Mode,
    /// The normalisations of these gammas use running statistics whatever the mode.
    fixed: ParamSet,
    forced: [Option<Algorithm>; 3],
}

/// The epsilon of torchvision's normalisations.
const EPS: f32 = 1e-5;

impl ResNet {
    /// The network of `recipe`.
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub fn new(recipe: Recipe, mode: Mode) -> Result<ResNet, Error> {
        Ok(ResNet { network: Network::new(recipe)?, mode, fixed: ParamSet::EMPTY, forced: [None; 3] })
    }

    /// Names, shapes and numbers of its parameters.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Train or eval mode.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Applies a policy to the normalisations that are frozen when `trainable` trains. It survives
    /// any [`ResNet::set_mode`].
    pub fn set_norm_policy(&mut self, policy: NormPolicy, trainable: ParamSet) {
        self.fixed = ParamSet::EMPTY;
        if policy == NormPolicy::Fixed {
            for norm in self.network.norms() {
                if !trainable.contains(norm.gamma) && !trainable.contains(norm.beta) {
                    self.fixed.insert(norm.gamma);
                }
            }
        }
    }

    /// Computes a pass of every convolution by this algorithm where it accepts the shape.
    pub fn force(&mut self, pass: Pass, algorithm: Algorithm) {
        self.forced[pass as usize] = Some(algorithm);
    }

    /// The algorithms of a convolution's passes: those asked for where they accept it, else the best.
    pub(crate) fn algorithms(&self, conv: &Conv2d, memory: Memory) -> [Algorithm; 3] {
        Pass::ALL.map(|pass| {
            let forced = self.forced[pass as usize].filter(|a| conv.accepts(pass, *a));
            forced.unwrap_or_else(|| conv.algorithm(pass, memory))
        })
    }

    /// Records the network on images `x`: the logits, n x classes; without a head the features.
    pub fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.head(self.features(x))
    }

    /// Records everything below `fc`: the pooled features, n x features.
    pub fn features<'g>(&self, x: Var<'g>) -> Var<'g> {
        let stem = self.network.recipe().stem;
        let mut next = Cursor { resnet: self, param: 0, norm: 0 };
        let mut x = next.conv(x, self.network.recipe().width(0), stem.kernel, stem.stride, stem.pad);
        x = next.norm(x).relu();
        if stem.pool {
            x = max_pool(x);
        }
        for block in self.network.recipe().each_block() {
            let mut y = next.conv(x, block.outputs, 3, block.stride, 1);
            y = next.norm(y).relu();
            y = next.conv(y, block.outputs, 3, 1, 1);
            y = next.norm(y);
            let mut identity = x;
            if block.downsample() {
                identity = next.conv(x, block.outputs, 1, block.stride, 0);
                identity = next.norm(identity);
            }
            x = (y + identity).relu();
        }
        let s = x.shape();
        let pool = AdaptiveAvgPool { n: s.n(), h: s.h(), w: s.w(), c: s.c(), out_h: 1, out_w: 1 };
        x.unary(Op::AvgPool(pool), Shape::new(s.n(), s.c(), 1, 1).map_err(Error::from))
    }

    /// Records `fc` on features; without a head they are the result.
    pub fn head<'g>(&self, features: Var<'g>) -> Var<'g> {
        let outputs = self.network.recipe().classes;
        if outputs == 0 {
            return features;
        }
        let s = features.shape();
        let size = Linear { n: s.n(), inputs: self.network.recipe().features(), outputs };
        let count = self.network.params().len() as u16;
        let op = Op::Linear { size, weight: ParamId(count - 2), bias: ParamId(count - 1) };
        let due = Shape::new(s.n(), size.inputs, 1, 1).and_then(|due| due.expect(s));
        features.unary(op, due.and_then(|()| Shape::new(s.n(), outputs, 1, 1)).map_err(Error::from))
    }
}

/// MaxPool2d(3, 2, 1)
fn max_pool(x: Var<'_>) -> Var<'_> {
    let s = x.shape();
    let pool = MaxPool { n: s.n(), h: s.h(), w: s.w(), c: s.c(), kernel: 3, stride: 2, pad: 1 };
    let size = |len| windows(len, 3, 2, 1);
    let shape = size(s.h()).and_then(|h| Shape::new(s.n(), s.c(), h, size(s.w())?));
    x.unary(Op::MaxPool { pool, places: true }, shape.map_err(Error::from))
}

/// Hands out parameters in their order, which is the order of recording.
struct Cursor<'a> {
    resnet: &'a ResNet,
    param: u16,
    norm: u16,
}

impl Cursor<'_> {
    fn conv<'g>(&mut self, x: Var<'g>, k: usize, kernel: usize, stride: usize, pad: usize) -> Var<'g> {
        let s = x.shape();
        let weight = ParamId(self.param);
        self.param += 1;
        // The channels that the weight has, so that images of another number are found here.
        let due = self.resnet.network.param_at(weight).layout().map_or(0, |layout| layout.c);
        let matching = Shape::new(s.n(), due, s.h(), s.w()).and_then(|due| due.expect(s));
        let conv = matching.and_then(|()| Conv2d::new(s.n(), s.h(), s.w(), s.c(), k, kernel, stride, pad)).map_err(Error::from);
        let shape = conv.and_then(|c| Ok(Shape::new(s.n(), k, c.out_h(), c.out_w())?));
        // After an error nothing is recorded, whatever the numbers are.
        let conv = conv.unwrap_or(Conv2d { n: 1, h: 1, w: 1, c: 1, k: 1, kernel: 1, stride: 1, pad: 0 });
        // The plan chooses the algorithms: it knows what memory may be spent.
        x.unary(Op::Conv2d { conv, algorithms: [Algorithm::default(); 3], weight, then: ConvThen::Nothing }, shape)
    }

    fn norm<'g>(&mut self, x: Var<'g>) -> Var<'g> {
        let s = x.shape();
        let (gamma, beta) = (ParamId(self.param), ParamId(self.param + 1));
        let norm = NormId(self.norm);
        self.param += 2;
        self.norm += 1;
        let batch = self.resnet.mode == Mode::Train && !self.resnet.fixed.contains(gamma);
        let size = BatchNorm { rows: s.rows(), channels: s.c(), eps: EPS };
        let shape = if batch && s.rows() == 1 { Err(Error::OneValuePerChannel { shape: s.sizes() }) } else { Ok(s) };
        x.unary(Op::BatchNorm { size, norm, gamma, beta, batch, then: NormThen::default() }, shape)
    }
}

//! MobileNets: depthwise convolutions between convolutions of 1x1.
//!
//! M. Sandler and others, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018; A. Howard and others,
//! "Searching for MobileNetV3", 2019.

use crate::ops::{Conv, Dense, Norm};
use crate::record::{Init, Scope, Var};

/// A MobileNet; [`mobilenet_v2`] and [`mobilenet_v3_small`] are those with torchvision's defaults.
#[derive(Clone, Copy, Debug)]
pub struct MobileNet {
    /// The probability with which the classifier drops a number in train mode.
    pub dropout: f32,
}

impl Default for MobileNet {
    /// A dropout of 0.2.
    fn default() -> MobileNet {
        MobileNet { dropout: 0.2 }
    }
}

/// An activation.
type Activation<'g> = fn(Var<'g>) -> Var<'g>;

/// Of MobileNetV2, the blocks of a stage: times that channels are multiplied within, channels, blocks, stride.
const V2: [[usize; 4]; 7] = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

/// Of MobileNetV3-Small, a block: kernel, channels within, channels, squeeze and excite, hardswish (else relu), stride.
const V3_SMALL: [(usize, usize, usize, bool, bool, usize); 11] = [
    (3, 16, 16, true, false, 2),
    (3, 72, 24, false, false, 2),
    (3, 88, 24, false, false, 1),
    (5, 96, 40, true, true, 2),
    (5, 240, 40, true, true, 1),
    (5, 240, 40, true, true, 1),
    (5, 120, 48, true, true, 1),
    (5, 144, 48, true, true, 1),
    (5, 288, 96, true, true, 2),
    (5, 576, 96, true, true, 1),
    (5, 576, 96, true, true, 1),
];

impl MobileNet {
    /// Records MobileNetV2: the logits.
    pub fn v2<'g>(&self, g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
        let features = g.scope("features");
        let relu6: Activation<'g> = Var::relu6;
        let v2 = |g, x, conv| layer(g, x, conv, Norm::default());
        let (mut x, mut number) = (relu6(v2(features.numbered(0), x, conv(32, 3, 2, 1))), 0);
        for [expand, channels, blocks, first_stride] in V2 {
            for block in 0..blocks {
                number += 1;
                let (g, inputs) = (features.numbered(number).scope("conv"), x.shape().c());
                let (stride, inner) = (if block == 0 { first_stride } else { 1 }, expand * inputs);
                let (mut y, mut at) = (x, 0);
                if expand > 1 {
                    y = relu6(v2(g.numbered(0), y, conv(inner, 1, 1, 1)));
                    at = 1;
                }
                y = relu6(v2(g.numbered(at), y, conv(inner, 3, stride, inner)));
                y = g.conv2d(["1", "2"][at], y, conv(channels, 1, 1, 1));
                y = g.batch_norm(["2", "3"][at], y, Norm::default());
                x = if stride == 1 && inputs == channels { x + y } else { y };
            }
        }
        x = relu6(v2(features.numbered(18), x, conv(1280, 1, 1, 1))).adaptive_avg_pool(1).flatten();
        g.name("features", x);
        g.scope("classifier").linear("1", x.dropout(self.dropout), self.head(g, "classifier.1", classes))
    }

    /// Records MobileNetV3-Small: the logits.
    pub fn v3_small<'g>(&self, g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
        let (features, classifier) = (g.scope("features"), g.scope("classifier"));
        let v3 = |g, x, conv| layer(g, x, conv, Norm::default().eps(1e-3).momentum(Some(0.01)));
        let mut x = v3(features.numbered(0), x, conv(16, 3, 2, 1)).hardswish();
        for (number, (kernel, inner, channels, squeeze, hard, stride)) in V3_SMALL.into_iter().enumerate() {
            let activation: Activation<'g> = if hard { Var::hardswish } else { Var::relu };
            let (g, inputs) = (features.numbered(number + 1).scope("block"), x.shape().c());
            let (mut y, mut at) = (x, 0);
            if inner != inputs {
                y = activation(v3(g.numbered(at), y, conv(inner, 1, 1, 1)));
                at += 1;
            }
            y = activation(v3(g.numbered(at), y, conv(inner, kernel, stride, inner)));
            at += 1;
            if squeeze {
                y = excite(g.numbered(at), y);
                at += 1;
            }
            y = v3(g.numbered(at), y, conv(channels, 1, 1, 1));
            x = if stride == 1 && inputs == channels { y + x } else { y };
        }
        x = v3(features.numbered(12), x, conv(576, 1, 1, 1)).hardswish().adaptive_avg_pool(1).flatten();
        x = g.name("features", classifier.linear("0", x, dense(1024)).hardswish());
        classifier.linear("3", x.dropout(self.dropout), self.head(g, "classifier.3", classes))
    }

    fn head(&self, g: Scope, name: &str, classes: usize) -> Dense {
        g.set_head(name);
        dense(classes)
    }
}

/// A convolution without bias, padded so that stride 1 keeps the size.
fn conv(outputs: usize, kernel: usize, stride: usize, groups: usize) -> Conv {
    Conv::new(outputs, kernel).stride(stride).pad(kernel / 2).groups(groups).no_bias().init(Init::KaimingNormal)
}

/// A convolution and its normalisation.
fn layer<'g>(g: Scope<'g>, x: Var<'g>, conv: Conv, norm: Norm) -> Var<'g> {
    g.batch_norm("1", g.conv2d("0", x, conv), norm)
}

/// Squeeze and excite: each channel times a number that follows from the means of all channels.
fn excite<'g>(g: Scope<'g>, x: Var<'g>) -> Var<'g> {
    // Channels in eighths, at least 90 % of a quarter.
    let quarter = x.shape().c() / 4;
    let rounded = ((quarter + 4) / 8 * 8).max(8);
    let squeezed = if 10 * rounded < 9 * quarter { rounded + 8 } else { rounded };
    let plain = |outputs| Conv::new(outputs, 1).init(Init::KaimingNormal).bias_init(Init::Constant(0.0));
    let means = g.conv2d("fc1", x.adaptive_avg_pool(1), plain(squeezed)).relu();
    x * g.conv2d("fc2", means, plain(x.shape().c())).hardsigmoid()
}

/// A linear layer with torchvision's initialisation of a MobileNet.
fn dense(outputs: usize) -> Dense {
    Dense::new(outputs).init(Init::Normal { mean: 0.0, std: 0.01 }).bias_init(Init::Constant(0.0))
}

/// MobileNetV2, with torchvision's defaults.
pub fn mobilenet_v2<'g>(g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
    MobileNet::default().v2(g, x, classes)
}

/// MobileNetV3-Small, with torchvision's defaults.
pub fn mobilenet_v3_small<'g>(g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
    MobileNet::default().v3_small(g, x, classes)
}

//! Residual networks.
//!
//! K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015; S. Xie and others,
//! "Aggregated Residual Transformations for Deep Neural Networks", 2016 (groups); S. Zagoruyko, N. Komodakis,
//! "Wide Residual Networks", 2016. Bottlenecks have their stride at the 3x3 convolution, as torchvision's.

use crate::models::{MAX_LAYERS, Recipe, Stem};
use crate::ops::{Conv, Norm};
use crate::record::{Init, Scope, Var};

/// What a residual network is made of.
#[derive(Clone, Copy, Debug)]
pub struct ResNet<'r> {
    /// Blocks of each layer.
    pub blocks: &'r [usize],
    /// Channels of each layer, before a bottleneck's last convolution makes four times as many.
    pub widths: &'r [usize],
    /// The first convolution.
    pub stem: Stem,
    /// Blocks of 1x1, 3x3 and 1x1 convolutions instead of two of 3x3.
    pub bottleneck: bool,
    /// Groups of the 3x3 convolution in a bottleneck.
    pub groups: usize,
    /// Channels of a group where a layer has 64.
    pub base_width: usize,
}

/// The stem for images of ImageNet's size.
const IMAGENET: Stem = Stem { kernel: 7, stride: 2, pad: 3, pool: true };
const WIDTHS: &[usize] = &[64, 128, 256, 512];

impl<'r> ResNet<'r> {
    /// A network of basic blocks for ImageNet.
    pub const fn basic(blocks: &'r [usize]) -> ResNet<'r> {
        ResNet { blocks, widths: WIDTHS, stem: IMAGENET, bottleneck: false, groups: 1, base_width: 64 }
    }

    /// A network of bottlenecks for ImageNet.
    pub const fn bottleneck(blocks: &'r [usize], groups: usize, base_width: usize) -> ResNet<'r> {
        ResNet { bottleneck: true, groups, base_width, ..ResNet::basic(blocks) }
    }

    /// Records the network: the logits, or without classes the pooled features.
    pub fn record<'g>(&self, g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
        self.head(g, g.name("features", self.features(g, x)), classes)
    }

    /// Records everything below `fc`: the pooled features, n x features.
    pub fn features<'g>(&self, g: Scope<'g>, x: Var<'g>) -> Var<'g> {
        let Stem { kernel, stride, pad, pool } = self.stem;
        let mut x = g.conv2d("conv1", x, conv(self.widths[0], kernel, stride, 1).pad(pad));
        x = g.batch_norm("bn1", x, Norm::default()).relu();
        if pool {
            x = x.max_pool(3, 2, 1);
        }
        for (layer, (blocks, width)) in self.blocks.iter().zip(self.widths).enumerate() {
            let scope = g.scope("layer").suffixed(layer + 1);
            for block in 0..*blocks {
                let stride = if layer > 0 && block == 0 { 2 } else { 1 };
                x = self.block(scope.numbered(block), x, *width, stride);
            }
        }
        x.adaptive_avg_pool(1)
    }

    /// Records `fc` on features; without classes they are the result.
    pub fn head<'g>(&self, g: Scope<'g>, features: Var<'g>, classes: usize) -> Var<'g> {
        if classes == 0 {
            return features;
        }
        g.set_head("fc");
        g.linear("fc", features, classes)
    }

    /// A block: two or three convolutions around which the input is added.
    fn block<'g>(&self, g: Scope<'g>, x: Var<'g>, width: usize, stride: usize) -> Var<'g> {
        let outputs = if self.bottleneck { 4 * width } else { width };
        let inner = if self.bottleneck { width * self.base_width / 64 * self.groups } else { width };
        let here = g.here(); // torchvision makes the downsampling first
        let norm = |name: &str, x| g.batch_norm(name, x, Norm::default());
        let mut y;
        if self.bottleneck {
            y = norm("bn1", g.conv2d("conv1", x, conv(inner, 1, 1, 1))).relu();
            y = norm("bn2", g.conv2d("conv2", y, conv(inner, 3, stride, self.groups))).relu();
            y = norm("bn3", g.conv2d("conv3", y, conv(outputs, 1, 1, 1)));
        } else {
            y = norm("bn1", g.conv2d("conv1", x, conv(inner, 3, stride, 1))).relu();
            y = norm("bn2", g.conv2d("conv2", y, conv(outputs, 3, 1, 1)));
        }
        let mut identity = x;
        if stride != 1 || x.shape().c() != outputs {
            let g = g.scope("downsample");
            identity = g.conv2d("0", x, conv(outputs, 1, stride, 1).draw_at(here));
            identity = g.batch_norm("1", identity, Norm::default());
        }
        (y + identity).relu()
    }
}

/// A convolution without bias, padded so that stride 1 keeps the size.
fn conv(outputs: usize, kernel: usize, stride: usize, groups: usize) -> Conv {
    Conv::new(outputs, kernel).stride(stride).pad(kernel / 2).groups(groups).no_bias().init(Init::KaimingNormal)
}

impl Recipe {
    /// Records the network of this recipe: features and logits (the features again where there is no head). Images
    /// of other channels than the recipe's are an error of the recording.
    pub fn record<'g>(&self, g: Scope<'g>, x: Var<'g>) -> (Var<'g>, Var<'g>) {
        let (mut blocks, mut widths) = ([0; MAX_LAYERS], [0; MAX_LAYERS]);
        for i in 0..self.layers() {
            (blocks[i], widths[i]) = (self.blocks(i), self.width(i));
        }
        let (blocks, widths) = (&blocks[..self.layers()], &widths[..self.layers()]);
        let net = ResNet { stem: self.stem, widths, ..ResNet::basic(blocks) };
        g.set_model(format_args!("{self}"));
        let features = net.features(g, x.expect_channels(self.in_channels));
        (features, net.head(g, features, self.classes))
    }
}

macro_rules! models {
    ($($(#[$doc:meta])* $name:ident: $net:expr;)+) => {
        $($(#[$doc])*
        pub fn $name<'g>(g: Scope<'g>, x: Var<'g>, classes: usize) -> Var<'g> {
            $net.record(g, x, classes)
        })+
    };
}

models! {
    /// ResNet18.
    resnet18: ResNet::basic(&[2, 2, 2, 2]);
    /// ResNet34.
    resnet34: ResNet::basic(&[3, 4, 6, 3]);
    /// ResNet50.
    resnet50: ResNet::bottleneck(&[3, 4, 6, 3], 1, 64);
    /// ResNet101.
    resnet101: ResNet::bottleneck(&[3, 4, 23, 3], 1, 64);
    /// ResNet152.
    resnet152: ResNet::bottleneck(&[3, 8, 36, 3], 1, 64);
    /// Wide ResNet50-2: bottlenecks of twice the width.
    wide_resnet50_2: ResNet::bottleneck(&[3, 4, 6, 3], 1, 128);
    /// Wide ResNet101-2.
    wide_resnet101_2: ResNet::bottleneck(&[3, 4, 23, 3], 1, 128);
    /// ResNeXt50 32x4d: the 3x3 convolutions have 32 groups.
    resnext50_32x4d: ResNet::bottleneck(&[3, 4, 6, 3], 32, 4);
    /// ResNeXt101 32x8d.
    resnext101_32x8d: ResNet::bottleneck(&[3, 4, 23, 3], 32, 8);
}

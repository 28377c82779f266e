//! ResNet18 in burn, on its CPU backend `flex`.

use crate::{Error, Mode, Task, blocks};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn::tensor::Distribution;

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
    relu: Relu,
}

#[derive(Module, Debug)]
struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm,
    relu: Relu,
    maxpool: MaxPool2d,
    blocks: Vec<Block>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([inputs, outputs], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, device: &Device) -> Block {
        let downsample = (stride != 1).then(|| (conv(inputs, outputs, 1, stride, device), norm(outputs, device)));
        Block {
            conv1: conv(inputs, outputs, 3, stride, device),
            bn1: norm(outputs, device),
            conv2: conv(outputs, outputs, 3, 1, device),
            bn2: norm(outputs, device),
            downsample,
            relu: Relu::new(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.relu.forward(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        let identity = match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x)),
            None => x,
        };
        self.relu.forward(y + identity)
    }
}

impl ResNet18 {
    fn new(classes: usize, device: &Device) -> ResNet18 {
        ResNet18 {
            conv1: conv(3, 64, 7, 2, device),
            bn1: norm(64, device),
            relu: Relu::new(),
            maxpool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(),
            blocks: blocks().map(|(_, inputs, outputs, stride)| Block::new(inputs, outputs, stride, device)).collect(),
            avgpool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(512, classes).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.maxpool.forward(self.relu.forward(self.bn1.forward(self.conv1.forward(x))));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.fc.forward(self.avgpool.forward(x).flatten(1, 3))
    }
}

/// A step of the task.
pub fn step(task: Task) -> Box<dyn FnMut() -> Result<(), Error>> {
    let plain = Device::flex();
    let device = if task.mode == Mode::Infer { plain } else { plain.autodiff() };
    let mut model = ResNet18::new(task.classes(), &device);
    let images = Tensor::<4>::random([task.batch, 3, task.size, task.size], Distribution::Default, &device);
    if task.mode == Mode::Infer {
        return Box::new(move || {
            // Reading the result waits for it, should the backend be lazy.
            let _ = model.forward(images.clone()).into_data();
            Ok(())
        });
    }
    if task.mode == Mode::Head {
        // As in the tutorial: no gradients, but normalisations stay in train mode.
        model = model.no_grad();
        model.fc = LinearConfig::new(512, task.classes()).init(&device);
    }
    let labels = Tensor::<2>::random([task.batch, task.classes()], Distribution::Default, &device);
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    let mut model = Some(model);
    Box::new(move || {
        let current = model.take().ok_or("the model is gone")?;
        let loss = (current.forward(images.clone()) - labels.clone()).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        model = Some(optimizer.step(1e-5, current, gradients));
        Ok(())
    })
}

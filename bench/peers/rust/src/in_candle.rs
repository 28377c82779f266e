//! ResNet18 in candle. Its SGD has no momentum: the step does less than the others'.

use crate::{Error, Mode, Task, blocks};
use candle_core::{D, DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, Optimizer, SGD, VarBuilder, VarMap, batch_norm, conv2d_no_bias, linear};

struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
    conv2d_no_bias(inputs, outputs, kernel, config, vb)
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, vb: VarBuilder) -> Result<Block> {
        let downsample = match stride {
            1 => None,
            _ => Some((conv(inputs, outputs, 1, stride, vb.pp("downsample.0"))?, batch_norm(outputs, 1e-5, vb.pp("downsample.1"))?)),
        };
        Ok(Block {
            conv1: conv(inputs, outputs, 3, stride, vb.pp("conv1"))?,
            bn1: batch_norm(outputs, 1e-5, vb.pp("bn1"))?,
            conv2: conv(outputs, outputs, 3, 1, vb.pp("conv2"))?,
            bn2: batch_norm(outputs, 1e-5, vb.pp("bn2"))?,
            downsample,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = self.bn1.forward_t(&self.conv1.forward(x)?, train)?.relu()?;
        let y = self.bn2.forward_t(&self.conv2.forward(&y)?, train)?;
        let identity = match &self.downsample {
            Some((conv, norm)) => norm.forward_t(&conv.forward(x)?, train)?,
            None => x.clone(),
        };
        (y + identity)?.relu()
    }
}

impl ResNet18 {
    fn new(classes: usize, backbone: VarBuilder, head: VarBuilder) -> Result<ResNet18> {
        Ok(ResNet18 {
            conv1: conv(3, 64, 7, 2, backbone.pp("conv1"))?,
            bn1: batch_norm(64, 1e-5, backbone.pp("bn1"))?,
            blocks: blocks()
                .map(|(name, inputs, outputs, stride)| Block::new(inputs, outputs, stride, backbone.pp(name)))
                .collect::<Result<_>>()?,
            fc: linear(512, classes, head.pp("fc"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.bn1.forward_t(&self.conv1.forward(x)?, train)?.relu()?;
        // After relu nothing is below zero, so padding with zeros is padding with nothing.
        let mut x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        self.fc.forward(&x.mean(D::Minus1)?.mean(D::Minus1)?)
    }
}

/// Variables of which candle computes no gradients: copies that are plain tensors.
fn frozen(map: &VarMap) -> Result<VarBuilder<'static>> {
    let data = map.data().lock().expect("no panic elsewhere");
    let tensors = data.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

/// A step of the task.
pub fn step(task: Task) -> std::result::Result<Box<dyn FnMut() -> std::result::Result<(), Error>>, Error> {
    let device = Device::Cpu;
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &device);
    let mut model = ResNet18::new(task.classes(), vb.clone(), vb.clone())?;
    let images = Tensor::rand(0_f32, 1.0, (task.batch, 3, task.size, task.size), &device)?;
    if task.mode == Mode::Infer {
        let model = ResNet18::new(task.classes(), frozen(&map)?, frozen(&map)?)?;
        return Ok(Box::new(move || {
            model.forward(&images, false)?;
            Ok(())
        }));
    }
    let mut trained: Vec<Var> = map.all_vars();
    if task.mode == Mode::Head {
        let head = VarMap::new();
        let vb = VarBuilder::from_varmap(&head, DType::F32, &device);
        model = ResNet18::new(task.classes(), frozen(&map)?, vb)?;
        trained = head.all_vars();
    }
    let labels = Tensor::rand(0_f32, 1.0, (task.batch, task.classes()), &device)?;
    let mut optimizer = SGD::new(trained, 1e-5)?;
    Ok(Box::new(move || {
        let loss = (model.forward(&images, true)? - &labels)?.sum_all()?;
        optimizer.backward_step(&loss)?;
        Ok(())
    }))
}

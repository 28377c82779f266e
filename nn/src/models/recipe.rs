//! What a residual network of basic blocks looks like: data, not code.
//!
//! K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015; the order and
//! the names are torchvision's.

use crate::Error;
use core::fmt;

/// Layers (groups of blocks) that a recipe can have.
pub const MAX_LAYERS: usize = 8;

/// The first convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stem {
    /// Height and width of its filter.
    pub kernel: usize,
    /// Its stride.
    pub stride: usize,
    /// Its padding.
    pub pad: usize,
    /// Whether MaxPool2d(3, 2, 1) follows.
    pub pool: bool,
}

impl Stem {
    /// The stem that a kernel of this size usually has: of 7 pixels ImageNet's, with stride 2 and pooling; of any
    /// other size one that keeps the image's size. Only the kernel leaves a trace in a state dict.
    pub const fn usual(kernel: usize) -> Stem {
        match kernel {
            7 => Stem { kernel, stride: 2, pad: 3, pool: true },
            _ => Stem { kernel, stride: 1, pad: kernel / 2, pool: false },
        }
    }
}

/// A residual network of basic blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recipe {
    blocks: [u8; MAX_LAYERS],
    widths: [u16; MAX_LAYERS],
    layers: usize,
    /// The first convolution; it has as many channels as layer 1.
    pub stem: Stem,
    /// Channels of the images.
    pub in_channels: usize,
    /// Outputs of `fc`; 0 for a network without a head, whose result is the pooled features.
    pub classes: usize,
}

impl Recipe {
    /// A network with `blocks[i]` basic blocks of `widths[i]` channels in layer i + 1. The first block
    /// of every layer but the first has stride 2.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the lists differ in length, are empty or too long, or a number is zero
    /// or too large.
    pub fn new(blocks: &[usize], widths: &[usize], stem: Stem, in_channels: usize, classes: usize) -> Result<Recipe, Error> {
        let bad = |what| Err(Error::Recipe(what));
        if blocks.len() != widths.len() {
            return bad("`layers` and `widths` must have the same length");
        }
        if blocks.is_empty() || blocks.len() > MAX_LAYERS {
            return bad("a network has 1 to 8 layers");
        }
        if blocks.iter().any(|&b| b == 0 || b > 64) {
            return bad("a layer has 1 to 64 blocks");
        }
        if widths.iter().any(|&w| w == 0 || w > 1 << 15) {
            return bad("a width is 1 to 32768 channels");
        }
        if stem.kernel == 0 || stem.kernel > 31 || stem.stride == 0 || stem.stride > 16 || stem.pad > 31 {
            return bad("the stem's kernel is 1 to 31, its stride 1 to 16, its padding at most 31");
        }
        if in_channels == 0 || in_channels > 1 << 15 {
            return bad("`in_channels` is 1 to 32768");
        }
        if classes > 1 << 24 {
            return bad("`classes` is at most 16777216");
        }
        let mut recipe = Recipe { blocks: [0; MAX_LAYERS], widths: [0; MAX_LAYERS], layers: blocks.len(), stem, in_channels, classes };
        for (i, (b, w)) in blocks.iter().zip(widths).enumerate() {
            (recipe.blocks[i], recipe.widths[i]) = (*b as u8, *w as u16);
        }
        Ok(recipe)
    }

    const fn imagenet(blocks: [u8; 4], classes: usize) -> Recipe {
        let [a, b, c, d] = blocks;
        Recipe {
            blocks: [a, b, c, d, 0, 0, 0, 0],
            widths: [64, 128, 256, 512, 0, 0, 0, 0],
            layers: 4,
            stem: Stem { kernel: 7, stride: 2, pad: 3, pool: true },
            in_channels: 3,
            classes,
        }
    }

    /// ResNet18, for ImageNet's images.
    pub const fn resnet18(classes: usize) -> Recipe {
        Self::imagenet([2, 2, 2, 2], classes)
    }

    /// ResNet34.
    pub const fn resnet34(classes: usize) -> Recipe {
        Self::imagenet([3, 4, 6, 3], classes)
    }

    /// ResNet-8 of MLPerf Tiny's shape, for images of 32 x 32: a 3x3 stem and one block a layer.
    pub const fn resnet8(classes: usize) -> Recipe {
        Recipe {
            blocks: [1, 1, 1, 0, 0, 0, 0, 0],
            widths: [16, 32, 64, 0, 0, 0, 0, 0],
            layers: 3,
            stem: Stem { kernel: 3, stride: 1, pad: 1, pool: false },
            in_channels: 3,
            classes,
        }
    }

    /// The same network with another head.
    pub const fn with_classes(self, classes: usize) -> Recipe {
        Recipe { classes, ..self }
    }

    /// The same network with another first convolution.
    pub const fn with_stem(self, stem: Stem) -> Recipe {
        Recipe { stem, ..self }
    }

    /// Number of layers.
    pub const fn layers(&self) -> usize {
        self.layers
    }
    /// Blocks of layer `i` (from 0).
    pub const fn blocks(&self, i: usize) -> usize {
        self.blocks[i] as usize
    }
    /// Channels of layer `i` (from 0).
    pub const fn width(&self, i: usize) -> usize {
        self.widths[i] as usize
    }
    /// Channels of the pooled features.
    pub const fn features(&self) -> usize {
        self.widths[self.layers - 1] as usize
    }

    /// Every block, in order.
    pub fn each_block(&self) -> impl Iterator<Item = Block> + use<> {
        let recipe = *self;
        (0..recipe.layers).flat_map(move |layer| {
            (0..recipe.blocks(layer)).map(move |block| {
                let width = recipe.width(layer);
                let first = block == 0;
                Block {
                    layer,
                    block,
                    inputs: if first { recipe.width(layer.saturating_sub(1)) } else { width },
                    outputs: width,
                    stride: if first && layer > 0 { 2 } else { 1 },
                }
            })
        })
    }
}

/// A basic block: two 3x3 convolutions and a way around them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its place in the layer, from 0.
    pub block: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Stride of the first convolution.
    pub stride: usize,
}

impl Block {
    /// Whether the way around it has a convolution.
    pub const fn downsample(&self) -> bool {
        self.stride != 1 || self.inputs != self.outputs
    }
}

/// `resnet blocks 2,2,2,2 widths 64,128,256,512 stem 7,2,3,1 channels 3 classes 1000`: how a program names
/// its model.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |f: &mut fmt::Formatter, of: &dyn Fn(usize) -> usize| {
            (0..self.layers).try_for_each(|i| write!(f, "{}{}", if i == 0 { "" } else { "," }, of(i)))
        };
        f.write_str("resnet blocks ")?;
        list(f, &|i| self.blocks(i))?;
        f.write_str(" widths ")?;
        list(f, &|i| self.width(i))?;
        let Stem { kernel, stride, pad, pool } = self.stem;
        write!(f, " stem {kernel},{stride},{pad},{} channels {} classes {}", u8::from(pool), self.in_channels, self.classes)
    }
}

impl core::str::FromStr for Recipe {
    type Err = Error;
    /// Reads what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Recipe, Error> {
        let bad = || Error::Recipe("the text describes no residual network of basic blocks");
        let mut words = text.split(' ');
        if words.next() != Some("resnet") {
            return Err(bad());
        }
        let mut list = |key: &str, most: usize| -> Option<([usize; MAX_LAYERS], usize)> {
            let (mut numbers, mut count) = ([0; MAX_LAYERS], 0);
            if words.next() != Some(key) {
                return None;
            }
            for number in words.next()?.split(',') {
                *numbers.get_mut(count).filter(|_| count < most)? = number.parse().ok()?;
                count += 1;
            }
            Some((numbers, count))
        };
        let (blocks, layers) = list("blocks", MAX_LAYERS).ok_or_else(bad)?;
        let (widths, count) = list("widths", MAX_LAYERS).ok_or_else(bad)?;
        let (stem, stems) = list("stem", 4).ok_or_else(bad)?;
        let (channels, one) = list("channels", 1).ok_or_else(bad)?;
        let (classes, also_one) = list("classes", 1).ok_or_else(bad)?;
        if (stems, one, also_one) != (4, 1, 1) || stem[3] > 1 || words.next().is_some() {
            return Err(bad());
        }
        let stem = Stem { kernel: stem[0], stride: stem[1], pad: stem[2], pool: stem[3] == 1 };
        Recipe::new(&blocks[..layers], &widths[..count], stem, channels[0], classes[0])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn recipes_are_checked() {
        let stem = Recipe::resnet8(10).stem;
        assert_eq!(Recipe::new(&[1, 1, 1], &[16, 32, 64], stem, 3, 10), Ok(Recipe::resnet8(10)));
        for (blocks, widths) in [(&[1, 1][..], &[16][..]), (&[], &[]), (&[0], &[16]), (&[1], &[0]), (&[1; 9], &[16; 9])] {
            assert!(matches!(Recipe::new(blocks, widths, stem, 3, 10), Err(Error::Recipe(_))));
        }
        for recipe in [Recipe::resnet8(10), Recipe::resnet18(0), Recipe::resnet34(1000)] {
            assert_eq!(crate::Name::of(recipe).as_str().len(), 48); // longer than a name
            assert_eq!(std::string::ToString::to_string(&recipe).parse(), Ok(recipe));
        }
        for text in ["", "resnet", "mobilenet_v2 classes 10", "resnet blocks 1 widths 16 stem 3,1,1 channels 3 classes 10"] {
            assert!(text.parse::<Recipe>().is_err());
        }
        assert_eq!(Recipe::resnet18(1000).each_block().filter(Block::downsample).count(), 3);
    }
}

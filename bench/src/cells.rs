//! The cells of the tables: images of a batch x side of an image; and ResNet18's layers at them.

use nunatak_kernels::Conv2d;
use std::fmt;

/// A batch of `n` images of `size` x `size`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Images.
    pub n: usize,
    /// Lines and columns of an image.
    pub size: usize,
}

/// The five cells of the tables in docs/speed.md.
pub const CELLS: [Cell; 5] =
    [Cell { n: 1, size: 64 }, Cell { n: 8, size: 64 }, Cell { n: 32, size: 64 }, Cell { n: 1, size: 224 }, Cell { n: 8, size: 224 }];

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.n, self.size)
    }
}

impl Cell {
    /// From `8x224`.
    pub fn parse(text: &str) -> Option<Cell> {
        let (n, size) = text.split_once('x')?;
        let (n, size) = (n.trim().parse().ok()?, size.trim().parse().ok()?);
        (n > 0 && size >= 32).then_some(Cell { n, size })
    }

    /// The side after so many halvings: 1 after the stem, 2 in layer1, 3 in layer2, …
    pub fn side(&self, halvings: u32) -> usize {
        (0..halvings).fold(self.size, |s, _| s.div_ceil(2))
    }

    /// The different convolutions of ResNet18, named after the first layer that has them.
    pub fn convolutions(&self) -> Vec<(&'static str, Conv2d)> {
        let conv = |halvings, c, k, kernel, stride, pad| {
            let side = self.side(halvings);
            Conv2d::new([self.n, side, side, c], k, kernel, stride, pad).expect("a convolution of ResNet18")
        };
        vec![
            ("conv1", conv(0, 3, 64, 7, 2, 3)),
            ("layer1.0.conv1", conv(2, 64, 64, 3, 1, 1)),
            ("layer2.0.conv1", conv(2, 64, 128, 3, 2, 1)),
            ("layer2.0.downsample.0", conv(2, 64, 128, 1, 2, 0)),
            ("layer2.0.conv2", conv(3, 128, 128, 3, 1, 1)),
            ("layer3.0.conv1", conv(3, 128, 256, 3, 2, 1)),
            ("layer3.0.downsample.0", conv(3, 128, 256, 1, 2, 0)),
            ("layer3.0.conv2", conv(4, 256, 256, 3, 1, 1)),
            ("layer4.0.conv1", conv(4, 256, 512, 3, 2, 1)),
            ("layer4.0.downsample.0", conv(4, 256, 512, 1, 2, 0)),
            ("layer4.0.conv2", conv(5, 512, 512, 3, 1, 1)),
        ]
    }

    /// The different activations that normalisation, relu and addition work on: layer, pixels, channels.
    pub fn activations(&self) -> Vec<(&'static str, usize, usize)> {
        let layers = [("stem", 1, 64), ("layer1.0", 2, 64), ("layer2.0", 3, 128), ("layer3.0", 4, 256), ("layer4.0", 5, 512)];
        layers.map(|(name, halvings, channels)| (name, self.n * self.side(halvings) * self.side(halvings), channels)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_core::Shape;
    use nunatak_kernels::conv2d::Window;
    use nunatak_nn::step::{Event, call_name, call_operation};
    use nunatak_nn::{Graph, Loss, Mode, Recipe, Step, ValueId};

    /// The list above is ResNet18's, not somebody's memory of it.
    #[test]
    fn the_convolutions_are_those_of_the_network() {
        for cell in CELLS {
            let graph = Graph::new();
            let images = [cell.n, 3, cell.size, cell.size];
            let values = graph.usual(images, Loss::None, |g, x| Recipe::resnet18(10).record(g, x)).expect("a recording");
            let keep = [values.prediction];
            let program = Step::new(&graph).keep(&keep).train("none").mode(Mode::Eval).plan().expect("a plan");
            let mut due: Vec<(String, Conv2d)> = Vec::new();
            for call in program.forward() {
                let event = Event::Forward(ValueId(call.node()));
                if !call_operation(&program, event).starts_with("conv2d") {
                    continue;
                }
                // A convolution's own numbers begin with its image, outputs and groups, and its window.
                let numbers = &mut call.numbers();
                let mut pair = || [numbers.size(), numbers.size()];
                let ([n, c], [h, w], [k, groups]) = (pair(), pair(), pair());
                let window = Window { kernel: pair(), stride: pair(), pad: pair(), dilation: pair() };
                let image = Shape::new(n, c, h, w).expect("an image");
                let conv = Conv2d::general(image, k, window, groups).expect("a convolution");
                if due.iter().all(|(_, known)| *known != conv) {
                    due.push((call_name(&program, event).to_string(), conv));
                }
            }
            let listed: Vec<_> = cell.convolutions().into_iter().map(|(name, conv)| (name.to_string(), conv)).collect();
            assert_eq!(listed, due);
        }
    }

    #[test]
    fn cells_are_read_as_they_are_written() {
        for cell in CELLS {
            assert_eq!(Cell::parse(&cell.to_string()), Some(cell));
        }
        for bad in ["", "8", "x64", "8x", "0x64", "8x0", "8x64x3"] {
            assert_eq!(Cell::parse(bad), None, "{bad}");
        }
    }
}

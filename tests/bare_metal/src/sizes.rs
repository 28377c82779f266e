//! Plans of more and more images, wider and wider networks and larger and larger images: on a processor
//! with 32 bits most are too large, and must be refused. The desktop, whose `usize` has 64 bits, prints what
//! is due.

use crate::Place;
use nunatak_core::Shape;
use nunatak_nn::recipe::Stem;
use nunatak_nn::{CrossEntropyOptions, Loss, Memory, Mode, NormPolicy, Options, ParamSet, Recipe, ResNet, Setup, Update};

/// Half the address space of a board.
const MOST: u64 = i32::MAX as u64;

/// Tells of each plan how many bytes it takes, or that it is refused.
///
/// # Errors
/// Where a shape that can't be is not refused.
pub fn run(place: &mut impl Place) -> Result<(), &'static str> {
    for sizes in [[usize::MAX; 4], [1 << 16, 1 << 16, 1, 1], [1 << 31, 1, 1, 1], [1 << 29, 1, 2, 1], [2, 1 << 30, 1 << 31, 1]] {
        let [n, c, h, w] = sizes;
        let refused = Shape::new(n, c, h, w).is_err();
        let product: u128 = sizes.iter().map(|&s| s as u128).product();
        if refused != (product * 4 > isize::MAX as u128 || sizes.iter().any(|&s| s as u64 > u64::from(u32::MAX))) {
            return Err("a shape was judged wrongly");
        }
    }
    for (what, recipe, side) in recipes() {
        for bits in 0..26 {
            for batch in [1 << bits, (1 << bits) + (1 << bits) / 2] {
                for update in [Update::After, Update::During] {
                    for memory in [Memory::Small, Memory::Fast] {
                        let options = Options { memory, update, ..Options::default() };
                        match bytes(recipe, batch, side, options) {
                            Some(bytes) if bytes <= MOST => {
                                place.say(format_args!("plan {what} {batch} {update:?} {memory:?} {bytes}"));
                            }
                            _ => place.say(format_args!("plan {what} {batch} {update:?} {memory:?} refused")),
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn recipes() -> [(&'static str, Recipe, usize); 4] {
    let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: false };
    let wide = |width| Recipe::new(&[1, 1], &[width, width], stem, 3, 10).unwrap_or(Recipe::resnet8(10));
    [("resnet8", Recipe::resnet8(10), 32), ("resnet18", Recipe::resnet18(100), 224), ("wide", wide(4096), 8), ("widest", wide(32768), 8)]
}

fn bytes(recipe: Recipe, batch: usize, side: usize, options: Options) -> Option<u64> {
    let trainable = ResNet::new(recipe, Mode::Train).map_or(ParamSet::EMPTY, |model| model.network().all());
    let setup = Setup {
        recipe,
        batch,
        height: side,
        width: side,
        mode: Mode::Train,
        norm_policy: NormPolicy::Updating,
        trainable,
        loss: Loss::CrossEntropy(CrossEntropyOptions::default()),
        options,
        algorithms: [Some(nunatak_nn::Algorithm::Gemm); 3],
    };
    setup.plan().ok().map(|(blueprint, ..)| blueprint.bytes() as u64)
}

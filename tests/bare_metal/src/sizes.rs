//! Plans of more and more images, wider and wider networks and larger and larger images: on a processor
//! with 32 bits most are too large, and must be refused. The desktop, whose `usize` has 64 bits, prints what
//! is due.

use crate::Place;
use crate::nets::Net;
use nunatak_core::Shape;
use nunatak_nn::models::Recipe;
use nunatak_nn::plan::Storage;
use nunatak_nn::{CrossEntropyOptions, Error, Loss, Memory, Stem, Step, Trainer, Update};

/// Room for ResNet18.
pub type Room = Storage<80, 130, 8000, 32768>;

/// Half the address space of a board.
const MOST: u64 = i32::MAX as u64;

/// Tells of each plan how many bytes it takes, or that it is refused; plans are made in `storage`.
///
/// # Errors
/// Where a shape that can't be is not refused, or the storage is too small.
pub fn run(place: &mut impl Place, storage: &mut Room) -> Result<(), &'static str> {
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
                        let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
                        let net = Net { images: [batch, 3, side, side], loss, train: "all", gemm_only: true, memory, update };
                        match bytes(storage, &net, recipe)? {
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

/// Bytes of a step; `None` where the plan is refused.
fn bytes(storage: &mut Room, net: &Net, recipe: Recipe) -> Result<Option<u64>, &'static str> {
    let (graph, mut workspace) = storage.lend();
    let planned = net.recipe(&graph, recipe, |step: Step| Ok(Trainer::bytes(&step.plan_in(&mut workspace)?) as u64));
    match planned {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Core(nunatak_core::Error::ListFull { .. })) => Err("too little room to plan in"),
        Err(_) => Ok(None),
    }
}

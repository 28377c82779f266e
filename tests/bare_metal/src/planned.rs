//! Steps that were planned on the machine that compiled this, with the algorithm that boards have: bytes, which
//! lie in flash.

use crate::learn::Programs;
use nunatak_nn::{Error, Program};

macro_rules! planned {
    ($($(#[$doc:meta])* $name:ident: $file:literal;)+) => {
        $($(#[$doc])* pub static $name: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $file));)+
    };
}

planned! {
    /// The head of ResNet-8 is trained.
    HEAD: "head";
    /// All of ResNet-8 is trained.
    ALL: "all";
    /// ResNet-8 predicts.
    PREDICT: "predict";
    /// The tutorial's step of ResNet18.
    TUTORIAL: "tutorial";
    /// The step of the small network.
    SMALL: "small";
}

/// The steps of ResNet-8.
///
/// # Errors
/// [`Error::Program`] where the bytes are damaged.
pub fn resnet8() -> Result<Programs<'static>, Error> {
    Ok(Programs { head: Program::check(HEAD)?, all: Program::check(ALL)?, predict: Program::check(PREDICT)? })
}

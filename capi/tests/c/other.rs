//! Another Rust library for C, to be linked beside nunatak: it allocates, panics and catches that.

/// Numbers up to `count`, added on the heap; a panic inside is caught.
#[unsafe(no_mangle)]
pub extern "C" fn other_sum(count: u32) -> u32 {
    let all: Vec<u32> = (0..count).collect();
    let caught = std::panic::catch_unwind(|| {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("on purpose")
    });
    all.iter().sum::<u32>() + u32::from(caught.is_err())
}

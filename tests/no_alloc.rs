//! A training step allocates nothing: every call of the global allocator is counted.
//!
//! One test in a file of its own, so that no other test allocates meanwhile.

use nunatak_nn::{CrossEntropyOptions, Level, Loss, Memory, Mode, Optimizer, Program, Recipe, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, emulated, plan, small, training};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Of this thread: what the test harness does on others does not count.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // At the end of a thread the counter may be gone.
    let _ = CALLS.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's duty, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls(work: impl FnOnce()) -> usize {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

#[test]
fn nothing_is_allocated() {
    assert!(calls(|| drop(std::hint::black_box(vec![1_u8; 100]))) > 0, "the counter counts");

    let optimizer = Optimizer::new(Sgd { momentum: 0.9, weight_decay: 1e-4, ..Sgd::new(0.01) }).expect("settings");
    let cross_entropy = Loss::CrossEntropy(CrossEntropyOptions::default());
    let recipes = [(small(), 20), (Recipe::resnet18(10), 64)];
    // What an emulator makes minutes of asks the allocator for nothing that depends on the CPU.
    for (recipe, size) in recipes.into_iter().take(if emulated() { 1 } else { 2 }) {
        for level in Level::available() {
            for (mode, loss, memory) in [(Mode::Train, cross_entropy, Memory::Fast), (Mode::Eval, Loss::MeanSquaredError, Memory::Small)] {
                let mut setup = training(recipe, 2, size, loss);
                setup.mode = mode;
                setup.memory = memory;
                let (after, values) = plan(&setup);
                let (during, _) = plan(&Setup { update: Update::During, ..setup });
                let mut block = vec![0; Trainer::bytes(&after)];
                let batch = Batch::random(&setup, 3);
                let mut out = vec![0.0; 2 * recipe.classes];
                let run = |trainer: &mut Trainer| {
                    for _ in 0..2 {
                        batch.set(trainer, &values).expect("set");
                        trainer.forward().expect("forward");
                        trainer.backward().expect("backward");
                        trainer.clip_grad_norm(1.0).expect("clip");
                        trainer.step(optimizer).expect("step");
                        trainer.zero_grad();
                    }
                };
                // Checking a program, binding it and switching to another allocate nothing either.
                let counted = calls(|| {
                    let [after, during] = [&after, &during].map(|program| Program::check(program.bytes()).expect("a program"));
                    let mut trainer = Trainer::new(after, &mut block, level, Threads::serial()).expect("memory");
                    trainer.init(0);
                    run(&mut trainer);
                    trainer.value(values.prediction, &mut out).unwrap_or_else(|e| panic!("{e}"));
                    trainer.switch(during).expect("switch");
                    batch.set(&mut trainer, &values).expect("set");
                    trainer.forward().expect("forward");
                    trainer.backward_and_step(optimizer).expect("step");
                });
                assert_eq!(counted, 0, "{level} {mode:?} {size}: calls of the allocator");
            }
        }
    }
}

//! What a board runs, through C's functions: bundles as `nunatak export` writes them, and programs in several regions.

use core::ffi::{CStr, c_void};
use core::ptr;
use nunatak::bundle::{nunatak_bundle_count, nunatak_bundle_program};
use nunatak::images::{nunatak_trainer_set_images, nunatak_trainer_set_labels};
use nunatak::memory::nunatak_region;
use nunatak::optimizer::{nunatak_sgd, nunatak_sgd_default, nunatak_trainer_set_sgd};
use nunatak::program::{
    nunatak_program_region_bytes, nunatak_program_region_count, nunatak_program_required_bytes, nunatak_trainer_init_program,
    nunatak_trainer_switch_program,
};
use nunatak::random::{nunatak_random, nunatak_random_seed, nunatak_trainer_draw_weights};
use nunatak::status::nunatak_status::{self, NUNATAK_OK};
use nunatak::trainer::{nunatak_trainer, nunatak_trainer_forget, nunatak_trainer_release, nunatak_trainer_step};
use nunatak_nn::models::Recipe;
use nunatak_nn::plan::Region;
use nunatak_nn::{Graph, Loss, Mode, Program, Select, Step, plan};

fn bundle() -> Vec<u8> {
    let graphs: [Graph; 2] = Default::default();
    let values: Vec<_> = [(1, Loss::None), (2, Loss::CrossEntropy(Default::default()))]
        .into_iter()
        .zip(&graphs)
        .map(|((batch, loss), graph)| graph.usual([batch, 3, 16, 16], loss, |g, x| Recipe::resnet8(3).record(g, x)).expect("a recording"))
        .collect();
    let keep = values.iter().map(|v| [v.prediction]).collect::<Vec<_>>();
    plan::bundle(&[
        ("predict", Step::new(&graphs[0]).keep(&keep[0]).mode(Mode::Eval).train(Select::Head)),
        ("train", Step::new(&graphs[1]).root(values[1].root).keep(&keep[1]).train(Select::Head)),
    ])
    .expect("a bundle")
}

fn program(bundle: &[u8], name: &CStr) -> Result<(*const c_void, usize), nunatak_status> {
    let (mut at, mut bytes) = (ptr::null(), 0);
    // SAFETY: everything is there.
    let status = unsafe { nunatak_bundle_program(bundle.as_ptr().cast(), bundle.len(), name.as_ptr(), &mut at, &mut bytes) };
    if status == NUNATAK_OK { Ok((at, bytes)) } else { Err(status) }
}

#[test]
fn a_bundle_is_run_from_where_it_lies() {
    let bytes = bundle();
    let mut count = 0;
    // SAFETY: everything is there.
    let status = unsafe { nunatak_bundle_count(bytes.as_ptr().cast(), bytes.len(), &mut count) };
    assert!(status == NUNATAK_OK && count == 2);
    assert!(program(&bytes, c"train_all") == Err(nunatak_status::NUNATAK_UNKNOWN_NAME));
    let programs = [c"predict", c"train"].map(|name| program(&bytes, name).unwrap_or_else(|_| panic!("no {name:?}")));
    let range = bytes.as_ptr_range();
    let mut most = 0;
    for (at, length) in programs {
        let inside = range.contains(&at.cast()) && at as usize + length <= range.end as usize;
        assert!(inside && (at as usize - range.start as usize).is_multiple_of(64));
        let mut needed = 0;
        // SAFETY: as above.
        assert!(unsafe { nunatak_program_required_bytes(at, length, &mut needed) } == NUNATAK_OK);
        most = most.max(needed);
    }
    let mut memory = vec![0_u8; most];
    let mut trainer: *mut nunatak_trainer = ptr::null_mut();
    let ([predict, train], region) = (programs, nunatak_region { memory: memory.as_mut_ptr().cast(), bytes: most });
    // SAFETY: program and memory stay until the release.
    let made = unsafe { nunatak_trainer_init_program(predict.0, predict.1, ptr::null(), 0, 1, ptr::null(), &region, 1, &mut trainer) };
    assert!(made == NUNATAK_OK);
    for (at, length) in [train, predict, train] {
        // SAFETY: the bundle stays.
        assert!(unsafe { nunatak_trainer_switch_program(trainer, at, length) } == NUNATAK_OK);
    }
    assert!(nunatak_trainer_release(trainer) == NUNATAK_OK);
}

/// A step of ResNet-8 in these regions.
fn step_in(regions: &[Region]) -> Program<'static> {
    let graph = Graph::new();
    let values =
        graph.usual([2, 3, 16, 16], Loss::CrossEntropy(Default::default()), |g, x| Recipe::resnet8(3).record(g, x)).expect("a recording");
    Step::new(&graph).root(values.root).keep(&[values.prediction]).regions(regions).plan().expect("a program")
}

/// The losses of some steps.
fn losses(program: &Program, regions: &[nunatak_region]) -> Result<[f32; 4], nunatak_status> {
    let (at, len) = (program.bytes().as_ptr().cast(), program.bytes().len());
    let mut t: *mut nunatak_trainer = ptr::null_mut();
    // SAFETY: program and memory stay until the release.
    let made = unsafe { nunatak_trainer_init_program(at, len, ptr::null(), 0, 1, ptr::null(), regions.as_ptr(), regions.len(), &mut t) };
    if made != NUNATAK_OK {
        assert!(t.is_null());
        return Err(made);
    }
    let images: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect();
    let mut losses = [0.0; 4];
    // SAFETY: everything is there, and as long as it is said to be.
    unsafe {
        let (mut random, mut sgd) = (core::mem::zeroed::<nunatak_random>(), core::mem::zeroed::<nunatak_sgd>());
        assert!(nunatak_random_seed(&mut random, size_of::<nunatak_random>(), 7) == NUNATAK_OK);
        assert!(nunatak_trainer_draw_weights(t, &mut random) == NUNATAK_OK);
        assert!(nunatak_sgd_default(0.05, size_of::<nunatak_sgd>(), &mut sgd) == NUNATAK_OK);
        assert!(nunatak_trainer_set_sgd(t, &sgd) == NUNATAK_OK);
        for loss in &mut losses {
            assert!(nunatak_trainer_set_images(t, images.as_ptr(), images.len()) == NUNATAK_OK);
            assert!(nunatak_trainer_set_labels(t, [0_i64, 2].as_ptr(), 2) == NUNATAK_OK);
            assert!(nunatak_trainer_step(t, loss) == NUNATAK_OK);
        }
    }
    // None of its memory is anybody else's before the release.
    // SAFETY: as above.
    let again = unsafe { nunatak_trainer_init_program(at, len, ptr::null(), 0, 1, ptr::null(), regions.as_ptr(), regions.len(), &mut t) };
    assert!(again == nunatak_status::NUNATAK_MEMORY_IN_USE);
    match regions.last() {
        Some(region) if region.bytes % 2 == 1 => assert!(nunatak_trainer_forget(region.memory) == NUNATAK_OK),
        _ => assert!(nunatak_trainer_release(t) == NUNATAK_OK),
    }
    Ok(losses)
}

#[test]
fn regions_of_a_board_give_the_bits_of_one_piece() {
    let banks = [("dtcm", 24 << 10), ("idle", 64), ("axi", 8 << 20)].map(|(name, bytes)| Region { name, bytes });
    let (one, several) = (step_in(&[]), step_in(&banks));
    let (at, len) = (several.bytes().as_ptr().cast(), several.bytes().len());
    let (mut count, mut bytes) = (0, [0_usize; 3]);
    // SAFETY: the program is there.
    unsafe {
        assert!(nunatak_program_region_count(at, len, &mut count) == NUNATAK_OK && count == 3);
        for (region, bytes) in bytes.iter_mut().enumerate() {
            assert!(nunatak_program_region_bytes(at, len, region, bytes) == NUNATAK_OK);
        }
        assert!(nunatak_program_region_bytes(at, len, 3, &mut count) == nunatak_status::NUNATAK_BAD_CONFIG);
        assert!(nunatak_program_required_bytes(at, len, &mut count) == nunatak_status::NUNATAK_BAD_CONFIG);
    }
    let mut needed = 0;
    // SAFETY: the program is there.
    assert!(unsafe { nunatak_program_required_bytes(one.bytes().as_ptr().cast(), one.bytes().len(), &mut needed) } == NUNATAK_OK);
    let mut block = vec![0_u8; needed];
    let expected = losses(&one, &[nunatak_region { memory: block.as_mut_ptr().cast(), bytes: needed }]).expect("one piece");
    assert!(expected[3] < expected[0]);
    // Wherever each begins.
    for skip in [0, 1, 63] {
        let mut pieces = bytes.map(|bytes| vec![0_u8; bytes + skip]);
        let mut regions: Vec<nunatak_region> = pieces
            .iter_mut()
            .zip(bytes)
            .map(|(piece, bytes)| nunatak_region { memory: piece[skip..].as_mut_ptr().cast(), bytes })
            .collect();
        assert_eq!(losses(&several, &regions).map(|l| l.map(f32::to_bits)).ok(), Some(expected.map(f32::to_bits)), "{skip}");
        for i in (0..3).filter(|i| bytes[*i] > 0) {
            regions[i].bytes -= 1;
            assert!(losses(&several, &regions) == Err(nunatak_status::NUNATAK_MEMORY_TOO_SMALL), "{i}");
            regions[i].bytes += 1;
        }
        assert!(losses(&several, &regions[..2]) == Err(nunatak_status::NUNATAK_WRONG_LENGTH));
        assert!(losses(&several, &[]) == Err(nunatak_status::NUNATAK_WRONG_LENGTH));
        assert!(losses(&several, &[regions[2]; 9]) == Err(nunatak_status::NUNATAK_WRONG_LENGTH));
        assert!(losses(&several, &[regions[2]; 3]) == Err(nunatak_status::NUNATAK_OVERLAP));
    }
}

//! The C functions in any order, with any numbers, files and names: a status each time.
#![no_main]

use core::ffi::c_char;
use core::ptr::{null, null_mut};
use libfuzzer_sys::fuzz_target;
use nunatak::config::{nunatak_config, nunatak_config_default, nunatak_recipe, nunatak_recipe_resnet8};
use nunatak::memory::nunatak_region;
use nunatak::status::nunatak_status::NUNATAK_OK;
use nunatak::{callbacks, images, optimizer, program, random, tensors, texts, trainer, weights};

/// Numbers from the input, zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    fn size(&mut self) -> usize {
        match self.byte() {
            255 => usize::MAX,
            254 => 1 << 31,
            253 => 1 << 62,
            n => n.into(),
        }
    }
    fn float(&mut self) -> f32 {
        f32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
    fn name(&mut self) -> *const c_char {
        let names =
            [c"all", c"none", c"head", c"fc.weight", c"layer1,fc", c"bn1.running_mean", c"bn1.num_batches_tracked", c"", c"\xff", c"x"];
        names.get(usize::from(self.byte() % 16)).map_or(null(), |name| name.as_ptr())
    }
}

/// A small network; now and then one that can't be.
fn config(input: &mut Input) -> nunatak_config {
    let mut recipe = core::mem::MaybeUninit::<nunatak_recipe>::uninit();
    let mut config = core::mem::MaybeUninit::<nunatak_config>::uninit();
    // SAFETY: both are written before they are read.
    let mut config = unsafe {
        assert_eq!(nunatak_recipe_resnet8(4, size_of::<nunatak_recipe>(), recipe.as_mut_ptr()), NUNATAK_OK);
        assert_eq!(nunatak_config_default(recipe.as_ptr(), 2, 12, 12, size_of::<nunatak_config>(), config.as_mut_ptr()), NUNATAK_OK);
        config.assume_init()
    };
    config.recipe.widths[..3].copy_from_slice(&[4, 5, 6]);
    for _ in 0..input.byte() % 4 {
        match input.byte() {
            0 => config.batch = input.size().min(1 << 40) % 9,
            1 => config.height = input.size() % 40,
            2 => config.width = input.size() % 40,
            3 => config.mode = input.byte().into(),
            4 => config.statistics = input.byte().into(),
            5 => config.loss = input.byte().into(),
            6 => config.trainable = input.name(),
            7 => config.update = input.byte().into(),
            8 => config.momentum = input.byte().into(),
            9 => config.memory = input.byte().into(),
            10 => config.recipe.classes = input.size() % 50,
            11 => config.recipe.layers = input.size(),
            12 => config.recipe.widths[1] = input.size() % 20,
            13 => config.recipe.in_channels = input.size() % 20,
            14 => config.label_smoothing = input.float(),
            15 => config.threads = input.size(),
            16 => config.batch = input.size(),
            17 => config.recipe.stem_kernel = input.size(),
            18 => config.recipe.stem_pad = input.size(),
            19 => config.reduction = input.byte().into(),
            _ => config.loss = input.byte() as u32 % 6,
        }
    }
    config
}

/// The program of a config, now and then changed at some places, with a checksum that fits.
fn program_of(config: &nunatak_config, input: &mut Input) -> Option<Vec<u8>> {
    let (mut bytes, mut size) = (Vec::new(), 0);
    // SAFETY: the config is whole, and the buffer as long as is said.
    unsafe {
        program::nunatak_program_from_config(config, [0_u8; 1].as_mut_ptr().cast(), 0, &mut size);
        if size > 0 {
            bytes = vec![0_u8; size];
            assert_eq!(program::nunatak_program_from_config(config, bytes.as_mut_ptr().cast(), size, &mut size), NUNATAK_OK);
        }
    }
    let changes = if bytes.is_empty() { 0 } else { input.byte() % 4 };
    for _ in 0..changes {
        let at = (usize::from(input.byte()) * 256 + usize::from(input.byte())) % size;
        bytes[at] ^= input.byte();
    }
    if changes > 0 {
        let sum = nunatak_core::program::checksum(&bytes);
        bytes[20..28].copy_from_slice(&sum.to_le_bytes());
    }
    (!bytes.is_empty()).then_some(bytes)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut t = null_mut();
    let mut memory = Vec::new();
    let mut floats = vec![0.25_f32; 4096];
    let mut labels = [1_i64; 64];
    let mut file = vec![0_u8; 1 << 16];
    // Programs stay where they are while a trainer has them: none of these is changed or dropped before the end.
    let mut programs: Vec<Vec<u8>> = Vec::new();
    let (mut size, mut number) = (0, 0.0);
    let mut state = random::nunatak_random { struct_bytes: 0, state: [0; 320] };
    // SAFETY: every pointer is NULL, or points to what the call is told.
    unsafe {
        random::nunatak_random_seed(&mut state, size_of::<random::nunatak_random>(), 1);
        while !input.0.is_empty() {
            let count = input.size().min(floats.len());
            let bytes = input.size().min(file.len());
            match input.byte() {
                0..=9 => {
                    trainer::nunatak_trainer_release(t);
                    let config = config(&mut input);
                    if trainer::nunatak_trainer_required_bytes(&config, &mut size) == NUNATAK_OK && size < 1 << 24 {
                        memory = vec![0xa5_u8; size];
                        let given = size.saturating_sub(usize::from(input.byte() == 7));
                        trainer::nunatak_trainer_init(&config, memory.as_mut_ptr().cast(), given, &mut t);
                    }
                }
                10..=14 => {
                    let config = config(&mut input);
                    trainer::nunatak_trainer_switch(t, &config);
                }
                15..=24 => {
                    let (n, classes) = (PLAUSIBLE[usize::from(input.byte()) % PLAUSIBLE.len()], input.byte());
                    images::nunatak_trainer_set_images(t, floats.as_ptr(), n.min(floats.len()));
                    labels[0] = i64::from(classes) - 4;
                    images::nunatak_trainer_set_labels(t, labels.as_ptr(), n / 432);
                    images::nunatak_trainer_set_targets(t, floats.as_ptr(), n / 432 * 4);
                }
                25 => drop(images::nunatak_trainer_set_images(t, floats.as_ptr(), count)),
                26 => drop(images::nunatak_trainer_set_images_u8(t, file.as_ptr(), bytes, floats.as_ptr(), floats.as_ptr())),
                27..=34 => drop(trainer::nunatak_trainer_forward(t)),
                35..=39 => drop(trainer::nunatak_trainer_backward(t)),
                40..=44 => drop(trainer::nunatak_trainer_update(t)),
                45..=52 => drop(trainer::nunatak_trainer_step(t, &mut number)),
                53 => drop(trainer::nunatak_trainer_zero_grad(t)),
                54 => drop(trainer::nunatak_trainer_clip_grad_norm(t, input.float(), &mut number)),
                55 => drop(trainer::nunatak_trainer_loss(t, &mut number)),
                56 => drop(trainer::nunatak_trainer_predictions(t, floats.as_mut_ptr(), count)),
                57 if input.float() > 0.0 => drop(images::nunatak_trainer_set_features(t, floats.as_ptr(), count)),
                57 => drop(trainer::nunatak_trainer_features(t, floats.as_mut_ptr(), count)),
                58 => drop(trainer::nunatak_trainer_predict(t, floats.as_mut_ptr(), count)),
                59 => drop(trainer::nunatak_trainer_backward_from(t, floats.as_ptr(), count)),
                60..=64 => drop(random::nunatak_trainer_draw_weights(t, &mut state)),
                65 => drop(random::nunatak_trainer_draw_head(t, &mut state)),
                66..=69 => {
                    let sgd = optimizer::nunatak_sgd {
                        struct_bytes: size_of::<optimizer::nunatak_sgd>(),
                        lr: input.float(),
                        momentum: input.float(),
                        dampening: 0.0,
                        weight_decay: 0.0,
                        nesterov: u32::from(input.byte() % 3),
                        maximize: u32::from(input.byte() % 3),
                    };
                    optimizer::nunatak_trainer_set_sgd(t, &sgd);
                    optimizer::nunatak_trainer_add_group(t, input.name(), &sgd);
                }
                70 => drop(optimizer::nunatak_trainer_set_rate(t, input.float())),
                71 => drop(tensors::nunatak_trainer_get_tensor(t, input.name(), floats.as_mut_ptr(), count)),
                72 => drop(tensors::nunatak_trainer_set_tensor(t, input.name(), floats.as_ptr(), count)),
                73 => drop(tensors::nunatak_trainer_get_gradient(t, input.name(), floats.as_mut_ptr(), count)),
                74 => drop(tensors::nunatak_trainer_set_gradient(t, input.name(), floats.as_ptr(), count)),
                75 => drop(tensors::nunatak_trainer_get_momentum(t, input.name(), floats.as_mut_ptr(), count)),
                76 => drop(tensors::nunatak_trainer_set_momentum(t, input.name(), floats.as_ptr(), count)),
                77 => drop(tensors::nunatak_trainer_tensor_name(t, count, file.as_mut_ptr().cast(), bytes)),
                78..=80 => {
                    let format = u32::from(input.byte() % 5);
                    if weights::nunatak_trainer_saved_bytes(t, format, &mut size) == NUNATAK_OK && size < 1 << 24 {
                        file.resize(size.max(64), 0);
                        weights::nunatak_trainer_save(t, format, file.as_mut_ptr().cast(), size, &mut size);
                    }
                }
                81 => {
                    let at = usize::from(input.byte()) * 8 + usize::from(input.byte());
                    let len = file.len();
                    file[at % len] ^= input.byte();
                }
                82..=85 => drop(weights::nunatak_trainer_load(t, file.as_ptr().cast(), file.len(), u32::from(input.byte() % 3))),
                86 => drop(weights::nunatak_trainer_load_momentum(t, file.as_ptr().cast(), file.len())),
                87 => drop(weights::nunatak_trainer_load(t, file.as_ptr().cast(), bytes, 0)),
                88 => {
                    let config = config(&mut input);
                    if texts::nunatak_plan_text_bytes(&config, &mut size) == NUNATAK_OK {
                        let mut text = vec![0_u8; size];
                        assert_eq!(texts::nunatak_plan_text(&config, text.as_mut_ptr().cast(), size), NUNATAK_OK);
                    }
                }
                89 => drop(callbacks::nunatak_trainer_on_progress(t, Some(progress), null_mut())),
                90 => {
                    let (kind, number) = (input.byte().into(), input.size());
                    callbacks::nunatak_trainer_call_name(t, kind, number, file.as_mut_ptr().cast(), bytes);
                }
                92..=99 => {
                    let config = config(&mut input);
                    if let Some(made) = program_of(&config, &mut input) {
                        programs.push(made);
                        let made = programs.last().expect("just pushed");
                        let (at, len) = (made.as_ptr().cast(), made.len());
                        if program::nunatak_program_required_bytes(at, len, &mut size) != NUNATAK_OK || size >= 1 << 24 {
                            continue;
                        }
                        if input.byte() % 2 == 0 {
                            program::nunatak_trainer_switch_program(t, at, len);
                            continue;
                        }
                        trainer::nunatak_trainer_release(t);
                        memory = vec![0xa5_u8; size];
                        let region = nunatak_region { memory: memory.as_mut_ptr().cast(), bytes: size };
                        program::nunatak_trainer_init_program(at, len, null(), 0, 1, null(), &region, 1, &mut t);
                    }
                }
                100 => drop(program::nunatak_program_check(file.as_ptr().cast(), bytes)),
                91 => drop(tensors::nunatak_trainer_set_batches(t, input.name(), i64::from(input.byte()) - 3)),
                _ => drop(optimizer::nunatak_trainer_set_rate(null_mut(), 1.0)),
            };
        }
        trainer::nunatak_trainer_release(t);
    }
    drop(memory);
    drop(programs);
});

/// Numbers of images that the configs above have.
const PLAUSIBLE: [usize; 4] = [864, 432, 1296, 1728];

/// Stops at the thirtieth call.
extern "C" fn progress(_: *mut core::ffi::c_void, done: usize, _: usize) -> i32 {
    i32::from(done == 30)
}

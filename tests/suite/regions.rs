//! Several pieces of memory: a step laid out in them gives the bits of a step in one block.

use nunatak_nn::plan::Region;
use nunatak_nn::routines::Table;
use nunatak_nn::{CrossEntropyOptions, Error, Level, Loss, Memory, Optimizer, Program, Recipe, Sgd, Threads, Trainer, Update};
use nunatak_tests::{Batch, Setup, bits, plan, same_bits, training};

/// An STM32H743's banks, the fastest first.
const BANKS: [Region; 4] = [
    Region { name: "dtcm", bytes: 128 << 10 },
    Region { name: "axi", bytes: 512 << 10 },
    Region { name: "sram", bytes: 288 << 10 },
    Region { name: "sram4", bytes: 64 << 10 },
];

fn setup<'a>(trainable: &'a str, update: Update) -> Setup<'a> {
    let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
    Setup { trainable, update, memory: Memory::Tiny, ..training(Recipe::resnet8(10), 1, 16, loss) }
}

/// A step's gradients are used up; some steps of it.
fn steps(trainer: &mut Trainer, setup: &Setup) {
    for seed in 0..3 {
        let values = plan(setup).1;
        Batch::random(setup, seed).set(trainer, &values).expect("set");
        trainer.forward().expect("forward");
        trainer.backward_and_step(Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.02) }).expect("settings")).expect("step");
    }
}

/// Memory for each region of a program; each begins at another place, as pieces of memory do.
fn pieces(program: &Program, less: [usize; 8]) -> Vec<Vec<u8>> {
    (0..program.region_count()).map(|i| vec![0x3c; 4 * program.region(i).range.len() + 63 - less[i]]).collect()
}

fn in_pieces<'m>(program: Program<'m>, pieces: &'m mut [Vec<u8>]) -> Result<Trainer<'m>, Error> {
    let mut slices: Vec<&mut [u8]> = pieces.iter_mut().map(|piece| &mut piece[..]).collect();
    Trainer::in_regions(program, &mut slices, None, Table::ALL, Level::detect(), Threads::serial())
}

#[test]
fn regions_give_the_bits_of_one_block() {
    for (trainable, update) in [("all", Update::During), ("layer3,fc", Update::After), ("fc", Update::After)] {
        let (one, several) = (setup(trainable, update), Setup { regions: &BANKS, ..setup(trainable, update) });
        let mut expected = Trainer::owning(plan(&one).0, Level::detect(), Threads::serial()).expect("a trainer");
        expected.init(3);
        steps(&mut expected, &one);

        let program = plan(&several).0;
        for (i, bank) in BANKS.iter().enumerate() {
            let region = program.region(i);
            assert_eq!(region.name, bank.name);
            assert!(4 * region.range.len() <= bank.bytes, "{}: {} bytes", region.name, 4 * region.range.len());
        }
        // A piece may be longer than its region.
        for more in [0, 1, 4096, 1 << 20] {
            let mut memory = pieces(&program, [0; 8]);
            memory.iter_mut().for_each(|piece| piece.resize(piece.len() + more, 0x3c));
            let mut trainer = in_pieces(program.view(), &mut memory).expect("a trainer");
            trainer.init(3);
            steps(&mut trainer, &several);
            same_bits(trainable, &bits(&trainer), &bits(&expected));
        }
        // A board's program also runs in one block.
        let mut block = Trainer::owning(plan(&several).0, Level::detect(), Threads::serial()).expect("a trainer");
        block.init(3);
        steps(&mut block, &several);
        same_bits(trainable, &bits(&block), &bits(&expected));
    }
}

/// Going on with another program: what both have stays, in the regions too.
#[test]
fn another_program_follows_in_the_same_regions() {
    let (all, head) = (Setup { regions: &BANKS, ..setup("all", Update::During) }, Setup { regions: &BANKS, ..setup("fc", Update::During) });
    let run = |trainer: &mut Trainer| {
        trainer.init(5);
        steps(trainer, &all);
        trainer.switch(plan(&head).0).expect("the head");
        steps(trainer, &head);
        trainer.switch(plan(&all).0).expect("everything");
        steps(trainer, &all);
    };
    let mut memory = pieces(&plan(&all).0, [0; 8]);
    let needed = |program: &Program, i: usize| 4 * program.region(i).range.len() + 63;
    for (i, piece) in memory.iter_mut().enumerate() {
        piece.resize(piece.len().max(needed(&plan(&head).0, i)), 0);
    }
    let mut trainer = in_pieces(plan(&all).0, &mut memory).expect("a trainer");
    run(&mut trainer);
    let single = |trainable| Setup { regions: &[], ..setup(trainable, Update::During) };
    let mut room = vec![0; Trainer::bytes(&plan(&single("all")).0)];
    let mut expected = Trainer::new(plan(&single("all")).0, &mut room, Level::detect(), Threads::serial()).expect("a trainer");
    expected.init(5);
    for trainable in ["all", "fc", "all"] {
        expected.switch(plan(&single(trainable)).0).expect("switched");
        steps(&mut expected, &single(trainable));
    }
    same_bits("after three programs", &bits(&trainer), &bits(&expected));
}

#[test]
fn too_little_is_an_error_that_names_the_region() {
    let several = Setup { regions: &BANKS, ..setup("all", Update::During) };
    let program = plan(&several).0;
    for (i, bank) in BANKS.iter().enumerate() {
        let bytes = 4 * program.region(i).range.len();
        if bytes == 0 {
            continue;
        }
        // At whatever place it begins, a byte less than its numbers is too little.
        let mut less = [0; 8];
        less[i] = 64;
        let mut memory = pieces(&program, less);
        match in_pieces(program.clone(), &mut memory).err() {
            Some(Error::Region { name, given, needed }) => {
                assert_eq!((name.as_str(), given), (bank.name, bytes - 1));
                assert!(needed >= bytes && needed < bytes + 64, "{needed}");
            }
            other => panic!("{}: {other:?}", bank.name),
        }
    }
    // Planning: the step needs more than these in all.
    let tight = [Region { name: "fast", bytes: 20_000 }, Region { name: "slow", bytes: 700_000 }];
    let Err(Error::Region { name, given, needed }) = (Setup { regions: &tight, ..several }).plan().map(|_| ()) else {
        panic!("no place for every tensor was expected")
    };
    assert!(["fast", "slow"].contains(&name.as_str()) && needed > given, "{name} {given} {needed}");
    let nine = [BANKS[0]; 9];
    assert!((Setup { regions: &nine, ..several }).plan().is_err());
}

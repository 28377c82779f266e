//! What the tests of the running program share: drawn images, a small network, calls.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use nunatak_nn::checkpoint::write_safetensors;
use nunatak_nn::state::recipe_metadata;
use nunatak_nn::{Level, Recipe, Setup, Threads, Trainer};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Images that a small network can tell apart: noise over the class's colour.
pub fn draw(path: &Path, colour: [u8; 3], number: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut state = number.wrapping_mul(2_654_435_761) ^ u32::from(colour[0]) << 8 ^ u32::from(colour[1]);
    let image = image::RgbImage::from_fn(32, 32, |_, _| {
        let mut noisy = |c: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            c.saturating_add((state >> 26) as u8)
        };
        image::Rgb(colour.map(&mut noisy))
    });
    image.save(path).unwrap();
}

/// Three classes, with train/ and val/.
pub const COLOURS: [(&str, [u8; 3]); 3] = [("blue", [20, 40, 180]), ("green", [30, 170, 40]), ("red", [180, 30, 20])];

/// A folder to work in, with images under `data`, and `weights.safetensors` of a resnet8 for ten classes.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        for (name, colour) in COLOURS {
            (0..9).for_each(|i| draw(&dir.path().join(format!("data/train/{name}/{i}.png")), colour, i));
            (0..3).for_each(|i| draw(&dir.path().join(format!("data/val/{name}/{i}.png")), colour, 100 + i));
        }
        let place = Place { dir };
        place.weights("weights.safetensors", 10, None);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes freshly drawn weights; the first normalisation's are all `spoilt`, where that is given.
    pub fn weights(&self, name: &str, classes: usize, spoilt: Option<f32>) {
        let recipe = Recipe::resnet8(classes);
        let (blueprint, _, _) = Setup::inference(recipe, 1, 32, 32).plan().unwrap();
        let mut memory = vec![0; blueprint.bytes()];
        let mut trainer = Trainer::new(blueprint, &mut memory, Level::PORTABLE, Threads::serial()).unwrap();
        trainer.init(3);
        if let Some(value) = spoilt {
            let id = trainer.blueprint().network().by_name("bn1.weight").unwrap();
            trainer.set_param(id, &[value; 16]).unwrap();
        }
        write_safetensors(&self.path(name), &trainer.state().views(), &recipe_metadata(&recipe)).unwrap();
    }

    /// The program with these words, split at spaces, in this folder.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nunatak"));
        command.args(words.split_whitespace()).current_dir(self.dir.path()).env_remove("NUNATAK_LEVEL");
        command
    }

    pub fn run(&self, words: &str) -> Run {
        Run::of(self.command(words).output().unwrap())
    }

    /// A run that must succeed.
    pub fn ok(&self, words: &str) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, Some(0), "{words}: {}", run.err);
        run
    }

    /// A usual fine-tuning of everything, with more words.
    pub fn tune(&self, out: &str, more: &str) -> String {
        format!("finetune data --weights weights.safetensors --out {out} --size 32 --resize 32 --batch 8 --threads 1 {more}")
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// What a run left.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let run = Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!run.err.contains("panicked"), "{}", run.err);
        run
    }
}

//! What the tests of the running program share: drawn images, a small network, calls.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use nunatak_cli::setup::Network;
use nunatak_nn::files::state::{State, Values};
use nunatak_nn::files::{Checkpoint, write_pth, write_safetensors};
use nunatak_nn::{Level, Recipe, Threads, Trainer};
use std::collections::BTreeMap;
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
        self.weights_of(name, Network::Recipe(Recipe::resnet8(classes)), spoilt);
    }

    /// The same of any network.
    pub fn weights_of(&self, name: &str, network: Network, spoilt: Option<f32>) {
        let program = network.program().unwrap();
        let mut trainer = Trainer::owning(program, Level::PORTABLE, Threads::serial()).unwrap();
        trainer.init(3);
        if let Some(value) = spoilt {
            let id = trainer.entry_named("bn1.weight").unwrap();
            trainer.set_entry(id, &[value; 16]).unwrap();
        }
        write_safetensors(&self.path(name), &trainer.state().views(), &network.metadata()).unwrap();
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

    /// Makes of a model's `.pth` what PyTorch would have written: the state dict alone, in it and beside it.
    pub fn bare(&self, name: &str) {
        let bytes = self.bytes(name);
        let mut state = State::default();
        for entry in Checkpoint::parse(&bytes).unwrap().entries() {
            let values = match entry.read_i64() {
                Ok(numbers) => Values::I64(numbers),
                Err(_) => {
                    let mut numbers = Vec::new();
                    entry.read_f32(&mut numbers).unwrap();
                    Values::F32(numbers)
                }
            };
            state.tensors.push((entry.name().to_string(), entry.shape().to_vec(), values));
        }
        write_pth(&self.path(name), &state.views(), &BTreeMap::new()).unwrap();
        std::fs::remove_file(self.path(&format!("{name}.classes.json"))).unwrap();
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

/// The same command in a process that ignores no signal, even where these tests run under `nohup` or in the background
/// of a shell. Where `env` can't do that, the command as it is.
#[cfg(unix)]
pub fn with_default_signals(command: Command) -> Command {
    let mut there = Command::new("env");
    there.args(["--default-signal", "true"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if !there.status().is_ok_and(|status| status.success()) {
        return command;
    }
    let mut wrapped = Command::new("env");
    wrapped.arg("--default-signal").arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

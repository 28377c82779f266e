//! The program: its commands and their options, in one place, so that documents can be checked against them.

use crate::commands::{
    completions, convert, demo, evaluate, explain, export, finetune, inspect, lr_find, man, measure, plan, predict, profile, step, verify,
};
use crate::failure::Failure;
use clap::{CommandFactory, Parser, Subcommand};

/// Train and fine-tune ResNet18 and its kin on CPUs.
#[derive(Parser, Debug)]
#[command(name = "nunatak", version)]
pub struct Cli {
    /// Write results, warnings and errors alone: no progress, no notes
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Command,
}

/// What is done.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// The autograd tutorial with its numbers beside PyTorch's, then fine-tuning on images drawn here
    Demo(demo::Args),
    /// Fine-tune a pretrained network on a folder of images
    Finetune(Box<finetune::Args>),
    /// Search the learning rate that a fine-tuning could be started with
    LrFind(Box<lr_find::Args>),
    /// Accuracy of a model on a folder of images
    Evaluate(evaluate::Args),
    /// What a model sees in images
    Predict(predict::Args),
    /// Where in images a model sees a class: heat maps (Grad-CAM)
    Explain(explain::Args),
    /// One or more training steps from files, with everything written out
    Step(step::Args),
    /// PyTorch's steps, computed here too: which tensor differs first, and by how much
    Verify(verify::Args),
    /// Time and memory of a step
    Measure(measure::Args),
    /// What a step computes, and where its memory goes
    Plan(plan::Args),
    /// A network as a folder for the firmware of a board: programs, weights, numbers, a self-test; or as a file of ONNX
    Export(Box<export::Args>),
    /// Where the time of a step goes, call by call
    Profile(profile::Args),
    /// What a weights file holds
    Inspect(inspect::Args),
    /// From one weights format to another
    Convert(convert::Args),
    /// What a shell proposes when Tab is pressed
    Completions(completions::Args),
    /// Pages of the manual
    Man(man::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Command::Demo(args) => demo::run(args),
            Command::Finetune(args) => finetune::run(args),
            Command::LrFind(args) => lr_find::run(args),
            Command::Evaluate(args) => evaluate::run(args),
            Command::Predict(args) => predict::run(args),
            Command::Explain(args) => explain::run(args),
            Command::Step(args) => step::run(args),
            Command::Verify(args) => verify::run(args),
            Command::Measure(args) => measure::run(args),
            Command::Plan(args) => plan::run(args),
            Command::Export(args) => export::run(args),
            Command::Profile(args) => profile::run(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Convert(args) => convert::run(args),
            Command::Completions(args) => completions::run(args, &mut Cli::command()),
            Command::Man(args) => man::run(args, Cli::command()),
        }
    }
}

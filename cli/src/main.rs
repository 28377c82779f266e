//! The program `nunatak`: fine-tunes, evaluates and inspects ResNets at a prompt.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use nunatak_cli::commands::{convert, demo, evaluate, finetune, inspect, measure, plan, predict, profile, step};
use std::process::ExitCode;

/// Train and fine-tune ResNet18 and its kin on CPUs.
#[derive(Parser)]
#[command(name = "nunatak", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The autograd tutorial with its numbers beside PyTorch's, then fine-tuning on images drawn here
    Demo(demo::Args),
    /// Fine-tune a pretrained network on a folder of images
    Finetune(Box<finetune::Args>),
    /// Accuracy of a model on a folder of images
    Evaluate(evaluate::Args),
    /// What a model sees in images
    Predict(predict::Args),
    /// One or more training steps from files, with everything written out
    Step(step::Args),
    /// Time and memory of a step
    Measure(measure::Args),
    /// What a step computes, and where its memory goes
    Plan(plan::Args),
    /// Where the time of a step goes, call by call
    Profile(profile::Args),
    /// What a weights file holds
    Inspect(inspect::Args),
    /// From one weights format to another
    Convert(convert::Args),
}

fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Step(args) => step::run(args),
        Command::Measure(args) => measure::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Convert(args) => convert::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

//! The program `nunatak`: fine-tunes, evaluates and inspects ResNets at a prompt.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use nunatak_cli::commands::finetune;
use nunatak_cli::output::{be_quiet, say};
use nunatak_cli::program::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let given: Vec<_> = std::env::args_os().collect();
    let words = match finetune::config::expand(given.clone()) {
        Ok(words) => words,
        Err(failure) => return failure.report(),
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        // Help and the version come this way too. That nobody could read them is a failure.
        Err(e) => {
            if let Some(path) = finetune::config::named(&given) {
                say(format_args!("(with the options of --config {})", path.display()));
            }
            let code = if e.print().is_ok() || e.use_stderr() { e.exit_code() } else { 1 };
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    if cli.quiet {
        be_quiet();
    }
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

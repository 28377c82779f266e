//! What the program is given in text: command lines (which are parsed and not run), networks in JSON, options in TOML, and
//! the state of a run in `FILE.last`. A message or a value each time.
#![no_main]

use clap::Parser;
use libfuzzer_sys::fuzz_target;
use nunatak_cli::args::{self, Reading};
use nunatak_cli::commands::finetune::{check_last, config};
use nunatak_cli::failure::Failure;
use nunatak_cli::program::Cli;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let [kind, text @ ..] = bytes else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    match kind % 4 {
        0 => words(text),
        1 => network(text),
        2 => match config::options(text, "finetune") {
            Ok(options) => assert!(options.iter().all(|option| option.as_encoded_bytes().starts_with(b"--"))),
            Err(why) => assert!(!why.is_empty()),
        },
        _ => last(text),
    }
});

/// One word a line.
fn words(text: &str) {
    match Cli::try_parse_from(["nunatak"].into_iter().chain(text.lines().take(64))) {
        Ok(cli) => assert!(!format!("{cli:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn told<T>(outcome: Result<T, Failure>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(Failure::Usage(text) | Failure::Failed(text)) => {
            assert!(!text.is_empty());
            None
        }
        Err(_) => None,
    }
}

/// A recipe, a stem, algorithms: all that a text can be.
fn network(text: &str) {
    // What does not begin like JSON may be a file's name.
    if let Some(network) = told(args::network(&format!("{{{text}"), None)) {
        assert!((1..=1 << 24).contains(&network.classes()));
    }
    told(Reading { arch: None, stem: Some(text.into()) }.asked());
    told(args::algorithms(Some(text)));
}

/// `FILE.last`: texts under its keys, with zeros between.
fn last(text: &str) {
    let keys = ["nunatak.training", "nunatak.classes", "nunatak.view", "nunatak.recipe", "nunatak.base", "nunatak.base_hash"];
    let metadata: serde_json::Map<_, _> = keys.iter().zip(text.split('\0')).map(|(key, text)| (key.to_string(), text.into())).collect();
    let header = serde_json::json!({ "__metadata__": metadata }).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    told(check_last(Path::new("x.last"), &file));
}

//! Commands in documents: those of `nunatak` are parsed by its own options, those of cargo name packages and tests that
//! are there, scripts exist and know their options.

use crate::markdown::{Document, documents, root, without_code};
use crate::{none, pages, shell};
use clap::{CommandFactory, Parser, error::ErrorKind};
use nunatak_cli::program::Cli;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of the machine, whose words are checked where they name files of the repository.
const OTHERS: [&str; 8] = ["pip", "rustup", "cc", "python", "python3", "node", "qemu-system-arm", "."];

/// What the repository builds.
struct Built {
    /// Package, its folder, its targets' names.
    packages: Vec<(String, PathBuf, Vec<String>)>,
}

impl Built {
    fn new() -> Built {
        let mut packages = Vec::new();
        for manifest in ["Cargo.toml", "tests/bare_metal/Cargo.toml", "tests/loom/Cargo.toml", "fuzz/Cargo.toml"] {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"]).arg(root().join(manifest));
            let out = cargo.output().expect("cargo runs");
            assert!(out.status.success(), "{manifest}: {}", String::from_utf8_lossy(&out.stderr));
            let metadata: Value = serde_json::from_slice(&out.stdout).expect("cargo writes JSON");
            for package in metadata["packages"].as_array().expect("packages") {
                let text = |value: &Value| value.as_str().expect("a text").to_string();
                let folder = Path::new(&text(&package["manifest_path"])).parent().expect("a folder").to_path_buf();
                let targets = package["targets"].as_array().expect("targets").iter().map(|target| text(&target["name"])).collect();
                packages.push((text(&package["name"]), folder, targets));
            }
        }
        assert!(packages.len() >= 8, "{} packages", packages.len());
        Built { packages }
    }

    /// What is wrong with a command of cargo, run in `folder`.
    fn check(&self, words: &[String], folder: &Path) -> Result<(), String> {
        let (words, behind) = match words.iter().position(|word| word == "--") {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        let mut package = None;
        for pair in words.windows(2) {
            let (flag, value) = (pair[0].as_str(), pair[1].as_str());
            match flag {
                "-p" | "--package" => {
                    let found = self.packages.iter().find(|(name, ..)| name == value);
                    package = Some(found.ok_or_else(|| format!("there is no package {value}"))?);
                }
                "--test" | "--bench" | "--bin" | "--example" if !value.contains('*') => {
                    let of = |(_, _, targets): &(_, _, Vec<String>)| targets.iter().any(|target| target == value);
                    match package {
                        Some(package) if of(package) => {}
                        None if self.packages.iter().any(of) => {}
                        _ => return Err(format!("there is no {} {value}", &flag[2..])),
                    }
                }
                "--manifest-path" if !folder.join(value).is_file() => return Err(format!("there is no {value}")),
                _ => {}
            }
        }
        match words.get(1).map(String::as_str) {
            Some("run") if package.is_none() && !words.iter().any(|word| word == "--example") => {
                parsed(&[&["nunatak".to_string()], behind].concat(), false)
            }
            Some("test") => self.check_filters(words, behind, package),
            Some(_) => Ok(()),
            None => Err("does nothing".into()),
        }
    }

    /// Whether the tests that are selected by name are there.
    fn check_filters(&self, words: &[String], behind: &[String], package: Option<&(String, PathBuf, Vec<String>)>) -> Result<(), String> {
        let takes_value = ["-p", "--package", "--test", "--features", "--target", "--manifest-path"];
        let own = words[2..]
            .iter()
            .enumerate()
            .filter(|(i, word)| !word.starts_with('-') && !word.starts_with('+') && !takes_value.contains(&words[i + 1].as_str()));
        let skipped = |at: usize| at > 0 && behind[at - 1] == "--skip";
        let own = own.map(|(_, word)| word);
        let behind = behind.iter().enumerate().filter(|(i, word)| !word.starts_with('-') && !skipped(*i)).map(|(_, word)| word);
        for filter in own.chain(behind) {
            let folders: Vec<&Path> = match package {
                Some((_, folder, _)) => vec![folder],
                None => self.packages.iter().map(|(_, folder, _)| folder.as_path()).collect(),
            };
            let (name, module) = (filter.trim_end_matches("::"), filter.ends_with("::"));
            if !folders.iter().any(|folder| has_test(folder, name, module)) {
                return Err(format!("no test is called {filter}"));
            }
        }
        Ok(())
    }
}

/// Whether a folder's Rust files have a test whose path has this part: of a module's name, where `module`, its end.
fn has_test(folder: &Path, name: &str, module: bool) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|path| {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let named = if module { stem.ends_with(name) } else { stem.contains(name) };
        if path.is_dir() {
            return stem != "target" && (named || has_test(&path, name, module));
        }
        let function =
            |line: &str| line.trim_start().strip_prefix("fn ").is_some_and(|rest| rest.split('(').next().unwrap_or(rest).contains(name));
        path.extension().is_some_and(|end| end == "rs")
            && (named || !module && std::fs::read_to_string(&path).is_ok_and(|text| text.lines().any(function)))
    })
}

/// What is wrong with a command of the program. A span of code may leave out what is required.
fn parsed(words: &[String], may_lack: bool) -> Result<(), String> {
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(e) => match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
            ErrorKind::MissingRequiredArgument if may_lack => Ok(()),
            _ => Err(e.to_string().lines().next().unwrap_or("refused").to_string()),
        },
    }
}

/// What is wrong with a command that is given in `folder`.
fn checked(words: &[String], folder: &Path, built: &Built, may_lack: bool) -> Result<(), String> {
    match words[0].as_str() {
        "nunatak" => parsed(words, may_lack),
        "cargo" | "xcargo" => built.check(words, folder),
        program if OTHERS.contains(&program) || program.starts_with("./") => files(&words[1..], folder),
        program if program.contains('/') => files(words, folder),
        program => Err(format!("{program} is no program that is known here")),
    }
}

/// Whether a word names a place of the repository: what it begins with is there.
fn is_place(word: &str, folder: &Path) -> bool {
    let first = word.split('/').next().unwrap_or_default();
    word.contains('/') && !first.is_empty() && ![".", "..", "target"].contains(&first) && folder.join(first).exists()
}

/// Whether files that are named exist, and scripts know the options that are given to them.
fn files(words: &[String], folder: &Path) -> Result<(), String> {
    let mut script = None;
    for word in words {
        if is_place(word, folder) {
            let path = folder.join(word);
            if !path.exists() {
                return Err(format!("there is no {word}"));
            }
            if path.extension().is_some_and(|end| end == "py" || end == "sh") {
                script = Some(std::fs::read_to_string(&path).map_err(|e| format!("{word}: {e}"))?);
            }
        } else if let (Some(text), Some(option)) = (&script, word.strip_prefix("--"))
            && !text.contains(&format!("\"--{option}\""))
        {
            return Err(format!("the script has no option {word}"));
        }
    }
    Ok(())
}

#[test]
fn every_command_is_one() {
    let built = Built::new();
    let (mut faults, mut of_nunatak, mut all) = (Vec::new(), 0, 0);
    for document in documents().iter().filter(|document| document.name != "CHANGELOG.md") {
        for block in document.blocks().iter().filter(|block| block.language == "sh") {
            let mut folder = root();
            for words in shell::commands(&block.text) {
                all += 1;
                of_nunatak += usize::from(words[0] == "nunatak");
                if words[0] == "cd" {
                    folder = root().join(words.get(1).map_or("", String::as_str));
                    if !folder.is_dir() {
                        faults.push(format!("{}:{}: {}: no such folder", document.name, block.line, words.join(" ")));
                    }
                } else if let Err(why) = checked(&words, &folder, &built, false) {
                    faults.push(format!("{}:{}: {}: {why}", document.name, block.line, words.join(" ")));
                }
            }
        }
    }
    none("commands that would fail", &faults);
    assert!(of_nunatak >= 20 && all >= 60, "{of_nunatak} commands of nunatak, {all} in all");
}

#[test]
fn every_command_in_a_sentence_is_one() {
    let built = Built::new();
    let (mut faults, mut seen) = (Vec::new(), 0);
    for (document, line, span) in spans() {
        let begins = ["nunatak ", "cargo ", "tests/", "capi/tests/", "bench/", "python3 "].iter().any(|begin| span.starts_with(begin));
        // COMMAND and … stand for many; what has no blank is a file, which another test looks for.
        if !begins || !span.contains(' ') || span.contains("COMMAND") || span.contains('…') || span.contains('<') {
            continue;
        }
        let mut folder = root();
        for words in shell::commands(&span) {
            seen += 1;
            if words[0] == "cd" {
                folder = root().join(&words[1]);
            } else if let Err(why) = checked(&words, &folder, &built, true) {
                faults.push(format!("{document}:{line}: {span}: {why}"));
            }
        }
    }
    none("commands that would fail", &faults);
    assert!(seen >= 40, "{seen} commands");
}

/// Document, line, and text of every span of code on the pages; of the tables of what others call things, our column.
fn spans() -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for page in pages() {
        for (line, text) in page.prose() {
            let ours = if page.name == "docs/coming-from.md" && text.starts_with('|') { our_columns(text) } else { text.to_string() };
            found.extend(without_code(&ours).1.into_iter().map(|span| (page.name.clone(), line, span)));
        }
    }
    found
}

/// A table's row without its first column.
fn our_columns(row: &str) -> String {
    row.trim_start_matches('|').split_once(" | ").map(|(_, rest)| rest.to_string()).unwrap_or_default()
}

#[test]
fn every_option_in_a_sentence_is_one() {
    let program = Cli::command();
    let mut known: Vec<String> = program.get_arguments().filter_map(|argument| argument.get_long().map(str::to_string)).collect();
    for command in program.get_subcommands() {
        known.extend(command.get_arguments().flat_map(|argument| {
            let aliases = argument.get_visible_aliases().unwrap_or_default();
            argument.get_long().into_iter().chain(aliases).map(str::to_string).collect::<Vec<_>>()
        }));
    }
    // Options of the scripts that the pages speak of.
    let scripts: String = ["run.py", "plot.py", "memory.py"].map(|name| Document::read(&format!("bench/peers/{name}")).text).concat();
    let (mut faults, mut seen) = (Vec::new(), 0);
    for (document, line, span) in spans() {
        if !span.starts_with("--") {
            continue;
        }
        for option in span.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            seen += 1;
            let option = option.split('=').next().unwrap_or_default();
            if !known.iter().any(|name| name == option) && !scripts.contains(&format!("\"--{option}\"")) {
                faults.push(format!("{document}:{line}: no command has --{option}"));
            }
        }
    }
    none("options that are not there", &faults);
    assert!(seen >= 80, "{seen} options");
}

#[test]
fn wrong_commands_are_found() {
    let built = Built::new();
    let wrong = [
        "nunatak finetune flowers --wieghts x.pth",
        "nunatak evaluate x.pth",
        "nunatak plan --memory huge",
        "cargo test -p nunatak-no",
        "cargo test -p nunatak-nn --test no",
        "cargo test -p nunatak-tests --test suite no_such_module::",
        "cargo run --release -- dema",
        "tests/no.sh",
        "python3 bench/peers/run.py --no",
        "cc -I capi/include capi/examples/no.c",
        "sl",
    ];
    for text in wrong {
        let words = shell::commands(text).remove(0);
        assert!(checked(&words, &root(), &built, false).is_err(), "{text}");
    }
}

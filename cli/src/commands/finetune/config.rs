//! `--config FILE`: options from a file in TOML; and `FILE.toml`, in which every run leaves its own.
//!
//! A key is an option without its dashes (`weight-decay`, or `weight_decay`); `dir` is the folder of images. Flags are
//! true or false, lists have commas on the command line.

use super::Args;
use super::log::short_json;
use super::recipe::Recipe;
use super::run::memory_name;
use super::settings::Settings;
use crate::args::distance;
use crate::failure::Failure;
use crate::model::read_at_most;
use crate::program::Cli;
use clap::CommandFactory;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The largest file of options, in bytes.
const MOST: u64 = 1 << 20;

/// The words of a command line, with the options of its `--config FILE` before its own, so that its own win.
///
/// # Errors
/// [`Failure`] that names the file and what in it is no option.
pub fn expand(mut words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(path) = named(&words) else { return Ok(words) };
    let bytes = read_at_most(&path, MOST)?;
    let wrong = |why: &dyn std::fmt::Display| Failure::usage(format_args!("--config {}: {why}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|e| wrong(&e))?;
    let command = words.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    let options = options(text, command).map_err(|why| wrong(&why))?;
    words.splice(2..2, options);
    Ok(words)
}

/// The options of a command that a text in TOML has, in the order of their names.
///
/// # Errors
/// What in it is no option.
pub fn options(text: &str, command: &str) -> Result<Vec<OsString>, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_string())?;
    let known = known(command);
    table.iter().filter_map(|(key, value)| option(key, value, &known).transpose()).collect()
}

/// What `--config` of `nunatak finetune` or `lr-find` names.
pub fn named(words: &[OsString]) -> Option<PathBuf> {
    if words.get(1).is_none_or(|command| command != "finetune" && command != "lr-find") {
        return None;
    }
    let words = || words.iter().skip(2).take_while(|word| *word != "--");
    let apart = words().zip(words().skip(1)).filter(|(word, _)| *word == "--config").map(|(_, file)| PathBuf::from(file)).last();
    let joined = || words().filter_map(|word| word.to_str()?.strip_prefix("--config=")).map(PathBuf::from).last();
    apart.or_else(joined)
}

/// The options of a command.
fn known(command: &str) -> Vec<String> {
    let program = Cli::command();
    let command = program.find_subcommand(command);
    command.into_iter().flat_map(clap::Command::get_arguments).filter_map(|option| option.get_long().map(String::from)).collect()
}

/// A line of the file as an option of the command line, which has those that are `known`.
fn option(key: &str, value: &Value, known: &[String]) -> Result<Option<OsString>, String> {
    let name = match key.replace('_', "-") {
        name if name == "dir" => "data".into(),
        name if name == "config" => return Err("a file of options can't name another (config)".into()),
        name => name,
    };
    if !known.contains(&name) {
        let nearest = known.iter().min_by_key(|known| distance(&name, known)).map_or("", String::as_str);
        return Err(format!("{key}: there is no option --{name}; the nearest name is {nearest}"));
    }
    let text = match value {
        Value::Boolean(given) => return Ok(given.then(|| format!("--{name}").into())),
        Value::Array(list) => list.iter().map(plain).collect::<Option<Vec<_>>>().map(|list| list.join(",")),
        value => plain(value),
    };
    let text = text.ok_or_else(|| format!("{key} is no text, number, truth value or list of these"))?;
    Ok(Some(format!("--{name}={text}").into()))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The options of a run, for [`expand`]: the same folder and weights with them give the same result.
pub(super) fn text(args: &Args, settings: &Settings) -> String {
    let mut table = Table::new();
    let mut put = |key: &str, value: Option<Value>| value.into_iter().for_each(|value| drop(table.insert(key.into(), value)));
    let path = |path: &OsStr| path.to_str().map(Value::from);
    put("dir", path(args.folder().as_os_str()));
    // A name means the same on every machine.
    let named = args.published.clone().map(Value::from);
    put("weights", named.or_else(|| args.weights.as_deref().map(Path::as_os_str).and_then(path)));
    put("arch", args.reading.arch.clone().map(Value::from));
    put("stem", args.reading.stem.clone().map(Value::from));
    put("key", args.key.clone().map(Value::from));
    put("classes", args.classes.as_deref().map(Path::as_os_str).and_then(path));
    let flags = [
        ("keep-head", args.keep_head),
        ("new-head", args.new_head),
        ("in-place", args.in_place),
        ("delta", args.delta),
        ("allow-other-bits", args.max_mem.allow_other_bits),
        ("no-augment", settings.recipe == Recipe::Auto && !settings.augment),
    ];
    for (key, flag) in flags {
        put(key, flag.then_some(Value::Boolean(true)));
    }
    if args.int8.frozen.is_some() {
        put("frozen", Some(Value::from("int8")));
        put("calibrate", args.int8.calibrate.as_deref().map(Path::as_os_str).and_then(path));
        put("calibrate-images", Some(Value::from(i64::from(args.int8.calibrate_images))));
    }
    // What decides how numbers are rounded.
    put("memory", Some(Value::from(memory_name(args.memory))));
    put("max-mem", args.max_mem.max_mem.map(|bytes| Value::from(bytes.to_string())));
    put("level", args.compute.level.clone().map(Value::from));
    if let serde_json::Value::Object(settings) = short_json(settings) {
        settings.iter().for_each(|(key, value)| put(&key.replace('_', "-"), of_json(value)));
    }
    format!("# The options of a run: nunatak finetune --config THIS_FILE --out ANOTHER_NAME\n{table}")
}

fn of_json(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Bool(flag) => Some(Value::Boolean(*flag)),
        serde_json::Value::String(text) => Some(Value::String(text.clone())),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(Value::Integer(whole)),
            // Larger ones are written as text, which is read as a number all the same.
            None if number.is_u64() => Some(Value::String(number.to_string())),
            None => number.as_f64().map(Value::Float),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_file_come_before_those_of_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let line = words(&["nunatak", "finetune", "x", "--config", file.to_str().unwrap(), "--lr", "1"]);
        std::fs::write(&file, "dir = 'd'\nlr = 0.02\nweight_decay = 1\ntrainable = ['fc', 'layer4']\naugment = true\nnesterov = false\n")
            .unwrap();
        let expanded = expand(line.clone()).unwrap();
        // In the order of their names.
        assert_eq!(expanded[2..7], words(&["--augment", "--data=d", "--lr=0.02", "--trainable=fc,layer4", "--weight-decay=1"]));
        assert_eq!(expanded[7..], line[2..]);
        for bad in ["lr", "lr = {a = 1}", "config = 'x'", "lr = [[1]]", "\u{0}"] {
            std::fs::write(&file, bad).unwrap();
            assert!(matches!(expand(line.clone()), Err(Failure::Usage(text)) if text.contains("c.toml")), "{bad}");
        }
        assert_eq!(expand(words(&["nunatak", "plan", "--config", "x"])).unwrap().len(), 4);
        assert!(expand(words(&["nunatak", "finetune", "--config=nothing.toml"])).is_err());
        for (key, nearest) in [("weight_decoy", "weight-decay"), ("epoch", "epochs"), ("learn-rate", "")] {
            std::fs::write(&file, format!("{key} = 1")).unwrap();
            assert!(
                matches!(expand(line.clone()), Err(Failure::Usage(text)) if text.contains(&format!("nearest name is {nearest}"))),
                "{key}"
            );
        }
    }
}

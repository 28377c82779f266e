//! What documents show of the program's output is what it prints, and the commands of the first pages work one after the
//! other: on images that are drawn here, with weights that an export writes, so that nothing is downloaded.

use crate::markdown::Document;
use crate::{none, pages, shell};
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in a folder.
fn nunatak(folder: &Path, words: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nunatak")).args(words).current_dir(folder).output().expect("the program runs")
}

/// Whether lines are as they are shown; a line … stands for any others.
fn shown(shown: &[&str], printed: &[&str]) -> Result<(), String> {
    let Some(first) = shown.first() else {
        return if printed.is_empty() { Ok(()) } else { Err(format!("prints {:?} at the end", printed[0])) };
    };
    if first.trim() == "…" {
        let rest = &shown[1..];
        return (0..=printed.len())
            .find_map(|skip| self::shown(rest, &printed[skip..]).ok())
            .ok_or_else(|| format!("nothing that follows … is printed as {:?} and what is below", rest.first().unwrap_or(&"the end")));
    }
    match printed.first() {
        Some(line) if line.trim_end() == first.trim_end() => self::shown(&shown[1..], &printed[1..]),
        line => Err(format!("{first:?} is shown, {:?} printed", line.unwrap_or(&"nothing"))),
    }
}

#[test]
fn outputs_are_compared() {
    assert!(shown(&["a", "…", "c"], &["a", "b", "b", "c"]).is_ok());
    assert!(shown(&["a", "…", "c"], &["a", "b"]).is_err());
    assert!(shown(&["a"], &["a", "b"]).is_err());
    assert!(shown(&["a", "b"], &["a"]).is_err());
}

/// Every block that shows one command of the program and what it prints.
#[test]
fn outputs_are_what_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    (0..4).for_each(|i| draw(&folder.path().join(format!("pictures/{i}.ppm")), [90, 60, 120], i));
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for block in page.blocks() {
            let mut lines = block.text.lines();
            let Some(command) = lines.next().and_then(|line| line.strip_prefix("$ ")) else { continue };
            let commands = shell::commands(command);
            let [words] = &commands[..] else { continue }; // needs PyTorch
            if words[0] != "nunatak" {
                continue; // the demo, whose numbers are of one machine
            }
            seen += 1;
            let out = nunatak(folder.path(), &words[1..]);
            let printed = String::from_utf8(out.stdout).expect("text");
            let why = match out.status.success() {
                true => shown(&lines.collect::<Vec<_>>(), &printed.lines().collect::<Vec<_>>()).err(),
                false => Some(String::from_utf8_lossy(&out.stderr).into_owned()),
            };
            faults.extend(why.map(|why| format!("{}:{}: {command}\n    {why}", page.name, block.line)));
        }
    }
    none("outputs that differ: where that is meant, show what is printed now", &faults);
    assert!(seen >= 5, "{seen} outputs");
}

/// A picture in one colour, with noise: PPM, which is known by its first bytes whatever a file is called.
fn draw(path: &Path, colour: [u8; 3], number: usize) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let noise = |i: usize| ((i * 7919 + number * 104_729) % 31) as u8;
    let pixels = (0..32 * 32 * 3).map(|i| colour[i % 3].saturating_add(noise(i)));
    std::fs::write(path, b"P6 32 32 255\n".iter().copied().chain(pixels).collect::<Vec<u8>>()).expect("a picture");
}

/// A folder in which the pages' commands can be run: `flowers`, `photo.jpg`, and weights under torchvision's name, those
/// of a smaller network.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (class, colour) in [("daisy", [220, 200, 30]), ("rose", [190, 20, 60])] {
        (0..3).for_each(|i| draw(&at(&format!("flowers/train/{class}/{i}.ppm")), colour, i));
        draw(&at(&format!("flowers/val/{class}/0.ppm")), colour, 9);
    }
    draw(&at("photo.jpg"), [190, 20, 60], 10);
    let export = "export --arch resnet8 --classes 1000 --target a64 --batch 1 --raw --region ram=8M --name r --out r";
    for words in [export, "convert r/r_weights.bin resnet18-f37072fd.pth"] {
        let out = nunatak(folder.path(), &shell::commands(words)[0]);
        assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
    }
    folder
}

/// Runs the commands of a page's blocks that are the program's, in their order.
fn run(page: &str, least: usize) {
    let folder = place();
    let mut ran = 0;
    for block in Document::read(page).blocks().iter().filter(|block| block.language == "sh") {
        for words in shell::commands(&block.text).iter().filter(|words| words[0] == "nunatak") {
            ran += 1;
            // What would be downloaded lies there.
            let local = |word: &String| if word == "imagenet" { "resnet18-f37072fd.pth".to_string() } else { word.clone() };
            let out = nunatak(folder.path(), &words[1..].iter().map(local).collect::<Vec<_>>());
            assert!(out.status.success(), "{page}:{}: {}:\n{}", block.line, words.join(" "), String::from_utf8_lossy(&out.stderr));
        }
    }
    assert!(ran >= least, "{page}: {ran} commands of nunatak");
}

#[test]
fn the_front_pages_commands_work() {
    run("README.md", 4);
}

#[test]
fn the_commands_of_files_work() {
    run("docs/files.md", 9);
}

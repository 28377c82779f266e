//! C programs, built with every warning as an error, as C11 and as C++17, linked with both libraries,
//! run as they are, under AddressSanitizer and under valgrind.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How a program is linked.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Library {
    Static,
    Shared,
}

/// What watches it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Under {
    Nothing,
    AddressSanitizer,
    Valgrind,
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo has put the libraries.
fn libraries() -> PathBuf {
    let own = std::env::current_exe().expect("this test's place");
    let deps = own.parent().expect("a folder");
    let found = [deps, deps.parent().expect("a folder")].into_iter().find(|d| d.join("libnunatak.a").exists());
    found.unwrap_or_else(|| panic!("no libnunatak.a in {} or above", deps.display())).to_path_buf()
}

/// The name by which programs ask the loader for the shared library.
fn soname() -> String {
    match (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR")) {
        ("0", minor) => format!("libnunatak.so.0.{minor}"),
        (major, _) => format!("libnunatak.so.{major}"),
    }
}

fn functions() -> Vec<String> {
    let header = std::fs::read_to_string(here().join("include/nunatak.h")).expect("the header");
    let code = header.lines().filter(|line| !line.trim_start().starts_with("//") && !line.starts_with(' '));
    let names = code.filter_map(|line| line.split_once('(')).filter_map(|(before, _)| before.split([' ', '*']).next_back());
    let names: Vec<_> = names.filter(|name| name.starts_with("nunatak_")).map(str::to_string).collect();
    assert!(names.len() > 40, "{names:?}");
    names
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Builds a program in a folder of its own; the path of what was built.
fn build(source: &str, compiler: &[&str], library: Library, under: Under, folder: &Path) -> PathBuf {
    let libraries = libraries();
    let out = folder.join("program");
    let mut command = Command::new(self::compiler(compiler[0]));
    command.args(&compiler[1..]).args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"]);
    // Code that is valid in C and C++ alike; clang has no such warning.
    if compiler[0] == "cc" && !version(compiler[0]).contains("clang") {
        command.arg("-Wc++-compat");
    }
    if under == Under::AddressSanitizer {
        command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
    command.arg("-I").arg(here().join("include")).arg(here().join(source)).arg("-o").arg(&out);
    if source.ends_with("no_malloc.c") || source.ends_with("refused.c") {
        command.arg("-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=aligned_alloc,--wrap=free");
    }
    // A C++ compiler takes what follows -x for sources; libraries are none.
    command.args(["-x", "none"]);
    match library {
        Library::Static => command.arg(libraries.join("libnunatak.a")).args(["-lpthread", "-ldl", "-lm"]),
        Library::Shared => {
            // The loader asks for the name with the version, which an installation makes a link of.
            let _ = std::os::unix::fs::symlink(libraries.join("libnunatak.so"), folder.join(soname()));
            let path = format!("-Wl,-rpath,{}", folder.display());
            command.arg("-L").arg(&libraries).args(["-Wl,-Bdynamic", "-l:libnunatak.so", "-lm"]).arg(path)
        }
    };
    let result = command.output().unwrap_or_else(|e| panic!("{compiler:?} can't be run ({e}); a C compiler is needed"));
    assert!(result.status.success(), "{source} {compiler:?} {library:?}:\n{}", String::from_utf8_lossy(&result.stderr));
    out
}

fn run(source: &str, compiler: &[&str], library: Library, under: Under, args: &[&str]) {
    if lacks(under, source) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(source, compiler, library, under, folder.path());
    execute(&program, under, args, &format!("{source} {compiler:?} {library:?} {under:?}"));
}

/// Says so where it can't be done.
fn lacks(under: Under, source: &str) -> bool {
    let lacking = under == Under::Valgrind && !has("valgrind");
    if lacking {
        eprintln!("SKIPPED: {source} under valgrind, which is not installed");
    }
    lacking
}

/// Runs a program in its own folder; it must end well.
fn execute(program: &Path, under: Under, args: &[&str], what: &str) {
    let mut command = match under {
        Under::Valgrind => {
            let mut command = Command::new("valgrind");
            command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
            command.arg(format!("--suppressions={}", here().join("valgrind/nunatak.supp").display())).arg(program);
            command
        }
        _ => Command::new(program),
    };
    let folder = program.parent().expect("a folder");
    let result = command.args(args).current_dir(folder).env("ASAN_OPTIONS", "detect_leaks=1").output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!("{what}\n{}", text(&result.stdout));
    assert!(result.status.success(), "{what}: {}\n{}\n{}", result.status, text(&result.stdout), text(&result.stderr));
}

const C: [&str; 2] = ["cc", "-std=c11"];
const CPP: [&str; 4] = ["c++", "-std=c++17", "-x", "c++"];

/// `CC` and `CXX`, where they are set.
fn compiler(name: &str) -> String {
    std::env::var(if name == "cc" { "CC" } else { "CXX" }).unwrap_or_else(|_| name.to_string())
}

/// What a compiler says it is.
fn version(name: &str) -> String {
    let out = Command::new(compiler(name)).arg("--version").output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}

fn plain(source: &str, args: &[&str]) {
    let cpp = has(&compiler(CPP[0]));
    if !cpp {
        eprintln!("SKIPPED: {source} as C++17: no {}", compiler(CPP[0]));
    }
    for library in [Library::Static, Library::Shared] {
        run(source, &C, library, Under::Nothing, args);
        if cpp {
            run(source, &CPP, library, Under::Nothing, args);
        }
    }
}

/// Valgrind takes a minute: the shared library, whose code is the same, has its turn with one program.
fn linked(under: Under, source: &str) -> &'static [Library] {
    let one = under == Under::Valgrind && source != "tests/c/program.c";
    if one { &[Library::Static] } else { &[Library::Static, Library::Shared] }
}

fn watched(source: &str, under: Under, args: &[&str]) {
    linked(under, source).iter().for_each(|&library| run(source, &C, library, under, args));
}

#[test]
fn tutorial() {
    plain("examples/tutorial.c", &[]);
}

#[test]
fn tutorial_under_address_sanitizer() {
    watched("examples/tutorial.c", Under::AddressSanitizer, &[]);
}

#[test]
#[ignore = "takes a minute; tests/check.sh runs it"]
fn tutorial_under_valgrind() {
    watched("examples/tutorial.c", Under::Valgrind, &[]);
}

#[test]
fn finetune() {
    plain("examples/finetune.c", &["backbone.nunatak"]);
}

#[test]
fn finetune_under_address_sanitizer() {
    watched("examples/finetune.c", Under::AddressSanitizer, &["backbone.nunatak"]);
}

/// Of smaller images, which take a quarter of the time, over a backbone that was made before: drawing and
/// writing one are watched in the hostile calls.
#[test]
#[ignore = "takes a minute; tests/check.sh runs it"]
fn finetune_under_valgrind() {
    let (source, args) = ("examples/finetune.c", ["backbone.nunatak"]);
    if lacks(Under::Valgrind, source) {
        return;
    }
    for &library in linked(Under::Valgrind, source) {
        let folder = tempfile::tempdir().expect("a folder");
        let program = build(source, &[C[0], C[1], "-DSIZE=32"], library, Under::Valgrind, folder.path());
        for under in [Under::Nothing, Under::Valgrind] {
            execute(&program, under, &args, &format!("{source} {library:?} {under:?}"));
        }
    }
}

#[test]
fn features_in_flash() {
    plain("examples/features.c", &[]);
}

#[test]
fn features_in_flash_under_address_sanitizer() {
    watched("examples/features.c", Under::AddressSanitizer, &[]);
}

/// The firmware's programs are planned, become C arrays, and run, on a desktop in place of a board: the network
/// learns to tell new images apart, or the firmware ends badly.
#[test]
fn firmware_on_a_desktop() {
    let folder = tempfile::tempdir().expect("a folder");
    let planner = build("examples/firmware_plan.c", &C, Library::Static, Under::Nothing, folder.path());
    let planned = Command::new(planner).output().expect("it runs");
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    std::fs::write(folder.path().join("firmware_programs.h"), &planned.stdout).expect("written");
    let (board, programs) = (here().join("tests/c/firmware_desktop.c"), format!("-I{}", folder.path().display()));
    let flags = [C[0], C[1], "-Dnunatak_on_panic=board_on_panic", &programs, board.to_str().expect("a path")];
    for under in [Under::Nothing, Under::AddressSanitizer] {
        let firmware = build("examples/firmware.c", &flags, Library::Static, under, folder.path());
        execute(&firmware, under, &[], &format!("firmware.c {under:?}"));
    }
}

/// The header's functions are handed to the program, so that one without a case fails.
#[test]
fn every_function_withstands_hostile_calls() {
    let functions = functions();
    let names: Vec<_> = functions.iter().map(String::as_str).collect();
    plain("tests/c/hostile.c", &names);
}

/// What the header says before each function.
fn comments() -> std::collections::BTreeMap<String, String> {
    let header = std::fs::read_to_string(here().join("include/nunatak.h")).expect("the header");
    let (mut comments, mut comment) = (std::collections::BTreeMap::new(), String::new());
    for line in header.lines() {
        match line.strip_prefix("//") {
            Some(text) => comment += text,
            None => {
                let name = line.split_once('(').and_then(|(before, _)| before.split([' ', '*']).next_back());
                if let Some(name) = name.filter(|name| name.starts_with("nunatak_") && !line.starts_with(' ')) {
                    comments.insert(name.to_string(), std::mem::take(&mut comment));
                }
                comment.clear();
            }
        }
    }
    comments
}

/// Every status that a hostile call got is named at its function, at one that its comment refers to, or among those
/// that come from every call.
#[test]
fn every_status_is_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build("tests/c/hostile.c", &C, Library::Static, Under::Nothing, folder.path());
    let seen = folder.path().join("statuses");
    let out = Command::new(program).current_dir(folder.path()).env("NUNATAK_STATUSES", &seen).output().expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let anywhere = ["OK", "NULL_POINTER", "MISALIGNED", "OVERLAP", "BAD_HANDLE", "BUSY", "PANICKED", "WRONG_LENGTH", "BAD_TEXT"];
    let comments = comments();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).map(str::to_string).collect()
    };
    let (mut lacking, mut count) = (std::collections::BTreeSet::new(), 0);
    for line in std::fs::read_to_string(seen).expect("statuses").lines() {
        let (status, call) = line.split_once(' ').expect("a status and a call");
        let Some(function) = words(call).into_iter().find(|word| comments.contains_key(word)) else { continue };
        count += 1;
        // Comments refer to each other: "as for …", "errors of …".
        let (mut due, mut at) = (vec![function.clone()], 0);
        while at < due.len() {
            let more = words(&comments[&due[at]]).into_iter().filter(|word| comments.contains_key(word));
            let more: Vec<_> = more.filter(|word| !due.contains(word)).collect();
            due.extend(more.into_iter().filter(|_| at < 8));
            at += 1;
        }
        let named = due.iter().any(|name| words(&comments[name]).iter().any(|word| word == status));
        if !named && !anywhere.iter().any(|name| status == format!("NUNATAK_{name}")) {
            lacking.insert(format!("{function}: {status}"));
        }
    }
    assert!(count > 1000, "{count} calls");
    assert!(lacking.is_empty(), "not in the header: {lacking:#?}");
}

#[test]
fn hostile_calls_under_address_sanitizer() {
    watched("tests/c/hostile.c", Under::AddressSanitizer, &[]);
}

#[test]
#[ignore = "takes a minute; tests/check.sh runs it"]
fn hostile_calls_under_valgrind() {
    watched("tests/c/hostile.c", Under::Valgrind, &[]);
}

#[test]
fn programs_run_and_damaged_ones_are_refused() {
    plain("tests/c/program.c", &[]);
}

#[test]
fn programs_under_address_sanitizer() {
    watched("tests/c/program.c", Under::AddressSanitizer, &[]);
}

#[test]
#[ignore = "takes a minute; tests/check.sh runs it"]
fn programs_under_valgrind() {
    watched("tests/c/program.c", Under::Valgrind, &["131"]);
}

/// Only the static library's calls can be counted by the linker.
#[test]
fn nothing_is_allocated() {
    run("tests/c/no_malloc.c", &["cc", "-std=gnu11"], Library::Static, Under::Nothing, &[]);
}

/// The n-th allocation is refused, for every n.
#[test]
fn refused_allocations_are_a_status() {
    let pth = here().join("../tests/golden/checkpoint");
    let mut files: Vec<_> = std::fs::read_dir(pth).map(|all| all.map(|e| e.expect("a file").path()).collect()).unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|e| e == "pth" || e == "safetensors"));
    let files: Vec<_> = files.iter().map(|path| path.to_str().expect("a path")).collect();
    run("tests/c/refused.c", &["cc", "-std=gnu11"], Library::Static, Under::Nothing, &files);
}

/// Programs of older and newer headers.
#[test]
fn structs_of_other_versions() {
    plain("tests/c/versions.c", &[]);
}

#[test]
fn structs_of_other_versions_under_address_sanitizer() {
    watched("tests/c/versions.c", Under::AddressSanitizer, &[]);
}

#[test]
fn threads_forks_and_callbacks_that_never_return() {
    plain("tests/c/processes.c", &[]);
}

#[test]
fn every_call_on_a_small_stack() {
    plain("tests/c/small_stack.c", &[]);
}

#[test]
fn the_cpp_wrapper() {
    let compiler = [CPP[0], CPP[1]];
    if !has(&self::compiler(CPP[0])) {
        return eprintln!("SKIPPED: nunatak.hpp: no {}", self::compiler(CPP[0]));
    }
    for library in [Library::Static, Library::Shared] {
        run("tests/c/wrapper.cpp", &compiler, library, Under::Nothing, &[]);
    }
    run("tests/c/wrapper.cpp", &compiler, Library::Static, Under::AddressSanitizer, &[]);
}

/// The header's functions, and nothing else, are what the shared library offers.
#[test]
fn the_shared_library_exports_the_header() {
    let out = Command::new("nm").args(["-D", "--defined-only"]).arg(libraries().join("libnunatak.so")).output().expect("nm");
    let text = String::from_utf8(out.stdout).expect("text");
    let mut exported: Vec<_> = text.lines().filter_map(|line| line.split(' ').next_back()).map(str::to_string).collect();
    let mut due = functions();
    exported.sort();
    due.sort();
    assert_eq!(exported, due);
    // And the loader knows it by its version.
    let out = Command::new("readelf").arg("-d").arg(libraries().join("libnunatak.so")).output().expect("readelf");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains(&format!("[{}]", soname())), "{text}");
}

/// Another Rust library, with its own copy of the standard library, in the same C program.
#[test]
fn two_rust_libraries_in_one_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    let other = folder.path().join("libother.a");
    let out = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=staticlib", "-Copt-level=1", "-Cpanic=unwind"])
        .arg(here().join("tests/c/other.rs"))
        .arg("-o")
        .arg(&other)
        .output();
    let out = out.expect("rustc");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for order in [true, false] {
        let program = folder.path().join("two");
        let mut command = Command::new(compiler("cc"));
        command.args(["-std=c11", "-Wall", "-Werror", "-I"]).arg(here().join("include")).arg(here().join("tests/c/two.c"));
        let mut both = [libraries().join("libnunatak.a"), other.clone()];
        if order {
            both.reverse();
        }
        let out = command.args(both).args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&program).output().expect("a compiler");
        assert!(out.status.success(), "other first: {order}\n{}", String::from_utf8_lossy(&out.stderr));
        execute(&program, Under::Nothing, &[], "two Rust libraries");
    }
}

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
    if under == Under::AddressSanitizer {
        command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
    command.arg("-I").arg(here().join("include")).arg(here().join(source)).arg("-o").arg(&out);
    if source.ends_with("no_malloc.c") {
        command.arg("-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=aligned_alloc");
    }
    // A C++ compiler takes what follows -x for sources; libraries are none.
    command.args(["-x", "none"]);
    match library {
        Library::Static => command.arg(libraries.join("libnunatak.a")).args(["-lpthread", "-ldl", "-lm"]),
        Library::Shared => {
            let path = format!("-Wl,-rpath,{}", libraries.display());
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
            command.arg(format!("--suppressions={}", here().join("tests/valgrind.supp").display())).arg(program);
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

/// Valgrind takes a minute: the shared library, whose code is the same, has its turn in `tests/check.sh`.
fn linked(under: Under) -> &'static [Library] {
    let all = under != Under::Valgrind || std::env::var_os("NUNATAK_ALL_CHECKS").is_some();
    if all { &[Library::Static, Library::Shared] } else { &[Library::Static] }
}

fn watched(source: &str, under: Under, args: &[&str]) {
    linked(under).iter().for_each(|&library| run(source, &C, library, under, args));
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
fn finetune_under_valgrind() {
    let (source, args) = ("examples/finetune.c", ["backbone.nunatak"]);
    if lacks(Under::Valgrind, source) {
        return;
    }
    for &library in linked(Under::Valgrind) {
        let folder = tempfile::tempdir().expect("a folder");
        let program = build(source, &[C[0], C[1], "-DSIZE=32"], library, Under::Valgrind, folder.path());
        for under in [Under::Nothing, Under::Valgrind] {
            execute(&program, under, &args, &format!("{source} {library:?} {under:?}"));
        }
    }
}

/// The header's functions are handed to the program, so that one without a case fails.
#[test]
fn every_function_withstands_hostile_calls() {
    let functions = functions();
    let names: Vec<_> = functions.iter().map(String::as_str).collect();
    plain("tests/c/hostile.c", &names);
}

#[test]
fn hostile_calls_under_address_sanitizer() {
    watched("tests/c/hostile.c", Under::AddressSanitizer, &[]);
}

#[test]
fn hostile_calls_under_valgrind() {
    watched("tests/c/hostile.c", Under::Valgrind, &[]);
}

/// Only the static library's calls can be counted by the linker.
#[test]
fn nothing_is_allocated() {
    run("tests/c/no_malloc.c", &["cc", "-std=gnu11"], Library::Static, Under::Nothing, &[]);
}

/// The header's functions, and nothing else, are what the shared library offers.
#[test]
fn the_shared_library_exports_the_header() {
    let out = Command::new("nm").args(["-D", "--defined-only"]).arg(libraries().join("libnunatak.so")).output().expect("nm");
    let text = String::from_utf8(out.stdout).expect("text");
    let mut exported: Vec<_> = text.lines().filter_map(|line| line.split(' ').next_back()).map(str::to_string).collect();
    exported.retain(|name| !name.starts_with("rust_eh_personality"));
    let mut due = functions();
    exported.sort();
    due.sort();
    assert_eq!(exported, due);
}

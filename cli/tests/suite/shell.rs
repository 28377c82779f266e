//! What a shell and the manual know of the program.

use crate::running::Place;

/// Every command and its options are proposed.
#[test]
fn shells_propose_commands_and_options() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(&format!("completions {shell}")).out;
        for word in ["finetune", "lr-find", "export", "micro-batch", "label-smoothing"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    // A shell takes its script.
    let script = place.ok("completions bash").out;
    std::fs::write(place.path("script"), &script).unwrap();
    let bash = std::process::Command::new("bash").args(["-n", "script"]).current_dir(place.dir.path()).output();
    if let Ok(bash) = bash {
        assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
    }
    assert_eq!(place.run("completions tcsh").code, Some(2));
}

/// Notes and progress are left out; results and errors are not.
#[test]
fn quiet_runs_write_results_alone() {
    let place = Place::new();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1 --quiet"));
    assert!(run.err.is_empty() && run.out.contains("top-1"), "{} {}", run.out, run.err);
    let run = place.ok("-q evaluate m.safetensors data/val");
    assert!(run.err.is_empty() && run.out.contains("of 9)"), "{} {}", run.out, run.err);
    let run = place.run("predict nothing.safetensors data/val/red/0.png -q");
    assert!(run.code == Some(1) && run.err.starts_with("error: "), "{}", run.err);
}

/// A page for each command, which names all its options.
#[test]
fn every_command_has_a_page() {
    let place = Place::new();
    let written = place.ok("man pages/man1").out;
    assert_eq!(written.lines().count(), 17, "{written}");
    let page = |name: &str| String::from_utf8(place.bytes(&format!("pages/man1/{name}.1"))).unwrap();
    for (name, words) in [
        ("nunatak", ["finetune", "predict"]),
        ("nunatak-finetune", ["micro\\-batch", "class\\-weights"]),
        ("nunatak-lr-find", ["nunatak lr\\-find", "weights"]),
    ] {
        let page = page(name);
        assert!(page.contains(".TH"), "{name}");
        for word in words {
            assert!(page.contains(word), "{name}: {word}\n{page}");
        }
    }
}

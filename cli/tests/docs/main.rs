//! The repository's documents: links and images lead somewhere, commands are ones that the programs know, printed outputs
//! are what the program prints, and the front page stays short.

mod commands;
mod links;
mod markdown;
mod names;
mod outputs;
mod shell;

use markdown::{Document, documents, root};

/// The front page, and the pages that it leads to.
fn pages() -> Vec<Document> {
    let pages: Vec<_> =
        documents().into_iter().filter(|document| document.name == "README.md" || document.name.starts_with("docs/")).collect();
    assert!(pages.len() >= 10, "{} pages", pages.len());
    pages
}

/// Fails with everything that was found, not only the first.
fn none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn the_front_page_is_short() {
    let page = Document::read("README.md");
    let lines = page.text.lines().count();
    assert!(lines <= 170, "README.md has {lines} lines, 170 are allowed: move what is not for everybody to docs/");
    assert!(page.text.contains("docs/img/"), "README.md shows no picture");
}

#[test]
fn every_page_is_in_the_index() {
    let index = Document::read("docs/README.md");
    let faults: Vec<_> = pages()
        .iter()
        .filter_map(|page| page.name.strip_prefix("docs/").filter(|name| *name != "README.md"))
        .filter(|name| !index.text.contains(&format!("]({name})")))
        .map(str::to_string)
        .collect();
    none("docs/README.md does not lead to", &faults);
}

/// What is Rust in a document is compiled and run: the file is documentation of a crate.
#[test]
fn rust_in_documents_is_compiled() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for document in documents() {
        if !document.blocks().iter().any(|block| block.language.starts_with("rust")) {
            continue;
        }
        seen += 1;
        let folder = document.folder();
        let beside = folder.join("src/lib.rs");
        let libraries = [beside, root().join("bench/src/lib.rs")];
        let included = libraries.iter().filter_map(|path| Some((path, std::fs::read_to_string(path).ok()?))).any(|(path, text)| {
            let base = path.parent().expect("a folder");
            let parts = text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split_once('"'));
            parts.map(|(name, _)| base.join(name)).any(|path| path.canonicalize().ok() == document.path().canonicalize().ok())
        });
        if !included {
            faults.push(format!("{}: no library has it as documentation; bench/src/lib.rs has those of docs/", document.name));
        }
    }
    none("Rust that is not compiled", &faults);
    assert!(seen >= 5, "{seen} documents with Rust");
}

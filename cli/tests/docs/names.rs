//! Files and C's functions that documents name are there.

use crate::markdown::{documents, root, without_code};
use crate::{none, pages};
use std::path::Path;

/// Whether a span of code names a file of the repository, seen from one of `folders`.
fn is_file(span: &str, folders: &[&Path]) -> Option<bool> {
    let plain = !span.is_empty() && span.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c));
    let ending = Path::new(span).extension().and_then(|end| end.to_str()).unwrap_or_default();
    let first = span.split('/').next().unwrap_or_default();
    let ours = ["rs", "py", "sh", "h", "hpp", "c", "csv", "md", "mjs", "toml", "json"].contains(&ending) && span.contains('/');
    if !plain || !ours || first == "target" || !folders.iter().any(|folder| folder.join(first).exists()) {
        return None;
    }
    Some(folders.iter().any(|folder| folder.join(span).exists()))
}

#[test]
fn every_file_that_is_named_exists() {
    let (mut faults, mut seen) = (Vec::new(), 0);
    for document in documents().iter().filter(|document| document.name != "CHANGELOG.md") {
        let (here, top) = (document.folder(), root());
        for (line, text) in document.prose() {
            for span in without_code(text).1 {
                if let Some(exists) = is_file(&span, &[&here, &top]) {
                    seen += 1;
                    if !exists {
                        faults.push(format!("{}:{line}: there is no {span}", document.name));
                    }
                }
            }
        }
    }
    none("files that are not there", &faults);
    assert!(seen >= 100, "{seen} files");
}

#[test]
fn every_function_of_c_is_in_the_header() {
    let header = std::fs::read_to_string(root().join("capi/include/nunatak.h")).expect("the header");
    let declared = |name: &str| header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name);
    let crates = ["nunatak_core", "nunatak_kernels", "nunatak_nn", "nunatak_data", "nunatak_cli", "nunatak_wasm"];
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for (line, text) in page.prose() {
            for span in without_code(text).1 {
                let words = span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                for name in words.filter(|word| word.starts_with("nunatak_") && !crates.contains(word)) {
                    seen += 1;
                    if !declared(name) {
                        faults.push(format!("{}:{line}: nunatak.h has no {name}", page.name));
                    }
                }
            }
        }
    }
    none("functions that C has not", &faults);
    assert!(seen >= 15, "{seen} functions");
}

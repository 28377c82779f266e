//! Every link of every document leads to a file, and to a heading of it where it names one. Images exist, and are shown.

use crate::markdown::{Document, documents, root, targets};
use crate::none;
use std::collections::HashSet;
use std::path::PathBuf;

/// The repository's own pages, as crates link to them: their documentation lies elsewhere.
const OURS: &str = "https://github.com/nunatak-rs/nunatak/blob/main/";

/// What is wrong with a link, or the file that it leads to.
fn followed(document: &Document, target: &str) -> Result<Option<PathBuf>, String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let (path, file) = match path.strip_prefix(OURS) {
        Some(rest) => (rest, root().join(rest)),
        // Other people's pages, and items of a crate, which rustdoc checks.
        None if path.contains("://") || path.starts_with("mailto:") || path.contains('@') || path.contains("::") => return Ok(None),
        None if path.is_empty() => (path, document.path()),
        None => (path, document.folder().join(path)),
    };
    let file = file.canonicalize().map_err(|_| format!("there is no {path}"))?;
    if !file.starts_with(root().canonicalize().expect("the repository")) {
        return Err(format!("{path} lies outside of the repository"));
    }
    if anchor.is_empty() {
        return Ok(Some(file));
    }
    let name = file.strip_prefix(root().canonicalize().expect("the repository")).expect("below it").to_string_lossy().into_owned();
    if !name.ends_with(".md") {
        return Err(format!("{name} has no headings"));
    }
    let anchors = Document::read(&name).anchors();
    if anchors.iter().any(|known| known == anchor) {
        return Ok(Some(file));
    }
    Err(format!("{name} has no heading #{anchor}; it has {}", anchors.join(", ")))
}

#[test]
fn every_link_leads_somewhere() {
    let (mut faults, mut followed_links) = (Vec::new(), 0);
    for document in documents() {
        for (line, text) in document.prose() {
            for target in targets(text) {
                match followed(&document, &target) {
                    Ok(file) => followed_links += usize::from(file.is_some()),
                    Err(why) => faults.push(format!("{}:{line}: [{target}]: {why}", document.name)),
                }
            }
        }
    }
    none("links that lead nowhere", &faults);
    assert!(followed_links >= 60, "only {followed_links} links were followed");
}

#[test]
fn wrong_links_are_found() {
    let page = Document::read("docs/README.md");
    for (wrong, why) in
        [("no.md", "there is no no.md"), ("memory.md#no", "no heading #no"), ("../../x", "no ../../x"), ("#no", "no heading")]
    {
        let fault = followed(&page, wrong).expect_err(wrong);
        assert!(fault.contains(why), "{fault}");
    }
    assert!(followed(&page, "speed.md#with-two-threads").expect("is there").is_some());
    assert!(followed(&page, &format!("{OURS}docs/no.md")).is_err());
}

#[test]
fn every_picture_is_one_and_is_shown() {
    let shown: HashSet<PathBuf> = documents()
        .iter()
        .flat_map(|document| {
            document.prose().flat_map(|(_, line)| targets(line)).filter_map(|target| followed(document, &target).ok()?).collect::<Vec<_>>()
        })
        .collect();
    let mut pictures = 0;
    for entry in std::fs::read_dir(root().join("docs/img")).expect("docs/img") {
        let path = entry.expect("an entry").path().canonicalize().expect("a file");
        let text = std::fs::read_to_string(&path).expect("an SVG is text");
        assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{}: no SVG", path.display());
        assert!(text.contains("<title>") && text.contains("<desc>"), "{}: says nothing to who can't see it", path.display());
        assert!(shown.contains(&path), "{}: no document shows it", path.display());
        pictures += 1;
    }
    assert!(pictures >= 2, "{pictures} pictures");
}

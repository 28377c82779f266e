//! Markdown, as far as the documents use it: fenced blocks, headings, links, spans of code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_path_buf()
}

/// A document.
pub(crate) struct Document {
    /// Its path from the repository's root, with `/`.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block of code.
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) language: String,
    /// The number of its first line, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Every document of the repository, those of other people's making and of builds left out.
pub(crate) fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(Document::read(&path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/")));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() >= 20, "{} documents", found.len());
    found
}

impl Document {
    /// Reads it.
    pub(crate) fn read(name: &str) -> Document {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        Document { name: name.into(), text }
    }

    pub(crate) fn path(&self) -> PathBuf {
        root().join(&self.name)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.path().parent().expect("a file lies in a folder").to_path_buf()
    }

    /// Its fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (i, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.as_mut()) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => open = Some(Block { language: language.into(), line: i + 2, text: String::new() }),
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block of code does not end", self.name);
        blocks
    }

    /// Its lines outside of blocks, with their numbers from 1.
    pub(crate) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            (!fenced && !fence).then_some((i + 1, line))
        })
    }

    /// The anchors that its headings have, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut seen = HashMap::<String, usize>::new();
        let mut anchors = Vec::new();
        for (_, line) in self.prose() {
            let depth = line.bytes().take_while(|c| *c == b'#').count();
            if !(1..=6).contains(&depth) || !line[depth..].starts_with(' ') {
                continue;
            }
            let slug = slug(line[depth..].trim());
            let count = seen.entry(slug.clone()).or_default();
            anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
        anchors
    }
}

/// A heading's anchor: small letters, hyphens for blanks, without marks.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A line without its spans of code, and these.
pub(crate) fn without_code(line: &str) -> (String, Vec<String>) {
    let (mut prose, mut spans) = (String::new(), Vec::new());
    for (i, part) in line.split('`').enumerate() {
        if i % 2 == 0 { prose.push_str(part) } else { spans.push(part.to_string()) }
    }
    (prose, spans)
}

/// Where the links and images of a line lead. Spans of code are part of a link's text, never of its target.
pub(crate) fn targets(line: &str) -> Vec<String> {
    let (prose, _) = without_code(line);
    let mut found: Vec<String> =
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.into()).collect();
    for mark in ["src=\"", "href=\""] {
        found.extend(prose.split(mark).skip(1).filter_map(|rest| rest.split_once('"')).map(|(target, _)| target.to_string()));
    }
    // [name]: target
    if let Some((name, target)) = prose.split_once("]: ")
        && name.starts_with('[')
    {
        found.push(target.trim().into());
    }
    found
}

#[test]
fn markdown_is_taken_apart() {
    let text = "# A `b` c, d!\n## A b c d\n[x](y.md#z) ![i](p.svg) `[no](no.md)` [`code`](z.rs)\n```sh\n# no heading\na b\n```\n";
    let document = Document { name: "x.md".into(), text: text.into() };
    assert_eq!(document.anchors(), ["a-b-c-d", "a-b-c-d-1"]);
    assert_eq!(targets(text.lines().nth(2).expect("a line")), ["y.md#z", "p.svg", "z.rs"]);
    let blocks = document.blocks();
    assert_eq!((blocks.len(), blocks[0].language.as_str(), blocks[0].line), (1, "sh", 5));
    assert_eq!(blocks[0].text, "# no heading\na b\n");
}

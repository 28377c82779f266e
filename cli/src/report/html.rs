//! The frame of a page, its tables, and text made harmless.

use super::BEGIN;
use crate::output::printable;
use std::fmt::Write;

/// Text from anywhere as text of a page: nothing in it is markup, and control characters are spelt out.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A part of a page under a heading.
#[derive(Clone, Debug)]
struct Section {
    id: &'static str,
    title: &'static str,
    body: String,
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    /// A sentence below the title.
    lead: String,
    /// Large numbers and what they are.
    numbers: Vec<(String, &'static str)>,
    sections: Vec<Section>,
}

impl Page {
    /// A page without sections. Both are plain text.
    pub fn new(title: &str, lead: &str) -> Page {
        Page { title: title.into(), lead: lead.into(), numbers: Vec::new(), sections: Vec::new() }
    }

    /// A number that is seen first, and what it is.
    pub fn number(&mut self, value: impl Into<String>, what: &'static str) {
        self.numbers.push((value.into(), what));
    }

    /// A section; `body` is markup. Nothing where there is none.
    pub fn section(&mut self, id: &'static str, title: &'static str, body: String) {
        if !body.is_empty() {
            self.sections.push(Section { id, title, body });
        }
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        let title = text(&self.title);
        let mut out = format!("{BEGIN}\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
        // A browser refuses whatever a mistake here might let in.
        out += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"/>\n";
        out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
        let _ = write!(out, "<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n");
        let _ = writeln!(out, "<p class=\"lead\">{}</p>", text(&self.lead));
        if !self.numbers.is_empty() {
            out += "<dl class=\"numbers\">\n";
            for (value, what) in &self.numbers {
                let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", text(what), text(value));
            }
            out += "</dl>\n";
        }
        if self.sections.len() > 2 {
            let links: Vec<_> = self.sections.iter().map(|s| format!("<a href=\"#{}\">{}</a>", s.id, s.title)).collect();
            let _ = writeln!(out, "<nav>{}</nav>", links.join(" "));
        }
        out += "</header>\n<main>\n";
        for Section { id, title, body } in &self.sections {
            let _ = write!(out, "<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n");
        }
        let _ = write!(out, "</main>\n<footer>nunatak {}</footer>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION"));
        out
    }
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Plain text, to the left.
    Text(String),
    /// A number, to the right; plain text too.
    Number(String),
    /// A share from 0 to 1, with a bar.
    Share(Option<f64>),
}

/// A table with a line of headings. `class` is put on it.
pub fn table(class: &str, head: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut out = format!("<div class=\"scroll\"><table class=\"{class}\">\n<thead><tr>");
    for (i, name) in head.iter().enumerate() {
        let left = rows.first().is_none_or(|row| matches!(row.get(i), Some(Cell::Text(_)) | None));
        let _ = write!(out, "<th{}>{}</th>", if left { "" } else { " class=\"n\"" }, text(name));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        for cell in row {
            match cell {
                Cell::Text(t) => write!(out, "<td>{}</td>", text(t)),
                Cell::Number(t) => write!(out, "<td class=\"n\">{}</td>", text(t)),
                Cell::Share(None) => write!(out, "<td class=\"n\">–</td>"),
                Cell::Share(Some(share)) => {
                    let width = 100.0 * share.clamp(0.0, 1.0);
                    write!(out, "<td class=\"n bar\"><span>{share:.3}</span><i style=\"width:{width:.1}%\"></i></td>")
                }
            }
            .unwrap_or_default();
        }
        out += "</tr>\n";
    }
    out += "</tbody>\n</table></div>\n";
    out
}

/// Names and values, one pair a line.
pub fn pairs(list: &[(String, String)]) -> String {
    let rows: Vec<_> = list.iter().map(|(key, value)| vec![Cell::Text(key.clone()), Cell::Text(value.clone())]).collect();
    let table = table("pairs", &["", ""], &rows).replacen("class=\"scroll\"", "class=\"scroll whole\"", 1);
    table.replacen("<thead><tr><th></th><th></th></tr></thead>\n", "", 1)
}

/// A paragraph of plain text.
pub fn note(words: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", text(words))
}

/// Text of several lines, as it stands.
pub fn lines(words: &str) -> String {
    let lines: Vec<String> = words.lines().map(text).collect();
    format!("<pre>{}</pre>\n", lines.join("\n"))
}

/// What is shown when it is clicked on; `body` is markup.
pub fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", text(summary))
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(text("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&#39;");
        assert_eq!(text("\u{1b}[31m\u{0}"), "\\u{1b}[31m\\0");
        assert_eq!(text("Füße 猫"), "Füße 猫");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = vec![Cell::Text("<x>".into()), Cell::Share(None), Cell::Share(Some(0.25))];
        let html = table("t", &["a", "b", "c"], &[row]);
        assert!(
            html.contains("<td>&lt;x&gt;</td><td class=\"n\">–</td>") && html.contains("0.250") && html.contains("width:25.0%"),
            "{html}"
        );
    }
}

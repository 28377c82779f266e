//! Tables of images: a row for each, with its file and its class; and lists of classes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::walk::is_named_as_image;
use super::{EXTENSIONS, FolderError, ImageFolder, Sample, SplitOptions, TEST, TRAIN, VAL, error, list};

/// What the column of files may be called, in any case.
const PATHS: [&str; 11] =
    ["path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name", "image_id", "id"];
/// What the column of classes may be called, in any case.
const LABELS: [&str; 8] = ["label", "class", "category", "target", "label_name", "class_name", "species", "breed"];
/// What the column of parts may be called, in any case.
const PARTS: [&str; 4] = ["split", "subset", "set", "is_valid"];

/// Whether a path names a table.
pub(super) fn is_table(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv") || e.eq_ignore_ascii_case("tsv"))
}

/// The names in a list of classes: a line for each, or a list in JSON. Empty lines are left out.
///
/// # Errors
/// [`FolderError`] where the file can't be read, or names nothing.
pub fn class_list(file: &Path) -> Result<Vec<String>, FolderError> {
    let text = std::fs::read_to_string(file).or_else(|e| error(file, format!("can't be read: {e}")))?;
    let text = text.trim_start_matches('\u{feff}');
    let json: Option<Vec<String>> = text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    let names = json.unwrap_or_else(|| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect());
    if names.is_empty() { error(file, "names no class; it must have one name a line") } else { Ok(names) }
}

struct Columns {
    path: usize,
    label: usize,
    part: Option<usize>,
    /// Whether the first row is one of names.
    named: bool,
}

impl Columns {
    fn of(file: &Path, first: &csv::StringRecord) -> Result<Columns, FolderError> {
        let find = |names: &[&str]| first.iter().position(|cell| names.iter().any(|n| n.eq_ignore_ascii_case(cell.trim())));
        match (find(&PATHS), find(&LABELS)) {
            (Some(path), Some(label)) => Ok(Columns { path, label, part: find(&PARTS), named: true }),
            // No names: an image first, its class behind it.
            _ if first.len() == 2 && first.get(0).is_some_and(|cell| is_named_as_image(Path::new(cell))) => {
                Ok(Columns { path: 0, label: 1, part: None, named: false })
            }
            _ => error(
                file,
                format!(
                    "its first row has the columns {}; one must be called path (or {}) and one label (or {})",
                    list(&first.iter().collect::<Vec<_>>()),
                    PATHS[1..].join(", "),
                    LABELS[1..].join(", ")
                ),
            ),
        }
    }
}

/// What a row's part is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    fn of(cell: &str) -> Option<Part> {
        let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(cell));
        // fastai's is_valid.
        match cell {
            _ if is(&TRAIN) || is(&["false", "0"]) => Some(Part::Train),
            _ if is(&VAL) || is(&["true", "1"]) => Some(Part::Val),
            _ if is(&TEST) => Some(Part::Test),
            _ => None,
        }
    }
}

impl ImageFolder {
    /// The images that a table names: with commas, semicolons or tabs between the columns, one of which is called path
    /// (or file, image, …) and one label (or class, …); without such names, the image first and its class behind it.
    /// Paths count from the table's folder; an ending that is left out is found. A column split (or is_valid) says which
    /// rows are to train on and which to validate with (rows for the end are left out); else a part of every class is put
    /// aside, as of a folder.
    ///
    /// # Errors
    /// [`FolderError`] with the row that can't be understood, or whose file is not there.
    pub fn table(file: &Path, options: &SplitOptions) -> Result<Self, FolderError> {
        let bytes = std::fs::read(file).or_else(|e| error(file, format!("can't be read: {e}")))?;
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let count = |b: u8| line.iter().filter(|c| **c == b).count();
        let delimiter = *[b',', b';', b'\t'].iter().max_by_key(|b| (count(**b), **b == b',')).unwrap_or(&b',');
        let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).trim(csv::Trim::All).from_reader(bytes);
        let mut rows = reader.records();
        let broken = |e: csv::Error| FolderError { path: file.to_owned(), reason: format!("is no table: {e}") };
        let Some(first) = rows.next().transpose().map_err(broken)? else { return error(file, "has no row") };
        let columns = Columns::of(file, &first)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut found: BTreeMap<String, Vec<(PathBuf, Option<Part>)>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut left_out = 0;
        let data = (!columns.named).then_some(Ok(first)).into_iter().chain(rows);
        for (i, row) in data.enumerate() {
            let row = row.map_err(broken)?;
            let number = i + 1 + usize::from(columns.named);
            let cell = |column: usize| row.get(column).unwrap_or_default();
            let (path, label) = (cell(columns.path), cell(columns.label));
            if path.is_empty() || label.is_empty() {
                return error(file, format!("row {number} has no {}", if path.is_empty() { "file" } else { "class" }));
            }
            let part = match columns.part.map(cell) {
                None => None,
                Some(text) => match Part::of(text) {
                    None => {
                        return error(
                            file,
                            format!("row {number} is of the part {text:?}; known are {}, {}, {}", TRAIN[0], VAL[0], TEST[0]),
                        );
                    }
                    part => part,
                },
            };
            if part == Some(Part::Test) {
                left_out += 1;
                continue;
            }
            let Some(image) = placed(folder, path) else {
                return error(file, format!("row {number} names {path:?}, which is not there; paths count from the table's folder"));
            };
            if !seen.insert(image.clone()) {
                return error(file, format!("row {number} names {path:?} a second time"));
            }
            found.entry(label.to_owned()).or_default().push((image, part));
        }
        let mut table = Self::of_rows(file, found, columns.part.is_some(), options)?;
        if left_out > 0 {
            table.notes.push(format!("{left_out} rows of the part {} are kept for the end and not looked at", TEST[0]));
        }
        Ok(table)
    }

    fn of_rows(
        file: &Path,
        found: BTreeMap<String, Vec<(PathBuf, Option<Part>)>>,
        parts: bool,
        options: &SplitOptions,
    ) -> Result<Self, FolderError> {
        if found.is_empty() {
            return error(file, "has no row to train on");
        }
        // Numbers in their order: 2 before 10.
        let mut found: Vec<_> = found.into_iter().collect();
        if found.iter().all(|(label, _)| label.parse::<u64>().is_ok()) {
            found.sort_by_key(|(label, _)| label.parse::<u64>().unwrap_or(0));
        }
        let classes: Vec<String> = found.iter().map(|(label, _)| label.clone()).collect();
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for (label, (_, mut rows)) in found.into_iter().enumerate() {
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            for (path, part) in rows {
                if part == Some(Part::Val) { &mut val } else { &mut train }.push(Sample { path, label });
            }
        }
        if !parts || val.is_empty() {
            return Self::divided(file, classes, train, options);
        }
        let lacking = |samples: &[Sample]| -> Vec<&str> {
            let has: BTreeSet<usize> = samples.iter().map(|s| s.label).collect();
            classes.iter().enumerate().filter(|(i, _)| !has.contains(i)).map(|(_, name)| name.as_str()).collect()
        };
        let (no_train, no_val) = (lacking(&train), lacking(&val));
        if !no_train.is_empty() {
            return error(file, format!("has no row to train on of the class {}", list(&no_train)));
        }
        let mut notes = Vec::new();
        if !no_val.is_empty() {
            notes.push(format!("warning: no row to validate with is of {}: how well they are told apart is not measured", list(&no_val)));
        }
        Ok(Self { classes, train, val, notes })
    }
}

/// The file that a cell names: as it stands, or with an ending.
fn placed(folder: &Path, cell: &str) -> Option<PathBuf> {
    let path = folder.join(cell);
    if path.is_file() {
        return Some(path);
    }
    EXTENSIONS.iter().map(|ending| PathBuf::from(format!("{}.{ending}", path.display()))).find(|path| path.is_file())
}

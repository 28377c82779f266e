//! What is taken for what.

use super::answers::Answers;
use super::html::{Cell, note, table, text};
use std::fmt::Write;

/// More classes than this make no table that can be read.
const TABLE: usize = 40;
/// Confusions that are listed.
const LISTED: usize = 20;

/// The confusion matrix, where it can be read, and the most frequent confusions.
pub fn section(answers: &Answers, names: &[String]) -> String {
    let mut out = String::new();
    if names.len() <= TABLE {
        out += &note("Rows are the truth, columns the model's answers. The darker, the larger the part of the row.");
        out += &matrix(answers, names);
    } else {
        out += &note(&format!("{} classes make no table that can be read: these are the most frequent confusions.", names.len()));
    }
    let wrong = most_frequent(answers, LISTED);
    if wrong.is_empty() {
        out += &note("Every answer is right.");
        return out;
    }
    let rows: Vec<_> = wrong
        .iter()
        .map(|&(truth, said, n)| vec![Cell::Text(names[truth].clone()), Cell::Text(names[said].clone()), Cell::Number(n.to_string())])
        .collect();
    let list = table("list", &["class", "taken for", "images"], &rows);
    out += &if names.len() <= TABLE { super::html::details("The most frequent confusions", &list) } else { list };
    out
}

/// Wrong answers by how often they were given: class, answer, count.
pub fn most_frequent(answers: &Answers, most: usize) -> Vec<(usize, usize, u64)> {
    let pairs = answers.pairs().into_iter().filter(|((truth, said), _)| truth != said);
    let mut list: Vec<_> = pairs.map(|((truth, said), n)| (truth, said, n)).collect();
    // Stable: of equals the first class comes first.
    list.sort_by_key(|&(_, _, n)| std::cmp::Reverse(n));
    list.truncate(most);
    list
}

fn matrix(answers: &Answers, names: &[String]) -> String {
    let (pairs, n) = (answers.pairs(), names.len());
    let count = |truth: usize, said: usize| pairs.get(&(truth, said)).copied().unwrap_or(0);
    // Long names stand upright, so that columns stay narrow.
    let up = if n > 6 || names.iter().any(|name| name.chars().count() > 10) { " class=\"up\"" } else { "" };
    let mut out = "<div class=\"scroll\"><table class=\"matrix\">\n<thead><tr><th></th>".to_string();
    for name in names {
        let _ = write!(out, "<th{up}><span>{}</span></th>", text(name));
    }
    out += "<th>all</th></tr></thead>\n<tbody>\n";
    for (truth, name) in names.iter().enumerate() {
        let all: u64 = (0..n).map(|said| count(truth, said)).sum();
        let name = text(name);
        let _ = write!(out, "<tr><th title=\"{name}\">{name}</th>");
        for said in 0..n {
            let (many, kind) = (count(truth, said), if said == truth { 'o' } else { 'x' });
            let _ = match many {
                0 => write!(out, "<td class=\"z\">0</td>"),
                // Never so dark that the number can't be read.
                _ => write!(out, "<td class=\"{kind}\" style=\"--v:{:.2}\">{many}</td>", 0.15 + 0.45 * many as f64 / all as f64),
            };
        }
        let _ = writeln!(out, "<td class=\"s\">{all}</td></tr>");
    }
    out += "<tr><th>all</th>";
    for said in 0..n {
        let _ = write!(out, "<td class=\"s\">{}</td>", (0..n).map(|truth| count(truth, said)).sum::<u64>());
    }
    let _ = write!(out, "<td class=\"s\">{}</td></tr>\n</tbody>\n</table></div>\n", answers.0.len());
    out
}

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::*;

    #[test]
    fn sums_of_rows_and_columns_are_those_of_the_images() {
        let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (1, 0)];
        let answer = |(index, &(truth, said))| Answer { index, truth, said, confidence: 1.0, loss: 0.0 };
        let answers = Answers(pairs.iter().enumerate().map(answer).collect());
        let names = ["a<b".to_string(), "c".to_string()];
        let html = matrix(&answers, &names);
        let cells: Vec<u64> = html.split("<td").skip(1).map(|cell| cell.split(['>', '<']).nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(cells, [2, 1, 3, 2, 1, 3, 4, 2, 6]);
        assert!(html.contains("a&lt;b") && !html.contains("a<b"));
        assert_eq!(most_frequent(&answers, 9), [(1, 0, 2), (0, 1, 1)]);
        assert!(section(&Answers::default(), &names).contains("Every answer is right"));
        let many: Vec<String> = (0..50).map(|i| i.to_string()).collect();
        assert!(!section(&answers, &many).contains("matrix"));
    }
}

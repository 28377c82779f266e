//! Lines for a shell, as far as the documents use them.

/// The commands of a block or a span: each as its words, without assignments before it and redirections behind it.
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    let whole = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in whole.lines() {
        let mut command = Vec::new();
        for word in words(line) {
            if [";", "&&", "|"].contains(&word.as_str()) {
                found.push(std::mem::take(&mut command));
            } else {
                command.push(word);
            }
        }
        found.push(command);
    }
    for command in &mut found {
        if let Some(redirected) = command.iter().position(|word| word == ">") {
            command.truncate(redirected);
        }
        while command.first().is_some_and(|word| is_assignment(word)) {
            command.remove(0);
        }
    }
    found.retain(|command| !command.is_empty());
    found
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_'))
}

/// The words of a line: quotes are taken off, `$(…)` is one word, a comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), None::<String>, None, 0);
    let mut letters = line.chars().peekable();
    while let Some(c) = letters.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('$', None) if letters.peek() == Some(&'(') => {
                depth += 1;
                word.get_or_insert_default().push(c);
            }
            (')', None) if depth > 0 => {
                depth -= 1;
                word.get_or_insert_default().push(c);
            }
            (c, None) if c.is_whitespace() && depth == 0 => words.extend(word.take()),
            (';' | '|' | '>', None) if depth == 0 => {
                words.extend(word.take());
                words.push(c.into());
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn lines_are_taken_apart() {
    let text = "A=1 B_2='x y' run \"a b\" c # comment\none; two > file && three \\\n  more\n# nothing\ncc $(pkg-config --libs x) -lm\n";
    let expected: [&[&str]; 5] = [&["run", "a b", "c"], &["one"], &["two"], &["three", "more"], &["cc", "$(pkg-config --libs x)", "-lm"]];
    // A redirection ends its own command alone.
    assert_eq!(commands(text), expected.map(|words| words.iter().map(|word| word.to_string()).collect::<Vec<_>>()));
}

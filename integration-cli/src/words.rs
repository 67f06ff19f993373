//! Splits a command line into words the way a shell does, for the two quote characters only.
//!
//! Tests read like a terminal session (`t.docker("run --rm busybox sh -c 'exit 3'")`) without a shell in between.
//! No variables, no globs, no escapes: a test that needs those passes a list of arguments.

/// Splits `line` at blanks; single or double quotes keep blanks and may stand anywhere in a word.
///
/// Panics when a quote is left open, because then the test itself is wrong.
#[must_use]
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ' | '\n' | '\t') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    assert!(quote.is_none(), "a quote is left open in: {line}");
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_keep_quoted_blanks_and_empty_quotes_make_an_empty_word() {
        assert_eq!(
            split("run  --rm\nbusybox sh -c 'echo \"a b\"; exit 3'"),
            ["run", "--rm", "busybox", "sh", "-c", "echo \"a b\"; exit 3"]
        );
        assert_eq!(split("--entrypoint '' -e K=\"a b\"c"), ["--entrypoint", "", "-e", "K=a bc"]);
        assert!(split("  ").is_empty());
    }
}

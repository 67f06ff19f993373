//! Words of Dockerfile instructions: splitting, quotes, variables. Pure.
//!
//! Start reading at [`split`] and [`expand`]. The rules are those of BuildKit's shell lexer with the escape character `\`.

use std::fmt;

/// Why words cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WordError(String);

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits at blanks outside quotes. Quotes and backslashes stay for [`expand`].
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (Some('"') | None, '\\') => {
                word.push(c);
                if let Some(escaped) = chars.next() {
                    word.push(escaped);
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and backslashes away and puts in variables.
pub(super) fn expand<'a>(word: &str, lookup: &dyn Fn(&str) -> Option<&'a str>) -> Result<String, WordError> {
    let chars: Vec<char> = word.chars().collect();
    let mut at = 0;
    expand_until(&chars, &mut at, None, lookup)
}

/// Expands up to an unquoted `stop`, which is consumed, or the end.
fn expand_until<'a>(
    chars: &[char],
    at: &mut usize,
    stop: Option<char>,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, WordError> {
    let mut result = String::new();
    let mut is_quoted = false;
    while let Some(&c) = chars.get(*at) {
        *at += 1;
        match c {
            _ if !is_quoted && Some(c) == stop => return Ok(result),
            '\'' if !is_quoted => {
                let end = chars[*at..].iter().position(|c| *c == '\'');
                let end = end.ok_or_else(|| {
                    WordError(
                        "unexpected end of statement while looking for matching single-quote".to_owned(),
                    )
                })?;
                result.extend(&chars[*at..*at + end]);
                *at += end + 1;
            }
            '"' => is_quoted = !is_quoted,
            '\\' => match chars.get(*at) {
                // Within quotes a backslash escapes only what would mean something.
                Some(next) if is_quoted && !matches!(next, '"' | '$' | '\\') => result.push('\\'),
                Some(next) => {
                    result.push(*next);
                    *at += 1;
                }
                None => {}
            },
            '$' => result.push_str(&variable(chars, at, lookup)?),
            _ => result.push(c),
        }
    }
    match (is_quoted, stop) {
        (true, _) => {
            Err(WordError("unexpected end of statement while looking for matching double-quote".to_owned()))
        }
        (false, Some(_)) => Err(WordError("syntax error: missing '}'".to_owned())),
        (false, None) => Ok(result),
    }
}

/// What stands after a dollar sign.
fn variable<'a>(
    chars: &[char],
    at: &mut usize,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, WordError> {
    if chars.get(*at) != Some(&'{') {
        let name = name(chars, at);
        return Ok(if name.is_empty() {
            "$".to_owned()
        } else {
            lookup(&name).unwrap_or_default().to_owned()
        });
    }
    *at += 1;
    let name = name(chars, at);
    if name.is_empty() {
        return Err(WordError("syntax error: bad substitution".to_owned()));
    }
    let value = lookup(&name);
    let mut treats_empty_as_unset = false;
    if chars.get(*at) == Some(&':') {
        treats_empty_as_unset = true;
        *at += 1;
    }
    let present = value.filter(|value| !(treats_empty_as_unset && value.is_empty()));
    let modifier = chars.get(*at).copied();
    *at += 1;
    match modifier {
        Some('}') if !treats_empty_as_unset => Ok(value.unwrap_or_default().to_owned()),
        Some('-') => {
            let default = expand_until(chars, at, Some('}'), lookup)?;
            Ok(present.map_or(default, str::to_owned))
        }
        Some('+') => {
            let alternative = expand_until(chars, at, Some('}'), lookup)?;
            Ok(if present.is_some() { alternative } else { String::new() })
        }
        Some('?') => {
            let message = expand_until(chars, at, Some('}'), lookup)?;
            let message = if message.is_empty() { "is not allowed to be unset".to_owned() } else { message };
            present.map(str::to_owned).ok_or_else(|| WordError(format!("{name}: {message}")))
        }
        Some(other) => Err(WordError(format!("unsupported modifier ({other}) in substitution"))),
        None => Err(WordError("syntax error: missing '}'".to_owned())),
    }
}

fn name(chars: &[char], at: &mut usize) -> String {
    let start = *at;
    let is_first = |c: &char| c.is_ascii_alphabetic() || *c == '_';
    if chars.get(*at).is_some_and(|c| c.is_ascii_digit()) {
        // A positional parameter has one digit, and no value here.
        *at += 1;
    } else if chars.get(*at).is_some_and(is_first) {
        *at += chars[*at..].iter().take_while(|c| is_first(c) || c.is_ascii_digit()).count();
    }
    chars[start..*at].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        let cases: [(&str, &[&str]); 5] = [
            ("a b  c", &["a", "b", "c"]),
            (r#"A="x y" B='p q'"#, &[r#"A="x y""#, "B='p q'"]),
            (r"A=x\ y B=2", &[r"A=x\ y", "B=2"]),
            (r#"A="x\" y" B"#, &[r#"A="x\" y""#, "B"]),
            ("  ", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text), words, "{text}");
        }
    }

    #[test]
    fn variables_are_put_in() {
        let lookup = |name: &str| match name {
            "A" => Some("one"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let cases = [
            ("$A", "one"),
            ("${A}x", "onex"),
            ("$Ax", ""),
            ("'$A'", "$A"),
            (r#""$A b""#, "one b"),
            (r"\$A", "$A"),
            (r#""\$A \n""#, r"$A \n"),
            ("${B:-two}", "two"),
            ("${B-$A}", "one"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${A:+y}", "y"),
            ("${B:+y}", ""),
            ("a$", "a$"),
            ("$1", ""),
            ("", ""),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word, &lookup).unwrap(), expected, "{word}");
        }
        for word in ["'a", "\"a", "${A", "${}", "${A!x}", "${B:?no}"] {
            assert!(expand(word, &lookup).is_err(), "{word}");
        }
    }
}

//! `WWW-Authenticate`: what a registry wants to see. Pure.
//!
//! Start reading at [`parse`]. The header comes from anybody, so reading it is bounded and never fails: what cannot be
//! understood is left out (RFC 9110, section 11.6.1; RFC 6750, section 3).

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Longer headers are no honest challenge.
const MAX_HEADER_LEN: usize = 16 << 10;
/// More challenges than schemes exist are no honest ones.
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// One way in which a registry lets itself be convinced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// By name in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter's value, empty if it is missing.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// The scopes that it asks for.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.parameter("scope").split_ascii_whitespace()
    }
}

/// Reads all challenges of a response, in order.
pub(crate) fn parse(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        if let Ok(text) = value.to_str()
            && text.len() <= MAX_HEADER_LEN
        {
            parse_value(text, &mut challenges);
        }
    }
    challenges.truncate(MAX_CHALLENGES);
    challenges
}

/// One header may hold several challenges, separated like their parameters by commas: a word without `=` after it
/// begins a new one.
fn parse_value(text: &str, challenges: &mut Vec<Challenge>) {
    let mut rest = text;
    let first_new = challenges.len();
    while challenges.len() <= MAX_CHALLENGES {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_token(rest);
        if word.is_empty() {
            return;
        }
        let after_space = after.trim_start_matches([' ', '\t']);
        match after_space.strip_prefix('=') {
            Some(value) if challenges.len() > first_new => {
                let Some((value, after)) = parse_parameter_value(value) else { return };
                if let Some(challenge) = challenges.last_mut()
                    && challenge.parameters.len() < MAX_PARAMETERS
                {
                    // The first of several wins, so that nothing can be smuggled in behind.
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            Some(_) => return,
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), ..Challenge::default() });
                rest = skip_token68(after_space);
            }
        }
    }
}

/// The characters of a token (RFC 9110, section 5.6.2) at the start, and what follows.
fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows; `None` if a quote is left open.
fn parse_parameter_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave the quotes out around URLs, which are no tokens.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// `Negotiate YII=` has a blob where others have parameters.
fn skip_token68(text: &str) -> &str {
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let end = text.find(|c| !is_token68(c)).unwrap_or(text.len());
    let rest = text[end..].trim_start_matches('=');
    let ends = rest.is_empty() || rest.starts_with([',', ' ', '\t']);
    let has_padding_or_end =
        text[end..].starts_with("==") || rest.trim_start().is_empty() || rest.starts_with(',');
    if end > 0 && ends && has_padding_or_end { rest } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn parsed(values: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        parse(&headers).into_iter().map(|it| (it.scheme, it.parameters.into_iter().collect())).collect()
    }

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        (scheme.to_owned(), parameters.collect())
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let hub_read = challenge(
            "bearer",
            &[
                ("realm", "https://auth.docker.io/token"),
                ("scope", "repository:library/x:pull,push"),
                ("service", "registry.docker.io"),
            ],
        );
        assert_eq!(parsed(&[hub]), std::slice::from_ref(&hub_read));
        assert_eq!(
            parsed(&[r#"Basic realm="Registry Realm""#]),
            [challenge("basic", &[("realm", "Registry Realm")])]
        );
        assert_eq!(parsed(&["basic"]), [challenge("basic", &[])]);
        let both = format!(r#"Basic realm="a, b", {hub}"#);
        assert_eq!(parsed(&[&both]), [challenge("basic", &[("realm", "a, b")]), hub_read.clone()]);
        assert_eq!(parsed(&["Negotiate", hub]), [challenge("negotiate", &[]), hub_read]);
        assert_eq!(
            parsed(&["Negotiate YIIabc==, Basic realm=x"]),
            [challenge("negotiate", &[]), challenge("basic", &[("realm", "x")])]
        );
    }

    #[test]
    fn odd_spellings_are_read_and_broken_ones_left_out() {
        let cases = [
            (
                "BEARER Realm = https://a/t , SERVICE=s",
                vec![challenge("bearer", &[("realm", "https://a/t"), ("service", "s")])],
            ),
            (r#"Bearer realm="a\"b""#, vec![challenge("bearer", &[("realm", r#"a"b"#)])]),
            (r#"Bearer realm="first",realm="second""#, vec![challenge("bearer", &[("realm", "first")])]),
            (r#"Bearer realm="open"#, vec![challenge("bearer", &[])]),
            (r#"realm="x""#, vec![]),
            (",,,", vec![]),
            ("=", vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(&[text]), expected, "{text}");
        }
    }

    #[test]
    fn what_is_read_is_bounded() {
        let many = "a, ".repeat(4000);
        assert!(parsed(&[&many, &many]).len() <= MAX_CHALLENGES);
        assert!(parsed(&["a".repeat(MAX_HEADER_LEN + 1).as_str()]).is_empty());
        let wide: String = (0..500).map(|n| format!("p{n}=v,")).collect();
        assert_eq!(parsed(&[&format!("Bearer {wide}")])[0].1.len(), MAX_PARAMETERS);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(text in "[ -~]{0,120}") {
            let _ = parsed(&[&text]);
        }

        #[test]
        fn no_mix_of_challenge_parts_makes_the_reader_panic(
            parts in proptest::collection::vec("(Bearer|Basic|realm|=|\"|\\\\|,| |==|x|https://a/b)", 0..24)
        ) {
            let _ = parsed(&[&parts.concat()]);
        }
    }
}

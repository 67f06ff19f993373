//! Shell patterns as Go's `path.Match` understands them. Pure.
//!
//! Start reading at [`matches()`]. `*` and `?` do not match a slash; `[a-z]`, `[^a]` and `\x` are understood. A pattern that
//! is malformed matches nothing, as in Docker's filters.

/// Whether the whole text matches.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    is_match(&pattern, &text)
}

/// Backtracks to the last star only: what an earlier star could match more of, the last one can too.
fn is_match(pattern: &[char], text: &[char]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if at_pattern < pattern.len() && pattern[at_pattern] == '*' {
            retry = Some((at_pattern, at_text));
            at_pattern += 1;
            continue;
        }
        if at_pattern == pattern.len() && at_text == text.len() {
            return true;
        }
        let step = if at_text < text.len() { match_one(&pattern[at_pattern..], text[at_text]) } else { None };
        if let Some(length) = step {
            at_pattern += length;
            at_text += 1;
            continue;
        }
        match retry {
            // The star takes one more character, but never a slash.
            Some((star, taken)) if taken < text.len() && text[taken] != '/' => {
                retry = Some((star, taken + 1));
                (at_pattern, at_text) = (star + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern one character matches.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => (c != '/').then_some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => match_class(pattern, c),
        literal => (literal == c).then_some(1),
    }
}

fn match_class(pattern: &[char], c: char) -> Option<usize> {
    let mut at = 1;
    let is_negated = pattern.get(at) == Some(&'^');
    at += usize::from(is_negated);
    let mut is_in = false;
    let mut n_ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && n_ranges > 0 {
            return (is_in != is_negated).then_some(at + 1);
        }
        let low = class_char(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            class_char(pattern, &mut at)?
        } else {
            low
        };
        is_in |= (low..=high).contains(&c);
        n_ranges += 1;
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    match *pattern.get(*at)? {
        '-' | ']' => None,
        '\\' => {
            *at += 2;
            pattern.get(*at - 1).copied()
        }
        c => {
            *at += 1;
            Some(c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_go() {
        // From the table of Go's own test of path.Match.
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[-x]", "x", false),
            ("[", "a", false),
            ("[^bc", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
